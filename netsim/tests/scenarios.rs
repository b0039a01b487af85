//! The bundled scenarios, and the commands that run scenarios.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::{
    collections::BTreeSet,
    process::{Command, Output},
};

use serde_json::Value;
use tern_netsim::{
    fault::Fault,
    run::Options,
    scenario::{BUNDLED, Scenario},
    series::run_all,
};

#[test]
fn every_bundled_scenario_ends_well() {
    let scenarios: Vec<Scenario> =
        BUNDLED.iter().map(|bundled| bundled.toml.parse().unwrap()).collect();
    let options = Options { seed: 1, ..Options::default() };
    let runs: Vec<_> = scenarios.iter().map(|scenario| (scenario, options)).collect();
    for (bundled, ran) in BUNDLED.iter().zip(run_all(&runs, || {})) {
        let outcome = ran.unwrap().outcome;
        let (violations, unsettled) = (&outcome.violations, &outcome.unsettled);
        assert!(outcome.is_good(), "{} seed 1: {violations:?} {unsettled:?}", bundled.name);
        assert!(outcome.messages > 0, "{}", bundled.name);
    }
}

#[test]
fn a_seed_repeats_runs_with_reconnects_too() {
    for name in ["subway", "interop-handshake-loss"] {
        let scenario = Scenario::named(name).unwrap();
        let options = Options { seed: 2, ..Options::default() };
        let hashes: BTreeSet<String> = run_all(&[(&scenario, options); 4], || {})
            .into_iter()
            .map(|ran| ran.unwrap().outcome.trace_hash)
            .collect();
        assert_eq!(hashes.len(), 1, "{name} seed 2: {hashes:?}");
    }
}

#[test]
fn bundled_scenarios_say_what_they_are() {
    for bundled in BUNDLED {
        let scenario = Scenario::named(bundled.name).unwrap();
        let about = &scenario.about;
        assert!(about.ends_with(['.', '?']) && about.len() < 300, "{}: {about}", bundled.name);
    }
}

/// A scenario that takes no time.
const SHORT: &str = "lossy,seconds=2,phones.count=2";

fn netsim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tern-netsim")).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_run_is_told_as_text_and_as_json_and_can_be_repeated() {
    let output = netsim(&["run", SHORT, "--seed", "5", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let told = json(&output);
    assert_eq!(told["is_good"], true);
    assert_eq!(told["figures"][0]["key"], "messages");
    let hash = told["outcome"]["trace_hash"].as_str().unwrap();
    let command: Vec<_> = told["command"].as_str().unwrap().split(' ').skip(1).collect();
    let text = String::from_utf8(netsim(&command).stdout).unwrap();
    assert!(text.contains(hash) && text.contains("every promise kept"), "{text}");
}

#[test]
fn what_does_not_arrive_in_time_is_told_and_the_exit_code_is_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hole.toml");
    // What has gathered in the hole is more than the windows let through in a second.
    let toml = "seconds = 30\nsettle_s = 1\n[load]\nbytes = 60000\nmessages_per_s = 20\n\
                [[events]]\nat_s = 5\nblack_hole = { for_s = 25 }\n";
    std::fs::write(&file, toml).unwrap();
    let output = netsim(&["run", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("NOT SETTLED"), "{text}");
}

#[test]
fn a_fault_that_is_planted_is_told_and_the_exit_code_is_1() {
    let output = netsim(&["run", SHORT, "--plant", "disk-deletes-nothing", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told = json(&output);
    assert_eq!(told["outcome"]["kinds"], serde_json::json!(["unbounded"]));
    let command: Vec<_> = told["command"].as_str().unwrap().split(' ').skip(1).collect();
    let text = String::from_utf8(netsim(&command).stdout).unwrap();
    assert!(text.contains("BROKEN: unbounded memory: messages stored"), "{text}");
    // The options say which faults there are.
    let help = String::from_utf8(netsim(&["run", "--help"]).stdout).unwrap();
    for fault in Fault::all() {
        assert!(help.contains(&fault.to_string()), "{fault}");
    }
}

#[test]
fn what_cannot_be_run_is_refused_with_exit_code_2() {
    for arguments in [
        &["run", "no-such"][..],
        &["run", "no/such.toml"],
        &["run", "lossy,phones.count=0"],
        &["run", "lossy", "--plant", "no-such"],
        &["run"],
        &["scenarios", "no-such"],
        &["compare", "lossy"],
        &["compare", "lossy", "lossy,x=1"],
        &["compare", "lossy", "lossy", "--seeds", "0"],
        &["report", "x.html", "no-such"],
    ] {
        assert_eq!(netsim(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_bundled_scenario_can_be_copied_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.toml");
    std::fs::write(&copy, netsim(&["scenarios", "lift"]).stdout).unwrap();
    let copied = Scenario::read(&copy).unwrap();
    assert_eq!(copied, Scenario::named("lift").unwrap());
    let listed = json(&netsim(&["scenarios", "--json"]));
    assert_eq!(listed.as_array().unwrap().len(), BUNDLED.len());
}

#[test]
fn a_comparison_pairs_runs_with_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let slower = format!("{SHORT},phones.up={{delay_ms=150}}");
    let arguments =
        ["compare", SHORT, &slower, "--seeds", "2", "--json", "--report", page.to_str().unwrap()];
    let output = netsim(&arguments);
    assert_eq!(output.status.code(), Some(0));
    let told = json(&output);
    let figures = told["figures"].as_array().unwrap();
    let delay = figures.iter().find(|figure| figure["a"]["key"] == "delay_p50_ms").unwrap();
    assert_eq!(delay["ratio"]["values"].as_array().unwrap().len(), 2);
    assert!(delay["ratio"]["min"].as_f64().unwrap() > 1.5, "{delay}");
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("■ A") && html.contains("■ B"));
}

#[test]
fn a_report_is_one_page_that_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let output = netsim(&["report", page.to_str().unwrap(), SHORT, "two-g,seconds=5"]);
    assert_eq!(output.status.code(), Some(0));
    let html = std::fs::read_to_string(&page).unwrap();
    for part in [
        "tern-netsim run lossy,seconds=2,phones.count=2 --seed 1",
        "class=\"points c0\"",
        "polyline",
        "Every promise kept",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for outside in ["http:", "https:", "src=", "url(", "<script", "@import"] {
        assert!(!html.contains(outside), "{outside}");
    }
}
