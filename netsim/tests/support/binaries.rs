//! Where the programs of the other crates are.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

/// How long the programs of an earlier run are kept. It may still be going on.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The server and the command.
pub(crate) struct Binaries {
    pub(crate) server: PathBuf,
    pub(crate) tern: PathBuf,
}

/// Builds the programs once in this run of the tests, and says where they are. `TERN_BIN_DIR` names a folder
/// with programs that are to be tested instead.
///
/// Cargo gives a test the path of its own crate's programs alone. Asking it to build the others costs next
/// to nothing when they are there, and is right in a fresh clone and after any change. The run goes on
/// with links to them: a build that goes on beside the tests may put others in their place. The links have
/// names of their own, so that whoever ends servers by name doesn't end these.
pub(crate) fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| {
        // Under nextest, each test has a process of its own, and they share a run.
        let run = env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| std::process::id().to_string());
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        fs::create_dir_all(&all).unwrap();
        let lock = File::create(all.join("lock")).unwrap();
        lock.lock().unwrap();
        let folder = all.join(run);
        let links =
            Binaries { server: program(&folder, "server"), tern: program(&folder, "command") };
        if !(links.server.exists() && links.tern.exists()) {
            forget_earlier_runs(&all);
            let built = env::var_os("TERN_BIN_DIR").map_or_else(build, PathBuf::from);
            fs::create_dir_all(&folder).unwrap();
            for (name, to) in [("tern-server", &links.server), ("tern", &links.tern)] {
                let from = program(&built, name);
                let _ = fs::remove_file(to);
                fs::hard_link(&from, to)
                    .or_else(|_| fs::copy(&from, to).map(drop))
                    .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            }
        }
        links
    })
}

fn program(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

fn forget_earlier_runs(all: &Path) {
    for run in fs::read_dir(all).unwrap().map_while(Result::ok) {
        let age = run.metadata().and_then(|metadata| metadata.modified());
        let age = age.ok().and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) {
            // What can't be removed is in the way of nobody.
            let _ = fs::remove_dir_all(run.path());
        }
    }
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
