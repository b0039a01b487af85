//! Percolator's rules, and those of async commit, one phase and pessimistic locks.

use super::*;

fn is_conflict(errors: &[KeyError], expected: ConflictReason) -> bool {
    matches!(errors, [KeyError::WriteConflict { reason, .. }] if *reason == expected)
}

fn ask(primary: &str, lock: u64) -> CheckStatus {
    CheckStatus {
        primary: key(primary),
        lock_ts: ts(lock),
        caller_start_ts: ts(0),
        current_ts: ts(0),
        verify_is_primary: true,
        ..CheckStatus::default()
    }
}

fn ms(ms: u64) -> u64 {
    Timestamp::new(ms, 0).0
}

#[test]
fn a_read_sees_what_was_committed_before_it() {
    let mut sut = Sut::default();
    sut.write(10, 11, &[("k", "one")]);
    sut.write(20, 21, &[("k", "two")]);
    let seen: Vec<_> =
        [10, 11, 20, 21, 30].map(|read| sut.value("k", read)).into_iter().flatten().collect();
    assert_eq!(seen, ["one", "one", "two", "two"]);
    assert_eq!(sut.value("k", u64::MAX).as_deref(), Some("two"));
}

#[test]
fn a_lock_blocks_reads_from_its_start_on() {
    let mut sut = Sut::default();
    sut.write(10, 11, &[("k", "old")]);
    sut.prewrite(&puts(20, &[("p", "new"), ("k", "new")])).unwrap();
    assert_eq!(sut.value("k", 19).as_deref(), Some("old"));
    assert!(matches!(sut.get("k", 20), Err(KeyError::Locked(_))));
    assert!(matches!(sut.get("k", u64::MAX), Err(KeyError::Locked(_))));
    // The newest of the primary itself is what was there before.
    assert_eq!(sut.value("p", u64::MAX), None);
    let resolved = ReadOptions { resolved: vec![ts(20)], ..ReadOptions::default() };
    assert_eq!(sut.0.get(&key("k"), ts(30), &resolved).unwrap().unwrap(), "old");
    let committed = ReadOptions { committed: vec![ts(20)], ..ReadOptions::default() };
    assert_eq!(sut.0.get(&key("k"), ts(30), &committed).unwrap().unwrap(), "new");
    let any = ReadOptions { read_committed: true, ..ReadOptions::default() };
    assert_eq!(sut.0.get(&key("k"), ts(30), &any).unwrap().unwrap(), "old");
}

#[test]
fn deletes_and_locks_leave_records_that_read_right() {
    let mut sut = Sut::default();
    sut.write(10, 11, &[("k", "v")]);
    for (start, kind) in [(20, MutationKind::Lock), (30, MutationKind::Delete)] {
        let mutations = vec![mutation(kind, "k", "")];
        sut.prewrite(&Prewrite { mutations, ..puts(start, &[("k", "")]) }).unwrap();
        if kind == MutationKind::Lock {
            assert_eq!(sut.value("k", 40).as_deref(), Some("v"), "a mere lock blocks no read");
        }
        sut.commit(&["k"], start, start + 1).unwrap();
    }
    assert_eq!(sut.value("k", 25).as_deref(), Some("v"));
    assert_eq!(sut.value("k", 31), None);
    sut.rollback(&["k"], 40).unwrap();
    assert_eq!(sut.value("k", 30).as_deref(), Some("v"));
}

#[test]
fn any_newer_record_conflicts() {
    let mut sut = Sut::default();
    sut.write(10, 20, &[("put", "v")]);
    sut.prewrite(&Prewrite {
        mutations: vec![mutation(MutationKind::Lock, "lock", "")],
        ..puts(10, &[("lock", "")])
    })
    .unwrap();
    sut.commit(&["lock"], 10, 20).unwrap();
    sut.rollback(&["rollback"], 20).unwrap();
    for at in ["put", "lock", "rollback"] {
        let errors = sut.prewrite(&puts(15, &[(at, "mine")])).unwrap_err();
        assert!(is_conflict(&errors, ConflictReason::Optimistic), "{at}: {errors:?}");
    }
    // What was committed at the very start is no conflict.
    sut.prewrite(&puts(20, &[("put", "mine")])).unwrap();
}

#[test]
fn prewrite_and_commit_once_more_are_as_once() {
    let mut sut = Sut::default();
    for _ in 0..2 {
        sut.prewrite(&puts(10, &[("k", "v")])).unwrap();
    }
    for _ in 0..2 {
        sut.commit(&["k"], 10, 11).unwrap();
    }
    // Also long after: the client whose replies were lost learns that it is done, and nothing is locked again.
    sut.write(20, 21, &[("k", "newer")]);
    sut.prewrite(&puts(10, &[("k", "v")])).unwrap();
    sut.commit(&["k"], 10, 11).unwrap();
    assert_eq!(sut.value("k", 30).as_deref(), Some("newer"));
    assert_eq!(sut.0.columns().lock_count(), 0);
}

#[test]
fn a_prewrite_after_the_rollback_is_refused() {
    let mut sut = Sut::default();
    sut.rollback(&["k"], 10).unwrap();
    let errors = sut.prewrite(&puts(10, &[("k", "late")])).unwrap_err();
    assert!(is_conflict(&errors, ConflictReason::SelfRolledBack), "{errors:?}");
    assert!(matches!(sut.commit(&["k"], 10, 11), Err(KeyError::LockNotFound { .. })));
    // Also in one phase, and when a commit has the rollback's place.
    let errors =
        sut.prewrite(&Prewrite { one_phase: true, ..puts(10, &[("k", "late")]) }).unwrap_err();
    assert!(is_conflict(&errors, ConflictReason::SelfRolledBack), "{errors:?}");
    sut.write(5, 6, &[("other", "v")]);
    sut.prewrite(&puts(7, &[("o", "v")])).unwrap();
    sut.rollback(&["o"], 10).unwrap();
    sut.commit(&["o"], 7, 10).unwrap();
    let errors = sut.prewrite(&puts(10, &[("o", "late")])).unwrap_err();
    assert!(is_conflict(&errors, ConflictReason::SelfRolledBack), "{errors:?}");
    assert_eq!(sut.value("o", 10).as_deref(), Some("v"));
}

#[test]
fn a_rollback_in_a_commits_place_keeps_both() {
    let mut sut = Sut::default();
    sut.write(7, 10, &[("k", "v")]);
    sut.rollback(&["k"], 10).unwrap();
    assert_eq!(sut.value("k", 10).as_deref(), Some("v"));
    assert!(sut.prewrite(&puts(10, &[("k", "late")])).is_err());
    assert_eq!(sut.rollback(&["k"], 7), Err(KeyError::Committed(ts(10))));
}

#[test]
fn what_is_committed_is_not_rolled_back_and_the_other_way_round() {
    let mut sut = Sut::default();
    sut.write(10, 11, &[("k", "v")]);
    assert_eq!(sut.rollback(&["k"], 10), Err(KeyError::Committed(ts(11))));
    sut.prewrite(&puts(20, &[("k", "w")])).unwrap();
    sut.rollback(&["k"], 20).unwrap();
    sut.rollback(&["k"], 20).unwrap();
    assert!(matches!(sut.commit(&["k"], 20, 21), Err(KeyError::LockNotFound { .. })));
    assert_eq!(sut.value("k", 30).as_deref(), Some("v"));
    assert!(matches!(sut.commit(&["k"], 30, 30), Err(KeyError::InvalidTimestamp { .. })));
}

#[test]
fn a_command_that_fails_at_one_key_changes_none() {
    let mut sut = Sut::default();
    sut.prewrite(&puts(10, &[("b", "v")])).unwrap();
    let before = sut.0.columns().clone();
    let errors = sut.prewrite(&puts(20, &[("a", "w"), ("b", "w"), ("c", "w")])).unwrap_err();
    assert!(matches!(&errors[..], [KeyError::Locked(at)] if at.key == "b"));
    assert!(sut.commit(&["b", "c"], 10, 11).is_err());
    assert_eq!(*sut.0.columns(), before);
}

#[test]
fn inserts_and_checks_look_below_records_that_change_nothing() {
    let mut sut = Sut::default();
    sut.write(10, 11, &[("k", "v")]);
    sut.rollback(&["k"], 20).unwrap();
    for kind in [MutationKind::Insert, MutationKind::CheckNotExists] {
        for (at, exists) in [("k", true), ("free", false)] {
            let mutations = vec![mutation(kind, at, "w")];
            let done = sut.prewrite(&Prewrite { mutations, ..puts(30, &[(at, "")]) });
            assert_eq!(
                done == Err(vec![KeyError::AlreadyExists(key(at))]),
                exists,
                "{kind:?} at {at}: {done:?}"
            );
            sut.rollback(&[at], 30).unwrap();
            sut = Sut::default();
            sut.write(10, 11, &[("k", "v")]);
        }
    }
    let mutations = vec![mutation(MutationKind::CheckNotExists, "free", "")];
    sut.prewrite(&Prewrite { mutations, ..puts(40, &[("free", "")]) }).unwrap();
    assert_eq!(sut.0.columns().lock_count(), 0);
}

#[test]
fn one_phase_commits_above_every_read() {
    let mut sut = Sut::default();
    assert_eq!(sut.value("k", 50), None);
    let one_phase = Prewrite { one_phase: true, ..puts(10, &[("k", "v"), ("l", "v")]) };
    let done = sut.prewrite(&one_phase).unwrap();
    assert_eq!(done.one_phase_commit_ts, ts(51));
    assert_eq!((sut.value("k", 50), sut.value("k", 51).as_deref()), (None, Some("v")));
    assert_eq!(sut.0.columns().lock_count(), 0);
    // Again: the same commit.
    assert_eq!(sut.prewrite(&one_phase).unwrap(), done);
}

#[test]
fn one_phase_and_async_commit_give_way_to_the_limit_of_their_commit() {
    let mut sut = Sut::default();
    sut.value("k", 50).ok_or(()).unwrap_err();
    let late = Prewrite {
        max_commit_ts: ts(40),
        one_phase: true,
        use_async_commit: true,
        ..puts(10, &[("k", "v")])
    };
    assert_eq!(sut.prewrite(&late).unwrap(), Prewritten::default());
    assert!(!sut.0.columns().lock(b"k").unwrap().use_async_commit);
}

#[test]
fn an_async_commit_blocks_only_reads_that_it_may_come_before() {
    let mut sut = Sut::default();
    sut.value("a", 50);
    let prewrite = Prewrite {
        use_async_commit: true,
        secondaries: vec![key("b")],
        ..puts(10, &[("a", "v"), ("b", "v")])
    };
    assert_eq!(sut.prewrite(&prewrite).unwrap().min_commit_ts, ts(51));
    assert_eq!(sut.value("a", 50), None);
    assert!(sut.get("a", 51).is_err());
    // It says where its other keys are, and can't be rolled back by its primary alone.
    let TransactionStatus::Locked { lock, .. } =
        sut.status(&CheckStatus { current_ts: Timestamp::MAX, ..ask("a", 10) }).unwrap()
    else {
        panic!("it was ended")
    };
    assert_eq!(lock.secondaries, [key("b")]);
    assert!(
        matches!(sut.secondaries(&["b"], 10), Secondaries::Locked(locks) if locks[0].lock.min_commit_ts == ts(51))
    );
    assert!(matches!(sut.commit(&["a"], 10, 50), Err(KeyError::CommitTsExpired { .. })));
    sut.resolve(10, 51).unwrap();
    assert_eq!(sut.secondaries(&["b"], 10), Secondaries::Committed(ts(51)));
    assert_eq!(sut.value("b", 51).as_deref(), Some("v"));
}

#[test]
fn a_missing_secondary_ends_an_async_commit_for_good() {
    let mut sut = Sut::default();
    let primary =
        Prewrite { use_async_commit: true, secondaries: vec![key("b")], ..puts(10, &[("a", "v")]) };
    sut.prewrite(&primary).unwrap();
    assert_eq!(sut.secondaries(&["b"], 10), Secondaries::RolledBack);
    assert!(
        sut.prewrite(&Prewrite {
            primary: key("a"),
            use_async_commit: true,
            ..puts(10, &[("b", "v")])
        })
        .is_err()
    );
    sut.resolve(10, 0).unwrap();
    assert_eq!(sut.value("a", 100), None);
}

#[test]
fn locks_expire_by_the_physical_time() {
    let mut sut = Sut::default();
    let start = ms(1_000);
    sut.prewrite(&puts(start, &[("p", "v"), ("s", "v")])).unwrap();
    let at = |now| CheckStatus { current_ts: ts(ms(now)), ..ask("p", start) };
    assert!(matches!(sut.status(&at(2_000)).unwrap(), TransactionStatus::Locked { .. }));
    let (ttl, changes) = sut.0.heart_beat(&key("p"), ts(start), 3_000).unwrap();
    sut.0.apply(&changes);
    assert_eq!(ttl, 3_000);
    assert!(matches!(sut.status(&at(4_000)).unwrap(), TransactionStatus::Locked { .. }));
    assert_eq!(sut.status(&at(4_001)).unwrap(), TransactionStatus::ExpiredRolledBack);
    assert_eq!(sut.status(&at(4_001)).unwrap(), TransactionStatus::RolledBack);
    assert!(matches!(sut.commit(&["p"], start, start + 1), Err(KeyError::LockNotFound { .. })));
    sut.resolve(start, 0).unwrap();
    assert_eq!(sut.value("s", ms(9_000)), None);
    assert!(sut.0.heart_beat(&key("p"), ts(start), 9_000).is_err());
}

#[test]
fn an_unknown_transaction_is_rolled_back_only_when_asked() {
    let mut sut = Sut::default();
    assert!(matches!(sut.status(&ask("p", 10)), Err(KeyError::TransactionNotFound { .. })));
    let resolving =
        CheckStatus { rollback_if_missing: true, resolving_pessimistic_lock: true, ..ask("p", 10) };
    assert_eq!(sut.status(&resolving).unwrap(), TransactionStatus::MissingLeft);
    let rolling = CheckStatus { rollback_if_missing: true, ..ask("p", 10) };
    assert_eq!(sut.status(&rolling).unwrap(), TransactionStatus::MissingRolledBack);
    assert!(sut.prewrite(&puts(10, &[("p", "late")])).is_err());
}

#[test]
fn a_lock_elsewhere_is_no_primary_and_a_commit_is_told() {
    let mut sut = Sut::default();
    sut.prewrite(&puts(10, &[("p", "v"), ("s", "v")])).unwrap();
    assert!(matches!(sut.status(&ask("s", 10)), Err(KeyError::PrimaryMismatch(_))));
    sut.commit(&["p"], 10, 15).unwrap();
    assert_eq!(sut.status(&ask("p", 10)).unwrap(), TransactionStatus::Committed(ts(15)));
    sut.resolve(10, 15).unwrap();
    assert_eq!(sut.value("s", 15).as_deref(), Some("v"));
}

#[test]
fn who_asks_pushes_a_commit_that_lets_itself_be_pushed() {
    let mut sut = Sut::default();
    sut.prewrite(&Prewrite { min_commit_ts: ts(11), ..puts(10, &[("p", "v")]) }).unwrap();
    let reader = CheckStatus { caller_start_ts: ts(30), current_ts: ts(40), ..ask("p", 10) };
    assert!(matches!(sut.status(&reader).unwrap(), TransactionStatus::Locked { pushed: true, .. }));
    assert_eq!(sut.value("p", 30), None);
    assert!(matches!(sut.commit(&["p"], 10, 30), Err(KeyError::CommitTsExpired { .. })));
    sut.commit(&["p"], 10, 41).unwrap();
}

#[test]
fn cleanup_respects_the_time_unless_there_is_none() {
    let mut sut = Sut::default();
    let start = ms(1_000);
    sut.prewrite(&puts(start, &[("p", "v")])).unwrap();
    assert!(matches!(sut.0.cleanup(&key("p"), ts(start), ts(ms(1_500))), Err(KeyError::Locked(_))));
    assert!(sut.0.cleanup(&key("p"), ts(start), ts(ms(2_001))).is_ok());
    let changes = sut.0.cleanup(&key("p"), ts(start), ts(0)).unwrap();
    sut.0.apply(&changes);
    assert_eq!(sut.0.columns().lock_count(), 0);
}

fn wish(start: u64, for_update: u64, keys: &[&str]) -> LockKeys {
    LockKeys {
        keys: keys.iter().map(|k| (key(k), false)).collect(),
        primary: key(keys[0]),
        start_ts: ts(start),
        ttl_ms: 1_000,
        for_update_ts: ts(for_update),
        ..LockKeys::default()
    }
}

fn pessimistic(start: u64, for_update: u64, pairs: &[(&str, &str)]) -> Prewrite {
    let mut prewrite = Prewrite { for_update_ts: ts(for_update), ..puts(start, pairs) };
    prewrite.mutations.iter_mut().for_each(|m| m.check = PessimisticCheck::Locked);
    prewrite
}

#[test]
fn pessimistic_locks_hold_their_keys_and_block_no_reads() {
    let mut sut = Sut::default();
    sut.write(5, 6, &[("k", "old")]);
    assert_eq!(sut.lock(&wish(10, 10, &["k"])).unwrap(), [Some(key("old"))]);
    assert_eq!(sut.value("k", 50).as_deref(), Some("old"));
    assert!(matches!(
        &sut.prewrite(&puts(20, &[("k", "other")])).unwrap_err()[..],
        [KeyError::Locked(_)]
    ));
    assert!(matches!(sut.lock(&wish(20, 20, &["k"])), Err(KeyError::Locked(_))));
    sut.prewrite(&pessimistic(10, 10, &[("k", "new")])).unwrap();
    assert!(matches!(sut.lock(&wish(10, 10, &["k"])), Err(KeyError::LockTypeMismatch { .. })));
    sut.commit(&["k"], 10, 51).unwrap();
    assert_eq!(sut.value("k", 51).as_deref(), Some("new"));
}

#[test]
fn a_pessimistic_lock_looks_until_its_own_timestamp() {
    let mut sut = Sut::default();
    sut.write(15, 20, &[("k", "v")]);
    let error = sut.lock(&wish(10, 19, &["k"])).unwrap_err();
    assert!(matches!(
        error,
        KeyError::WriteConflict { reason: ConflictReason::PessimisticRetry, .. }
    ));
    sut.lock(&wish(10, 20, &["k"])).unwrap();
    sut.prewrite(&pessimistic(10, 20, &[("k", "mine")])).unwrap();
    let must_be_absent = LockKeys { keys: vec![(key("taken"), true)], ..wish(30, 30, &["taken"]) };
    sut.write(25, 26, &[("taken", "v")]);
    assert_eq!(sut.lock(&must_be_absent), Err(KeyError::AlreadyExists(key("taken"))));
}

#[test]
fn a_prewrite_without_its_pessimistic_lock_is_refused_once_somebody_was_there() {
    let mut sut = Sut::default();
    // Nobody was: as if it were still there.
    sut.prewrite(&pessimistic(10, 10, &[("free", "v")])).unwrap();
    sut.write(15, 16, &[("k", "v")]);
    let errors = sut.prewrite(&pessimistic(10, 10, &[("k", "mine")])).unwrap_err();
    assert!(matches!(&errors[..], [KeyError::PessimisticLockNotFound { .. }]), "{errors:?}");
    sut.prewrite(&puts(30, &[("l", "v")])).unwrap();
    let errors = sut.prewrite(&pessimistic(20, 20, &[("l", "mine")])).unwrap_err();
    assert!(matches!(&errors[..], [KeyError::PessimisticLockNotFound { .. }]), "{errors:?}");
}

#[test]
fn pessimistic_locks_are_given_back_and_end_with_their_transaction() {
    let mut sut = Sut::default();
    sut.lock(&wish(10, 20, &["k"])).unwrap();
    assert_eq!(sut.0.unlock_keys(&[key("k")], ts(10), ts(19)), [], "it was taken again later");
    assert_eq!(sut.0.unlock_keys(&[key("k")], ts(11), ts(30)), [], "it is another's");
    let changes = sut.0.unlock_keys(&[key("k")], ts(10), ts(20));
    sut.0.apply(&changes);
    sut.lock(&wish(12, 30, &["k"])).unwrap();
    let expired = CheckStatus {
        current_ts: Timestamp::MAX,
        resolving_pessimistic_lock: true,
        ..ask("k", 12)
    };
    assert_eq!(sut.status(&expired).unwrap(), TransactionStatus::ExpiredPessimisticDropped);
    sut.lock(&wish(12, 30, &["k"])).unwrap();
    sut.rollback(&["k"], 12).unwrap();
    assert!(matches!(
        sut.lock(&wish(12, 30, &["k"])),
        Err(KeyError::PessimisticLockRolledBack { .. })
    ));
}

#[test]
fn scans_are_ordered_bounded_and_go_past_locks() {
    let mut sut = Sut::default();
    sut.write(10, 11, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    sut.prewrite(&puts(20, &[("bb", "new"), ("c", "new")])).unwrap();
    let mut scan = |from: &str, to: &str, limit, reverse| -> Vec<String> {
        let scan = ScanOptions { from: key(from), to: key(to), limit, reverse, key_only: false };
        let found = sut.0.scan(ts(30), &scan, &ReadOptions::default()).into_iter();
        found
            .map(|entry| match entry {
                Ok((key, _)) => String::from_utf8(key.to_vec()).unwrap(),
                Err(KeyError::Locked(at)) => {
                    format!("{}!", String::from_utf8(at.key.to_vec()).unwrap())
                }
                Err(error) => panic!("{error:?}"),
            })
            .collect()
    };
    assert_eq!(scan("", "", 9, false), ["a", "b", "bb!", "c!", "d"]);
    assert_eq!(scan("", "", 9, true), ["d", "c!", "bb!", "b", "a"]);
    assert_eq!(scan("b", "c", 9, false), ["b", "bb!"]);
    assert_eq!(scan("b", "d", 2, true), ["c!", "bb!"]);
    assert!(scan("d", "b", 9, false).is_empty());
    assert_eq!(sut.0.scan_locks(&key("b"), &key("c"), ts(20), 0).len(), 1);
    assert_eq!(sut.0.scan_locks(&key(""), &key(""), ts(19), 0).len(), 0);
}

#[test]
fn collection_changes_no_read_at_or_above_the_safe_point() {
    let mut sut = Sut::default();
    sut.write(10, 11, &[("k", "1"), ("gone", "1")]);
    sut.write(20, 21, &[("k", "2")]);
    sut.rollback(&["k"], 25).unwrap();
    let mutations = vec![mutation(MutationKind::Delete, "gone", "")];
    sut.prewrite(&Prewrite { mutations, ..puts(20, &[("gone", "")]) }).unwrap();
    sut.commit(&["gone"], 20, 22).unwrap();
    sut.write(40, 41, &[("k", "4")]);
    let changes = sut.0.collect(&key(""), &key(""), ts(30));
    sut.0.apply(&changes);
    assert_eq!(sut.value("k", 30).as_deref(), Some("2"));
    assert_eq!(sut.value("k", 41).as_deref(), Some("4"));
    assert_eq!(sut.value("gone", 30), None);
    assert_eq!(sut.0.columns().writes(b"k", Timestamp::MAX).count(), 2);
    assert_eq!(sut.0.columns().writes(b"gone", Timestamp::MAX).count(), 0);
    let changes = sut.0.destroy_range(&key("k"), &key(""));
    sut.0.apply(&changes);
    assert_eq!(*sut.0.columns(), Columns::default());
}
