use std::ffi::OsString;

use clap::Parser;

use super::*;

fn flags(arguments: &[&str]) -> Flags {
    Flags::try_parse_from([&["tern-server"], arguments].concat()).unwrap()
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load_set(settings: &[&str]) -> Result<Config, ConfigError> {
    let flags =
        Flags { set: settings.iter().map(|s| (*s).to_owned()).collect(), ..Flags::default() };
    load(&flags, [])
}

fn problem(settings: &[&str]) -> Problem {
    let error = load_set(settings).unwrap_err();
    match error.problems() {
        [problem] => problem.clone(),
        _ => panic!("one problem expected: {error}"),
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    file
}

fn load_file(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let file = file(text);
    let flags = flags(&["--config", file.path().to_str().unwrap()]);
    load(&flags, environment(variables))
}

#[test]
fn nothing_configured_is_a_configuration() {
    assert_eq!(load(&Flags::default(), []).unwrap(), Config::default());
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = file("[limits]\nwatches = 1\nrequests = 1\nunanswered_sends = 1\n");
    let path = file.path().to_str().unwrap();
    let flags = flags(&["--config", path, "--set", "limits.watches=3"]);
    let variables = environment(&[
        ("TERN_LIMITS__WATCHES", "2"),
        ("TERN_LIMITS__REQUESTS", "2"),
        ("TERN_TIKV_PD", "not a setting"),
        ("OTHER__THING", "not ours"),
    ]);
    let limits = load(&flags, variables).unwrap().limits;
    assert_eq!((limits.watches, limits.requests, limits.unanswered_sends), (3, 2, 1));
}

#[test]
fn the_named_flags_set_their_settings() {
    let flags = flags(&[
        "--listen=127.0.0.1:0",
        "--data=elsewhere",
        "--admin=[::1]:9",
        "--log=warn",
        "--log-format=json",
    ]);
    let config = load(&flags, []).unwrap();
    assert_eq!(config.listen.address, "127.0.0.1:0".parse().unwrap());
    assert_eq!(config.in_data_dir("x"), PathBuf::from("elsewhere/x"));
    assert_eq!(config.admin.address, "[::1]:9".parse().unwrap());
    assert_eq!(config.log.filter, "warn");
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn the_admin_address_can_be_switched_off() {
    let config = load(&flags(&["--admin", "off"]), []).unwrap();
    assert!(!config.admin.enabled);
    assert!(Flags::try_parse_from(["tern-server", "--admin", "somewhere"]).is_err());
}

#[test]
fn every_bound_of_every_setting_holds() {
    for (section, settings) in Config::default().sections() {
        for setting in settings.settings() {
            let Some((low, high)) = setting.bounds else {
                assert!(!setting.value.is_number(), "{section}.{}", setting.name);
                continue;
            };
            assert!(setting.is_in_bounds(), "default of {section}.{}", setting.name);
            let key = format!("{section}.{}", setting.name);
            for wrong in [low.checked_sub(1), high.checked_add(1)].into_iter().flatten() {
                let problem = problem(&[&format!("{key}={wrong}")]);
                assert_eq!(problem.key, key);
                assert_eq!(problem.value, Some(wrong.to_string()));
                assert!(problem.reason.contains(&format!("from {low} to {high}")));
            }
        }
    }
}

#[test]
fn a_wrong_type_is_named_with_its_source_and_what_is_allowed() {
    let error = load_file("[limits]\nwatches = \"many\"", &[]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("limits.watches = \"many\" (file "), "{text}");
    assert!(text.contains("a whole number from 1 to 10000"), "{text}");

    let error = load(&Flags::default(), environment(&[("TERN_LISTEN__MTU_DISCOVERY", "perhaps")]));
    assert_eq!(
        error.unwrap_err().problems(),
        [Problem {
            key: "listen.mtu_discovery".to_owned(),
            value: Some("\"perhaps\"".to_owned()),
            source: "environment variable TERN_LISTEN__MTU_DISCOVERY".to_owned(),
            reason: "it is true or false".to_owned(),
        }]
    );

    let problem = problem(&["registration.policy=public"]);
    assert_eq!(problem.source, "flag --set registration.policy=public");
    assert_eq!(problem.reason, "it is one of closed, open, invite, token");
}

#[test]
fn addresses_and_negative_numbers_are_checked() {
    assert_eq!(problem(&["listen.address=localhost"]).key, "listen.address");
    let problem = problem(&["limits.watches=-1"]);
    assert_eq!(problem.value.as_deref(), Some("-1"));
    assert!(problem.reason.contains("from 1 to 10000"), "{problem}");
}

#[test]
fn unknown_keys_are_refused_wherever_they_stand() {
    let error = load_file("[limits]\nwatch = 1\n[limitz]\nx = 1\n", &[]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("limits.watch = 1 (file "), "{text}");
    assert!(text.contains("did you mean watches?"), "{text}");
    assert!(text.contains("did you mean limits?"), "{text}");

    let text = load_file("listen = \"127.0.0.1:1\"", &[]).unwrap_err().to_string();
    assert!(text.contains("listen is a section"), "{text}");

    let error = load(&Flags::default(), environment(&[("TERN_LIMITS__X", "1")])).unwrap_err();
    assert_eq!(error.problems()[0].source, "environment variable TERN_LIMITS__X");
}

#[test]
fn several_problems_are_told_at_once() {
    let error = load_set(&["limits.watches=0", "limits.requests=0"]).unwrap_err();
    assert_eq!(error.problems().len(), 2);
}

#[test]
fn text_that_looks_like_a_number_stays_text() {
    let config = load_set(&["registration.jwt_audience=17", "data.dir=2024"]).unwrap();
    assert_eq!(config.registration.jwt_audience.as_deref(), Some("17"));
    assert_eq!(config.data.dir, PathBuf::from("2024"));
}

#[test]
fn lists_can_be_written_with_commas() {
    for text in ["tls.names=a.example,10.0.0.1", "tls.names=[\"a.example\", '10.0.0.1']"] {
        assert_eq!(load_set(&[text]).unwrap().tls.names, ["a.example", "10.0.0.1"]);
    }
}

#[test]
fn contradictions_are_refused() {
    for (settings, key) in [
        (&["listen.keep_alive_ms=30000"][..], "listen.keep_alive_ms"),
        (&["listen.inactive_idle_for_ms=29999"], "listen.inactive_idle_for_ms"),
        (&["listen.receive_window_bytes=16384"], "listen.stream_receive_window_bytes"),
        (&["tls.cert_file=x"], "tls.cert_file"),
        (&["tls.key_file=x"], "tls.key_file"),
        (&["retention.policy=keep", "retention.unfetched_for_ms=1000"], "retention.keep_for_ms"),
        (&["ticket.rotate_every_ms=100000"], "ticket.rotate_every_ms"),
        (&["ticket.rotate_every_ms=3600000"], "ticket.rotate_every_ms"),
        (&["log.filter="], "log.filter"),
        (&["data.dir="], "data.dir"),
        (&["registration.policy=token", "registration.jwt_audience=x"], "registration.policy"),
        (&["registration.policy=token", "registration.jwt_key_file=x"], "registration.policy"),
        (
            &["registration.jwt_key_file=x", "registration.jwt_algorithms=ES256,EdDSA"],
            "registration.jwt_algorithms",
        ),
        (&["registration.jwt_algorithms=ES256,HS256"], "registration.jwt_algorithms"),
        (&["registration.jwt_algorithms="], "registration.jwt_algorithms"),
        (
            &["registration.jwt_key_file=x", "registration.jwt_jwks_file=x"],
            "registration.jwt_key_file",
        ),
    ] {
        let error = load_set(settings).unwrap_err();
        assert!(error.problems().iter().all(|p| p.key == key), "{settings:?}: {error}");
    }
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let error = load(&flags(&["--config", "/does/not/exist.toml"]), []).unwrap_err();
    assert!(error.to_string().contains("/does/not/exist.toml"), "{error}");
    let error = load_file("[limits\nx", &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Syntax { .. }), "{error:?}");
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[test]
fn a_set_without_key_or_value_is_refused() {
    for text in ["limits.watches", "watches=1"] {
        assert!(problem(&[text]).reason.contains("SECTION.NAME=VALUE"));
    }
}

#[test]
fn what_is_printed_is_read_back() {
    let config = load_set(&[
        "limits.watches=7",
        "registration.jwt_issuer=\"quoted\" \\ ü",
        "tls.names=a,b",
        "listen.address=[::]:1",
        "log.format=json",
    ])
    .unwrap();
    let printed = config.to_commented_toml();
    assert!(printed.contains("# Default: 256."), "{printed}");
    assert_eq!(load_file(&printed, &[]).unwrap(), config);
}

#[test]
fn the_example_file_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tern.example.toml");
    let current = Config::default().to_commented_toml();
    if std::env::var_os("TERN_BLESS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == current,
        "run this test with TERN_BLESS=1 to write server/tern.example.toml anew"
    );
}

#[test]
fn the_store_works_by_its_own_defaults_and_takes_every_bound() {
    let config = Config::default();
    assert_eq!(config.embedded_store(), EmbeddedSettings::default());
    for setting in config.store.settings() {
        for value in setting.bounds.into_iter().flat_map(|(low, high)| [low, high]) {
            let text = format!("store.{}={value}", setting.name);
            let settings = load_set(&[&text]).unwrap().embedded_store();
            assert!(settings.check().is_ok(), "{text}");
        }
    }
}

#[test]
fn welcome_and_greeting_say_what_is_set() {
    let config = Config::default();
    assert_eq!(config.client_limits(), tern_protocol::frame::Limits::default());
    let config = load_set(&["limits.watches=5", "registration.policy=invite"]).unwrap();
    assert_eq!(config.client_limits().watches, 5);
    assert_eq!(config.announced_registration(), tern_protocol::frame::Registration::Invite);
}

proptest::proptest! {
    #[test]
    fn no_input_panics(text: String, key: String) {
        let _ = load_set(&[&text, &format!("{key}.{key}={text}"), &format!("limits.watches={text}")]);
        let _ = load_file(&text, &[("TERN_LIMITS__WATCHES", &text)]);
    }
}

#[test]
fn a_cluster_needs_an_address_and_all_of_its_files() {
    assert_eq!(problem(&["store.kind=tikv"]).key, "store.pd");
    for wrong in ["http://pd:2379", "pd", ":2379", "pd:x"] {
        let problem = problem(&["store.kind=tikv", &format!("store.pd=[\"{wrong}\"]")]);
        assert_eq!(problem.key, "store.pd", "{wrong}");
    }
    let half = ["store.kind=tikv", "store.pd=pd:2379", "store.ca_file=ca.pem"];
    assert_eq!(problem(&half).key, "store.ca_file");

    let config = load_file("[store]\nkind = \"tikv\"\npd = [\"pd-1:2379\", \"[::1]:2379\"]", &[]);
    let settings = config.unwrap().tikv_store();
    assert_eq!(settings.pd, ["pd-1:2379", "[::1]:2379"]);
    assert!(settings.tls.is_none());
    assert_eq!(&settings.key_prefix[..], b"tern/");
}

#[test]
fn ids_for_a_load_balancer_fit_in_a_packet() {
    for wrong in ["0", "0g", &"00".repeat(16)] {
        let problem = problem(&[&format!("load_balancer.server_id={wrong}")]);
        assert_eq!(problem.key, "load_balancer.server_id", "{wrong}");
    }
    let long = ["load_balancer.server_id=0011223344556677", "load_balancer.nonce_bytes=12"];
    assert_eq!(problem(&long).key, "load_balancer.nonce_bytes");
    assert_eq!(problem(&["load_balancer.key_file=key"]).key, "load_balancer.server_id");
    let fits = ["load_balancer.server_id=0011223344556677", "load_balancer.nonce_bytes=11"];
    assert!(load_set(&fits).is_ok());
}
