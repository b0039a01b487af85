//! A page of HTML that needs nothing but itself, light or dark as its reader is used to.

use super::svg::escape;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #667; --paper: #fff; --grid: #dde;
  --tint: #d6e3fa;
  --c0: #2f6fde; --c1: #d9822b; --c2: #2e9e5b; --goal: #c0392b }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #99a; --paper: #14171a;
  --grid: #334; --tint: #24385c; --c0: #6ea3ff; --c1: #f0a857; --c2: #5fce8e; --goal: #ff7b6b } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
a { color: var(--c0) } code, pre { font-size: 13px }
pre { color: var(--soft); white-space: pre-wrap }
table { border-collapse: collapse; width: 100% }
td, th { padding: .2rem .5rem; text-align: right; border-bottom: 1px solid var(--grid) }
td:first-child, th:first-child { text-align: left }
figure { margin: 1.5rem 0 } figcaption { font-weight: 600 } svg { width: 100%; height: auto }
svg text { font-size: 12px; fill: var(--ink) } .bar { fill: var(--c0) }
.grid { stroke: var(--grid) } .goal { stroke: var(--goal); stroke-dasharray: 4 3 }
svg text.goal { fill: var(--goal); stroke: none } .curve { fill: none; stroke-width: 2 }
.curve.c0 { stroke: var(--c0) } .curve.c1 { stroke: var(--c1) } .curve.c2 { stroke: var(--c2) }
svg text.c0 { fill: var(--c0) } svg text.c1 { fill: var(--c1) } svg text.c2 { fill: var(--c2) }
.warning { color: var(--goal) } .good { color: var(--c2) } .wide { overflow-x: auto; margin: 1rem 0 }
td.bar { border-left: 1rem solid transparent; background-clip: padding-box }
td { white-space: nowrap }
.points { fill: none; stroke-width: 3.5; stroke-linecap: round; stroke-opacity: .6 }
.points.c0 { stroke: var(--c0) } .points.c1 { stroke: var(--c1) } .points.c2 { stroke: var(--c2) }
.never { fill: none; stroke: var(--goal); stroke-width: 1.5 } .mark { stroke: var(--soft); stroke-opacity: .5 }
.shade { fill: var(--goal); fill-opacity: .13 } svg text.label { font-size: 11px; fill: var(--soft) }
.up { fill: var(--c2); background: var(--c2) } .wait { fill: var(--c1); background: var(--c1) }
.down { fill: var(--grid); background: var(--grid) } .gap { fill: var(--goal); background: var(--goal) }
.legend { color: var(--soft); font-size: 13px }
.legend i { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .8em }
";

/// A page in the making.
#[derive(Debug, Clone)]
pub struct Page(String);

impl Page {
    /// A page with a title and nothing else.
    pub fn new(title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n"
        ))
    }

    /// Adds HTML as it is.
    pub fn push(&mut self, html: &str) -> &mut Self {
        self.0 += html;
        self
    }

    /// Adds an element with a text, which is escaped. The tag is any of HTML's, such as `p` or `h2`.
    pub fn element(&mut self, tag: &str, text: &str) -> &mut Self {
        self.push(&format!("<{tag}>{}</{tag}>\n", escape(text)))
    }

    /// Adds a paragraph that is a warning.
    pub fn warning(&mut self, text: &str) -> &mut Self {
        self.push(&format!("<p class=\"warning\">{}</p>\n", escape(text)))
    }

    /// Adds a heading that [`Cell::Link`] finds by its anchor.
    pub fn heading(&mut self, text: &str, anchor: &str) -> &mut Self {
        self.push(&format!("<h2 id=\"{}\">{}</h2>\n", escape(anchor), escape(text)))
    }

    /// Adds a table, which is as wide as the page and can be moved sideways if it needs more.
    pub fn table(
        &mut self,
        head: Vec<Cell>,
        rows: impl IntoIterator<Item = Vec<Cell>>,
    ) -> &mut Self {
        let row = |tag: &str, cells: &[Cell]| {
            let cells: String = cells.iter().map(|cell| cell.html(tag)).collect();
            format!("<tr>{cells}</tr>\n")
        };
        self.0 += "<div class=\"wide\"><table>\n";
        self.0 += &row("th", &head);
        for cells in rows {
            self.0 += &row("td", &cells);
        }
        self.push("</table></div>\n")
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0 + "</html>\n"
    }
}

/// What is in a cell of a table. Texts are escaped.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Cell {
    /// A text.
    Text(String),
    /// A text that leads to a heading of the page.
    Link {
        /// The text.
        text: String,
        /// The heading's anchor.
        anchor: String,
    },
    /// A text on a bar.
    Bar {
        /// The text.
        text: String,
        /// The bar's length, 0 to 1 of the cell.
        share: f64,
    },
    /// A good answer.
    Good(&'static str),
    /// A bad one.
    Bad(&'static str),
}

impl Cell {
    /// A text on a bar for a value, of which `most` is a whole bar.
    pub fn bar(text: String, value: f64, most: f64) -> Self {
        let share = if most > 0.0 { value / most } else { 0.0 };
        Self::Bar { text, share }
    }

    fn html(&self, tag: &str) -> String {
        match self {
            Self::Text(text) => format!("<{tag}>{}", escape(text)),
            Self::Link { text, anchor } => {
                format!("<{tag}><a href=\"#{}\">{}</a>", escape(anchor), escape(text))
            }
            Self::Bar { text, share } => {
                let percent = share.clamp(0.0, 1.0) * 100.0;
                format!(
                    "<{tag} class=\"bar\" style=\"background-image:linear-gradient(to left,\
                     var(--tint) {percent:.0}%,transparent 0)\">{}",
                    escape(text)
                )
            }
            Self::Good(text) => format!("<{tag} class=\"good\">{}", escape(text)),
            Self::Bad(text) => format!("<{tag} class=\"warning\">{}", escape(text)),
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_nothing_is_loaded() {
        let mut page = Page::new("<x>");
        page.element("p", "a & b").warning("\"\"").table(vec!["<".into()], [vec![">".into()]]);
        let html = page.finish();
        for part in ["<h1>&lt;x&gt;</h1>", "<p>a &amp; b</p>", "&quot;", "<th>&lt;", "<td>&gt;"] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("src=") && !html.contains("href=") && !html.contains("url("));
    }
}
