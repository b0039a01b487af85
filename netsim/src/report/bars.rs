//! Bars.

use super::{
    svg::{END, WIDTH, begin, escape, put},
    text::number,
};

/// Height of a bar with the room around it.
const ROW: f64 = 30.0;
/// Room for the labels.
const BAR_LEFT: f64 = 250.0;
/// Room for the numbers behind bars.
const BAR_RIGHT: f64 = 130.0;

/// Horizontal bars of one unit: label and value. A `goal` is drawn as a line. What isn't a number is left out.
pub fn bars(title: &str, unit: &str, rows: &[(&str, f64)], goal: Option<f64>) -> String {
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
    svg + END
}

#[cfg(test)]
mod tests {
    use super::bars;

    #[test]
    fn nothing_makes_no_plot() {
        assert_eq!(bars("x", "ms", &[], None), "");
        assert_eq!(bars("x", "ms", &[("a", f64::NAN)], None), "");
    }

    #[test]
    fn labels_are_escaped() {
        let svg = bars("a < b", "ms", &[("<&>", 1.0)], Some(2.0));
        assert!(svg.contains("a &lt; b") && svg.contains("&lt;&amp;&gt;"));
    }
}
