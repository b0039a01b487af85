//! Axes: where values are, and which of them are labelled.

/// More labels than this are too many for a logarithmic axis.
const MOST_TICKS: usize = 8;
/// Labels of a linear axis at most.
const MOST_STEPS: f64 = 8.0;

/// A logarithmic axis that begins and ends at 1, 2 or 5 times a power of ten.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LogAxis {
    ticks: Vec<f64>,
}

impl LogAxis {
    /// The shortest one that has room for these values, which are above 0; `None` if there are none.
    pub(super) fn over(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.into_iter().filter(|value| *value > 0.0 && value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if !low.is_finite() {
            return None;
        }
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let all: Vec<f64> = (first..=last)
            .flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade)))
            .collect();
        let from = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
        let to = all.iter().position(|tick| *tick >= high).unwrap_or(all.len() - 1);
        Some(Self { ticks: all.get(from..=to.max(from + 1)).unwrap_or(&all).to_vec() })
    }

    /// Where a value is, from 0 at the begin of the axis to 1 at its end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let (first, last) = self.ends();
        ((value.max(first) / first).log10() / (last / first).log10()).clamp(0.0, 1.0)
    }

    /// The values to label: all ends and steps, or the powers of ten alone if that would be too many.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.ticks.len() <= MOST_TICKS {
            return self.ticks.clone();
        }
        let is_power = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-9;
        self.ticks.iter().copied().filter(is_power).collect()
    }

    fn ends(&self) -> (f64, f64) {
        // There are at least two ticks.
        (self.ticks.first().copied().unwrap_or(1.0), self.ticks.last().copied().unwrap_or(10.0))
    }
}

/// Round steps of a linear axis from 0 to `end`, both included if they are round.
pub(super) fn steps(end: f64) -> Vec<f64> {
    if end <= 0.0 || !end.is_finite() {
        return vec![0.0];
    }
    let decade = 10_f64.powf((end / MOST_STEPS).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * decade)
        .into_iter()
        .find(|step| end / step <= MOST_STEPS)
        .unwrap_or(end);
    (0..=(end / step + 1e-9) as u32).map(|number| f64::from(number) * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_is_as_short_as_it_can_be() {
        let axis = LogAxis::over([101.0, 544.0]).unwrap();
        assert_eq!(axis.ticks(), [100.0, 200.0, 500.0, 1_000.0]);
        assert_eq!((axis.at(100.0), axis.at(1_000.0), axis.at(1.0)), (0.0, 1.0, 0.0));
        let long = LogAxis::over([1.0, 100_000.0]).unwrap();
        assert_eq!(long.ticks().len(), 6);
        assert_eq!(LogAxis::over([50.0]).unwrap().ticks().len(), 2);
        assert_eq!(LogAxis::over([0.0, f64::NAN]), None);
    }

    #[test]
    fn linear_steps_are_round_and_few() {
        assert_eq!(steps(60.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(steps(0.0), [0.0]);
        for end in [0.3, 1.0, 7.0, 33.0, 86_400.0] {
            assert!((2..=9).contains(&steps(end).len()), "{end}: {:?}", steps(end));
        }
    }
}
