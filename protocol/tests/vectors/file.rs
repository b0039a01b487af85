//! Reading, writing and comparing the files.

use std::{fs, path::PathBuf};

use serde_json::Value;

/// Set this to write the files instead of comparing them.
const BLESS: &str = "TERN_BLESS";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name)
}

pub(crate) fn read(name: &str) -> Value {
    let text = fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares a file with what it should hold, or writes it when told to.
pub(crate) fn check(name: &str, content: &str) {
    if std::env::var_os(BLESS).is_some() {
        fs::write(path(name), content).unwrap_or_else(|error| panic!("{name}: {error}"));
        return;
    }
    let found = fs::read_to_string(path(name)).unwrap_or_default();
    // Not `assert_eq`, which would print both in full.
    assert!(found == content, "vectors/{name} isn't current: run vectors/regenerate");
}

/// JSON of which one vector takes a few lines: short values stand on one line, and the name of a
/// thing comes first. The order of other keys is alphabetical, whatever `serde_json` was built with.
pub(crate) fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out.push('\n');
    out
}

const LINE: usize = 96;

fn write(value: &Value, indent: usize, out: &mut String) {
    let mut line = String::new();
    flat(value, &mut line);
    if line.len() + indent <= LINE {
        out.push_str(&line);
        return;
    }
    let inner = indent + 2;
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(index, inner, out);
                write(item, inner, out);
            }
            close(indent, ']', out);
        }
        Value::Object(_) => {
            out.push('{');
            for (index, (key, item)) in entries(value).into_iter().enumerate() {
                separate(index, inner, out);
                out.push_str(&format!("{}: ", Value::from(key)));
                write(item, inner, out);
            }
            close(indent, '}', out);
        }
        _ => out.push_str(&line),
    }
}

fn flat(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                flat(item, out);
            }
            out.push(']');
        }
        Value::Object(_) => {
            out.push('{');
            for (index, (key, item)) in entries(value).into_iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&format!("{}: ", Value::from(key)));
                flat(item, out);
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
}

fn entries(value: &Value) -> Vec<(&str, &Value)> {
    let mut entries: Vec<(&str, &Value)> =
        value.as_object().into_iter().flatten().map(|(key, item)| (key.as_str(), item)).collect();
    entries.sort_by_key(|(key, _)| (*key != "about", *key != "name", *key));
    entries
}

fn separate(index: usize, indent: usize, out: &mut String) {
    out.push_str(if index > 0 { ",\n" } else { "\n" });
    out.extend(std::iter::repeat_n(' ', indent));
}

fn close(indent: usize, end: char, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indent));
    out.push(end);
}
