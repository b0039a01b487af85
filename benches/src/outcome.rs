//! What a run found: named figures, and their medians over repeats.

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

/// A distribution for a plot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// What is distributed.
    pub label: &'static str,
    /// Milliseconds, and the share that takes longer.
    pub points: Vec<(f64, f64)>,
}

/// What one run found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The run.
    pub run: &'static str,
    /// How it was set.
    pub setting: String,
    /// What it measured.
    pub figures: Vec<Figure>,
    /// For plots.
    pub curves: Vec<Curve>,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// The machine's load average before the run: work of others distorts the figures.
    pub load_before: Option<f64>,
}

impl Outcome {
    /// An outcome without figures.
    pub fn new(run: &'static str, setting: String) -> Self {
        let load_before = crate::process::load_average();
        let (figures, curves, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { run, setting, figures, curves, notes, load_before }
    }

    /// Adds a figure.
    pub fn figure(
        &mut self,
        key: &'static str,
        label: &'static str,
        unit: &'static str,
        value: f64,
    ) {
        self.figures.push(Figure { key, label, unit, value });
    }

    /// The figure of this name.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.key == key).map(|figure| figure.value)
    }
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
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Each repeat.
    pub values: Vec<f64>,
}

/// A run with all its repeats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repeated {
    /// See [`Outcome::run`].
    pub run: &'static str,
    /// See [`Outcome::setting`].
    pub setting: String,
    /// The figures.
    pub figures: Vec<Summary>,
    /// The curves of the last repeat.
    pub curves: Vec<Curve>,
    /// The notes of all repeats, each once.
    pub notes: Vec<String>,
    /// The load average before each repeat.
    pub load_before: Vec<Option<f64>>,
}

impl Repeated {
    /// Puts repeats of one run together; `None` if there are none.
    pub fn of(outcomes: &[Outcome]) -> Option<Self> {
        let last = outcomes.last()?;
        let figures = last.figures.iter().map(|figure| {
            let values: Vec<f64> =
                outcomes.iter().filter_map(|outcome| outcome.get(figure.key)).collect();
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let middle = sorted.len() / 2;
            let median = match sorted.len() % 2 {
                0 if middle > 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
                _ => sorted.get(middle).copied().unwrap_or(f64::NAN),
            };
            let (min, max) = (sorted.first(), sorted.last());
            Summary {
                key: figure.key,
                label: figure.label,
                unit: figure.unit,
                median,
                min: min.copied().unwrap_or(f64::NAN),
                max: max.copied().unwrap_or(f64::NAN),
                values,
            }
        });
        let mut notes: Vec<String> = Vec::new();
        for note in outcomes.iter().flat_map(|outcome| &outcome.notes) {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        Some(Self {
            run: last.run,
            setting: last.setting.clone(),
            figures: figures.collect(),
            curves: last.curves.clone(),
            notes,
            load_before: outcomes.iter().map(|outcome| outcome.load_before).collect(),
        })
    }

    /// The median of the figure of this name.
    pub fn median(&self, key: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.key == key).map(|figure| figure.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_summed_up_by_their_median() {
        let outcome = |value| {
            let mut outcome = Outcome::new("run", String::new());
            outcome.figure("x", "X", "ms", value);
            outcome
        };
        let repeated = Repeated::of(&[outcome(9.0), outcome(1.0), outcome(4.0)]).unwrap();
        let x = &repeated.figures[0];
        assert_eq!((x.median, x.min, x.max), (4.0, 1.0, 9.0));
        assert_eq!(x.values, [9.0, 1.0, 4.0]);
        assert_eq!(Repeated::of(&[outcome(1.0), outcome(4.0)]).unwrap().median("x"), Some(2.5));
        assert_eq!(Repeated::of(&[]), None);
    }
}
