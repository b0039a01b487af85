//! Figures, and what they are over several repeats.

use serde::Serialize;

/// One number that a run measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// A name for programs, the same in every version.
    pub key: &'static str,
    /// A name for people.
    pub label: &'static str,
    /// The unit.
    pub unit: &'static str,
    /// The number.
    pub value: f64,
}

/// A figure over several repeats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// See [`Figure::key`].
    pub key: &'static str,
    /// See [`Figure::label`].
    pub label: &'static str,
    /// See [`Figure::unit`].
    pub unit: &'static str,
    /// The median; not a number if there are no values, and so below.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Each repeat.
    pub values: Vec<f64>,
}

impl Summary {
    /// Sums up the values that a figure had; its own isn't looked at.
    pub fn of(figure: &Figure, values: Vec<f64>) -> Self {
        let Figure { key, label, unit, .. } = *figure;
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        Self {
            key,
            label,
            unit,
            median: median(finite()),
            min: finite().reduce(f64::min).unwrap_or(f64::NAN),
            max: finite().reduce(f64::max).unwrap_or(f64::NAN),
            values,
        }
    }

    /// Sums up repeats that have each measured the same figures, in the order of the last one.
    pub fn all(repeats: &[Vec<Figure>]) -> Vec<Self> {
        let Some(last) = repeats.last() else { return Vec::new() };
        let values = |key| {
            let of = |figures: &Vec<Figure>| figures.iter().find(|f| f.key == key).map(|f| f.value);
            repeats.iter().filter_map(of).collect()
        };
        last.iter().map(|figure| Self::of(figure, values(figure.key))).collect()
    }
}

/// The median: of an even number of values, the mean of the middle two; not a number if there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 if middle > 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted.get(middle).copied().unwrap_or(f64::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_summed_up_by_their_median() {
        let figure = |value| vec![Figure { key: "x", label: "X", unit: "ms", value }];
        let all = Summary::all(&[figure(9.0), figure(1.0), figure(4.0)]);
        assert_eq!((all[0].median, all[0].min, all[0].max), (4.0, 1.0, 9.0));
        assert_eq!(all[0].values, [9.0, 1.0, 4.0]);
        assert_eq!(Summary::all(&[figure(1.0), figure(4.0)])[0].median, 2.5);
        assert_eq!(Summary::all(&[]), []);
        assert!(median([]).is_nan());
    }
}
