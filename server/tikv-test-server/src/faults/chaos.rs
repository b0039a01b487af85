//! Everything at once.

use std::time::Duration;

use super::{Dice, Effect, Loss};
use crate::method::Method;

/// Strikes a share of all calls with whatever may happen to them.
#[derive(Debug, Clone)]
pub(super) struct Chaos {
    seed: u64,
    intensity: f64,
}

/// What happens, and how often among what happens. Hangs cost the client its whole time limit, and resets strike
/// other calls too: both are rare.
const WEIGHTS: [(Kind, u64); 15] = [
    (Kind::NotLeader, 10),
    (Kind::EpochNotMatch, 8),
    (Kind::Split, 5),
    (Kind::Merge, 5),
    (Kind::ServerIsBusy, 4),
    (Kind::WriteConflict, 4),
    (Kind::DelayRequest, 12),
    (Kind::DelayReply, 12),
    (Kind::RequestUnavailable, 8),
    (Kind::RequestHangs, 1),
    (Kind::ReplyUnavailable, 14),
    (Kind::ReplyHangs, 1),
    (Kind::LateUnavailable, 12),
    (Kind::LateHangs, 1),
    (Kind::Disconnect, 1),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    NotLeader,
    EpochNotMatch,
    Split,
    Merge,
    ServerIsBusy,
    WriteConflict,
    DelayRequest,
    DelayReply,
    RequestUnavailable,
    RequestHangs,
    ReplyUnavailable,
    ReplyHangs,
    LateUnavailable,
    LateHangs,
    Disconnect,
}

impl Chaos {
    pub(super) fn new(seed: u64, intensity: f64) -> Self {
        Self { seed, intensity }
    }

    pub(super) fn strike(&self, method: Method, call: u64) -> Option<Effect> {
        // Without members there is no client, and a client learns of them once: no storm worth having.
        if method == Method::GetMembers {
            return None;
        }
        // Another place among the seeds than a rule's, so that rules and chaos of one seed differ.
        let mut dice = Dice::new(&[self.seed, u64::MAX, method.index() as u64, call]);
        if dice.share() >= self.intensity {
            return None;
        }
        // What this method can't meet is drawn again, so that the intensity is the same for all.
        loop {
            let effect = effect(&mut dice);
            if effect.applies_to(method)
                && (!ends_oracle(method, &effect) || ends_it_nevertheless(&effect, &mut dice))
            {
                return Some(effect);
            }
        }
    }
}

/// Whether it ends a stream of timestamps: each loss does, and each reset.
fn ends_oracle(method: Method, effect: &Effect) -> bool {
    method == Method::Tso
        && matches!(effect, Effect::LoseRequest(_) | Effect::LoseReply(_) | Effect::Disconnect)
}

/// Whether an effect that ends a stream of timestamps strikes nevertheless. A client needs up to a second for
/// another stream, so few do; and nothing on its side ends one that is merely silent, so chaos never begins one.
fn ends_it_nevertheless(effect: &Effect, dice: &mut Dice) -> bool {
    !matches!(effect, Effect::LoseRequest(Loss::Hang) | Effect::LoseReply(Loss::Hang))
        && dice.below(10) == 0
}

fn effect(dice: &mut Dice) -> Effect {
    let total = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut drawn = dice.below(total);
    let mut kind = Kind::NotLeader;
    for (candidate, weight) in WEIGHTS {
        kind = candidate;
        match drawn.checked_sub(weight) {
            Some(rest) => drawn = rest,
            None => break,
        }
    }
    match kind {
        Kind::NotLeader => Effect::NotLeader,
        Kind::EpochNotMatch => Effect::EpochNotMatch,
        Kind::Split => Effect::Split,
        Kind::Merge => Effect::Merge,
        Kind::ServerIsBusy => Effect::ServerIsBusy,
        Kind::WriteConflict => Effect::WriteConflict,
        Kind::DelayRequest => Effect::DelayRequest(Duration::from_millis(dice.below(30))),
        Kind::DelayReply => Effect::DelayReply(Duration::from_millis(dice.below(30))),
        Kind::RequestUnavailable => Effect::LoseRequest(Loss::Unavailable),
        Kind::RequestHangs => Effect::LoseRequest(Loss::Hang),
        Kind::ReplyUnavailable => Effect::LoseReply(Loss::Unavailable),
        Kind::ReplyHangs => Effect::LoseReply(Loss::Hang),
        Kind::LateUnavailable => late(dice, Loss::Unavailable),
        Kind::LateHangs => late(dice, Loss::Hang),
        Kind::Disconnect => Effect::Disconnect,
    }
}

/// Mostly within the client's next tries, sometimes long after it has given up.
fn late(dice: &mut Dice, loss: Loss) -> Effect {
    let up_to_ms = if dice.below(8) == 0 { 4_000 } else { 60 };
    Effect::ApplyLate { after: Duration::from_millis(dice.below(up_to_ms)), loss }
}
