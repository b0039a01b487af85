//! The report as one HTML file with its plots inside.

use tern_netsim::report::{Cell, Page, bars, distribution, number};

use crate::{Report, outcome::Repeated, text};

/// Memory that an idle connection should take at most, in KiB (30 kB).
const IDLE_GOAL_KIB: f64 = 29.3;

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = Page::new("Tern under load");
    page.element("pre", &text::machine(&report.machine));
    for warning in &report.warnings {
        page.warning(warning);
    }
    for run in &report.runs {
        section(&mut page, run);
    }
    page.finish()
}

fn section(page: &mut Page, run: &Repeated) {
    page.element("h2", run.run).element("p", &run.setting).push(&plots(run));
    let rows = run.figures.iter().map(|figure| {
        vec![
            Cell::from(figure.label),
            number(figure.median).into(),
            format!("{} – {}", number(figure.min), number(figure.max)).into(),
            figure.unit.into(),
        ]
    });
    page.table(["figure", "median", "least – greatest", "unit"].map(Cell::from).to_vec(), rows);
    for note in &run.notes {
        page.element("p", note);
    }
    let loads: Vec<String> = run.load_before.iter().flatten().map(|&load| number(load)).collect();
    page.element("p", &format!("Load average before each of the repeats: {}", loads.join(", ")));
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
