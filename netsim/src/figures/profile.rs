//! All figures of one profile.

use serde::Serialize;

use super::{Case, Gap, Handovers, Late, Starts, gaps, handovers, late, starts};
use crate::{run::RunError, scenario::ClientVariant};

/// How long the gaps are that Tern is held to, in seconds.
pub const GAPS_S: [f64; 5] = [2.0, 5.0, 10.0, 25.0, 45.0];

/// What Tern is held to, on the links of a profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfileFigures {
    /// The profile's name.
    pub profile: String,
    /// A round trip on idle links.
    pub rtt_ms: f64,
    /// Messages a second in the figures on lateness.
    pub messages_per_s: f64,
    /// Cold and resumed starts.
    pub starts: Starts,
    /// Changes of network without a gap.
    pub handovers: Handovers,
    /// Gaps of 2, 5, 10, 25 and 45 s.
    pub gaps: Vec<Gap>,
    /// With a stream for each conversation and direction.
    pub late: Late,
    /// With everything in one stream, for comparison.
    pub late_in_one_stream: Late,
}

impl ProfileFigures {
    /// The 95th percentile of waiting messages in the worst of the gaps, in round trips, up and down.
    pub fn worst_gap_rtts(&self) -> (f64, f64) {
        let worst = |value: fn(&Gap) -> f64| self.gaps.iter().map(value).fold(f64::NAN, f64::max);
        (worst(|gap| gap.up_rtts), worst(|gap| gap.down_rtts))
    }
}

/// Measures everything on the links of a case, with the seeds 0 to `seeds` − 1.
///
/// # Errors
///
/// [`RunError`] if a run fails; a broken promise is one here.
pub fn in_profile(case: &Case, seeds: u64) -> Result<ProfileFigures, RunError> {
    let one_stream = ClientVariant { single_stream: Some(true), ..ClientVariant::default() };
    Ok(ProfileFigures {
        profile: case.name.clone(),
        rtt_ms: case.rtt_ms(),
        messages_per_s: case.messages_per_s,
        starts: starts(case, seeds)?,
        handovers: handovers(case, seeds)?,
        gaps: GAPS_S.iter().map(|gap_s| gaps(case, *gap_s, seeds)).collect::<Result<_, _>>()?,
        late: late(case, &ClientVariant::default(), seeds)?,
        late_in_one_stream: late(case, &one_stream, seeds)?,
    })
}
