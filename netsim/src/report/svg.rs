//! The frame of a plot, and text in it.

use std::fmt::{Arguments, Write};

/// Width of a plot, in its own units.
pub(super) const WIDTH: f64 = 640.0;
/// Room for labels on the left, of plots with axes.
pub(super) const LEFT: f64 = 64.0;
/// Room on the right for half of the last label.
pub(super) const RIGHT: f64 = 32.0;

/// Begins a plot; it ends with [`END`].
pub(super) fn begin(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        r#"<figure><figcaption>{title}</figcaption><svg role="img" aria-label="{title}" viewBox="0 0 {WIDTH} {height}">"#
    )
}

/// Ends a plot.
pub(super) const END: &str = "</svg></figure>\n";

/// Adds to a plot.
pub(super) fn put(svg: &mut String, arguments: Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = svg.write_fmt(arguments);
}

/// Text as it stands in HTML and SVG, also between quotation marks.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
