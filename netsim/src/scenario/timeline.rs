//! The events of a scenario as single steps in time.

use std::time::Duration;

use super::{EventLine, MAX_EVENTS, MAX_SECONDS, Scenario, ScenarioError, links};
use crate::{link::LinkSettings, sim::DiskSettings};

/// One thing that happens at one moment. Phones are known by their numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The phone has no network, and its old address is gone.
    LeaveNetwork(usize),
    /// The phone is on another network, with another address, and is told.
    EnterNetwork(usize, Option<(LinkSettings, LinkSettings)>),
    /// The network that the phone has left brings nothing more.
    CloseOld(usize),
    /// The phone has no network, but keeps its address.
    CutOff(usize),
    /// The phone has its network back, and is told.
    PutBack(usize),
    /// The router forgets the phone's ports.
    ForgetPorts(usize),
    /// Packets vanish, or don't any more.
    BlackHole(usize, bool),
    /// The links become others.
    Change(usize, LinkSettings, LinkSettings),
    /// The client dies.
    KillClient(usize),
    /// The client starts.
    StartClient(usize),
    /// The server dies.
    KillServer,
    /// The server stops in good order.
    StopServer,
    /// The server starts.
    StartServer,
    /// The disk behaves otherwise.
    Disk(DiskSettings),
}

/// Steps in the order of their times.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline(pub Vec<(Duration, Step)>);

impl Timeline {
    /// What the events of a scenario come to.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`] names what is wrong with an event.
    pub fn of(scenario: &Scenario) -> Result<Self, ScenarioError> {
        let mut timeline = Self::default();
        for (index, line) in scenario.events.iter().enumerate() {
            timeline.add(scenario, index + 1, line)?;
        }
        timeline.0.sort_by_key(|(at, _)| *at);
        Ok(timeline)
    }

    fn add(
        &mut self,
        scenario: &Scenario,
        number: usize,
        line: &EventLine,
    ) -> Result<(), ScenarioError> {
        let until = line.until_s.unwrap_or(scenario.seconds);
        let mut at = seconds("at_s", line.at_s)?;
        let every = line.every_s.map(|every| seconds("every_s", every)).transpose()?;
        let until = seconds("until_s", until)?;
        loop {
            self.once(scenario, number, line, at)?;
            match every {
                Some(every) if !every.is_zero() && at + every < until => at += every,
                _ => return Ok(()),
            }
            if self.0.len() > MAX_EVENTS {
                return Err(ScenarioError::TooManyEvents);
            }
        }
    }

    fn once(
        &mut self,
        scenario: &Scenario,
        number: usize,
        line: &EventLine,
        at: Duration,
    ) -> Result<(), ScenarioError> {
        let mut actions = 0;
        let who = |names: &[String]| phones(scenario, names);
        if let Some(handover) = &line.handover {
            actions += 1;
            let gap = seconds("gap_s", handover.gap_s)?;
            let overlap = seconds("overlap_s", handover.overlap_s)?;
            let other = match &handover.profile {
                Some(name) => Some(links(Some(name), &None, &None)?),
                None => None,
            };
            for phone in who(&handover.phones)? {
                let mut change = |at: Duration, links| {
                    if gap.is_zero() {
                        self.push(at, Step::EnterNetwork(phone, links));
                        self.push(at + overlap, Step::CloseOld(phone));
                    } else {
                        self.push(at, Step::LeaveNetwork(phone));
                        self.push(at + gap, Step::EnterNetwork(phone, links));
                    }
                };
                change(at, other.clone());
                if let Some(back) = handover.back_after_s {
                    let own = scenario.path()?;
                    change(at + seconds("back_after_s", back)?, Some((own.up, own.down)));
                }
            }
        }
        if let Some(rebind) = &line.rebind {
            actions += 1;
            for phone in who(&rebind.phones)? {
                self.push(at, Step::ForgetPorts(phone));
            }
        }
        if let Some(hole) = &line.black_hole {
            actions += 1;
            for phone in who(&hole.phones)? {
                self.push(at, Step::BlackHole(phone, true));
                self.push(at + seconds("for_s", hole.for_s)?, Step::BlackHole(phone, false));
            }
        }
        if let Some(dead) = &line.dead_interface {
            actions += 1;
            for phone in who(&dead.phones)? {
                self.push(at, Step::CutOff(phone));
                self.push(at + seconds("for_s", dead.for_s)?, Step::PutBack(phone));
            }
        }
        if let Some(change) = &line.change {
            actions += 1;
            let (up, down) = links(change.profile.as_deref(), &change.up, &change.down)?;
            for phone in who(&change.phones)? {
                self.push(at, Step::Change(phone, up.clone(), down.clone()));
            }
        }
        if let Some(kill) = &line.kill_client {
            actions += 1;
            for phone in who(&kill.phones)? {
                self.push(at, Step::KillClient(phone));
                self.push(at + seconds("for_s", kill.for_s)?, Step::StartClient(phone));
            }
        }
        if let Some(kill) = &line.kill_server {
            actions += 1;
            self.push(at, Step::KillServer);
            self.push(at + seconds("for_s", kill.for_s)?, Step::StartServer);
        }
        if let Some(restart) = &line.restart_server {
            actions += 1;
            self.push(at, Step::StopServer);
            self.push(at + seconds("for_s", restart.for_s)?, Step::StartServer);
        }
        if let Some(slow) = &line.slow_disk {
            actions += 1;
            let sync = seconds("sync_ms", slow.sync_ms / 1_000.0)?;
            self.push(at, Step::Disk(DiskSettings { sync, ..DiskSettings::default() }));
            let end = at + seconds("for_s", slow.for_s)?;
            self.push(end, Step::Disk(DiskSettings::default()));
        }
        if let Some(lost) = &line.unknown_commits {
            actions += 1;
            if !(0.0..=1.0).contains(&lost.share) {
                return Err(ScenarioError::Bounds { field: "share", from: 0.0, to: 1.0 });
            }
            let unknown = lost.share;
            self.push(at, Step::Disk(DiskSettings { unknown, ..DiskSettings::default() }));
            let end = at + seconds("for_s", lost.for_s)?;
            self.push(end, Step::Disk(DiskSettings::default()));
        }
        if actions == 1 { Ok(()) } else { Err(ScenarioError::Actions { line: number }) }
    }

    fn push(&mut self, at: Duration, step: Step) {
        self.0.push((at, step));
    }
}

fn seconds(field: &'static str, seconds: f64) -> Result<Duration, ScenarioError> {
    if (0.0..=MAX_SECONDS).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(ScenarioError::Bounds { field, from: 0.0, to: MAX_SECONDS })
    }
}

/// The numbers of phones by their names; all if none is named.
fn phones(scenario: &Scenario, names: &[String]) -> Result<Vec<usize>, ScenarioError> {
    if names.is_empty() {
        return Ok((0..scenario.phones.count).collect());
    }
    let number = |name: &String| {
        let number = name.strip_prefix('p').and_then(|number| number.parse().ok());
        number
            .filter(|number| *number < scenario.phones.count)
            .ok_or_else(|| ScenarioError::UnknownPhone(name.clone()))
    };
    names.iter().map(number).collect()
}
