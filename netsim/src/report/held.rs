//! What Tern is held to, profile by profile, beside others.

use super::{Cell, Page, bars::bars, number};
use crate::figures::{Peer, ProfileFigures};

/// Figures of all profiles, and perhaps what another system achieves there.
#[derive(Debug, Clone)]
pub struct Held {
    /// A row for each profile.
    pub profiles: Vec<ProfileFigures>,
    /// Another system.
    pub peer: Option<Peer>,
}

/// What a table of profiles has to say, in words.
const PROFILES_ABOUT: &str = "In round trips of each profile's idle links. Start: from a cold start of the \
    process to the sent tick of its first message; resumed: the same from the return of the network, with a TLS \
    session, in the first flight. Handover: what a change of network without a gap adds, 95th percentile. Gap: from \
    the return of the network, with another address, to the arrival of what waited, up and down, at the 95th \
    percentile in the worst of the gaps of 2, 5, 10, 25 and 45 s. Late: the share that took over 50 ms more than the \
    median, with a stream for each conversation and with everything in one. Losses of the profile hit starts, \
    handovers and gaps as well, and what is lost has to be sent again.";

/// A head, and a row for each profile; with a peer's figures where they are known.
fn profile_cells(held: &Held) -> Vec<Vec<String>> {
    let peer = held.peer.as_ref();
    let mut head: Vec<String> = [
        "profile",
        "RTT, ms",
        "messages/s",
        "start",
        "resumed",
        "handover",
        "gap, up / down",
        "late",
        "late, one stream",
    ]
    .map(str::to_owned)
    .to_vec();
    let name = peer.and_then(|peer| peer.name.split_whitespace().next()).unwrap_or_default();
    if peer.is_some() {
        head.extend(["start", "back", "late"].map(|what| format!("{name}: {what}")));
    }
    let rows = held.profiles.iter().map(|one| {
        let (up, down) = one.worst_gap_rtts();
        let mut row = vec![
            one.profile.clone(),
            number(one.rtt_ms),
            format!("{}", one.messages_per_s),
            rtts(one.starts.cold_rtts),
            rtts(one.starts.resumed_rtts),
            rtts(one.handovers.p95_rtts),
            format!("{} / {}", rtts(up), rtts(down)),
            percent(Some(one.late.late)),
            percent(Some(one.late_in_one_stream.late)),
        ];
        if let Some(peer) = peer {
            let path = peer.path(&one.profile);
            let connects = path.and_then(|path| path.connects.as_ref());
            let trips = |ms: Option<f64>| rtts(ms.map_or(f64::NAN, |ms| ms / one.rtt_ms));
            row.push(trips(connects.map(|connects| connects.published.p50_ms)));
            row.push(trips(connects.map(|connects| connects.waiting.p50_ms)));
            row.push(percent(path.and_then(|path| path.late)));
        }
        row
    });
    [head].into_iter().chain(rows).collect()
}

/// A table in Markdown, with a row for each profile.
pub fn profile_markdown(held: &Held) -> String {
    let mut text = String::new();
    for (number, row) in profile_cells(held).iter().enumerate() {
        text += &format!("| {} |\n", row.join(" | "));
        if number == 0 {
            text += &format!("|{}\n", " --- |".repeat(row.len()));
        }
    }
    text
}

/// Adds them to a page, with plots.
pub(super) fn held_section(page: &mut Page, held: &Held) {
    let Held { profiles, peer } = held;
    page.heading("What Tern is held to", "held");
    page.element("p", PROFILES_ABOUT);
    if let Some(peer) = peer {
        let text = format!(
            "{}: over TLS, through tern-netsim emulate, in real time. Start: until the first message of a new \
             connection is accepted; back: from the start of a new connection until a message that waited \
             arrives, without the time in which the client notices that it needs one.",
            peer.name
        );
        page.element("p", &text);
    }
    let mut rows = profile_cells(held).into_iter();
    let head = rows.next().unwrap_or_default().into_iter().map(Cell::from).collect();
    page.table(head, rows.map(|row| row.into_iter().map(Cell::from).collect::<Vec<_>>()));
    let mut plot = |title: &str, unit: &str, value: &dyn Fn(&ProfileFigures) -> f64, goal| {
        let rows: Vec<_> = profiles.iter().map(|one| (one.profile.as_str(), value(one))).collect();
        page.push(&bars(title, unit, &rows, goal));
    };
    plot("Cold start to the sent tick", "RTT", &|one| one.starts.cold_rtts, Some(2.0));
    plot("Sent tick with a session resumed", "RTT", &|one| one.starts.resumed_rtts, Some(1.0));
    let gap = |one: &ProfileFigures| one.worst_gap_rtts().0.max(one.worst_gap_rtts().1);
    plot("Back from the worst gap", "RTT", &gap, Some(2.0));
    plot("Late messages", "%", &|one| one.late.late * 100.0, None);
    let one_stream = |one: &ProfileFigures| one.late_in_one_stream.late * 100.0;
    plot("Late messages with one stream", "%", &one_stream, None);
    if let Some(peer) = peer {
        let title = format!("Late messages of {}", peer.name);
        let late = |one: &ProfileFigures| {
            peer.path(&one.profile).and_then(|path| path.late).map_or(f64::NAN, |late| late * 100.0)
        };
        plot(&title, "%", &late, None);
    }
}

fn rtts(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "–".into() }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{:.1}%", share * 100.0))
}
