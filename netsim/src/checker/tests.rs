//! A checker is worth what it notices: faults are planted, and it must find each, and nothing else.

mod faults;
mod model;

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tern_protocol::id::{AccountId, ConversationId};

use self::{faults::FAULTS, model::Model};
use super::*;

fn kinds(verdict: &Verdict) -> Vec<Kind> {
    verdict.violations.iter().map(|violation| violation.kind).collect()
}

/// The conversation of the model's first two accounts, which have two devices and one.
fn conversation() -> ConversationId {
    ConversationId::direct(AccountId::new(1).unwrap(), AccountId::new(2).unwrap()).unwrap()
}

/// A good history that has a bit of everything.
fn good(seed: u64, steps: usize) -> History {
    let mut model = Model::new(StdRng::seed_from_u64(seed));
    for _ in 0..steps {
        model.step();
    }
    model.settle()
}

#[test]
fn a_good_history_is_good() {
    let history = good(1, 400);
    let verdict = check(&history, Progress::Settled);
    assert!(verdict.is_good(), "{verdict}");
    assert!(verdict.messages > 20 && verdict.repeats > 0 && verdict.receipts > 20, "{verdict}");
    assert!(verdict.to_string().ends_with("every promise was kept"));
}

#[test]
fn each_fault_can_be_planted_and_is_found() {
    for &(name, expected, plant) in FAULTS {
        let mut history = good(1, 400);
        let mut rng = StdRng::seed_from_u64(7);
        assert!(plant(&mut history, &mut rng), "{name}: no place for it");
        let verdict = check(&history, Progress::Settled);
        assert_eq!(kinds(&verdict), [expected], "{name}: {verdict}");
        // The report names the fault.
        assert!(verdict.to_string().contains(&expected.to_string()), "{verdict}");
    }
}

#[test]
fn a_store_that_lost_what_it_held_is_found() {
    let mut history = good(1, 0);
    let device = *history.devices.keys().next().unwrap();
    let conversation = conversation();
    for up_to in [4, 5, 5, 4] {
        history.records.push(Record { device, event: Event::Held { conversation, up_to } });
    }
    assert_eq!(kinds(&check(&history, Progress::Settled)), [Kind::Forgotten]);
}

#[test]
fn a_receipt_is_held_to_what_the_best_device_can_have_held() {
    let base = good(1, 0);
    let (conversation, account) = (conversation(), AccountId::new(1).unwrap());
    let of_account = base.devices.iter().filter(|&(_, &of)| of == account);
    let devices: Vec<_> = of_account.map(|(&device, _)| device).collect();
    assert_eq!(devices.len(), 2, "the first account of the model has two devices");
    let held = |device, up_to| Record { device, event: Event::Held { conversation, up_to } };
    let receipt = |delivered| Record {
        device: devices[0],
        event: Event::Receipt { conversation, account, delivered, read: 0 },
    };
    let verdict = |records: &[Record]| {
        let history = History { records: records.to_vec(), ..base.clone() };
        kinds(&check(&history, Progress::Running))
    };
    // One of them had it.
    assert_eq!(verdict(&[receipt(5), held(devices[0], 3), held(devices[1], 5)]), []);
    // None had it: what they held later is less.
    let records = [receipt(5), held(devices[0], 3), held(devices[1], 4)];
    assert_eq!(verdict(&records), [Kind::FalseReceipt]);
    // What is held before says nothing about later.
    assert_eq!(verdict(&[held(devices[0], 3), held(devices[1], 4), receipt(5)]), []);
}

#[test]
fn what_never_settles_is_lost_only_when_it_had_time() {
    let mut history = good(1, 0);
    let device = *history.devices.keys().next().unwrap();
    let conversation = conversation();
    let text = || "hello".to_owned();
    for event in [
        Event::Submitted { conversation, text: text() },
        Event::Enqueued { text: text() },
        Event::Accepted { conversation, seq: 1, text: text() },
    ] {
        history.records.push(Record { device, event });
    }
    assert!(check(&history, Progress::Running).is_good());
    let lost = check(&history, Progress::Settled);
    // At each other device of the two members.
    assert_eq!(kinds(&lost), [Kind::Lost; 2], "{lost}");

    // Whoever was removed, or joined later, is owed nothing.
    let others: Vec<_> = lost.violations.iter().filter_map(|violation| violation.device).collect();
    history.records.push(Record { device: others[0], event: Event::Removed });
    let joined = Event::Joined { conversation, behind: 1 };
    history.records.push(Record { device: others[1], event: joined });
    assert!(check(&history, Progress::Settled).is_good());
}

#[test]
fn a_long_report_is_cut() {
    let mut history = good(1, 0);
    let device = *history.devices.keys().next().unwrap();
    let conversation = conversation();
    for _ in 0..15 {
        history.records.push(Record { device, event: Event::Gap { conversation } });
    }
    let report = check(&history, Progress::Settled).to_string();
    assert!(report.contains("15 broken promises") && report.contains("… 5 more lost"), "{report}");
}

proptest! {
    #[test]
    fn good_histories_are_good_at_any_moment(seed: u64, steps in 0..600_usize, cut: prop::sample::Index) {
        let mut history = good(seed, steps);
        let verdict = check(&history, Progress::Settled);
        prop_assert!(verdict.is_good(), "{}", verdict);
        let end = cut.index(history.records.len() + 1);
        history.records.truncate(end);
        let verdict = check(&history, Progress::Running);
        prop_assert!(verdict.is_good(), "cut at {}: {}", end, verdict);
    }

    #[test]
    fn a_fault_in_any_history_is_found(seed: u64, steps in 50..400_usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let (name, expected, plant) = FAULTS[rng.random_range(0..FAULTS.len())];
        let mut history = good(seed, steps);
        prop_assume!(plant(&mut history, &mut rng));
        let verdict = check(&history, Progress::Settled);
        prop_assert_eq!(kinds(&verdict), [expected], "{}: {}", name, verdict);
    }
}
