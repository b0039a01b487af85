//! Pages about runs of scenarios.

use std::borrow::Cow;

use super::{
    Cell, Comparison, Curve, Figure, Held, Page, Summary, course, distribution, findings,
    held::held_section, longest_stalls_ms, number, reconnects, scene::MOST_LANES, spread,
};
use crate::{run::Outcome, scenario::Scenario};

/// Rows of a table by phone or conversation at most.
const ROWS: usize = 20;
/// Broken promises that are told of each scenario at most.
const TOLD: usize = 20;
/// What the colours of a course mean.
const LEGEND: &str = "<p class=\"legend\"><i class=\"up\"></i>connected <i class=\"wait\"></i>connecting or \
    waiting <i class=\"down\"></i>client not running <i class=\"gap\"></i>network gone, or packets vanish. \
    The red crosses at the top, if any, never arrived.</p>\n";

/// Runs of one scenario with several seeds, for a page.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// What to call it.
    pub name: String,
    /// The command that repeats the first run.
    pub command: String,
    /// The scenario.
    pub scenario: Scenario,
    /// What came of each seed. The first one is plotted.
    pub outcomes: Vec<Outcome>,
}

impl RunReport {
    /// The figures of each run.
    pub fn findings(&self) -> Vec<Vec<Figure>> {
        self.outcomes.iter().map(|outcome| findings(&self.scenario, outcome)).collect()
    }

    /// Whether all runs kept every promise and everything arrived.
    pub fn is_good(&self) -> bool {
        self.outcomes.iter().all(Outcome::is_good)
    }

    fn summaries(&self) -> Vec<Summary> {
        Summary::all(&self.findings())
    }

    /// The delays of all seeds.
    fn curve(&self, label: impl Into<Cow<'static, str>>) -> Curve {
        let mut all: Vec<f64> = self.outcomes.iter().flat_map(Outcome::arrivals_ms).collect();
        all.sort_by(f64::total_cmp);
        Curve::of_sorted(label, &all)
    }
}

/// A page about runs, with an overview if there are several, and what is held in each profile if it was measured.
pub fn runs_page(title: &str, runs: &[RunReport], held: Option<&Held>) -> String {
    let mut page = Page::new(title);
    page.element(
        "p",
        "Each run has the real server and real clients in virtual time on a simulated network. Its command \
         repeats it, packet for packet.",
    );
    if let Some(held) = held {
        held_section(&mut page, held);
    }
    if runs.len() > 1 {
        overview(&mut page, runs);
    }
    for run in runs {
        section(&mut page, run);
    }
    page.finish()
}

/// A page about two scenarios.
pub fn comparison_page(comparison: &Comparison, a: &RunReport, b: &RunReport) -> String {
    let mut page = Page::new("Two scenarios side by side");
    page.element("p", &format!("A: {}", comparison.a));
    page.element("p", &format!("B: {}", comparison.b));
    let curves = [a.curve("A"), b.curve("B")];
    page.push(&distribution("How many messages arrive faster than", &curves));
    let mut rows = comparison.cells().into_iter().map(texts);
    let head: Vec<Cell> = rows.next().unwrap_or_default();
    page.table(head, rows.collect::<Vec<_>>());
    section(&mut page, a);
    section(&mut page, b);
    page.finish()
}

fn texts(cells: Vec<String>) -> Vec<Cell> {
    cells.into_iter().map(Cell::from).collect()
}

fn overview(page: &mut Page, runs: &[RunReport]) {
    const KEYS: [(&str, &str); 8] = [
        ("messages", "messages"),
        ("delay_p50_ms", "half within, ms"),
        ("delay_p99_ms", "99% within, ms"),
        ("delay_worst_ms", "worst, ms"),
        ("late_percent", "late, %"),
        ("recovery_ms", "return, ms"),
        ("bytes_per_message", "bytes each"),
        ("radio_on_s", "radio on, s"),
    ];
    let head = ["scenario"].into_iter().chain(KEYS.map(|(_, label)| label)).chain(["promises"]);
    let rows = runs.iter().map(|run| {
        let summaries = run.summaries();
        let value = |key: &str| {
            let summary = summaries.iter().find(|summary| summary.key == key);
            Cell::from(number(summary.map_or(f64::NAN, |summary| summary.median)))
        };
        let verdict = if run.is_good() { Cell::Good("kept") } else { Cell::Bad("broken") };
        let name = Cell::Link { text: run.name.clone(), anchor: run.name.clone() };
        [name].into_iter().chain(KEYS.map(|(key, _)| value(key))).chain([verdict]).collect()
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    page.table(head.map(Cell::from).collect(), rows);
    page.element(
        "p",
        "Medians over the seeds. Late: the share that takes over 50 ms more than the median. Return: the time from \
         the end of an outage to the next arrival of a message of each sender, the slowest.",
    );
}

fn section(page: &mut Page, run: &RunReport) {
    let Some(outcome) = run.outcomes.first() else { return };
    page.heading(&run.name, &run.name);
    if !run.scenario.about.is_empty() {
        page.element("p", &run.scenario.about);
    }
    page.element("pre", &run.command);
    verdict(page, run);
    // A scenario that has run has a timeline.
    let course = course(&run.scenario, outcome).map(|course| course.plot()).unwrap_or_default();
    page.push(&course);
    if !course.is_empty() {
        page.push(LEGEND);
    }
    if run.scenario.phones.count > MOST_LANES {
        let text = format!("The first {MOST_LANES} of {} phones.", run.scenario.phones.count);
        page.element("p", &text);
    }
    let curve = run.curve("sent to arrived");
    page.push(&distribution("How many messages arrive faster than", &[curve]));
    let rows = run.summaries().into_iter().map(|summary| {
        texts(vec![summary.label.to_owned(), spread(&summary), summary.unit.to_owned()])
    });
    let rows: Vec<_> = rows.collect();
    let value = match run.outcomes.len() {
        1 => "value".to_owned(),
        seeds => format!("median (least–greatest) of {seeds} seeds"),
    };
    page.table(texts(vec!["figure".into(), value, "unit".into()]), rows);
    phones(page, outcome);
    conversations(page, &run.scenario, outcome);
}

fn verdict(page: &mut Page, run: &RunReport) {
    if run.is_good() {
        page.push("<p class=\"good\">Every promise kept.</p>\n");
    }
    for outcome in &run.outcomes {
        let seed = outcome.seed;
        for violation in outcome.violations.iter().take(TOLD) {
            page.warning(&format!("Broken with seed {seed}: {violation}"));
        }
        if let Some(missing) = &outcome.unsettled {
            page.warning(&format!("Not settled with seed {seed}: {missing}"));
        }
    }
}

fn phones(page: &mut Page, outcome: &Outcome) {
    let most = |value: fn(&crate::run::PhoneTraffic) -> f64| {
        outcome.phones.iter().map(value).fold(0.0, f64::max)
    };
    let (most_up, most_down) = (most(|p| p.bytes_up as f64), most(|p| p.bytes_down as f64));
    let most_on = most(|p| p.radio_on_s);
    let rows = outcome.phones.iter().take(ROWS).map(|phone| {
        vec![
            Cell::from(format!("p{}", phone.phone)),
            Cell::bar(number(phone.bytes_up as f64 / 1e3), phone.bytes_up as f64, most_up),
            Cell::bar(number(phone.bytes_down as f64 / 1e3), phone.bytes_down as f64, most_down),
            Cell::bar(number(phone.radio_on_s), phone.radio_on_s, most_on),
            Cell::from(phone.wake_ups.to_string()),
            Cell::from(phone.forgotten.to_string()),
            Cell::from(reconnects(outcome, phone.phone).to_string()),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let head = [
        "phone",
        "sent, kB",
        "received, kB",
        "radio on, s",
        "radio woken",
        "forgotten",
        "reconnects",
    ];
    page.table(head.map(Cell::from).to_vec(), rows);
    more(page, outcome.phones.len(), "phones");
}

fn conversations(page: &mut Page, scenario: &Scenario, outcome: &Outcome) {
    let stalls = longest_stalls_ms(outcome);
    let most = stalls.iter().copied().fold(0.0, f64::max);
    let rows = stalls.iter().zip(scenario.conversations()).enumerate().take(ROWS);
    let rows = rows.map(|(conversation, (stall, (one, other)))| {
        let of = |delay: &&crate::run::Delay| delay.conversation == conversation;
        let messages = outcome.delays.iter().filter(of).count();
        vec![
            Cell::from(format!("p{one} with p{other}")),
            Cell::from(messages.to_string()),
            Cell::bar(number(*stall), *stall, most),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let head = ["conversation", "messages", "longest stall, ms"];
    page.table(head.map(Cell::from).to_vec(), rows);
    more(page, stalls.len(), "conversations");
}

fn more(page: &mut Page, count: usize, of: &str) {
    if let Some(more @ 1..) = count.checked_sub(ROWS) {
        page.element("p", &format!("And {more} more {of}."));
    }
}
