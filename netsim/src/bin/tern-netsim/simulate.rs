//! `tern-netsim run`: one run of a scenario, and what came of it.

use std::{fmt::Write, io::IsTerminal, path::PathBuf, time::Instant};

use serde::Serialize;
use tern_netsim::{
    fault::Fault,
    report::{
        Figure, RunReport, TextTable, findings, longest_stalls_ms, number, reconnects, runs_page,
    },
    run::{Options, Outcome},
    series::Ran,
};

use crate::{
    chosen::{self, Chosen},
    failure::{Failure, print_json, print_text, write_file},
    progress::run_shown,
};

/// Rows of a table by phone or conversation at most.
const ROWS: usize = 20;
/// Broken promises that are told at most.
const TOLD: usize = 20;

/// Run a scenario with the real server and real clients in virtual time, and judge it.
///
/// Everything that happens follows from scenario and seed: the same ones give the same trace hash.
///
/// With --plant a fault is put into the simulated disk or phones, to see that the judgement finds it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every promise was kept; 1 one was broken, or not everything arrived in the time \
                  that it had; 2 it can't be run as it was asked for.",
    after_long_help = chosen::HELP
)]
pub(crate) struct Args {
    /// A bundled scenario or a .toml file; values to change behind commas, such as lossy,seconds=10.
    scenario: String,
    /// What chance is decided by.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plant a fault that the judgement must find: the run ends with 1, and the fault is named.
    #[arg(long, value_name = "FAULT")]
    plant: Option<Fault>,
    /// Print a line of JSON: scenario, command, figures, and the whole outcome.
    #[arg(long)]
    json: bool,
    /// Write a page of HTML with plots.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

#[derive(Serialize)]
struct Printed<'a> {
    scenario: &'a str,
    command: String,
    is_good: bool,
    took_s: f64,
    figures: Vec<Figure>,
    stalls_ms: Vec<f64>,
    outcome: &'a Outcome,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let chosen: Chosen = args.scenario.parse()?;
    let options = Options { seed: args.seed, plant: args.plant };
    let started = Instant::now();
    let outcome = run_shown(&chosen.scenario, options).map_err(Failure::ran)?;
    let ran = Ran { outcome, took: started.elapsed() };
    let planted = args.plant.map_or(String::new(), |fault| format!(" --plant {fault}"));
    let (outcome, command) = (&ran.outcome, chosen.command(args.seed) + &planted);
    if let Some(path) = &args.report {
        let report = RunReport {
            name: chosen.text.clone(),
            command: command.clone(),
            scenario: chosen.scenario.clone(),
            outcomes: vec![outcome.clone()],
        };
        write_file(path, &runs_page(&chosen.text, &[report], None))?;
    }
    if args.json {
        print_json(&Printed {
            scenario: &chosen.text,
            command,
            is_good: outcome.is_good(),
            took_s: ran.took.as_secs_f64(),
            figures: findings(&chosen.scenario, outcome),
            stalls_ms: longest_stalls_ms(outcome),
            outcome,
        })?;
    } else {
        print_text(&summary(&chosen, &ran, args.plant, std::io::stdout().is_terminal()))?;
    }
    if outcome.is_good() { Ok(()) } else { Err(Failure::Broken) }
}

/// The summary for people, with colours if there may be.
fn summary(chosen: &Chosen, ran: &Ran, plant: Option<Fault>, colours: bool) -> String {
    let outcome = &ran.outcome;
    let mut text = format!("{}, seed {}\n", chosen.text, outcome.seed);
    if !outcome.about.is_empty() {
        text += &format!("{}\n", outcome.about);
    }
    if let Some(fault) = plant {
        text += &format!("Planted: {fault}, which is to be found as: {}\n", fault.kind());
    }
    let mut table = TextTable::default();
    for figure in findings(&chosen.scenario, outcome) {
        table.row([figure.label.to_owned(), number_of(&figure), figure.unit.to_owned()]);
    }
    text += &format!("\n{}\n{}", table.finish(2), phones(outcome));
    text += &conversations(chosen, outcome);
    text.push('\n');
    text += &verdict(outcome, colours);
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "trace hash {}\n{} virtual seconds in {:.1} s: {} times as fast as time",
        outcome.trace_hash,
        number(outcome.settled_ms / 1_000.0),
        ran.took.as_secs_f64(),
        number(ran.speed())
    );
    text
}

/// Counts are whole; the rest has three digits that mean something.
pub(crate) fn number_of(figure: &Figure) -> String {
    let is_count = figure.unit.is_empty() && figure.value.fract() == 0.0;
    match is_count && figure.value.abs() < 100.0 {
        true => format!("{:.0}", figure.value),
        false => number(figure.value),
    }
}

fn phones(outcome: &Outcome) -> String {
    let mut table = TextTable::default();
    table.row([
        "phone",
        "sent, kB",
        "received, kB",
        "radio on, s",
        "woken",
        "forgotten",
        "reconnects",
    ]);
    for phone in outcome.phones.iter().take(ROWS) {
        table.row([
            format!("p{}", phone.phone),
            number(phone.bytes_up as f64 / 1e3),
            number(phone.bytes_down as f64 / 1e3),
            number(phone.radio_on_s),
            phone.wake_ups.to_string(),
            phone.forgotten.to_string(),
            reconnects(outcome, phone.phone).to_string(),
        ]);
    }
    table.finish(2) + &more(outcome.phones.len(), "phones")
}

fn conversations(chosen: &Chosen, outcome: &Outcome) -> String {
    let stalls = longest_stalls_ms(outcome);
    let mut table = TextTable::default();
    table.row(["conversation", "phones", "messages", "longest stall, ms"]);
    let pairs = chosen.scenario.conversations();
    for (number_, (stall, (one, other))) in stalls.iter().zip(pairs).enumerate().take(ROWS) {
        let messages = outcome.delays.iter().filter(|delay| delay.conversation == number_).count();
        table.row([
            number_.to_string(),
            format!("p{one} p{other}"),
            messages.to_string(),
            number(*stall),
        ]);
    }
    format!("\n{}{}", table.finish(2), more(stalls.len(), "conversations"))
}

fn more(count: usize, of: &str) -> String {
    match count.checked_sub(ROWS) {
        Some(more @ 1..) => format!("  and {more} more {of}\n"),
        _ => String::new(),
    }
}

/// What was broken, or that nothing was.
fn verdict(outcome: &Outcome, colours: bool) -> String {
    let coloured = |code: &str, text: &str| match colours {
        true => format!("\x1b[{code}m{text}\x1b[0m\n"),
        false => format!("{text}\n"),
    };
    if outcome.is_good() {
        return coloured("32", "every promise kept");
    }
    let mut text = String::new();
    for violation in outcome.violations.iter().take(TOLD) {
        text += &coloured("31", &format!("BROKEN: {violation}"));
    }
    if let Some(more @ 1..) = outcome.violations.len().checked_sub(TOLD) {
        text += &coloured("31", &format!("and {more} more"));
    }
    if let Some(missing) = &outcome.unsettled {
        text += &coloured("31", &format!("NOT SETTLED: {missing}"));
    }
    text
}
