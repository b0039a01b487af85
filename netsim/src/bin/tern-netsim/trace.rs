//! `tern-netsim trace`: what a trace of a link is like.

use std::path::PathBuf;

use serde::Serialize;
use tern_netsim::link::Trace;

use crate::failure::{Failure, print_json, say};

/// Rows of the plot.
const ROWS: usize = 6;

/// Describe traces of real links in Mahimahi's format: mean rate, longest gap, length, and the rate over time.
///
/// A trace has a line for each opportunity to deliver 1,500 bytes, as milliseconds since the start. A link
/// that follows one: `--down trace=FILE`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The traces.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Into how many parts the time is cut for the rate over time.
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    parts: u16,
    /// Print a line of JSON for each trace.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Described<'a> {
    file: &'a PathBuf,
    mean_mbit_s: f64,
    longest_gap_s: f64,
    length_s: f64,
    opportunities: usize,
    mbit_s_over_time: Vec<f64>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    for file in &args.files {
        let trace = Trace::read(file)
            .map_err(|error| Failure::Asked(format!("{}: {error}", file.display())))?;
        let described = Described {
            file,
            mean_mbit_s: trace.mean_mbit_s(),
            longest_gap_s: trace.longest_gap().as_secs_f64(),
            length_s: trace.length().as_secs_f64(),
            opportunities: trace.opportunities(),
            mbit_s_over_time: trace.mbit_s_over_time(args.parts.into()),
        };
        if args.json {
            print_json(&described)?;
        } else {
            say!("{}", file.display());
            say!(
                "  mean {:.2} Mbit/s, longest gap {:.2} s, length {:.1} s, {} opportunities",
                described.mean_mbit_s,
                described.longest_gap_s,
                described.length_s,
                described.opportunities
            );
            plot(&described.mbit_s_over_time, described.length_s)?;
        }
    }
    Ok(())
}

/// The rate over time, in characters.
fn plot(mbit_s: &[f64], length_s: f64) -> Result<(), Failure> {
    let highest = mbit_s.iter().copied().fold(0.0, f64::max);
    for row in (0..ROWS).rev() {
        let label = highest * (row + 1) as f64 / ROWS as f64;
        let line: String = mbit_s.iter().map(|rate| cell(*rate, highest, row)).collect();
        say!("  {label:6.2} │{line}");
    }
    say!("  Mbit/s └{}", "─".repeat(mbit_s.len()));
    say!("          0 s{:>width$.0} s", length_s, width = mbit_s.len().saturating_sub(5));
    Ok(())
}

/// What one column shows in one row: as much of it as is filled, in eighths.
fn cell(rate: f64, highest: f64, row: usize) -> char {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let filled = (rate / highest * ROWS as f64 - row as f64).clamp(0.0, 1.0);
    let fitting = EIGHTHS
        .iter()
        .zip(0_u8..)
        .take_while(|(_, eighths)| f64::from(*eighths) <= (filled * 8.0).round());
    fitting.last().map_or(' ', |(sign, _)| *sign)
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn cells_fill_from_below() {
        let column: String = (0..6).map(|row| cell(4.5, 12.0, row)).collect();
        assert_eq!(column, "██▂   ");
        let column: String = (0..6).map(|row| cell(12.0, 12.0, row)).collect();
        assert_eq!(column, "██████");
        assert_eq!(cell(0.0, 0.0, 0), ' ');
    }
}
