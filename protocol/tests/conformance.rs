//! SPEC.md held to itself, to the constants and to the tests that it names.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests may panic, and say what is missing"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use tern_protocol::{frame::Limits, limits};

const SPECIFICATION: &str = include_str!("../SPEC.md");

/// The text in front of appendix A, and the appendix.
fn halves() -> (&'static str, &'static str) {
    SPECIFICATION.split_once("\n## Appendix A.").unwrap()
}

/// The numbers of `[TERN-4.1-2]`: chapter, section, statement.
fn parse_id(id: &str) -> [u32; 3] {
    let parts: Vec<u32> =
        id.strip_prefix("TERN-").unwrap().split(['.', '-']).map(|it| it.parse().unwrap()).collect();
    parts.try_into().unwrap_or_else(|_| panic!("{id} isn't TERN-chapter.section-number"))
}

/// The ids of the statements in the order of the text.
fn statements() -> Vec<&'static str> {
    let defined = |line: &'static str| {
        let rest = line.trim_start().strip_prefix("- [TERN-")?;
        let end = rest.find(']').expect("a closing bracket");
        let start = line.find("TERN-").unwrap();
        Some(&line[start..start + "TERN-".len() + end])
    };
    halves().0.lines().filter_map(defined).collect()
}

/// The cells of the rows of a table, without its head.
fn rows(text: &'static str, head: &str) -> Vec<Vec<&'static str>> {
    let mut lines = text.lines().skip_while(|line| *line != head).skip(2);
    let mut rows = Vec::new();
    while let Some(row) = lines.next().and_then(|line| line.strip_prefix("| ")) {
        let row = row.strip_suffix(" |").unwrap_or_else(|| panic!("a row without an end: {row}"));
        rows.push(row.split(" | ").map(str::trim).collect());
    }
    assert!(!rows.is_empty(), "no table {head}");
    rows
}

/// Appendix A: the statements and their cells.
fn table() -> Vec<(&'static str, &'static str)> {
    rows(halves().1, "| statement | checked by |")
        .into_iter()
        .map(|cells| {
            let [id, tests] = cells[..] else { panic!("{cells:?} aren't two cells") };
            (id, tests)
        })
        .collect()
}

/// What a cell of the table says.
enum Check {
    /// A test: crate and path of the function.
    Test(&'static str),
    /// Nothing checks it, for this reason.
    None,
    /// It is still to be written, there.
    Pending(&'static str),
}

fn checks(cell: &'static str) -> Vec<Check> {
    if let Some(reason) = cell.strip_prefix("none: ") {
        assert!(reason.len() > 10, "{reason:?} is no reason");
        return vec![Check::None];
    }
    cell.split(", ")
        .map(|item| {
            if let Some(test) = item.strip_prefix('`').and_then(|it| it.strip_suffix('`')) {
                Check::Test(test)
            } else if let Some(place) = item.strip_prefix("pending: ") {
                Check::Pending(place)
            } else {
                panic!("{item:?} is neither a `test`, nor pending, nor none");
            }
        })
        .collect()
}

#[test]
fn statements_are_numbered_in_order_and_once() {
    let statements = statements();
    assert!(statements.len() > 80);
    let mut before = [0, 0, 0];
    for id in statements {
        let [chapter, section, number] = parse_id(id);
        let expected = if before[..2] == [chapter, section] { before[2] + 1 } else { 1 };
        assert_eq!(number, expected, "{id}");
        assert!([chapter, section] >= [before[0], before[1]], "{id} is out of order");
        before = [chapter, section, number];
    }
}

#[test]
fn statements_stand_in_their_section() {
    let mut section = [0, 0];
    for line in halves().0.lines() {
        if let Some(title) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            let numbers = title.split(' ').next().unwrap().trim_end_matches('.');
            let mut numbers = numbers.split('.').map(|it| it.parse().unwrap_or(0));
            section = [numbers.next().unwrap(), numbers.next().unwrap_or(0)];
        }
        if let Some(rest) = line.trim_start().strip_prefix("- [TERN-") {
            let id = format!("TERN-{}", rest.split(']').next().unwrap());
            let [chapter, number, _] = parse_id(&id);
            // A chapter without sections may still group its statements by them.
            assert_eq!(chapter, section[0], "{line}");
            assert!(section[1] == 0 || section[1] == number, "{line}");
        }
    }
}

#[test]
fn every_statement_has_its_row_and_every_row_its_statement() {
    let rows: Vec<&str> = table().into_iter().map(|(id, _)| id).collect();
    let statements = statements();
    for id in &statements {
        assert!(rows.contains(id), "{id} has no row in appendix A");
    }
    for id in &rows {
        assert!(statements.contains(id), "{id} of appendix A isn't a statement");
    }
    assert_eq!(rows, statements, "the rows are out of order or repeated");
}

#[test]
fn references_lead_somewhere() {
    let statements: BTreeSet<&str> = statements().into_iter().collect();
    let vectors = ["frames", "layouts", "refused", "signatures", "ids", "tickets"].map(|name| {
        fs::read_to_string(root().join(format!("protocol/vectors/{name}.json"))).unwrap()
    });
    let mut texts: Vec<&str> = vectors.iter().map(String::as_str).collect();
    let readme = fs::read_to_string(root().join("protocol/vectors/README.md")).unwrap();
    texts.extend([SPECIFICATION, readme.as_str()]);
    for text in texts {
        for reference in text.split("TERN-").skip(1) {
            let digits = reference.split(|it: char| !it.is_ascii_digit() && !".-".contains(it));
            let id = format!("TERN-{}", digits.into_iter().next().unwrap().trim_end_matches('.'));
            assert!(statements.contains(id.as_str()), "there is no {id}");
        }
    }
}

#[test]
fn the_tests_that_the_table_names_exist() {
    let mut missing = Vec::new();
    for (id, cell) in table() {
        for check in checks(cell) {
            if let Check::Test(test) = check
                && !exists(test)
            {
                missing.push(format!("{id}: {test}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

/// The line above the table says how much of it is done, so that nobody has to count.
#[test]
fn the_table_counts_what_is_pending() {
    let (mut tested, mut none, mut pending) = (0, 0, BTreeMap::<&str, Vec<&str>>::new());
    let table = table();
    for &(id, cell) in &table {
        let checks = checks(cell);
        let mut is_pending = false;
        for check in &checks {
            if let Check::Pending(place) = check {
                pending.entry(place).or_default().push(id);
                is_pending = true;
            }
        }
        match checks[0] {
            Check::None => none += 1,
            _ if is_pending => {}
            _ => tested += 1,
        }
    }
    let open: BTreeSet<&str> = pending.values().flatten().copied().collect();
    for (place, ids) in &pending {
        eprintln!("pending in {place}: {}", ids.join(", "));
    }
    let line = format!(
        "Of {} statements {tested} are checked, {none} can't be, and {} wait for a test.",
        table.len(),
        open.len()
    );
    eprintln!("{line}");
    assert!(halves().1.contains(&line), "appendix A should say:\n{line}");
}

#[test]
fn state_tables_lead_to_their_own_states() {
    let head = "| state | on | does | next |";
    let mut tables = 0;
    let mut rest = halves().0;
    while let Some(at) = rest.find(head) {
        rest = &rest[at..];
        let rows = rows(rest, head);
        rest = &rest[head.len()..];
        tables += 1;
        let states: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
        let mut reached = BTreeSet::from([rows[0][0]]);
        for row in &rows {
            assert_eq!(row.len(), 4, "{row:?}");
            for next in row[3].split(", or ") {
                assert!(next == "closed" || states.contains(next), "{next:?} in {row:?}");
                reached.insert(next);
            }
        }
        assert!(reached.contains("closed"), "a table without an end");
        for state in states {
            assert!(reached.contains(state), "{state:?} is never reached");
        }
    }
    assert_eq!(tables, 4);
}

#[test]
fn codes_in_the_text_are_in_the_registry() {
    let registry: BTreeSet<&str> =
        tern_protocol::code::Code::ALL.iter().map(|code| code.name()).collect();
    let close = ["close `", "reset `", "rejects with `", "refused with `", "error "];
    for line in halves().0.lines() {
        for before in close {
            for found in line.split(before).skip(1) {
                let name = found.split('`').next().unwrap();
                if before != "error " && name.chars().all(|it| it.is_ascii_alphanumeric()) {
                    assert!(registry.contains(name), "{name} in {line:?}");
                }
            }
        }
    }
}

/// A number with the commas of the specification's tables.
fn commas(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[test]
fn the_limits_are_those_of_the_code() {
    let bytes = |value: usize| format!("{} bytes", commas(value as u64));
    let seconds = |ms: u64| {
        assert!(ms.is_multiple_of(1000));
        format!("{} s", ms / 1000)
    };
    let expected = [
        ("frame, framing included", bytes(limits::FRAME_BYTES)),
        ("frame before the welcome, first frame of a stream", bytes(limits::FIRST_FRAME_BYTES)),
        ("pointer nesting", limits::NESTING.to_string()),
        ("name", format!("{} characters", limits::NAME_BYTES)),
        ("label, software", bytes(limits::LABEL_BYTES)),
        ("text of an error", bytes(limits::ERROR_TEXT_BYTES)),
        ("target of a go-away", bytes(limits::TARGET_BYTES)),
        ("ticket", bytes(limits::TICKET_BYTES)),
        ("invite, link token", bytes(limits::TOKEN_BYTES)),
        ("JSON Web Token", bytes(limits::JWT_BYTES)),
        ("extension ids in one list", limits::EXTENSIONS.to_string()),
        ("body of an extension frame of grease", bytes(limits::GREASE_BYTES)),
        ("hellos per connection", limits::HELLOS.to_string()),
        ("time to an acceptable hello", seconds(limits::HELLO_TIMEOUT_MS)),
        ("time to the first frame of a stream", seconds(limits::OPEN_TIMEOUT_MS)),
        ("counters ahead of `settled`", limits::SETTLED_WINDOW.to_string()),
        ("unacknowledged deliveries per downlink", limits::DELIVERY_WINDOW.to_string()),
        ("spans in a receipt", limits::SPANS.to_string()),
        ("accounts in one `watch` or `unwatch`", limits::WATCH_LIST.to_string()),
        ("devices per account", limits::DEVICES.to_string()),
        ("`typing` without a repeat", seconds(limits::TYPING_MS)),
        ("receipts held back from an inactive client", seconds(limits::INACTIVE_RECEIPTS_MS)),
        (
            "envelope",
            format!(
                "`Limits.envelopeBytes`, {} at most and by default",
                commas(limits::ENVELOPE_BYTES as u64)
            ),
        ),
        (
            "unanswered sends per uplink",
            format!("`Limits.unansweredSends`, default {}", limits::UNANSWERED_SENDS),
        ),
        ("requests without a response", format!("`Limits.requests`, default {}", limits::REQUESTS)),
        ("watched accounts", format!("`Limits.watches`, default {}", limits::WATCHES)),
        (
            "silence of a connection",
            format!("`Limits.idleForMs`, default {}", seconds(limits::IDLE_FOR_MS.into())),
        ),
        (
            "silence of an inactive client",
            format!(
                "`Limits.inactiveIdleForMs`, default {}",
                seconds(limits::INACTIVE_IDLE_FOR_MS.into())
            ),
        ),
        (
            "silence of a stream",
            format!(
                "`Limits.streamIdleForMs`, default {}",
                seconds(limits::STREAM_IDLE_FOR_MS.into())
            ),
        ),
    ];
    let rows = rows(SPECIFICATION, "| what | limit | whose |");
    let found: Vec<(&str, String)> = rows.iter().map(|row| (row[0], row[1].to_owned())).collect();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    for row in &rows {
        let whose = if row[1].contains("Limits.") { "server" } else { "protocol" };
        assert_eq!(row[2], whose, "{row:?}");
    }

    // No constant without a row: one for each, but for the framing's own length.
    let constants = include_str!("../src/limits.rs").matches("pub const ").count();
    assert_eq!(constants, expected.len() + 1, "a limit that chapter 10 doesn't know");
    let defaults = Limits::default();
    assert_eq!(defaults.envelope_bytes as usize, limits::ENVELOPE_BYTES);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Whether a test such as `protocol framing::tests::the_limit_counts_the_framing` is in the sources:
/// crate, then the path by which `cargo test` names it, that of an integration test with its file's
/// name in front. For Python: folder, then `file.py::function`.
fn exists(test: &str) -> bool {
    let (krate, path) = test.split_once(' ').unwrap_or_else(|| panic!("{test:?} has no crate"));
    let (modules, function) = path.rsplit_once("::").unwrap_or(("", path));
    let folder = root().join(krate);
    if modules.ends_with(".py") {
        let text = fs::read_to_string(folder.join(modules)).unwrap_or_default();
        return text.contains(&format!("def {function}("));
    }
    let mut parts: Vec<&str> = modules.split("::").filter(|it| !it.is_empty()).collect();
    // The path's modules are folders and files down to some depth, and within the file from there.
    let mut candidates = vec![folder.join("src/lib.rs"), folder.join("src/main.rs")];
    loop {
        let path = parts.join("/");
        for base in ["src", "tests"] {
            candidates.push(folder.join(base).join(format!("{path}.rs")));
            candidates.push(folder.join(base).join(&path).join("mod.rs"));
            candidates.push(folder.join(base).join(&path).join("main.rs"));
        }
        if parts.pop().is_none() {
            break;
        }
    }
    candidates
        .iter()
        .any(|file| fs::read_to_string(file).is_ok_and(|text| is_test(&text, function)))
}

/// Whether the text has a function of this name under a test's attribute, or in `proptest!`.
fn is_test(text: &str, function: &str) -> bool {
    let signature = format!("fn {function}(");
    text.match_indices(&signature).any(|(at, _)| {
        let above = text[..at].rsplit_once('\n').map_or("", |(above, _)| above);
        let attributes = above.lines().rev().map(str::trim_start);
        attributes
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|line| line.starts_with("#[") && line.contains("test"))
    })
}

#[test]
fn tests_are_found_where_they_are_and_nowhere_else() {
    for test in [
        "protocol framing::tests::the_limit_counts_the_framing",
        "protocol codec::tests::texts_are_bounded",
        "protocol fuzzing::tests::decode",
        "protocol vectors::layouts_are_taken",
        "protocol conformance::references_lead_somewhere",
        "protocol receipts::tests::spans_stay_ascending_disjoint_and_complete",
    ] {
        assert!(exists(test), "{test}");
    }
    for no_test in [
        "protocol framing::tests::there_is_no_such_test",
        "protocol session::tests::the_limit_counts_the_framing",
        "protocol framing::tests::framed",
        "nowhere framing::tests::the_limit_counts_the_framing",
    ] {
        assert!(!exists(no_test), "{no_test}");
    }
}
