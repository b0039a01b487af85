//! Where the programs of the other crates are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The server and the command.
pub(crate) struct Binaries {
    pub(crate) server: PathBuf,
    pub(crate) tern: PathBuf,
    /// Holds links to the programs as they are now: a build that goes on beside the tests may put others
    /// in their place. It goes with the process.
    _links: tempfile::TempDir,
}

/// Builds the programs once in this process, and says where they are. `TERN_BIN_DIR` names a folder with
/// programs that are to be tested instead.
///
/// Cargo gives a test the path of its own crate's programs alone. Asking it to build the others costs next
/// to nothing when they are there, and is right in a fresh clone and after any change.
pub(crate) fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let folder = match env::var_os("TERN_BIN_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => build(),
        };
        let links = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let link = |name: &str| {
            let name = format!("{name}{}", env::consts::EXE_SUFFIX);
            let (from, to) = (folder.join(&name), links.path().join(&name));
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(drop))
                .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            to
        };
        Binaries { server: link("tern-server"), tern: link("tern"), _links: links }
    })
}

/// Runs cargo for the profile that this test was built with; answers the folder of the programs.
fn build() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_tern-netsim-device")).parent().unwrap();
    let profile = match beside.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    cargo
        .args(["build", "--quiet", "--workspace", "--bin", "tern-server", "--bin", "tern"])
        // With a test among what is built, the features are those of `cargo test --workspace`, so that
        // nothing is built a second time.
        .args(["--test", "commands", "--profile", profile, "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{cargo:?}: {said}");
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        if message["target"]["name"] == "tern-server"
            && let Some(executable) = message["executable"].as_str()
        {
            return Path::new(executable).parent().unwrap().to_owned();
        }
    }
    panic!("cargo didn't say where tern-server is");
}
