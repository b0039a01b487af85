//! Faults planted into the history of a run, so that its verdict is known to mean something.

use rand::{Rng, rngs::StdRng};
use tern_netsim::checker::{Event, History, Kind, Progress, check};

/// Plants one fault of each kind, and sees that the checker notices it and nothing else.
pub(crate) fn faults_are_noticed(history: &History, rng: &mut StdRng) {
    for (kind, planted) in plant(history, rng) {
        let verdict = check(&planted, Progress::Settled);
        let kinds: Vec<_> = verdict.violations.iter().map(|violation| violation.kind).collect();
        assert!(!kinds.is_empty(), "a planted fault wasn't noticed: {kind}");
        assert!(kinds.iter().all(|&found| found == kind), "planted {kind}, found: {verdict}");
    }
}

/// The history with a fault in it, one history for each kind.
fn plant(history: &History, rng: &mut StdRng) -> Vec<(Kind, History)> {
    let given = positions(history, |event| matches!(event, Event::Given(_)));
    let at = given[rng.random_range(0..given.len())];
    let plant = |kind, plant: &mut dyn FnMut(&mut History)| {
        let mut planted = history.clone();
        plant(&mut planted);
        (kind, planted)
    };
    let Event::Given(entry) = &history.records[at].event else { unreachable!() };
    vec![
        // One device's application never got one message.
        plant(Kind::Lost, &mut |history| {
            let device = history.records[at].device;
            history.records.retain(|record| match &record.event {
                Event::Given(given) => record.device != device || given.text != entry.text,
                _ => true,
            });
        }),
        plant(Kind::Repeated, &mut |history| {
            let again = history.records[at].clone();
            history.records.insert(at + 1, again);
        }),
        plant(Kind::Unexpected, &mut |history| {
            if let Event::Given(entry) = &mut history.records[at].event {
                entry.text.push('!');
            }
        }),
        plant(Kind::FalseReceipt, &mut |history| {
            let receipts = positions(history, |event| matches!(event, Event::Receipt { .. }));
            if let Event::Receipt { delivered, .. } = &mut history.records[receipts[0]].event {
                *delivered = u64::MAX;
            }
        }),
    ]
}

fn positions(history: &History, is: impl Fn(&Event) -> bool) -> Vec<usize> {
    let records = history.records.iter().enumerate();
    records.filter(|(_, record)| is(&record.event)).map(|(at, _)| at).collect()
}
