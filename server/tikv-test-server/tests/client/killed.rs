//! The binary, killed at any moment.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tikv_client::TransactionClient;

use crate::common::*;

/// The process; killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the binary, and returns PD's address once it serves.
fn start(folder: &Path, listen: &str) -> (Process, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tikv-test-server"))
        .args(["--listen", listen, "--data"])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("pd on ").expect("it says where it listens").to_owned();
    (Process(child), address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, address) = start(folder.path(), "127.0.0.1:0");
    let client = Arc::new(patiently(TransactionClient::new(vec![address.clone()])).await.unwrap());
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    let ended = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (client, answered, ended) = (client.clone(), answered.clone(), ended.clone());
            tokio::spawn(async move {
                let mut n = 0;
                while !ended.load(Ordering::SeqCst) {
                    n += 1;
                    let key = format!("{writer}/{n:06}");
                    let Ok(Ok(mut transaction)) =
                        tokio::time::timeout(PATIENCE, client.begin_with_options(one_phase()))
                            .await
                    else {
                        continue;
                    };
                    let _ = patiently(transaction.put(key.clone(), key.clone())).await;
                    if patiently(transaction.commit()).await.is_ok() {
                        answered.lock().unwrap().insert(key);
                    }
                }
            })
        })
        .collect();
    for round in 1..=4 {
        // Each time in the middle of writing, which has got further than before.
        patiently(async {
            while answered.lock().unwrap().len() < round * 100 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        drop(process);
        let again;
        (process, again) = start(folder.path(), &address);
        assert_eq!(again, address);
    }
    ended.store(true, Ordering::SeqCst);
    for writer in writers {
        patiently(writer).await.unwrap();
    }
    let mut transaction = begin(&client, two_phases()).await;
    let answered = answered.lock().unwrap().clone();
    for key in answered {
        assert!(patiently(transaction.get(key.clone())).await.unwrap().is_some(), "{key} is lost");
    }
    drop(process);
}

#[test]
fn help_teaches() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tikv-test-server")).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["--listen", "--data", "--chaos", "--seed", "--ca", "pd on IP:PORT", "Examples:"] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    let wrong = Command::new(env!("CARGO_BIN_EXE_tikv-test-server"))
        .args(["--chaos", "2"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}
