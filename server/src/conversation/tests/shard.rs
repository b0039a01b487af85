//! The shard on a store that fails, and with a cache that is too small.

use std::sync::{Arc, Mutex};

use tern_protocol::{
    code::Code,
    frame::Ack,
    id::{ConversationId, DeviceId},
};

use super::world::*;
use crate::{
    clock::Clock,
    conversation::{Audience, Conversations, News, Settings},
    directory::Directory,
    keys,
    metrics::Metrics,
    random::Random,
    records::{MetaRecord, Record},
    store::Store,
    test_store::MapStore,
};

#[derive(Default)]
struct Ears(Mutex<Vec<(DeviceId, ConversationId)>>);

impl Audience for Ears {
    fn tell(&self, device: DeviceId, conversation: ConversationId, _: News) {
        self.0.lock().unwrap().push((device, conversation));
    }
}

struct Bench {
    store: Arc<MapStore>,
    conversations: Conversations,
    ears: Arc<Ears>,
    metrics: Arc<Metrics>,
}

fn bench(cached_conversations: usize) -> Bench {
    let store = Arc::new(MapStore::default());
    let shared: Arc<dyn Store> = store.clone();
    let directory = Directory::new(shared.clone(), Random::seeded(1), 100, 16);
    let ears = Arc::new(Ears::default());
    let audience: Arc<dyn Audience> = ears.clone();
    let metrics = Arc::new(Metrics::new());
    let settings = Settings {
        shards: 1,
        queue_commands: 64,
        batch_commands: 16,
        batch_bytes: 1 << 20,
        cached_conversations,
        settle_ms: 1_000,
        is_shared: false,
        rules: RULES,
    };
    let (conversations, _) = Conversations::start(
        &shared,
        &directory,
        &audience,
        &metrics,
        Clock::starting_at(50_000),
        &settings,
    );
    Bench { store, conversations, ears, metrics }
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_store_and_nothing_is_told_before() {
    let bench = bench(10);
    bench.store.fail(true);
    let accounts = [info(1, &[10]), info(2, &[20])];
    let begun = bench.conversations.append(conversation(), device(10), accounts, send(1, 0));
    let mut answer = begun.await.unwrap();
    let early = tokio::time::timeout(std::time::Duration::from_millis(60), &mut answer).await;
    assert!(early.is_err(), "answered although nothing is durable");
    assert!(bench.ears.0.lock().unwrap().is_empty());
    bench.store.fail(false);
    assert_eq!(answer.await.unwrap().unwrap().seq, 1);
    assert_eq!(*bench.ears.0.lock().unwrap(), [(device(20), conversation())]);
}

#[tokio::test(start_paused = true)]
async fn after_a_commit_of_which_the_outcome_is_unknown_every_device_is_told() {
    let bench = bench(10);
    let accounts = || [info(1, &[10, 11]), info(2, &[20])];
    bench.store.lose_next_outcome();
    let begun = bench.conversations.append(conversation(), device(10), accounts(), send(1, 0));
    // The second try finds it done, and has no news of it.
    assert_eq!(begun.await.unwrap().await.unwrap().unwrap().seq, 1);
    // The answer to this comes behind all that was to be told.
    let snapshot = bench.conversations.snapshot(conversation(), device(20)).await.unwrap();
    assert_eq!(snapshot.unwrap().head, 1);
    let told = std::mem::take(&mut *bench.ears.0.lock().unwrap());
    assert_eq!(told, [10, 11, 20].map(|id| (device(id), conversation())));
    assert_eq!(bench.metrics.commits_failed.get(), 1);
    // Once is enough.
    let begun = bench.conversations.append(conversation(), device(10), accounts(), send(2, 1));
    assert_eq!(begun.await.unwrap().await.unwrap().unwrap().seq, 2);
    bench.conversations.snapshot(conversation(), device(20)).await.unwrap();
    let told = std::mem::take(&mut *bench.ears.0.lock().unwrap());
    assert_eq!(told, [11, 20].map(|id| (device(id), conversation())));
}

/// A device acks once, so nobody else would ask for it.
#[tokio::test(start_paused = true)]
async fn what_was_acked_is_tidied_up_although_the_store_was_away_meanwhile() {
    let bench = bench(10);
    let accounts = [info(1, &[10]), info(2, &[20])];
    let begun = bench.conversations.append(conversation(), device(10), accounts, send(1, 0));
    begun.await.unwrap().await.unwrap().unwrap();
    let mark = || bench.store.get(keys::mark(device(20), conversation()));
    assert!(mark().await.unwrap().is_some());
    let ack = Ack { seq: 1, revision: 1 };
    bench.conversations.ack(conversation(), device(20), ack).await.unwrap();
    bench.store.fail(true);
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    bench.store.fail(false);
    assert!(mark().await.unwrap().is_some());
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(mark().await.unwrap(), None);
    assert_eq!(bench.metrics.messages_deleted.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_said() {
    let bench = bench(10);
    bench.store.fail(true);
    let accounts = [info(1, &[10]), info(2, &[20])];
    let begun =
        bench.conversations.append(conversation(), device(10), accounts.clone(), send(1, 0));
    let refused = begun.await.unwrap().await.unwrap().unwrap_err();
    assert_eq!(refused.code, Code::Overloaded);
    assert!(refused.retry_after_ms > 0);
    bench.store.fail(false);
    let begun = bench.conversations.append(conversation(), device(10), accounts, send(1, 0));
    assert_eq!(begun.await.unwrap().await.unwrap().unwrap().seq, 1);
}

#[tokio::test(start_paused = true)]
async fn another_owners_append_is_noticed_and_gone_behind() {
    let bench = bench(10);
    let accounts = || [info(1, &[10]), info(2, &[20])];
    let append = |counter, settled| {
        let send = send(counter, settled);
        bench.conversations.append(conversation(), device(10), accounts(), send)
    };
    append(1, 0).await.unwrap().await.unwrap().unwrap();
    // Somebody else fills the next slot.
    let stored = bench.store.get(keys::meta(conversation())).await.unwrap().unwrap();
    let mut meta = MetaRecord::from_bytes(&stored).unwrap();
    meta.head += 1;
    bench.store.put(&keys::meta(conversation()), &meta.to_bytes());
    assert_eq!(append(2, 1).await.unwrap().await.unwrap().unwrap().seq, 3);
    assert_eq!(bench.metrics.commits_conflicting.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_conversations_than_fit_into_memory() {
    let bench = bench(2);
    let conversations: Vec<_> = (1..=20).map(|n| ConversationId::new([n; 16])).collect();
    for round in 1..=3 {
        for &id in &conversations {
            let accounts = [info(1, &[10]), info(2, &[20])];
            let begun =
                bench.conversations.append(id, device(10), accounts, send(round, round - 1));
            assert_eq!(begun.await.unwrap().await.unwrap().unwrap().seq, round);
            let ack = Ack { seq: round, revision: 0 };
            bench.conversations.ack(id, device(20), ack).await.unwrap();
        }
    }
    for &id in &conversations {
        let snapshot = bench.conversations.snapshot(id, device(20)).await.unwrap().unwrap();
        assert_eq!((snapshot.cursor.seq, snapshot.head), (3, 3));
    }
}
