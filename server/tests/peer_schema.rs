//! The committed code-generator request of the schema between nodes is that of the schema.
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

/// The Rust code that a request leads to; the bytes of requests differ between versions of the tool.
fn generated(request: &[u8], folder: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
    fs::create_dir_all(&folder).unwrap();
    capnpc::codegen::CodeGenerationCommand::new().output_directory(&folder).run(request).unwrap();
    fs::read_to_string(folder.join("peer_capnp.rs")).unwrap()
}

#[test]
fn the_committed_request_is_that_of_the_schema() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = fs::read(here.join("schema/peer.request")).unwrap();
    let tool = Command::new("capnp")
        .args(["compile", "-o-", "--src-prefix=schema", "schema/peer.capnp"])
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
        generated(&committed, "peer-committed") == generated(&output.stdout, "peer-compiled"),
        "schema/peer.capnp was edited: run schema/regenerate"
    );
}
