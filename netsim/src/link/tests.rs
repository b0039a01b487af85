//! What a link does to packets.

mod chances;
mod hostile;
mod times;
mod traces;

use std::time::Duration;

use super::{Fate, Link, LinkSettings, Passage};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

fn link(settings: LinkSettings) -> Link {
    Link::new(settings, 1).unwrap()
}

/// Everything that comes out, in the order in which it entered.
fn passages(fates: &[Fate]) -> Vec<Passage> {
    let both = |fate: &Fate| match *fate {
        Fate::Dropped(_) => vec![],
        Fate::Passes(passage) => vec![passage],
        Fate::Twice(first, second) => vec![first, second],
    };
    fates.iter().flat_map(both).collect()
}

fn arrival(fate: Fate) -> Duration {
    match fate {
        Fate::Passes(passage) => passage.at,
        other => panic!("{other:?} instead of one passage"),
    }
}
