//! `tern-netsim figures`: what Tern is held to, measured.

use serde::Serialize;
use tern_netsim::{
    figures::{self, Gap, Handovers, Late, Starts},
    scenario::ClientVariant,
};

use crate::failure::{Failure, print_json};

/// Measure what Tern is held to: lateness under loss, the return after gaps, handovers, starts.
///
/// Each figure comes from several seeds of a simulated network, so it is the same on every machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tern-netsim figures\n  tern-netsim figures --rtt-ms 300 --seeds 20\n\n\
                        Exit codes: 0 measured; 1 a run broke a promise."
)]
pub(crate) struct Args {
    /// Round trips of a phone to the server, in milliseconds.
    #[arg(long, value_name = "MS", value_delimiter = ',', default_values_t = [50.0, 100.0, 300.0])]
    rtt_ms: Vec<f64>,
    /// Losses of each link.
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_values_t = [0.0, 0.02, 0.05])]
    loss: Vec<f64>,
    /// Seeds of each figure.
    #[arg(long, value_name = "N", default_value_t = 10)]
    seeds: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The figures for one round trip.
#[derive(Serialize)]
struct Figures {
    rtt_ms: f64,
    starts: Starts,
    handovers: Handovers,
    gaps: Vec<Gap>,
    /// With a stream for each conversation and direction.
    late: Vec<Late>,
    /// With everything in one stream, for comparison.
    late_in_one_stream: Vec<Late>,
}

const GAPS_S: [f64; 5] = [2.0, 5.0, 10.0, 25.0, 45.0];

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let one_stream = ClientVariant { single_stream: Some(true), ..ClientVariant::default() };
    let mut all = Vec::new();
    for &rtt_ms in &args.rtt_ms {
        let mut figures = Figures {
            rtt_ms,
            starts: figures::starts(rtt_ms, args.seeds).map_err(Failure::ran)?,
            handovers: figures::handovers(rtt_ms, args.seeds).map_err(Failure::ran)?,
            gaps: Vec::new(),
            late: Vec::new(),
            late_in_one_stream: Vec::new(),
        };
        for gap_s in GAPS_S {
            let gap = figures::gaps(rtt_ms, gap_s, args.seeds).map_err(Failure::ran)?;
            figures.gaps.push(gap);
        }
        for &loss in &args.loss {
            let late = |client: &ClientVariant| {
                figures::late(rtt_ms, loss, client, args.seeds).map_err(Failure::ran)
            };
            figures.late.push(late(&ClientVariant::default())?);
            figures.late_in_one_stream.push(late(&one_stream)?);
        }
        if !args.json {
            print(&figures);
        }
        all.push(figures);
    }
    if args.json { print_json(&all) } else { Ok(()) }
}

fn print(figures: &Figures) {
    let Figures { rtt_ms, starts, handovers, gaps, late, late_in_one_stream } = figures;
    println!("## Round trip {rtt_ms} ms\n");
    println!("| | median | 95th percentile | worst |\n| --- | --- | --- | --- |");
    println!(
        "| process start to sent tick | {:.2} RTT | | {:.2} RTT |",
        starts.cold_rtts, starts.cold_worst_rtts
    );
    println!(
        "| network back to sent tick, session resumed | {:.2} RTT | | {:.2} RTT |",
        starts.resumed_rtts, starts.resumed_worst_rtts
    );
    println!(
        "| handover without a gap: stall | {:.2} RTT | {:.2} RTT | {:.2} RTT |",
        handovers.median_rtts, handovers.p95_rtts, handovers.worst_rtts
    );
    for gap in gaps {
        println!(
            "| gap of {} s: waiting messages up / down | | {:.2} / {:.2} RTT | {:.2} RTT |",
            gap.gap_s, gap.up_rtts, gap.down_rtts, gap.worst_rtts
        );
    }
    println!("\n| loss, each link | | p50 | p90 | p99 | later than p50 + 50 ms |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (apart, one) in late.iter().zip(late_in_one_stream) {
        for (how, late) in [("streams", apart), ("one stream", one)] {
            println!(
                "| {}% | {how} | {:.0} ms | {:.0} ms | {:.0} ms | {:.1}% |",
                late.loss * 100.0,
                late.p50_ms,
                late.p90_ms,
                late.p99_ms,
                late.late * 100.0
            );
        }
    }
    println!();
}
