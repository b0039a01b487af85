//! The vectors under the eyes of another implementation: the `capnp` tool, where it is installed.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;
use tern_protocol::{codec, framing::Deframer, limits};

use crate::{bytes, file, list, meaning, text};

/// What `capnp convert` makes of the input, or `None` where there is no such tool.
#[allow(clippy::print_stderr, reason = "a test that checks nothing says so")]
fn convert(formats: &str, input: Vec<u8>) -> Option<Vec<u8>> {
    let tool = Command::new("capnp")
        .args(["convert", formats, "schema/tern.capnp", "Frame"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut tool = match tool {
        Ok(tool) => tool,
        Err(error) => {
            eprintln!("SKIPPED: no second opinion, since `capnp` can't be run: {error}");
            return None;
        }
    };
    let mut stdin = tool.stdin.take().unwrap();
    // Fed from beside, so that neither pipe can fill up and stop both.
    let feeder = thread::spawn(move || stdin.write_all(&input));
    let output = tool.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "`capnp convert {formats}` failed");
    Some(output.stdout)
}

/// Whether the tool's JSON says what ours says: it has `Data` as a list of numbers and leaves out
/// pointers that are null.
fn agree(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            theirs.keys().all(|key| ours.contains_key(key))
                && ours.iter().all(|(key, ours)| match theirs.get(key) {
                    Some(theirs) => agree(ours, theirs),
                    None => ours == "" || ours == &Value::Array(Vec::new()),
                })
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| agree(a, b))
        }
        (Value::String(hex), Value::Array(bytes)) => {
            let bytes: Vec<u8> = bytes.iter().map(|it| it.as_u64().unwrap() as u8).collect();
            *hex == meaning::hex(&bytes)
        }
        (ours, theirs) => ours == theirs,
    }
}

#[test]
fn another_implementation_reads_the_same_and_is_read() {
    let mut vectors = Vec::new();
    for name in ["frames.json", "layouts.json"] {
        vectors.extend(list(&file::read(name), "vectors").to_vec());
    }
    // Without those that mean something beyond the schema, and the ones that go on in zeros.
    vectors.retain(|it| {
        !it["meaning"].is_null() && !it["meaning"].to_string().contains("\"unknown\":")
    });
    assert!(vectors.len() > 80);
    let stream = vectors.iter().flat_map(|it| bytes(it, "bytes")).collect();
    let Some(json) = convert("binary:json", stream) else { return };
    let read: Vec<Value> =
        serde_json::Deserializer::from_slice(&json).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(read.len(), vectors.len());
    for (vector, theirs) in vectors.iter().zip(&read) {
        let ours = &vector["meaning"];
        assert!(agree(ours, theirs), "{}: {ours} isn't {theirs}", text(vector, "name"));
    }

    // Its own encoding of the same, which differs from ours here and there.
    let Some(theirs) = convert("json:binary", json) else { return };
    let mut deframer = Deframer::new(limits::FRAME_BYTES);
    deframer.push(&theirs);
    let (mut frames, mut different) = (0, 0);
    while let Some(frame) = deframer.next_frame().unwrap() {
        let vector = &vectors[frames];
        different += usize::from(frame[..] != bytes(vector, "bytes"));
        let frame = codec::decode(frame).unwrap();
        assert_eq!(meaning::of(&frame), vector["meaning"], "{}", text(vector, "name"));
        frames += 1;
    }
    assert_eq!(frames, vectors.len());
    assert!(different > 0, "it would be no second opinion");
}
