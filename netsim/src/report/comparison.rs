//! Two scenarios side by side.

use serde::Serialize;

use super::{Figure, Summary, TextTable, number};

/// Two ways to run something, with the same seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The one.
    pub a: String,
    /// The other.
    pub b: String,
    /// Each figure that both have.
    pub figures: Vec<Compared>,
}

/// A figure of both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The one's.
    pub a: Summary,
    /// The other's.
    pub b: Summary,
    /// How often the one's goes into the other's: the median of the ratios of runs with the same seed, and so
    /// on; not a number (`null` in JSON) where the one's is 0.
    pub ratio: Summary,
}

impl Comparison {
    /// Compares the figures of runs that are paired by their place.
    pub fn of(a: (&str, &[Vec<Figure>]), b: (&str, &[Vec<Figure>])) -> Self {
        let (all_a, all_b) = (Summary::all(a.1), Summary::all(b.1));
        let figures = all_a.into_iter().filter_map(|one| {
            let other = all_b.iter().find(|other| other.key == one.key)?.clone();
            let ratios = one.values.iter().zip(&other.values).map(|(a, b)| match *a {
                0.0 => f64::NAN,
                a => b / a,
            });
            let Summary { key, label, .. } = one;
            let figure = Figure { key, label, unit: "", value: f64::NAN };
            let ratio = Summary::of(&figure, ratios.collect());
            Some(Compared { a: one, b: other, ratio })
        });
        Self { a: a.0.to_owned(), b: b.0.to_owned(), figures: figures.collect() }
    }

    /// The cells of a table: a head, and a row for each figure.
    pub fn cells(&self) -> Vec<Vec<String>> {
        let head = ["", "", "A", "B", "B / A"].map(str::to_owned).to_vec();
        let rows = self.figures.iter().map(|Compared { a, b, ratio }| {
            let unit = a.unit.to_owned();
            vec![a.label.to_owned(), unit, spread(a), spread(b), spread(ratio)]
        });
        [head].into_iter().chain(rows).collect()
    }

    /// A table for a terminal.
    pub fn text(&self) -> String {
        let mut table = TextTable::default();
        for row in self.cells() {
            table.row(row);
        }
        format!("A  {}\nB  {}\n\n{}", self.a, self.b, table.finish(2))
    }
}

/// The median, and least and greatest if they are others.
pub fn spread(summary: &Summary) -> String {
    let is_count = summary.unit.is_empty() && summary.values.iter().all(|v| v.fract() == 0.0);
    let short = |value: f64| match is_count && value.abs() < 100.0 {
        true => format!("{value}"),
        false => number(value),
    };
    let (median, min, max) = (short(summary.median), short(summary.min), short(summary.max));
    if min == max { median } else { format!("{median} ({min}–{max})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_seed() {
        let run = |x, y| {
            let figure = |key, value| Figure { key, label: key, unit: "ms", value };
            vec![figure("x", x), figure("y", y)]
        };
        let a = [run(10.0, 0.0), run(100.0, 0.0), run(40.0, 0.0)];
        let b = [run(20.0, 1.0), run(50.0, 1.0), run(40.0, 0.0)];
        let comparison = Comparison::of(("one", &a), ("other", &b));
        let x = &comparison.figures[0];
        assert_eq!((x.ratio.min, x.ratio.median, x.ratio.max), (0.5, 1.0, 2.0));
        assert_eq!((x.a.median, x.b.median), (40.0, 40.0));
        assert!(comparison.figures[1].ratio.median.is_nan());
        assert!(comparison.text().contains("40.0 (20.0–50.0)"), "{}", comparison.text());
    }
}
