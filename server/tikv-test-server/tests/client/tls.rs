//! Encrypted and authenticated, both ways.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tern_tikv_test_server::{Options, TestServer, Tls};
use tikv_client::{Config, TransactionClient};

use crate::common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_a_certificate_is_served_and_one_without_is_not() {
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let signed = || {
        let key = KeyPair::generate().unwrap();
        let params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (certificate, key) = signed();
    let tls = Tls { ca: ca.clone().into(), certificate: certificate.into(), key: key.into() };
    let server = TestServer::start(Options { tls: Some(tls), ..Options::default() }).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = signed();
    let config = Config::default().with_security(
        file("ca.pem", &ca),
        file("cert.pem", &certificate),
        file("key.pem", &key),
    );
    let client = client_with(&server, config).await;
    put(&client, one_phase(), &[("k", "v")]).await;
    assert_eq!(get(&client, "k").await.as_deref(), Some("v"));

    let plain = TransactionClient::new(vec![server.pd_address().to_string()]);
    assert!(patiently(plain).await.is_err());
}
