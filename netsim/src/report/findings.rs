//! The figures of a run in a simulated world.

use super::{Figure, scene::recoveries_ms};
use crate::{
    run::{Outcome, percentile},
    scenario::Scenario,
};

/// So much later than the median a message counts as late, in milliseconds: more than a network's
/// jitter, less than a retransmission time-out.
pub const LATE_AFTER_MEDIAN_MS: f64 = 50.0;

/// The figures of a run. Delays are those of the messages that arrived; traffic and radio are of the
/// time of the load alone. What there is none of, such as a recovery without an outage, is not a number.
pub fn findings(scenario: &Scenario, outcome: &Outcome) -> Vec<Figure> {
    let arrivals = outcome.arrivals_ms();
    let delay = |part| if arrivals.is_empty() { f64::NAN } else { percentile(&arrivals, part) };
    let phones = outcome.phones.len().max(1) as f64;
    let bytes: u64 = outcome.phones.iter().map(|phone| phone.bytes_up + phone.bytes_down).sum();
    let packets: u64 =
        outcome.phones.iter().map(|phone| phone.packets_up + phone.packets_down).sum();
    let messages = outcome.messages as f64;
    let radio_on_s: f64 = outcome.phones.iter().map(|phone| phone.radio_on_s).sum();
    let wake_ups: u64 = outcome.phones.iter().map(|phone| phone.wake_ups).sum();
    let stall = longest_stalls_ms(outcome).into_iter().fold(0.0, f64::max);
    let reconnects: usize = (0..outcome.phones.len()).map(|phone| reconnects(outcome, phone)).sum();
    // A scenario that has run has a timeline.
    let recoveries = recoveries_ms(scenario, outcome).unwrap_or_default();
    let recovery = recoveries.into_iter().reduce(f64::max).unwrap_or(f64::NAN);
    let broken = outcome.violations.len() + usize::from(outcome.unsettled.is_some());
    [
        ("messages", "messages", "", messages),
        ("deliveries", "deliveries", "", outcome.deliveries as f64),
        ("delay_p50_ms", "delay, half are faster", "ms", delay(0.5)),
        ("delay_p90_ms", "delay, 90% are faster", "ms", delay(0.9)),
        ("delay_p99_ms", "delay, 99% are faster", "ms", delay(0.99)),
        ("delay_worst_ms", "delay, the worst", "ms", delay(1.0)),
        (
            "late_percent",
            "later than the median + 50 ms",
            "%",
            outcome.late(LATE_AFTER_MEDIAN_MS) * 100.0,
        ),
        ("stall_ms", "longest stall of a conversation", "ms", stall),
        ("recovery_ms", "slowest return after an outage", "ms", recovery),
        ("reconnects", "reconnects, all phones", "", reconnects as f64),
        ("bytes_per_message", "on air per message", "bytes", bytes as f64 / messages),
        ("packets_per_message", "packets per message", "", packets as f64 / messages),
        ("radio_on_s", "radio on, per phone", "s", radio_on_s / phones),
        ("wake_ups", "radio woken, per phone", "", wake_ups as f64 / phones),
        ("broken", "broken promises", "", broken as f64),
    ]
    .map(|(key, label, unit, value)| Figure { key, label, unit, value })
    .to_vec()
}

/// How often a phone was connected anew after the load had begun. A change of the network that the connection
/// survives is none.
pub fn reconnects(outcome: &Outcome, phone: usize) -> usize {
    let of = |change: &&crate::run::ConnectionChange| {
        change.phone == phone && change.state == "connected" && change.at_ms > 0.0
    };
    outcome.connections.iter().filter(of).count()
}

/// The longest stall of each conversation in milliseconds, by its number: the longest time in which messages of
/// one direction were under way and none of them arrived. Without losses it is about the delay of one message.
pub fn longest_stalls_ms(outcome: &Outcome) -> Vec<f64> {
    let count = outcome.delays.iter().map(|delay| delay.conversation + 1).max().unwrap_or(0);
    let mut stalls = vec![0.0_f64; count];
    let mut directions: Vec<(usize, usize)> =
        outcome.delays.iter().map(|delay| (delay.conversation, delay.from)).collect();
    directions.sort_unstable();
    directions.dedup();
    for (conversation, from) in directions {
        // What never arrived was under way until the end.
        let mut sent_and_arrived: Vec<(f64, f64)> = outcome
            .delays
            .iter()
            .filter(|delay| (delay.conversation, delay.from) == (conversation, from))
            .map(|delay| {
                let arrived = delay.arrived_after_ms.map(|after| delay.sent_ms + after);
                (delay.sent_ms, arrived.unwrap_or(outcome.settled_ms))
            })
            .collect();
        sent_and_arrived.sort_by(|one, other| one.1.total_cmp(&other.1));
        let mut first_under_way = f64::INFINITY;
        let mut next_arrivals = sent_and_arrived.iter().rev().peekable();
        // From the last one back, the oldest of those that are under way is known.
        while let Some((sent, arrived)) = next_arrivals.next() {
            first_under_way = first_under_way.min(*sent);
            let before = next_arrivals.peek().map_or(f64::NEG_INFINITY, |(_, arrived)| *arrived);
            let stall = arrived - before.max(first_under_way);
            stalls[conversation] = stalls[conversation].max(stall);
        }
    }
    stalls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Delay;

    fn outcome(delays: &[(usize, usize, f64, Option<f64>)]) -> Outcome {
        let delays = delays.iter().map(|&(conversation, from, sent_ms, arrived_after_ms)| Delay {
            sent_ms,
            conversation,
            from,
            accepted_after_ms: None,
            arrived_after_ms,
        });
        Outcome { settled_ms: 10_000.0, delays: delays.collect(), ..Outcome::default() }
    }

    #[test]
    fn a_stall_ends_with_the_next_arrival_of_its_direction() {
        // Two messages wait together; those of the other direction don't help them.
        let stalled = outcome(&[
            (0, 0, 0.0, Some(100.0)),
            (0, 0, 1_000.0, Some(3_100.0)),
            (0, 0, 2_000.0, Some(1_100.0)),
            (0, 1, 1_500.0, Some(100.0)),
            (0, 1, 3_000.0, Some(100.0)),
            (1, 2, 0.0, Some(50.0)),
        ]);
        assert_eq!(longest_stalls_ms(&stalled), [2_100.0, 50.0]);
        // Arrivals in between make stalls short, though a message takes long.
        let trickling = outcome(&[(0, 0, 0.0, Some(2_000.0)), (0, 0, 1_000.0, Some(100.0))]);
        assert_eq!(longest_stalls_ms(&trickling), [1_100.0]);
        // What never arrives stalls to the end.
        assert_eq!(longest_stalls_ms(&outcome(&[(0, 0, 4_000.0, None)])), [6_000.0]);
        assert_eq!(longest_stalls_ms(&outcome(&[])), [0.0; 0]);
    }
}
