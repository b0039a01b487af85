//! Cumulative distributions.

use std::borrow::Cow;

use serde::Serialize;

use super::{
    axis::LogAxis,
    svg::{END, LEFT, RIGHT, WIDTH, begin, escape, put},
    text::number,
};

/// Height of the plot.
const HEIGHT: f64 = 300.0;
/// Room for the labels below it, and for the legend.
const BOTTOM: f64 = 44.0;
/// Colours that there are for curves.
const COLOURS: usize = 3;

/// A distribution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// What is distributed.
    pub label: Cow<'static, str>,
    /// Milliseconds, and the share that takes longer; both in order.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    /// The distribution of sorted times in milliseconds. Times that are met more than once are one
    /// point, and the slowest one, which nothing is slower than, stands for half of itself.
    pub fn of_sorted(label: impl Into<Cow<'static, str>>, sorted_ms: &[f64]) -> Self {
        let count = sorted_ms.len() as f64;
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (index, &ms) in sorted_ms.iter().enumerate() {
            let rest = count - (index + 1) as f64;
            let point = (ms, rest.max(0.5) / count);
            match points.last_mut() {
                // What can't be told apart in the plot needn't be in it.
                Some(last) if (ms - last.0).abs() < 1e-3 => *last = point,
                _ => points.push(point),
            }
        }
        Self { label: label.into(), points }
    }
}

/// Cumulative distributions: milliseconds on a logarithmic axis, the share that is faster on one that
/// spreads the rare slow ones. More curves than three share colours.
pub fn distribution(title: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let rare = points().map(|point| point.1).filter(|rest| *rest > 0.0).fold(1.0, f64::min);
    let Some(axis) = LogAxis::over(points().map(|point| point.0)) else { return String::new() };
    if rare >= 1.0 {
        return String::new();
    }
    let x = |ms: f64| LEFT + axis.at(ms) * (WIDTH - LEFT - RIGHT);
    let y = |rest: f64| {
        let down = 1.0 - (rest.clamp(rare, 1.0).log10() / rare.log10());
        8.0 + down * (HEIGHT - BOTTOM - 8.0)
    };
    let mut svg = begin(title, HEIGHT);
    for ms in axis.ticks() {
        put(
            &mut svg,
            format_args!(
                r#"<line class="grid" x1="{0:.1}" x2="{0:.1}" y1="8" y2="{1:.0}"/><text x="{0:.1}" y="{2:.0}" text-anchor="middle">{3}</text>"#,
                x(ms),
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0,
                time_label(ms)
            ),
        );
    }
    for (rest, label) in
        [(0.5, "50%"), (0.1, "90%"), (0.01, "99%"), (0.001, "99.9%"), (0.0001, "99.99%")]
    {
        if rest >= rare {
            let (right, y, text_x) = (WIDTH - RIGHT, y(rest), LEFT - 6.0);
            put(
                &mut svg,
                format_args!(
                    r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/><text x="{text_x}" y="{:.1}" text-anchor="end">{label}</text>"#,
                    y + 4.0
                ),
            );
        }
    }
    let mut legend = LEFT;
    for (index, curve) in curves.iter().enumerate() {
        let line: Vec<String> = curve
            .points
            .iter()
            .filter(|(ms, _)| *ms > 0.0)
            .map(|&(ms, rest)| format!("{:.1},{:.1}", x(ms), y(rest)))
            .collect();
        let colour = index % COLOURS;
        put(
            &mut svg,
            format_args!(
                r#"<polyline class="curve c{colour}" points="{}"/><text class="c{colour}" x="{legend:.0}" y="{:.0}">■ {}</text>"#,
                line.join(" "),
                HEIGHT - 6.0,
                escape(&curve.label)
            ),
        );
        legend += (curve.label.chars().count() as f64 * 7.0 + 40.0).max(120.0);
    }
    svg + END
}

/// The label of a time, which is round.
pub(super) fn time_label(ms: f64) -> String {
    let (value, unit) = if ms >= 1_000.0 { (ms / 1_000.0, "s") } else { (ms, "ms") };
    if value >= 1.0 { format!("{value:.0} {unit}") } else { format!("{} {unit}", number(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_makes_no_plot() {
        assert_eq!(distribution("x", &[]), "");
        assert_eq!(distribution("x", &[Curve { label: "a".into(), points: vec![] }]), "");
    }

    #[test]
    fn equal_times_are_one_point() {
        let curve = Curve::of_sorted("a", &[10.0, 10.0, 20.0, 40.0]);
        assert_eq!(curve.points, [(10.0, 0.5), (20.0, 0.25), (40.0, 0.125)]);
        assert!(distribution("x", &[curve]).contains("polyline"));
    }
}
