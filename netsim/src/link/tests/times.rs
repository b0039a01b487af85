//! Delay, rate, queue and order.

use proptest::prelude::*;

use super::{super::*, arrival, link, ms, passages, us};

#[test]
fn a_perfect_link_changes_nothing() {
    let mut link = link(LinkSettings::default());
    for at in [ms(0), us(3), us(3), ms(7)] {
        let passage = Passage { at, flip_bit: None };
        assert_eq!(link.send(at, 1_200), Fate::Passes(passage));
    }
    assert_eq!(link.counts().delivered, link.counts().entered);
    assert_eq!(link.counts().entered.bytes, 4_800);
}

#[test]
fn packets_take_their_time_one_after_the_other() {
    // 1,000 bytes at 1,000 kbit/s: 8 ms each.
    let mut link = link(LinkSettings {
        delay_ms: 50.0,
        rate_kbit_s: Some(1_000.0),
        ..LinkSettings::default()
    });
    assert_eq!(arrival(link.send(ms(0), 1_000)), ms(58));
    assert_eq!(arrival(link.send(ms(1), 1_000)), ms(66));
    // The link was idle in between.
    assert_eq!(arrival(link.send(ms(100), 500)), ms(154));
}

#[test]
fn rounding_does_not_add_up() {
    // 1 byte at 3 Mbit/s takes 2,666.6… ns.
    let mut link = link(LinkSettings {
        rate_kbit_s: Some(3_000.0),
        queue_packets: Some(MAX_QUEUE_PACKETS),
        ..LinkSettings::default()
    });
    let last = (0..30_000).map(|_| link.send(ms(0), 1)).last().unwrap();
    assert_eq!(arrival(last), ms(80));
}

#[test]
fn header_bytes_count_for_rate_and_mtu_only() {
    let settings = LinkSettings {
        rate_kbit_s: Some(8.0),
        mtu_bytes: Some(100),
        corrupt: 1.0,
        ..LinkSettings::default()
    };
    let mut link = Link::new(settings, 1).unwrap().with_header_bytes(28);
    let Fate::Passes(passage) = link.send(ms(0), 72) else { panic!("it fits") };
    assert_eq!(passage.at, ms(100));
    assert!(passage.flip_bit.unwrap() < 72 * 8);
    assert_eq!(link.send(ms(200), 73), Fate::Dropped(Drop::TooBig));
    assert_eq!(link.counts().entered.bytes, 145);
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    let mut link = link(LinkSettings {
        rate_kbit_s: Some(8_000.0),
        queue_packets: Some(2),
        ..LinkSettings::default()
    });
    // One is sent until 1 ms, two wait.
    let fates = [(); 4].map(|()| link.send(ms(0), 1_000));
    assert_eq!(
        passages(&fates[..3]).iter().map(|p| p.at).collect::<Vec<_>>(),
        [ms(1), ms(2), ms(3)]
    );
    assert_eq!(fates[3], Fate::Dropped(Drop::QueueFull));
    assert_eq!(link.send(us(999), 1_000), Fate::Dropped(Drop::QueueFull));
    assert_eq!(arrival(link.send(ms(1), 1_000)), ms(4));
    assert_eq!(link.counts().queue_full.packets, 2);
}

#[test]
fn without_a_queue_only_an_idle_link_takes_a_packet() {
    let mut link = link(LinkSettings {
        rate_kbit_s: Some(8_000.0),
        queue_packets: Some(0),
        ..LinkSettings::default()
    });
    assert_eq!(arrival(link.send(ms(0), 1_000)), ms(1));
    assert_eq!(link.send(us(999), 1_000), Fate::Dropped(Drop::QueueFull));
    assert_eq!(arrival(link.send(ms(1), 1_000)), ms(2));
}

#[test]
fn a_change_leaves_what_is_queued_and_keeps_the_order() {
    let slow = LinkSettings { rate_kbit_s: Some(8.0), ..LinkSettings::default() };
    let mut link = link(slow.clone());
    assert_eq!(arrival(link.send(ms(0), 100)), ms(100));
    assert_eq!(arrival(link.send(ms(0), 100)), ms(200));
    link.change(LinkSettings { rate_kbit_s: Some(80.0), ..LinkSettings::default() }).unwrap();
    assert_eq!(arrival(link.send(ms(10), 100)), ms(210));
    link.change(LinkSettings::default()).unwrap();
    assert_eq!(arrival(link.send(ms(20), 100)), ms(210));
    assert_eq!(arrival(link.send(ms(300), 100)), ms(300));
    link.change(LinkSettings { delay_ms: 100.0, ..LinkSettings::default() }).unwrap();
    assert_eq!(arrival(link.send(ms(300), 100)), ms(400));
    link.change(LinkSettings::default()).unwrap();
    // Sent later, so it isn't there earlier.
    assert_eq!(arrival(link.send(ms(350), 100)), ms(400));
    link.change(LinkSettings { loss: Loss::ALL, ..slow }).unwrap();
    assert_eq!(link.send(ms(500), 100), Fate::Dropped(Drop::Lost));
    assert_eq!(link.counts().entered.packets, 8);
}

#[test]
fn a_refused_change_changes_nothing() {
    let mut link = link(LinkSettings { delay_ms: 5.0, ..LinkSettings::default() });
    let wrong = LinkSettings { delay_ms: 9.0, duplicate: 2.0, ..LinkSettings::default() };
    link.change(wrong).unwrap_err();
    assert_eq!(arrival(link.send(ms(0), 1)), ms(5));
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut link = link(LinkSettings::default());
    assert_eq!(arrival(link.send(ms(10), 1)), ms(10));
    assert_eq!(arrival(link.send(ms(9), 1)), ms(10));
}

#[test]
fn a_late_packet_is_overtaken() {
    let settings = LinkSettings {
        delay_ms: 10.0,
        reorder: 0.1,
        reorder_by_ms: 5.0,
        ..LinkSettings::default()
    };
    let mut link = Link::new(settings, 7).unwrap();
    let fates: Vec<_> = (0..1_000).map(|i| link.send(ms(i), 100)).collect();
    let late = fates.iter().zip(0..).filter(|(fate, i)| arrival(**fate) == ms(i + 15)).count();
    let in_time = fates.iter().zip(0..).filter(|(fate, i)| arrival(**fate) == ms(i + 10)).count();
    assert_eq!(late + in_time, 1_000);
    assert!((70..130).contains(&late), "{late} late of 1,000");
    assert_eq!(link.counts().reordered, late as u64);
}

proptest! {
    #[test]
    fn the_rate_is_kept(
        rate in 1.0..1e6_f64,
        packets in prop::collection::vec((0..5_000_u64, 1..2_000_usize), 1..200),
    ) {
        let mut link = Link::new(
            LinkSettings { rate_kbit_s: Some(rate), ..LinkSettings::default() },
            0,
        ).unwrap();
        let (mut now, mut bits, mut busy_since, mut last) = (us(0), 0.0, us(0), us(0));
        for (pause, bytes) in packets {
            now += us(pause);
            if now > last {
                (bits, busy_since) = (0.0, now);
            }
            bits += bytes as f64 * 8.0;
            last = arrival(link.send(now, bytes));
            // While the queue isn't empty, exactly the rate's bits get through.
            let bit_s = (rate * 1e3).round();
            let expected = busy_since.as_secs_f64() + bits / bit_s;
            prop_assert!((last.as_secs_f64() - expected).abs() < 1e-6, "{last:?} {expected}");
        }
    }

    #[test]
    fn nothing_is_reordered_unless_it_is_asked_for(
        seed: u64,
        delay_ms in 0.0..100.0_f64,
        jitter_ms in 0.0..100.0_f64,
        rate_kbit_s in prop::option::of(10.0..1e5_f64),
        duplicate in 0.0..1.0_f64,
        probability in 0.0..1.0_f64,
        pauses in prop::collection::vec(0..3_000_u64, 1..200),
        changed_ms in 0.0..100.0_f64,
    ) {
        let settings = LinkSettings {
            delay_ms,
            jitter_ms,
            rate_kbit_s,
            duplicate,
            loss: Loss::Independent { probability },
            ..LinkSettings::default()
        };
        let mut link = Link::new(settings.clone(), seed).unwrap();
        let mut now = us(0);
        let mut fates = Vec::new();
        for (i, pause) in pauses.iter().enumerate() {
            now += us(*pause);
            if i == pauses.len() / 2 {
                link.change(LinkSettings { delay_ms: changed_ms, ..settings.clone() }).unwrap();
            }
            let fate = link.send(now, 500);
            for passage in passages(&[fate]) {
                prop_assert!(passage.at >= now);
            }
            fates.push(fate);
        }
        prop_assert!(passages(&fates).is_sorted_by_key(|passage| passage.at));
    }

    #[test]
    fn the_queue_is_bounded(
        queue_packets in 0..50_usize,
        packets in prop::collection::vec((0..3_000_u64, 1..2_000_usize), 1..300),
    ) {
        let mut link = Link::new(
            LinkSettings {
                rate_kbit_s: Some(1_000.0),
                queue_packets: Some(queue_packets),
                ..LinkSettings::default()
            },
            0,
        ).unwrap();
        let (mut now, mut departures) = (us(0), Vec::new());
        for (pause, bytes) in packets {
            now += us(pause);
            let inside = departures.iter().filter(|departure| **departure > now).count();
            match link.send(now, bytes) {
                Fate::Passes(passage) => {
                    prop_assert!(inside <= queue_packets);
                    departures.push(passage.at);
                }
                fate => {
                    prop_assert_eq!(fate, Fate::Dropped(Drop::QueueFull));
                    prop_assert_eq!(inside, queue_packets + 1);
                }
            }
        }
    }
}
