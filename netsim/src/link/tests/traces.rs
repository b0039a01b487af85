//! Traces, and links that follow one.

use std::io::Write as _;

use proptest::prelude::*;

use super::{super::*, arrival, ms, us};

fn traced(text: &str) -> Link {
    let trace = Some(Trace::parse(text).unwrap().into());
    Link::new(LinkSettings { trace, ..LinkSettings::default() }, 1).unwrap()
}

#[test]
fn a_trace_says_what_it_is() {
    let trace = Trace::parse("2\n2\n3\n8\n").unwrap();
    assert_eq!(trace.opportunities(), 4);
    assert_eq!(trace.length(), ms(8));
    assert_eq!(trace.longest_gap(), ms(5));
    // 6,000 bytes in 8 ms.
    assert!((trace.mean_mbit_s() - 6.0).abs() < 1e-9);
    assert_eq!(trace.mbit_s_over_time(2), [9.0, 3.0]);
    assert!(trace.mbit_s_over_time(0).is_empty());
    // From the end to the first opportunity of the next lap.
    assert_eq!(Trace::parse("5\n6\n6").unwrap().longest_gap(), ms(5));
}

#[test]
fn what_is_no_trace_is_refused_with_its_line() {
    for (text, said) in [
        ("1\n\n2\n", "line 2 isn't a whole number"),
        ("1\nx\n", "line 2 isn't a whole number"),
        ("-1\n", "line 1 isn't a whole number"),
        ("1.5\n", "line 1 isn't a whole number"),
        ("99999999999999999999\n", "line 1 isn't a whole number"),
        ("86400001\n", "line 1 is later"),
        ("3\n5\n4\n", "line 3 is earlier"),
        ("", "no line says more than 0 ms"),
        ("0\n0\n", "no line says more than 0 ms"),
    ] {
        let error = Trace::parse(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text:?}: {error}");
    }
    assert!(Trace::parse(&"1\n".repeat(MAX_TRACE_OPPORTUNITIES)).is_ok());
    let error = Trace::parse(&"1\n".repeat(MAX_TRACE_OPPORTUNITIES + 1)).unwrap_err();
    assert!(matches!(error, TraceError::TooManyLines));
    assert_eq!(Trace::parse("1\r\n2\r\n").unwrap().opportunities(), 2);
}

#[test]
fn a_file_is_read_from_the_folder_of_its_settings() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("up"), "1\n2\n").unwrap();
    let trace = Some(std::path::PathBuf::from("up").into());
    let mut settings = LinkSettings { trace, ..LinkSettings::default() };
    settings.load_trace(folder.path()).unwrap();
    let trace = settings.trace.as_ref().unwrap().trace().unwrap().clone();
    assert_eq!(trace.opportunities(), 2);
    // What was read isn't read again.
    settings.load_trace(std::path::Path::new("nowhere")).unwrap();
    Link::new(settings, 0).unwrap();

    let trace = Some(std::path::PathBuf::from("down").into());
    let mut settings = LinkSettings { trace, ..LinkSettings::default() };
    let error = settings.load_trace(folder.path()).unwrap_err();
    assert!(error.to_string().contains("down"), "{error}");
}

#[test]
fn a_file_that_is_too_large_is_not_read_to_its_end() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"1\n").unwrap();
    file.as_file().set_len(MAX_TRACE_BYTES + 1).unwrap();
    let error = Trace::read(file.path()).unwrap_err();
    assert!(matches!(error, TraceError::TooLarge { .. }), "{error}");
}

#[test]
fn a_full_packet_takes_one_opportunity() {
    let mut link = traced("5\n7\n10\n");
    assert_eq!(arrival(link.send(ms(0), 1_500)), ms(5));
    assert_eq!(arrival(link.send(ms(0), 1_500)), ms(7));
    assert_eq!(arrival(link.send(ms(0), 1_500)), ms(10));
    // The second lap begins at 10.
    assert_eq!(arrival(link.send(ms(0), 1_500)), ms(15));
    assert_eq!(arrival(link.send(ms(0), 1_500)), ms(17));
}

#[test]
fn small_packets_share_one_and_large_ones_take_several() {
    let mut link = traced("5\n7\n10\n");
    // 3 × (500 + 4) are 8 bytes more than one opportunity has.
    assert_eq!(arrival(link.send(ms(0), 500)), ms(5));
    assert_eq!(arrival(link.send(ms(0), 500)), ms(5));
    assert_eq!(arrival(link.send(ms(0), 500)), ms(7));
    // What is left of the one at 7, all of 10 and a bit of 15.
    assert_eq!(arrival(link.send(ms(0), 3_000)), ms(15));
    assert_eq!(arrival(link.send(ms(0), 100)), ms(15));
    // 9,000 bytes: six laps' worth of opportunities, counted and not walked through.
    let mut link = traced("1\n");
    assert_eq!(arrival(link.send(ms(0), 1_504 * 1_000_000 - 4)), Duration::from_secs(1_000));
}

#[test]
fn an_opportunity_that_nobody_waits_for_is_lost() {
    let mut link = traced("5\n7\n10\n");
    assert_eq!(arrival(link.send(ms(0), 100)), ms(5));
    // It comes in the very millisecond, as for Mahimahi too late, though there is room left.
    assert_eq!(arrival(link.send(ms(5), 100)), ms(7));
    assert_eq!(arrival(link.send(us(6_999), 100)), ms(7));
    assert_eq!(arrival(link.send(ms(10), 100)), ms(15));
    assert_eq!(arrival(link.send(ms(1_000_009), 100)), ms(1_000_010));
}

#[test]
fn several_opportunities_of_one_millisecond_serve_as_many() {
    let mut link = traced("0\n3\n3\n4\n");
    let arrivals = [(); 6].map(|()| arrival(link.send(us(0), 1_500)));
    // The one at 0 was missed; in the second lap it falls together with the last of the first.
    assert_eq!(arrivals, [ms(3), ms(3), ms(4), ms(4), ms(7), ms(7)]);
}

#[test]
fn the_queue_of_a_trace_is_bounded() {
    let trace = Some(Trace::parse("1000\n").unwrap().into());
    let settings = LinkSettings { trace, queue_packets: Some(4), ..LinkSettings::default() };
    let mut link = Link::new(settings, 0).unwrap();
    let fates = [(); 6].map(|()| link.send(ms(0), 1_500));
    assert!(fates[..5].iter().all(|fate| matches!(fate, Fate::Passes(_))));
    assert_eq!(fates[5], Fate::Dropped(Drop::QueueFull));
}

#[test]
fn the_same_trace_goes_on_after_a_change() {
    let trace: TraceFile = Trace::parse("10\n").unwrap().into();
    let settings = LinkSettings { trace: Some(trace), ..LinkSettings::default() };
    let mut link = Link::new(settings.clone(), 0).unwrap();
    assert_eq!(arrival(link.send(ms(0), 1_000)), ms(10));
    link.change(LinkSettings { delay_ms: 1.0, ..settings }).unwrap();
    assert_eq!(arrival(link.send(ms(0), 400)), ms(11));
    // Nothing is left of the opportunity at 10, which the rate has to wait for all the same.
    link.change(LinkSettings { rate_kbit_s: Some(8_000.0), ..LinkSettings::default() }).unwrap();
    assert_eq!(arrival(link.send(ms(0), 5_000)), ms(15));
}

proptest! {
    /// The shortcut (departures as packets enter) does what walking through every opportunity does.
    #[test]
    fn a_link_does_what_a_walk_through_the_trace_does(
        gaps in prop::collection::vec(0..4_u64, 1..20),
        packets in prop::collection::vec((0..6_000_u64, 1..4_000_usize), 1..60),
    ) {
        let times: Vec<u64> =
            gaps.iter().scan(0, |sum, gap| { *sum += gap; Some(*sum) }).collect();
        let length = *times.last().unwrap();
        prop_assume!(length > 0);
        let text: String = times.iter().map(|ms| format!("{ms}\n")).collect();
        let mut link = traced(&text);

        let mut now = us(0);
        let mut expected = Vec::new();
        let mut waiting: std::collections::VecDeque<(Duration, usize)> = Default::default();
        let mut seen = Vec::new();
        for (pause, bytes) in packets {
            now += us(pause);
            waiting.push_back((now, bytes + 4));
            seen.push(arrival(link.send(now, bytes)));
        }
        let mut lap = 0;
        while !waiting.is_empty() {
            for at in &times {
                let at = ms(lap * length + at);
                let mut left = 1_504;
                while left > 0 && waiting.front().is_some_and(|(entered, _)| *entered < at) {
                    let bytes = &mut waiting.front_mut().unwrap().1;
                    let used = left.min(*bytes);
                    *bytes -= used;
                    left -= used;
                    if *bytes == 0 {
                        waiting.pop_front();
                        expected.push(at);
                    }
                }
            }
            lap += 1;
        }
        prop_assert_eq!(seen, expected);
    }
}
