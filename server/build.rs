//! Generates the Rust code of the schema between nodes from the committed code-generator request, so that
//! a build needs no `capnp` tool. `schema/regenerate` makes the request anew after an edit.

use std::{env, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=schema/peer.request");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    capnpc::codegen::CodeGenerationCommand::new()
        .output_directory(out_dir)
        .run(std::fs::File::open("schema/peer.request")?)?;
    Ok(())
}
