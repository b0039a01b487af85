//! The report as one HTML file with its plots inside.

use std::fmt::Write;

use crate::{
    Report,
    outcome::Repeated,
    plot::{bars, distribution, escape},
    text::{self, number},
};

/// Memory that an idle connection should take at most, in KiB (30 kB).
const IDLE_GOAL_KIB: f64 = 29.3;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #667; --paper: #fff; --grid: #dde;
  --c0: #2f6fde; --c1: #d9822b; --c2: #2e9e5b; --goal: #c0392b }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #99a; --paper: #14171a;
  --grid: #334; --c0: #6ea3ff; --c1: #f0a857; --c2: #5fce8e; --goal: #ff7b6b } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 44rem; margin: 2rem auto; padding: 0 1rem }
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
.warning { color: var(--goal) }
";

/// The page.
pub fn page(report: &Report) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Tern under load</title><style>{STYLE}</style>\n<h1>Tern under load</h1>\n<pre>{}</pre>\n",
        escape(&text::machine(&report.machine))
    );
    for warning in &report.warnings {
        html += &format!("<p class=\"warning\">{}</p>\n", escape(warning));
    }
    for run in &report.runs {
        section(&mut html, run);
    }
    html + "</html>\n"
}

fn section(html: &mut String, run: &Repeated) {
    *html += &format!("<h2>{}</h2>\n<p>{}</p>\n", escape(run.run), escape(&run.setting));
    *html += &plots(run);
    *html += "<table><tr><th>figure<th>median<th>least – greatest<th>unit</tr>\n";
    for figure in &run.figures {
        // Writing to a string can't fail.
        let _ = writeln!(
            html,
            "<tr><td>{}<td>{}<td>{} – {}<td>{}</tr>",
            escape(figure.label),
            number(figure.median),
            number(figure.min),
            number(figure.max),
            escape(figure.unit)
        );
    }
    *html += "</table>\n";
    for note in &run.notes {
        *html += &format!("<p>{}</p>\n", escape(note));
    }
    let loads: Vec<String> = run.load_before.iter().flatten().map(|&load| number(load)).collect();
    *html += &format!("<p>Load average before each of the repeats: {}</p>\n", loads.join(", "));
}

fn plots(run: &Repeated) -> String {
    let rows = |keys: &[&str]| -> Vec<(&str, f64)> {
        run.figures
            .iter()
            .filter(|figure| keys.contains(&figure.key))
            .map(|figure| (figure.label, figure.median))
            .collect()
    };
    match run.run {
        "throughput" => {
            bars("Messages per second", "/s", &rows(&["accepted_per_s", "delivered_per_s"]), None)
        }
        "latency" => distribution("How many messages are faster than", &run.curves),
        "drain" => {
            bars("Messages per second", "/s", &rows(&["filled_per_s", "drained_per_s"]), None)
        }
        "idle" => bars(
            "Server memory per connection",
            "KiB",
            &rows(&["idle_kib", "streams_open_kib", "streams_closed_kib"]),
            Some(IDLE_GOAL_KIB),
        ),
        "sign-ins" => {
            let per_s = rows(&["full_per_s", "ticket_per_s", "early_per_s"]);
            let cpu: Vec<(&str, f64)> = ["full_cpu_us", "ticket_cpu_us", "early_cpu_us"]
                .iter()
                .zip(&per_s)
                .map(|(key, (label, _))| (*label, run.median(key).unwrap_or(f64::NAN)))
                .collect();
            bars("Sign-ins per second", "/s", &per_s, None)
                + &bars("Server CPU per sign-in", "µs", &cpu, None)
        }
        _ => String::new(),
    }
}
