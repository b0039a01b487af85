//! Plots as inline SVG: nothing to load, nothing to run.

use std::fmt::Write;

use crate::{outcome::Curve, text::number};

/// Width of a plot, in its own units.
const WIDTH: f64 = 640.0;
/// Height of the distributions.
const HEIGHT: f64 = 300.0;
/// Room for labels: left, bottom.
const MARGINS: (f64, f64) = (64.0, 40.0);
/// Room on the right for half of the last label.
const RIGHT: f64 = 32.0;
/// Height of a bar with the room around it.
const ROW: f64 = 30.0;
/// Room for the labels of bars.
const BAR_LEFT: f64 = 250.0;
/// Room for the numbers behind bars.
const BAR_RIGHT: f64 = 130.0;

/// Horizontal bars of one unit: label and value. A `goal` is drawn as a line.
pub(crate) fn bars(title: &str, unit: &str, rows: &[(&str, f64)], goal: Option<f64>) -> String {
    let rows: Vec<_> = rows.iter().filter(|(_, value)| value.is_finite()).collect();
    let most = rows.iter().map(|(_, value)| *value).chain(goal).fold(0.0, f64::max);
    if rows.is_empty() || most <= 0.0 {
        return String::new();
    }
    let height = ROW * rows.len() as f64 + 8.0;
    let scale = (WIDTH - BAR_LEFT - BAR_RIGHT) / most;
    let mut svg = begin(title, height);
    for (index, (label, value)) in rows.iter().enumerate() {
        let (y, width) = (ROW * index as f64, value * scale);
        let (middle, after) = (y + 19.0, BAR_LEFT + width + 6.0);
        let label = escape(label);
        put(
            &mut svg,
            format_args!(
                r#"<text x="{:.0}" y="{middle:.0}" text-anchor="end">{label}</text><rect class="bar" x="{BAR_LEFT}" y="{:.0}" width="{width:.1}" height="20"/><text x="{after:.0}" y="{middle:.0}">{} {}</text>"#,
                BAR_LEFT - 8.0,
                y + 4.0,
                number(*value),
                escape(unit)
            ),
        );
    }
    if let Some(goal) = goal {
        let x = BAR_LEFT + goal * scale;
        put(
            &mut svg,
            format_args!(
                r#"<line class="goal" x1="{x:.1}" x2="{x:.1}" y1="0" y2="{height:.0}"/><text class="goal" x="{:.1}" y="{:.0}">aim {}</text>"#,
                x + 4.0,
                height - 1.0,
                number(goal)
            ),
        );
    }
    svg + "</svg></figure>"
}

/// Cumulative distributions: milliseconds on a logarithmic axis, the share that is faster on one that
/// spreads the rare slow ones.
pub(crate) fn distribution(title: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points).filter(|point| point.0 > 0.0);
    let low = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let high = points().map(|point| point.0).fold(0.0, f64::max);
    let rare = points().map(|point| point.1).fold(1.0, f64::min);
    if !low.is_finite() || rare >= 1.0 {
        return String::new();
    }
    let (first, last) = (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0));
    let (left, bottom) = MARGINS;
    let x = |ms: f64| left + (ms.log10() - first) / (last - first) * (WIDTH - left - RIGHT);
    let y = |rest: f64| 8.0 + (1.0 - rest.log10() / rare.log10()) * (HEIGHT - bottom - 8.0);
    let mut svg = begin(title, HEIGHT);
    for decade in first as i32..=last as i32 {
        let ms = 10_f64.powi(decade);
        put(
            &mut svg,
            format_args!(
                r#"<line class="grid" x1="{0:.1}" x2="{0:.1}" y1="8" y2="{1:.0}"/><text x="{0:.1}" y="{2:.0}" text-anchor="middle">{ms} ms</text>"#,
                x(ms),
                HEIGHT - bottom,
                HEIGHT - bottom + 18.0
            ),
        );
    }
    for (rest, label) in
        [(0.5, "50%"), (0.1, "90%"), (0.01, "99%"), (0.001, "99.9%"), (0.0001, "99.99%")]
    {
        if rest >= rare {
            let (right, y, text_x) = (WIDTH - RIGHT, y(rest), left - 6.0);
            put(
                &mut svg,
                format_args!(
                    r#"<line class="grid" x1="{left}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/><text x="{text_x}" y="{:.1}" text-anchor="end">{label}</text>"#,
                    y + 4.0
                ),
            );
        }
    }
    for (index, curve) in curves.iter().enumerate() {
        let path: Vec<String> = curve
            .points
            .iter()
            .filter(|(ms, _)| *ms > 0.0)
            .map(|&(ms, rest)| format!("{:.1},{:.1}", x(ms), y(rest)))
            .collect();
        let legend = left + 190.0 * index as f64;
        put(
            &mut svg,
            format_args!(
                r#"<polyline class="curve c{index}" points="{}"/><text class="c{index}" x="{legend:.0}" y="{:.0}">■ {}</text>"#,
                path.join(" "),
                HEIGHT - 4.0,
                escape(curve.label)
            ),
        );
    }
    svg + "</svg></figure>"
}

fn begin(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        r#"<figure><figcaption>{title}</figcaption><svg role="img" aria-label="{title}" viewBox="0 0 {WIDTH} {height}">"#
    )
}

fn put(svg: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = svg.write_fmt(arguments);
}

/// Text as it stands in HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_makes_no_plot() {
        assert_eq!(bars("x", "ms", &[], None), "");
        assert_eq!(distribution("x", &[Curve { label: "a", points: vec![] }]), "");
    }

    #[test]
    fn labels_are_escaped() {
        let svg = bars("a < b", "ms", &[("<&>", 1.0)], Some(2.0));
        assert!(svg.contains("a &lt; b") && svg.contains("&lt;&amp;&gt;"));
    }
}
