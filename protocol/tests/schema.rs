//! The committed code-generator request is that of the schema.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests may panic, and say when they check nothing"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The Rust code that a request leads to. Versions of the `capnp` tool write different bytes for one
/// schema, and comments are in the request too; what the crate is built from is what has to agree.
fn generated(request: &[u8], folder: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
    fs::create_dir_all(&folder).unwrap();
    capnpc::codegen::CodeGenerationCommand::new().output_directory(&folder).run(request).unwrap();
    fs::read_to_string(folder.join("tern_capnp.rs")).unwrap()
}

#[test]
fn the_committed_request_is_that_of_the_schema() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = fs::read(here.join("schema/tern.request")).unwrap();
    let tool = Command::new("capnp")
        .args(["compile", "-o-", "--src-prefix=schema", "schema/tern.capnp"])
        .current_dir(here)
        .output();
    let output = match tool {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: the schema isn't compared, since `capnp` can't be run: {error}");
            return;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the schema doesn't compile: {errors}");
    assert!(
        generated(&committed, "committed") == generated(&output.stdout, "compiled"),
        "schema/tern.capnp was edited: run schema/regenerate"
    );
}

/// A stranger reads the schema first, so it must not say less than the specification.
#[test]
fn every_struct_and_kind_of_frame_is_in_the_schema_once() {
    let schema = include_str!("../schema/tern.capnp");
    let specification = include_str!("../SPEC.md");
    let frame = schema.split("struct Frame {").nth(1).unwrap().split("\n}").next().unwrap();
    let kinds: Vec<&str> = frame
        .lines()
        .filter(|line| line.contains(" :"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(kinds.len(), 21);
    for kind in kinds {
        assert!(specification.contains(&format!("`{kind}`")), "SPEC.md doesn't speak of {kind}");
    }
}
