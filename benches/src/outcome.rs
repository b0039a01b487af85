//! What a run found: named figures, and their medians over repeats.

use serde::Serialize;
use tern_netsim::report::{Curve, Figure, Summary};

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
        let figures: Vec<Vec<Figure>> =
            outcomes.iter().map(|outcome| outcome.figures.clone()).collect();
        let mut notes: Vec<String> = Vec::new();
        for note in outcomes.iter().flat_map(|outcome| &outcome.notes) {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        Some(Self {
            run: last.run,
            setting: last.setting.clone(),
            figures: Summary::all(&figures),
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
