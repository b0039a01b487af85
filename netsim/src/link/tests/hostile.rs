//! Settings that no link can have, and how settings are written.

use super::super::*;

fn refused(settings: LinkSettings) -> String {
    Link::new(settings, 0).unwrap_err().to_string()
}

#[test]
fn wrong_numbers_are_refused_by_name() {
    let perfect = LinkSettings::default;
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -f64::MIN_POSITIVE, 1e300] {
        for (field, settings) in [
            ("delay_ms", LinkSettings { delay_ms: wrong, ..perfect() }),
            ("jitter_ms", LinkSettings { jitter_ms: wrong, ..perfect() }),
            ("rate_kbit_s", LinkSettings { rate_kbit_s: Some(wrong), ..perfect() }),
            ("reorder", LinkSettings { reorder: wrong, reorder_by_ms: 1.0, ..perfect() }),
            ("reorder_by_ms", LinkSettings { reorder_by_ms: wrong, ..perfect() }),
            ("duplicate", LinkSettings { duplicate: wrong, ..perfect() }),
            ("corrupt", LinkSettings { corrupt: wrong, ..perfect() }),
        ] {
            let error = refused(settings);
            assert!(error.starts_with(&format!("{field} is ")), "{error}");
        }
        for (field, loss) in [
            ("loss.probability", Loss::Independent { probability: wrong }),
            ("loss.probability", Loss::Bursts { probability: wrong, at_most: 1 }),
            ("loss.p", Loss::GilbertElliott { p: wrong, r: 0.0, h: 0.0, k: 0.0 }),
            ("loss.r", Loss::GilbertElliott { p: 0.0, r: wrong, h: 0.0, k: 0.0 }),
            ("loss.h", Loss::GilbertElliott { p: 0.0, r: 0.0, h: wrong, k: 0.0 }),
            ("loss.k", Loss::GilbertElliott { p: 0.0, r: 0.0, h: 0.0, k: wrong }),
        ] {
            let error = refused(LinkSettings { loss, ..perfect() });
            assert!(error.starts_with(&format!("{field} is ")), "{error}");
        }
    }
    let settings = LinkSettings { duplicate: 1.000_001, ..perfect() };
    assert_eq!(refused(settings), "duplicate is 1.000001, but may be a share from 0 to 1");
    assert!(
        refused(LinkSettings { rate_kbit_s: Some(0.0), ..perfect() }).starts_with("rate_kbit_s")
    );
    let loss = Loss::Bursts { probability: 0.1, at_most: 0 };
    assert!(refused(LinkSettings { loss, ..perfect() }).starts_with("loss.at_most"));
    assert!(refused(LinkSettings { mtu_bytes: Some(0), ..perfect() }).starts_with("mtu_bytes"));
    let queue_packets = Some(MAX_QUEUE_PACKETS + 1);
    assert!(refused(LinkSettings { queue_packets, ..perfect() }).starts_with("queue_packets"));
}

#[test]
fn settings_that_make_no_sense_together_are_refused() {
    let error = refused(LinkSettings { reorder: 0.1, ..LinkSettings::default() });
    assert_eq!(error, "reorder needs reorder_by_ms to be above 0");
    let trace = Some(Trace::parse("1\n").unwrap().into());
    let both = LinkSettings { rate_kbit_s: Some(1.0), trace, ..LinkSettings::default() };
    assert_eq!(refused(both), "rate_kbit_s and trace exclude each other");
    let trace = Some(std::path::PathBuf::from("up").into());
    let unread = LinkSettings { trace, ..LinkSettings::default() };
    assert_eq!(refused(unread), "the file that trace names wasn't loaded");
}

#[test]
fn the_bounds_themselves_are_no_trouble() {
    let slowest = LinkSettings {
        delay_ms: MAX_DELAY_MS,
        jitter_ms: MAX_DELAY_MS,
        rate_kbit_s: Some(MIN_RATE_KBIT_S),
        queue_packets: Some(MAX_QUEUE_PACKETS),
        reorder: 1.0,
        reorder_by_ms: MAX_DELAY_MS,
        duplicate: 1.0,
        corrupt: 1.0,
        ..LinkSettings::default()
    };
    let mut link = Link::new(slowest, u64::MAX).unwrap();
    for now in [Duration::ZERO, Duration::from_secs(1), Duration::MAX] {
        for bytes in [0, 1, 65_535, usize::MAX] {
            link.send(now, bytes);
        }
    }
    let fastest = LinkSettings { rate_kbit_s: Some(MAX_RATE_KBIT_S), ..LinkSettings::default() };
    let mut link = Link::new(fastest, 0).unwrap();
    link.send(Duration::MAX, usize::MAX);
    let trace = Some(Trace::parse("0\n1\n").unwrap().into());
    let mut link = Link::new(LinkSettings { trace, ..LinkSettings::default() }, 0).unwrap();
    for now in [Duration::ZERO, Duration::MAX] {
        link.send(now, usize::MAX);
        link.send(now, 1);
    }
}

fn read(toml: &str) -> Result<LinkSettings, String> {
    toml::from_str(toml).map_err(|error| error.to_string())
}

#[test]
fn settings_are_read_from_toml() {
    assert_eq!(read("").unwrap(), LinkSettings::default());
    let settings = read("delay_ms = 50\nrate_kbit_s = 780\nqueue_packets = 25\ntrace = 'a/b.down'");
    let expected = LinkSettings {
        delay_ms: 50.0,
        rate_kbit_s: Some(780.0),
        queue_packets: Some(25),
        trace: Some(std::path::PathBuf::from("a/b.down").into()),
        ..LinkSettings::default()
    };
    assert_eq!(settings.unwrap(), expected);
    for (toml, loss) in [
        ("loss = {}", Loss::None),
        ("loss = 0", Loss::None),
        ("loss = 1", Loss::ALL),
        ("loss = 0.02", Loss::Independent { probability: 0.02 }),
        ("loss = { probability = 0.02 }", Loss::Independent { probability: 0.02 }),
        (
            "loss = { probability = 0.3, at_most = 3 }",
            Loss::Bursts { probability: 0.3, at_most: 3 },
        ),
        ("loss = { p = 0.1, r = 0.5 }", Loss::GilbertElliott { p: 0.1, r: 0.5, h: 0.0, k: 1.0 }),
        (
            "loss = { p = 0.1, r = 0.5, h = 0.2, k = 0.9 }",
            Loss::GilbertElliott { p: 0.1, r: 0.5, h: 0.2, k: 0.9 },
        ),
    ] {
        assert_eq!(read(toml).unwrap().loss, loss, "{toml}");
    }
}

#[test]
fn settings_survive_being_written() {
    for loss in [
        Loss::None,
        Loss::Independent { probability: 0.5 },
        Loss::Bursts { probability: 0.25, at_most: 3 },
        Loss::GilbertElliott { p: 0.1, r: 0.5, h: 0.2, k: 0.9 },
    ] {
        let settings = LinkSettings { loss, rate_kbit_s: Some(1.5), ..LinkSettings::default() };
        let toml = toml::to_string(&settings).unwrap();
        assert_eq!(read(&toml).unwrap(), settings, "{toml}");
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<LinkSettings>(&json).unwrap(), settings, "{json}");
    }
}

#[test]
fn misspelt_settings_are_refused() {
    for (toml, said) in [
        ("dealy_ms = 5", "dealy_ms"),
        ("loss = { probabilty = 0.1 }", "probabilty"),
        ("loss = { p = 0.1 }", "a loss is"),
        ("loss = { probability = 0.1, r = 0.1 }", "a loss is"),
        ("loss = { h = 0.1 }", "a loss is"),
        ("loss = 2", "a share from 0 to 1"),
        ("loss = 'much'", "a share of packets"),
        ("queue_packets = -1", "queue_packets"),
    ] {
        let error = read(toml).unwrap_err();
        assert!(error.contains(said), "{toml}: {error}");
    }
}
