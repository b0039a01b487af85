//! `tern-netsim figures`: what Tern is held to, measured.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tern_netsim::{
    figures::{self, Case, GAPS_S, Gap, Handovers, Late, Peer, ProfileFigures, Starts},
    profile::Profile,
    report::{Held, profile_markdown, runs_page},
    scenario::ClientVariant,
    series::on_all_cores,
};

use crate::{
    failure::{Failure, print_json, print_text, write_file},
    progress,
};

/// Measure what Tern is held to: lateness under loss, the return after gaps, handovers, starts.
///
/// Each figure comes from several seeds of a simulated network, so it is the same on every machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tern-netsim figures\n  tern-netsim figures --rtt-ms 300 --seeds 20\n  \
                        tern-netsim figures --profile all\n  tern-netsim figures --profile lte,3g --report figures.html\n\n\
                        Exit codes: 0 measured; 1 a run broke a promise; 2 it can't be measured as it was asked for."
)]
pub(crate) struct Args {
    /// Round trips of a phone to the server, in milliseconds.
    #[arg(long, value_name = "MS", value_delimiter = ',', default_values_t = [50.0, 100.0, 300.0])]
    rtt_ms: Vec<f64>,
    /// Losses of each link.
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_values_t = [0.0, 0.02, 0.05])]
    loss: Vec<f64>,
    /// Measure in named profiles instead, a row for each; `all` are those whose links have a delay.
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["rtt_ms", "loss"])]
    profile: Vec<String>,
    /// Show beside the profiles what another system achieves: what its script in netsim/peers told with --json.
    #[arg(long, value_name = "FILE.json", requires = "profile")]
    beside: Option<PathBuf>,
    /// Write a page of HTML about the profiles, with plots.
    #[arg(long, value_name = "FILE.html", requires = "profile")]
    report: Option<PathBuf>,
    /// Seeds of each figure.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
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
    late: Vec<LateAt>,
    /// With everything in one stream, for comparison.
    late_in_one_stream: Vec<LateAt>,
}

#[derive(Serialize)]
struct LateAt {
    /// Each link's loss.
    loss: f64,
    #[serde(flatten)]
    late: Late,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if !args.profile.is_empty() {
        return profiles(args);
    }
    let bar = progress::runs(args.rtt_ms.len());
    let measured = on_all_cores(&args.rtt_ms, |rtt_ms| {
        let figures = at_rtt(*rtt_ms, &args.loss, args.seeds);
        bar.inc(1);
        figures
    });
    bar.finish_and_clear();
    let all = measured.into_iter().collect::<Result<Vec<_>, _>>()?;
    if args.json {
        return print_json(&all);
    }
    all.iter().try_for_each(|figures| print_text(&text(figures)))
}

fn at_rtt(rtt_ms: f64, losses: &[f64], seeds: u64) -> Result<Figures, Failure> {
    let one_stream = ClientVariant { single_stream: Some(true), ..ClientVariant::default() };
    let case = Case::rtt(rtt_ms, 0.0);
    let late = |client: &ClientVariant| {
        let at = |loss: &f64| {
            let late = figures::late(&Case::rtt(rtt_ms, *loss), client, seeds);
            Ok(LateAt { loss: *loss, late: late.map_err(Failure::ran)? })
        };
        losses.iter().map(at).collect::<Result<Vec<_>, Failure>>()
    };
    let gaps = GAPS_S.iter().map(|gap_s| figures::gaps(&case, *gap_s, seeds));
    Ok(Figures {
        rtt_ms,
        starts: figures::starts(&case, seeds).map_err(Failure::ran)?,
        handovers: figures::handovers(&case, seeds).map_err(Failure::ran)?,
        gaps: gaps.collect::<Result<_, _>>().map_err(Failure::ran)?,
        late: late(&ClientVariant::default())?,
        late_in_one_stream: late(&one_stream)?,
    })
}

fn profiles(args: &Args) -> Result<(), Failure> {
    let peer = args.beside.as_deref().map(read_peer).transpose()?;
    let mut cases = Vec::new();
    for name in &args.profile {
        if name == "all" {
            cases.extend(Case::profiles());
            continue;
        }
        let profile = Profile::named(name).ok_or_else(|| {
            Failure::Asked(format!("there is no profile {name}; `tern-netsim profiles` lists them"))
        })?;
        cases.push(Case::profile(&profile).ok_or_else(|| {
            Failure::Asked(format!(
                "{name} has no delay to measure by, or is about what happens at certain times: see `tern-netsim scenarios`"
            ))
        })?);
    }
    if let Some(path) = &args.report {
        // Better to know it before than after the runs.
        write_file(path, "")?;
    }
    let held = Held { profiles: in_profiles(&cases, args.seeds)?, peer };
    if let Some(path) = &args.report {
        write_file(path, &runs_page("What Tern is held to", &[], Some(&held)))?;
    }
    if args.json { print_json(&held.profiles) } else { print_text(&profile_markdown(&held)) }
}

/// Measures everything in each of the cases, on all cores.
pub(crate) fn in_profiles(cases: &[Case], seeds: u64) -> Result<Vec<ProfileFigures>, Failure> {
    let bar = progress::profiles(cases.len());
    let measured = on_all_cores(cases, |case| {
        let figures = figures::in_profile(case, seeds);
        bar.inc(1);
        figures.map_err(|error| Failure::Ran(format!("{}: {error}", case.name)))
    });
    bar.finish_and_clear();
    measured.into_iter().collect()
}

/// What another system's script told.
pub(crate) fn read_peer(path: &Path) -> Result<Peer, Failure> {
    let wrong = |what: String| Failure::Asked(format!("{}: {what}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

/// In Markdown.
fn text(figures: &Figures) -> String {
    let Figures { rtt_ms, starts, handovers, gaps, late, late_in_one_stream } = figures;
    let mut text = format!(
        "## Round trip {rtt_ms} ms\n\n| | median | 95th percentile | worst |\n| --- | --- | --- | --- |\n\
         | process start to sent tick | {:.2} RTT | | {:.2} RTT |\n\
         | network back to sent tick, session resumed | {:.2} RTT | | {:.2} RTT |\n\
         | handover without a gap: stall | {:.2} RTT | {:.2} RTT | {:.2} RTT |\n",
        starts.cold_rtts,
        starts.cold_worst_rtts,
        starts.resumed_rtts,
        starts.resumed_worst_rtts,
        handovers.median_rtts,
        handovers.p95_rtts,
        handovers.worst_rtts
    );
    for gap in gaps {
        text += &format!(
            "| gap of {} s: waiting messages up / down | | {:.2} / {:.2} RTT | {:.2} RTT |\n",
            gap.gap_s, gap.up_rtts, gap.down_rtts, gap.worst_rtts
        );
    }
    text += "\n| loss, each link | | p50 | p90 | p99 | later than p50 + 50 ms |\n\
             | --- | --- | --- | --- | --- | --- |\n";
    for (apart, one) in late.iter().zip(late_in_one_stream) {
        for (how, LateAt { loss, late }) in [("streams", apart), ("one stream", one)] {
            text += &format!(
                "| {}% | {how} | {:.0} ms | {:.0} ms | {:.0} ms | {:.1}% |\n",
                loss * 100.0,
                late.p50_ms,
                late.p90_ms,
                late.p99_ms,
                late.late * 100.0
            );
        }
    }
    text + "\n"
}
