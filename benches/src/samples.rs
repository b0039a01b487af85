//! Measured durations, kept one by one: percentiles are exact, and the worst one isn't lost.

use std::time::Duration;

/// Durations in the order in which they came, then sorted.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    micros: Vec<u32>,
}

impl Samples {
    /// Adds one.
    pub fn add(&mut self, duration: Duration) {
        self.micros.push(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        self.micros.extend_from_slice(&other.micros);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.micros.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.micros.is_empty()
    }

    /// Sorted, for asking.
    pub fn sort(mut self) -> Sorted {
        self.micros.sort_unstable();
        Sorted { micros: self.micros }
    }
}

/// Sorted durations.
#[derive(Debug, Clone)]
pub struct Sorted {
    micros: Vec<u32>,
}

impl Sorted {
    /// The smallest duration that `share` (0 to 1) of them don't exceed, in milliseconds. NaN if there
    /// are none.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (share * self.micros.len() as f64).ceil() as usize;
        let micros = self.micros.get(rank.saturating_sub(1)).or(self.micros.last());
        micros.map_or(f64::NAN, |&micros| f64::from(micros) / 1_000.0)
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.quantile_ms(1.0)
    }

    /// Points of the distribution for a plot: milliseconds, and the share that takes longer. Dense
    /// where it gets rare.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let mut points = Vec::new();
        let mut rest = 1.0;
        while !self.micros.is_empty() && rest * self.micros.len() as f64 >= 1.0 {
            points.push((self.quantile_ms(1.0 - rest), rest));
            rest /= 1.1;
        }
        if !self.micros.is_empty() {
            points.push((self.max_ms(), 1.0 / self.micros.len() as f64));
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let mut samples = Samples::default();
        for ms in (1..=1_000).rev() {
            samples.add(Duration::from_millis(ms));
        }
        let sorted = samples.sort();
        assert_eq!(sorted.quantile_ms(0.5), 500.0);
        assert_eq!(sorted.quantile_ms(0.999), 999.0);
        assert_eq!(sorted.max_ms(), 1_000.0);
        assert!(sorted.curve().windows(2).all(|pair| pair[0].0 <= pair[1].0));
        assert!(Samples::default().sort().quantile_ms(0.5).is_nan());
    }
}
