//! A page of HTML that needs nothing but itself, light or dark as its reader is used to.

use super::svg::escape;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #667; --paper: #fff; --grid: #dde;
  --c0: #2f6fde; --c1: #d9822b; --c2: #2e9e5b; --goal: #c0392b }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #99a; --paper: #14171a;
  --grid: #334; --c0: #6ea3ff; --c1: #f0a857; --c2: #5fce8e; --goal: #ff7b6b } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 44rem; margin: 2rem auto; padding: 0 1rem }
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
.warning { color: var(--goal) } .good { color: var(--c2) }
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

    /// Adds a table. Cells are texts, which are escaped.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> &mut Self {
        let row = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.map(|cell| format!("<{tag}>{}", escape(cell)));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        self.0 += "<table>";
        self.0 += &row("th", &mut head.iter().copied());
        for cells in rows {
            self.0 += &row("td", &mut cells.iter().map(String::as_str));
        }
        self.push("</table>\n")
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0 + "</html>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn texts_are_escaped_and_nothing_is_loaded() {
        let mut page = Page::new("<x>");
        page.element("p", "a & b").warning("\"\"").table(&["<"], &[vec![">".into()]]);
        let html = page.finish();
        for part in ["<h1>&lt;x&gt;</h1>", "<p>a &amp; b</p>", "&quot;", "<th>&lt;", "<td>&gt;"] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("src=") && !html.contains("href=") && !html.contains("url("));
    }
}
