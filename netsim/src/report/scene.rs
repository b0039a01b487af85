//! The course of a run of a scenario.

use std::collections::{BTreeMap, BTreeSet};

use super::{Course, Lane, Mark, Point, Span};
use crate::{
    run::Outcome,
    scenario::{Scenario, ScenarioError, Step, Timeline},
    sim::DiskSettings,
};

/// Lanes of phones at most.
pub(super) const MOST_LANES: usize = 12;
/// Phones that a label names at most.
const MOST_NAMES: usize = 3;

/// The plot of a run: the delay of each message, what happened, and the connection of each phone.
///
/// # Errors
///
/// [`ScenarioError`] if the scenario can't be what was run.
pub fn course(scenario: &Scenario, outcome: &Outcome) -> Result<Course, ScenarioError> {
    let happened = Happened::of(scenario)?;
    let conversations = scenario.conversations().len();
    let points = outcome.delays.iter().map(|delay| Point {
        at_s: delay.sent_ms / 1_000.0,
        took_ms: delay.arrived_after_ms,
        // Colours tell conversations apart as long as there are enough of them.
        colour: if conversations <= 3 { delay.conversation } else { 0 },
    });
    let lanes = (0..scenario.phones.count.min(MOST_LANES)).map(|phone| Lane {
        label: format!("p{phone}"),
        spans: connection(scenario, outcome, phone)
            .into_iter()
            .chain(happened.of_phones.get(&phone).cloned().unwrap_or_default())
            .collect(),
    });
    Ok(Course {
        title: "Delay of each message, by when it was sent; connections of the phones".into(),
        seconds: scenario.seconds,
        points: points.collect(),
        marks: happened.marks(scenario.phones.count),
        gaps: happened.gaps(),
        lanes: lanes.collect(),
    })
}

/// The states of a phone's connection from the begin of the load to its end.
fn connection(scenario: &Scenario, outcome: &Outcome, phone: usize) -> Vec<Span> {
    let changes: Vec<(f64, &'static str)> = outcome
        .connections
        .iter()
        .filter(|change| change.phone == phone)
        .map(|change| (change.at_ms / 1_000.0, change.state))
        .collect();
    let ends = changes.iter().skip(1).map(|(at_s, _)| *at_s).chain([scenario.seconds]);
    changes
        .iter()
        .zip(ends)
        .map(|(&(from_s, state), to_s)| Span {
            from_s: from_s.max(0.0),
            to_s: to_s.min(scenario.seconds),
            class: match state {
                "connected" => "up",
                "connecting" | "waiting" => "wait",
                _ => "down",
            },
            label: state.to_owned(),
        })
        .filter(|span| span.to_s > span.from_s)
        .collect()
}

/// How long it took after each outage of a phone or the server, in milliseconds and in the order of their
/// ends, until the first message from it arrived, and the first one from each of its peers (after the server's,
/// from each phone). A message that was sent only after the end counts from its sending. Peers that have an
/// outage themselves don't count, nor do outages that last to the end of the load, when everything is made well.
///
/// # Errors
///
/// [`ScenarioError`] if the scenario can't be what was run.
pub fn recoveries_ms(scenario: &Scenario, outcome: &Outcome) -> Result<Vec<f64>, ScenarioError> {
    let happened = Happened::of(scenario)?;
    let conversations = scenario.conversations();
    let is_out = |phone: usize, at_s: f64| {
        let spans = happened.of_phones.get(&phone).into_iter().flatten();
        spans.chain(&happened.of_server).any(|span| span.from_s <= at_s && at_s < span.to_s)
    };
    let phones = happened.of_phones.iter();
    let mut ends: Vec<(f64, Option<usize>)> = phones
        .flat_map(|(phone, spans)| spans.iter().map(|span| (span.to_s, Some(*phone))))
        .chain(happened.of_server.iter().map(|span| (span.to_s, None)))
        .filter(|(end_s, _)| *end_s < scenario.seconds)
        .collect();
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let recoveries = |(end_s, phone): (f64, Option<usize>)| {
        let end_ms = end_s * 1_000.0;
        // The first arrival of each sender, and when it was sent.
        let mut first: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for delay in &outcome.delays {
            let pair = conversations.get(delay.conversation).copied();
            let (Some((one, other)), Some(after_ms)) = (pair, delay.arrived_after_ms) else {
                continue;
            };
            let is_its = phone.is_none_or(|phone| phone == one || phone == other);
            let arrived_ms = delay.sent_ms + after_ms;
            if is_its && arrived_ms > end_ms && !is_out(one, end_s) && !is_out(other, end_s) {
                let first = first.entry(delay.from).or_insert((arrived_ms, delay.sent_ms));
                if arrived_ms < first.0 {
                    *first = (arrived_ms, delay.sent_ms);
                }
            }
        }
        first.into_values().map(move |(arrived_ms, sent_ms)| arrived_ms - end_ms.max(sent_ms))
    };
    Ok(ends.into_iter().flat_map(recoveries).collect())
}

/// What the steps of a scenario's timeline come to for somebody who looks at it.
#[derive(Default)]
struct Happened {
    /// What happened at a millisecond, and to which phones; none: to the server.
    marks: BTreeMap<(u64, &'static str), BTreeSet<usize>>,
    /// What was missing to each phone.
    of_phones: BTreeMap<usize, Vec<Span>>,
    /// What was missing to all.
    of_server: Vec<Span>,
    /// Since when what is missing, to a phone or to all.
    open: BTreeMap<(Option<usize>, &'static str), f64>,
}

impl Happened {
    fn of(scenario: &Scenario) -> Result<Self, ScenarioError> {
        let mut happened = Self::default();
        for (at, step) in Timeline::of(scenario)?.0 {
            let at_s = at.as_secs_f64();
            if at_s < scenario.seconds {
                happened.take(at_s, &step);
            }
        }
        for (who, what) in happened.open.keys().copied().collect::<Vec<_>>() {
            happened.ends(scenario.seconds, who, what);
        }
        Ok(happened)
    }

    fn take(&mut self, at_s: f64, step: &Step) {
        match step {
            Step::LeaveNetwork(phone) | Step::CutOff(phone) => {
                self.begins(at_s, Some(*phone), "no network");
            }
            Step::EnterNetwork(phone, _) => {
                if !self.ends(at_s, Some(*phone), "no network") {
                    self.mark(at_s, Some(*phone), "handover");
                }
            }
            Step::PutBack(phone) => {
                self.ends(at_s, Some(*phone), "no network");
            }
            Step::BlackHole(phone, true) => self.begins(at_s, Some(*phone), "black hole"),
            Step::BlackHole(phone, false) => {
                self.ends(at_s, Some(*phone), "black hole");
            }
            Step::KillClient(phone) => self.begins(at_s, Some(*phone), "client killed"),
            Step::StartClient(phone) => {
                self.ends(at_s, Some(*phone), "client killed");
            }
            Step::KillServer => self.begins(at_s, None, "server killed"),
            Step::StopServer => self.begins(at_s, None, "server stopped"),
            Step::StartServer => {
                self.ends(at_s, None, "server killed");
                self.ends(at_s, None, "server stopped");
            }
            Step::Disk(settings) => {
                let usual = DiskSettings::default();
                self.ends(at_s, None, "slow disk");
                self.ends(at_s, None, "commits unknown");
                if settings.sync != usual.sync {
                    self.begins(at_s, None, "slow disk");
                }
                if settings.unknown > usual.unknown {
                    self.begins(at_s, None, "commits unknown");
                }
            }
            Step::ForgetPorts(phone) => self.mark(at_s, Some(*phone), "new port"),
            Step::Change(phone, ..) => self.mark(at_s, Some(*phone), "other links"),
            Step::CloseOld(_) => {}
        }
    }

    fn mark(&mut self, at_s: f64, phone: Option<usize>, what: &'static str) {
        self.marks.entry(((at_s * 1e3) as u64, what)).or_default().extend(phone);
    }

    fn begins(&mut self, at_s: f64, phone: Option<usize>, what: &'static str) {
        self.mark(at_s, phone, what);
        self.open.entry((phone, what)).or_insert(at_s);
    }

    /// Whether it had begun.
    fn ends(&mut self, at_s: f64, phone: Option<usize>, what: &'static str) -> bool {
        let Some(from_s) = self.open.remove(&(phone, what)) else { return false };
        let class = if what == "client killed" { "down" } else { "gap" };
        let span = Span { from_s, to_s: at_s, class, label: what.to_owned() };
        match phone {
            Some(phone) => self.of_phones.entry(phone).or_default().push(span),
            None => self.of_server.push(span),
        }
        true
    }

    fn marks(&self, phones: usize) -> Vec<Mark> {
        let label = |what: &str, who: &BTreeSet<usize>| {
            if who.is_empty() || who.len() == phones {
                return what.to_owned();
            }
            let names: Vec<_> = who.iter().take(MOST_NAMES).map(|who| format!("p{who}")).collect();
            let more = if who.len() > MOST_NAMES { " …" } else { "" };
            format!("{what} {}{more}", names.join(" "))
        };
        self.marks
            .iter()
            .map(|((ms, what), who)| Mark { at_s: *ms as f64 / 1e3, label: label(what, who) })
            .collect()
    }

    /// All gaps, those of several phones at the same time once.
    fn gaps(&self) -> Vec<Span> {
        let mut all: Vec<Span> = Vec::new();
        for span in self.of_phones.values().flatten().chain(&self.of_server) {
            if !all.iter().any(|other| (other.from_s, other.to_s) == (span.from_s, span.to_s)) {
                all.push(span.clone());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Delay;

    #[test]
    fn a_gap_is_shaded_and_named_once_for_all_phones_that_have_it() {
        let scenario: Scenario = r#"
            seconds = 30
            phones.count = 4
            [[events]]
            at_s = 5
            handover = { phones = ["p0", "p1"], gap_s = 3 }
            [[events]]
            at_s = 10
            handover = {}
            [[events]]
            at_s = 20
            kill_server = { for_s = 60 }
        "#
        .parse()
        .unwrap();
        let happened = Happened::of(&scenario).unwrap();
        let marks: Vec<_> = happened.marks(4).into_iter().map(|m| (m.at_s, m.label)).collect();
        let expected = [(5.0, "no network p0 p1"), (10.0, "handover"), (20.0, "server killed")];
        assert_eq!(marks, expected.map(|(at_s, label)| (at_s, label.to_owned())));
        let gaps: Vec<_> = happened.gaps().iter().map(|gap| (gap.from_s, gap.to_s)).collect();
        // What lasts longer than the load ends with it, when all is made well.
        assert_eq!(gaps, [(5.0, 8.0), (20.0, 30.0)]);
    }

    #[test]
    fn a_recovery_counts_from_the_end_of_the_outage_or_from_the_sending() {
        let scenario: Scenario = r#"
            seconds = 60
            phones.count = 2
            [[events]]
            at_s = 10
            black_hole = { phones = ["p0"], for_s = 5 }
            [[events]]
            at_s = 30
            kill_server = { for_s = 1 }
            [[events]]
            at_s = 50
            dead_interface = { for_s = 20 }
        "#
        .parse()
        .unwrap();
        let sent = |sent_ms, arrived_after_ms| Delay {
            sent_ms,
            conversation: 0,
            from: 0,
            accepted_after_ms: None,
            arrived_after_ms: Some(arrived_after_ms),
        };
        let back = Delay { from: 1, ..sent(14_000.0, 1_100.0) };
        let delays =
            vec![sent(9_000.0, 100.0), sent(12_000.0, 3_400.0), back, sent(33_000.0, 70.0)];
        let outcome = Outcome { delays, ..Outcome::default() };
        assert_eq!(recoveries_ms(&scenario, &outcome).unwrap(), [400.0, 100.0, 70.0]);
    }
}
