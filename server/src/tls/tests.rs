use std::{fs, path::Path};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection,
    pki_types::{ServerName, UnixTime},
};

use super::*;

const YEAR_MS: u64 = 365 * 86_400_000;

/// The certificates of a data folder, at the system's time, which TLS itself goes by.
fn open(dir: &Path, names: &[&str]) -> Result<Arc<Certificates>, TlsError> {
    open_at(dir, names, Clock::system())
}

fn open_at(dir: &Path, names: &[&str], clock: Clock) -> Result<Arc<Certificates>, TlsError> {
    let mut config = Config::default();
    config.data.dir = dir.to_owned();
    config.tls.names = names.iter().map(|n| (*n).to_owned()).collect();
    Certificates::open(&config, clock)
}

fn now_ms() -> u64 {
    UnixTime::now().as_secs() * 1000
}

/// TLS of a client that trusts the authority in a data folder.
pub(crate) fn client(dir: &Path, alpn: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// A handshake in memory; the hash of the certificate that the client saw.
fn handshake(
    certificates: &Arc<Certificates>,
    client: ClientConfig,
    name: &str,
) -> Result<CertificateHash, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let config = certificates.rustls_server_config(16).unwrap();
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(CertificateHash::of(&client.peer_certificates().unwrap()[0]))
}

#[tokio::test]
async fn a_client_that_trusts_the_own_authority_is_served_under_every_name() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = open(dir.path(), &["chat.example", "10.1.2.3"]).unwrap();
    for name in ["localhost", "127.0.0.1", "::1", "tern", "chat.example", "10.1.2.3"] {
        let hash = handshake(&certificates, client(dir.path(), ALPN), name).unwrap();
        assert_eq!(hash, certificates.current_hash());
    }
    assert!(handshake(&certificates, client(dir.path(), ALPN), "other.example").is_err());
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = open(dir.path(), &[]).unwrap();
    assert!(handshake(&certificates, client(dir.path(), b"h3"), "localhost").is_err());
    let mut without = client(dir.path(), ALPN);
    without.alpn_protocols.clear();
    // Without any offer TLS itself goes on; QUIC must not, and quinn sees to that.
    let config = certificates.rustls_server_config(0).unwrap();
    assert_eq!(config.alpn_protocols, [ALPN]);
}

#[tokio::test]
async fn zero_rtt_is_as_configured() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = open(dir.path(), &[]).unwrap();
    let with = certificates.rustls_server_config(1000).unwrap();
    assert_eq!(with.max_early_data_size, u32::MAX);
    assert!(with.session_storage.can_cache());
    assert!(!with.ticketer.enabled());
    let without = certificates.rustls_server_config(0).unwrap();
    assert_eq!(without.max_early_data_size, 0);
    assert!(!without.session_storage.can_cache());
}

#[tokio::test]
async fn a_restart_keeps_authority_and_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &[]).unwrap();
    let second = open(dir.path(), &[]).unwrap();
    assert_eq!(first.current_hash(), second.current_hash());
}

#[cfg(unix)]
#[tokio::test]
async fn keys_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a/b");
    open(&data, &[]).unwrap();
    for (file, mode) in [
        ("", 0o700),
        ("key.pem", 0o600),
        ("ca-key.pem", 0o600),
        ("ca.pem", 0o644),
        ("cert.pem", 0o644),
    ] {
        let found = fs::metadata(data.join(file)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
}

#[tokio::test]
async fn a_new_name_makes_a_new_certificate_under_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let before = open(dir.path(), &[]).unwrap().current_hash();
    let trusting = client(dir.path(), ALPN);
    let certificates = open(dir.path(), &["new.example"]).unwrap();
    assert_ne!(certificates.current_hash(), before);
    handshake(&certificates, trusting, "new.example").unwrap();
}

#[tokio::test]
async fn a_certificate_near_its_end_is_renewed_and_the_one_before_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::starting_at(now_ms() - YEAR_MS - 2 * 86_400_000);
    let old = open_at(dir.path(), &[], clock).unwrap();
    assert_eq!(old.reload().unwrap(), Reloaded::Unchanged);
    let end_ms = old.not_after_ms().unwrap();

    // The same folder, seen a year later by a server that still shows the old one.
    let certificates = Certificates {
        origin: Origin::Own(own::Own::new(dir.path(), &[]).unwrap()),
        clock: Clock::starting_at(end_ms - 29 * 86_400_000),
        shown: RwLock::new(Shown {
            key: old.shown().key.clone(),
            hashes: old.shown().hashes.clone(),
            not_after_ms: Some(end_ms),
        }),
    };
    assert_eq!(certificates.reload().unwrap(), Reloaded::Changed);
    assert!(certificates.not_after_ms().unwrap() > end_ms);
    assert!(certificates.serves_or_has_served(&old.current_hash()));
    assert_eq!(certificates.hashes(), [certificates.current_hash(), old.current_hash()]);
    assert!(!old.serves_or_has_served(&certificates.current_hash()));
}

#[tokio::test]
async fn the_authority_is_never_replaced_behind_the_clients_backs() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &[]).unwrap();
    let authority = fs::read(dir.path().join("ca.pem")).unwrap();
    fs::remove_file(dir.path().join("ca-key.pem")).unwrap();
    open(dir.path(), &[]).unwrap();
    let error = open(dir.path(), &["new.example"]).unwrap_err();
    assert!(matches!(error, TlsError::AuthorityKeyMissing(_)), "{error}");
    assert_eq!(fs::read(dir.path().join("ca.pem")).unwrap(), authority);
}

#[tokio::test]
async fn the_history_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = open(dir.path(), &[]).unwrap();
    for _ in 0..REMEMBERED + 3 {
        fs::remove_file(dir.path().join("cert.pem")).unwrap();
        assert_eq!(certificates.reload().unwrap(), Reloaded::Changed);
    }
    assert_eq!(certificates.hashes().len(), REMEMBERED);
}

fn operator(folder: &Path) -> Config {
    let mut config = Config::default();
    config.tls.cert_file = Some(folder.join("cert.pem"));
    config.tls.key_file = Some(folder.join("key.pem"));
    config
}

#[tokio::test]
async fn the_operators_certificate_is_shown_and_exchanged() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    open(one.path(), &[]).unwrap();
    let second = open(two.path(), &[]).unwrap();
    let certificates = Certificates::open(&operator(one.path()), Clock::system()).unwrap();
    let first = certificates.current_hash();
    handshake(&certificates, client(one.path(), ALPN), "localhost").unwrap();

    // Half of a change: the certificate is there, its key isn't yet.
    fs::copy(two.path().join("cert.pem"), one.path().join("cert.pem")).unwrap();
    let error = certificates.reload().unwrap_err();
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
    assert_eq!(certificates.current_hash(), first);

    fs::copy(two.path().join("key.pem"), one.path().join("key.pem")).unwrap();
    assert_eq!(certificates.reload().unwrap(), Reloaded::Changed);
    assert_eq!(certificates.current_hash(), second.current_hash());
    assert!(certificates.serves_or_has_served(&first));
    handshake(&certificates, client(two.path(), ALPN), "localhost").unwrap();
}

#[tokio::test]
async fn bad_files_are_named_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &[]).unwrap();
    let certificates = Certificates::open(&operator(dir.path()), Clock::system()).unwrap();
    let before = certificates.current_hash();
    for (file, content) in [("cert.pem", "no PEM"), ("cert.pem", ""), ("key.pem", "")] {
        let path = dir.path().join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        let error = certificates.reload().unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        fs::write(&path, good).unwrap();
    }
    fs::remove_file(dir.path().join("key.pem")).unwrap();
    assert!(certificates.reload().is_err());
    assert_eq!(certificates.current_hash(), before);
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(dir.path(), &["not a name"]).unwrap_err();
    assert!(error.to_string().contains("\"not a name\""), "{error}");
}
