//! The report as a table for a terminal.

use std::fmt::Write;

use tern_netsim::report::number;

use crate::{Report, machine::Machine, outcome::Repeated};

/// The whole report.
pub fn report(report: &Report) -> String {
    let mut text = machine(&report.machine);
    for warning in &report.warnings {
        line(&mut text, format_args!("WARNING: {warning}"));
    }
    for run in &report.runs {
        text.push('\n');
        table(&mut text, run);
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = writeln!(text, "{arguments}");
}

/// A few lines about the machine.
pub fn machine(machine: &Machine) -> String {
    let Machine { cpu, cores, memory_mib, kernel, disk, server, generator, .. } = machine;
    let mut text = String::new();
    line(
        &mut text,
        format_args!(
            "{cores} cores of {cpu}, shared by server and load; {memory_mib} MiB; {kernel}"
        ),
    );
    line(
        &mut text,
        format_args!(
            "{disk}, fdatasync p50 {:.2} ms, p99 {:.2} ms",
            machine.fdatasync_p50_ms, machine.fdatasync_p99_ms
        ),
    );
    line(&mut text, format_args!("{server}, fsync on; {generator}"));
    for set in &machine.set {
        line(&mut text, format_args!("--set {set}"));
    }
    text
}

fn table(text: &mut String, run: &Repeated) {
    line(text, format_args!("{}: {}", run.run, run.setting));
    for figure in &run.figures {
        let range = if figure.values.len() > 1 {
            format!("  ({} – {})", number(figure.min), number(figure.max))
        } else {
            String::new()
        };
        line(
            text,
            format_args!(
                "  {:38} {:>9} {}{range}",
                figure.label,
                number(figure.median),
                figure.unit
            ),
        );
    }
    for note in &run.notes {
        line(text, format_args!("  note: {note}"));
    }
    let loads: Vec<String> =
        run.load_before.iter().flatten().map(|load| format!("{load:.1}")).collect();
    line(text, format_args!("  load average before: {}", loads.join(", ")));
}
