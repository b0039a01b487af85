//! Faults: what goes wrong, when, and to which calls.
//!
//! Pure: `Faults::strike` is asked about every call and answers with the [`Effect`] that strikes it, if any; the
//! service carries it out. The choice is a function of the seed, the rule, the method and how many calls of that
//! method came before, so it doesn't depend on how calls of different methods interleave.

mod chaos;
mod rule;

pub use rule::{Effect, Loss, Rule, RuleId};

use std::collections::BTreeMap;

use self::chaos::Chaos;
use crate::method::Method;

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: BTreeMap<RuleId, Rule>,
    next_id: u64,
    chaos: Option<Chaos>,
    seed: u64,
    /// Calls so far, by method.
    calls: [u64; Method::ALL.len()],
    /// How often which kind of effect has struck.
    struck: BTreeMap<&'static str, u64>,
}

impl Faults {
    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    pub(crate) fn add(&mut self, rule: Rule) -> RuleId {
        let id = RuleId(self.next_id);
        self.next_id += 1;
        self.rules.insert(id, rule);
        id
    }

    pub(crate) fn remove(&mut self, id: RuleId) {
        self.rules.remove(&id);
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.chaos = None;
    }

    /// From now on anything may happen to any call. `intensity` is the share of calls that something happens to,
    /// from 0 to 1.
    pub(crate) fn set_chaos(&mut self, seed: u64, intensity: f64) {
        self.chaos = (intensity > 0.0).then(|| Chaos::new(seed, intensity));
    }

    pub(crate) fn struck(&self) -> BTreeMap<&'static str, u64> {
        self.struck.clone()
    }

    /// What strikes the call of `method` that comes now. The first rule that does wins; chaos comes last.
    pub(crate) fn strike(&mut self, method: Method) -> Option<Effect> {
        let call = self.calls[method.index()];
        self.calls[method.index()] += 1;
        let mut effect = None;
        for (id, rule) in &mut self.rules {
            let dice = Dice::new(&[self.seed, id.0, method.index() as u64, call]);
            if rule.strikes(method, dice) {
                effect = Some(rule.effect.clone());
                break;
            }
        }
        self.rules.retain(|_, rule| !rule.is_spent());
        let effect = effect.or_else(|| self.chaos.as_ref()?.strike(method, call))?;
        *self.struck.entry(effect.name()).or_default() += 1;
        Some(effect)
    }
}

/// Random numbers that are the same for the same seeds: SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seeds: &[u64]) -> Self {
        let mut dice = Self(0);
        for seed in seeds {
            dice.0 ^= seed;
            dice.0 = dice.next();
        }
        dice
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In `[0, 1)`.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In `[0, below)`; 0 if `below` is.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.next() % below }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn strikes_the_next_calls_of_its_method_alone() {
        let mut faults = Faults::default();
        faults.add(Rule::on(Method::KvGet, Effect::ServerIsBusy).next(2));
        assert_eq!(faults.strike(Method::KvScan), None);
        assert_eq!(faults.strike(Method::KvGet), Some(Effect::ServerIsBusy));
        assert_eq!(faults.strike(Method::KvGet), Some(Effect::ServerIsBusy));
        assert_eq!(faults.strike(Method::KvGet), None);
        assert_eq!(faults.struck()["ServerIsBusy"], 2);
    }

    #[test]
    fn spares_methods_that_an_effect_means_nothing_to() {
        let mut faults = Faults::default();
        faults.add(Rule::on_any(Effect::WriteConflict).next(1));
        faults.add(Rule::on_any(Effect::NotLeader).next(1));
        assert_eq!(faults.strike(Method::GetRegion), None);
        assert_eq!(faults.strike(Method::KvGet), Some(Effect::NotLeader));
        assert_eq!(faults.strike(Method::KvPrewrite), Some(Effect::WriteConflict));
    }

    #[test]
    fn the_same_seed_strikes_the_same_calls_however_methods_interleave() {
        let strikes = |methods: &[Method]| {
            let mut faults = Faults::default();
            faults.set_chaos(7, 0.3);
            let delay = Effect::DelayReply(Duration::from_millis(1));
            faults.add(Rule::on(Method::KvScan, delay).probability(0.5));
            let mut by_method = BTreeMap::<Method, Vec<_>>::new();
            for method in methods {
                by_method.entry(*method).or_default().push(faults.strike(*method));
            }
            by_method
        };
        let one = [Method::KvGet, Method::KvScan].repeat(200);
        let mut other = one.clone();
        other.sort();
        assert_eq!(strikes(&one), strikes(&other));
        let struck = strikes(&one).into_values().flatten().flatten().count();
        assert!((100..300).contains(&struck), "{struck} of 400");
    }

    #[test]
    fn an_intensity_is_a_share() {
        let mut faults = Faults::default();
        faults.set_chaos(1, 0.25);
        let struck = (0..10_000).filter(|_| faults.strike(Method::KvPrewrite).is_some()).count();
        assert!((2_300..2_700).contains(&struck), "{struck} of 10,000");
    }
}
