//! One thing that goes wrong.

use std::time::Duration;

use super::Dice;
use crate::method::Method;

/// What happens to a call.
///
/// Those that change regions do so for good, and the call then meets the change as any other would. They are
/// for calls that ask a region; [`Effect::WriteConflict`] is for prewrites and pessimistic locks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// The region's leader moves to the next store, and the call is answered `NotLeader`.
    NotLeader,
    /// The region's membership changes, and the call is answered `EpochNotMatch`.
    EpochNotMatch,
    /// The region is split at one of the call's keys, and the call is answered `EpochNotMatch`. If none of them
    /// can begin a region, nothing happens.
    Split,
    /// The region is merged with the one behind it, if there is one, and the call is answered `EpochNotMatch`.
    Merge,
    /// The call is answered `ServerIsBusy`.
    ServerIsBusy,
    /// The call is answered `RaftEntryTooLarge`.
    RaftEntryTooLarge,
    /// The call is answered with a conflict that there wasn't.
    WriteConflict,
    /// The call comes so much later. It takes effect even if the client has given up by then.
    DelayRequest(Duration),
    /// The call takes effect at once, and is answered so much later.
    DelayReply(Duration),
    /// The call never comes.
    LoseRequest(Loss),
    /// The call takes effect, and the reply is lost.
    LoseReply(Loss),
    /// The client learns of a loss at once; the call takes effect so much later.
    ApplyLate {
        /// How much later.
        after: Duration,
        /// How the client learns.
        loss: Loss,
    },
    /// Every connection of the store, or of PD, is reset; the call doesn't take effect.
    Disconnect,
}

/// How a client learns that something got lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// At once, by the gRPC status `UNAVAILABLE`. On the stream of timestamps it ends the stream.
    Unavailable,
    /// By its own time limit: no answer comes.
    Hang,
}

impl Effect {
    /// Its name, for counts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotLeader => "NotLeader",
            Self::EpochNotMatch => "EpochNotMatch",
            Self::Split => "Split",
            Self::Merge => "Merge",
            Self::ServerIsBusy => "ServerIsBusy",
            Self::RaftEntryTooLarge => "RaftEntryTooLarge",
            Self::WriteConflict => "WriteConflict",
            Self::DelayRequest(_) => "DelayRequest",
            Self::DelayReply(_) => "DelayReply",
            Self::LoseRequest(_) => "LoseRequest",
            Self::LoseReply(_) => "LoseReply",
            Self::ApplyLate { .. } => "ApplyLate",
            Self::Disconnect => "Disconnect",
        }
    }

    /// Whether it can happen to a call of this method.
    pub(crate) fn applies_to(&self, method: Method) -> bool {
        match self {
            Self::NotLeader
            | Self::EpochNotMatch
            | Self::Split
            | Self::Merge
            | Self::ServerIsBusy
            | Self::RaftEntryTooLarge => method.has_region(),
            Self::WriteConflict => method.can_conflict(),
            Self::ApplyLate { .. } => method.is_store(),
            Self::DelayRequest(_)
            | Self::DelayReply(_)
            | Self::LoseRequest(_)
            | Self::LoseReply(_)
            | Self::Disconnect => true,
        }
    }
}

/// The name of a rule in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub(crate) u64);

/// What happens to which calls. Without [`Rule::next`] or [`Rule::probability`], to all of the method.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub(crate) effect: Effect,
    methods: Vec<Method>,
    /// None: without limit.
    left: Option<u64>,
    skip: u64,
    probability: f64,
}

impl Rule {
    /// For calls of one method.
    pub fn on(method: Method, effect: Effect) -> Self {
        Self::on_all(&[method], effect)
    }

    /// For calls of any of these methods.
    pub fn on_all(methods: &[Method], effect: Effect) -> Self {
        Self { effect, methods: methods.to_vec(), left: None, skip: 0, probability: 1.0 }
    }

    /// For calls of every method that the effect means something to.
    pub fn on_any(effect: Effect) -> Self {
        Self::on_all(&Method::ALL, effect)
    }

    /// At most `n` times.
    #[must_use]
    pub fn next(mut self, n: u64) -> Self {
        self.left = Some(n);
        self
    }

    /// Not to the first `n` calls.
    #[must_use]
    pub fn after(mut self, n: u64) -> Self {
        self.skip = n;
        self
    }

    /// To this share of calls, from 0 to 1.
    #[must_use]
    pub fn probability(mut self, share: f64) -> Self {
        self.probability = share;
        self
    }

    /// Whether it strikes this call; counts it if so.
    pub(super) fn strikes(&mut self, method: Method, mut dice: Dice) -> bool {
        if self.is_spent() || !self.methods.contains(&method) || !self.effect.applies_to(method) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if dice.share() >= self.probability {
            return false;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        true
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == Some(0)
    }
}
