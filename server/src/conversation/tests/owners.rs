//! Two owners of everything, at work on the same conversations at the same time.

use std::sync::Arc;

use rand::{Rng, SeedableRng, rngs::StdRng};
use tern_protocol::{
    code::Code,
    frame::{Ack, Refused},
    id::{AccountId, ConversationId},
};

use super::world::{RULES, account, device, owner, send};
use crate::{
    clock::Clock,
    conversation::{Audience, Conversations, News, Settings},
    directory::{AccountInfo, Directory},
    keys,
    metrics::Metrics,
    random::Random,
    records::{AccountRecord, DeviceRecord, MessageRecord, Record},
    store::Store,
    test_store::MapStore,
};

/// Accounts 1 to 3 with two devices each; everybody talks to everybody.
const ACCOUNTS: [u64; 3] = [1, 2, 3];
/// What each device sends.
const SENDS: u64 = 60;

struct Deaf;

impl Audience for Deaf {
    fn tell(&self, _: tern_protocol::id::DeviceId, _: ConversationId, _: News) {}
}

struct Owners {
    store: Arc<MapStore>,
    /// Each believes that it owns every conversation.
    owners: [Conversations; 2],
    infos: Vec<Arc<AccountInfo>>,
}

impl Owners {
    fn new(is_shared: bool) -> Self {
        let store = Arc::new(MapStore::default());
        let infos: Vec<_> =
            ACCOUNTS.iter().map(|&id| super::world::info(id, &[id * 10, id * 10 + 1])).collect();
        for info in &infos {
            let record = AccountRecord { name: info.name.clone(), created_ms: 0 };
            store.put(&keys::account(info.account), &record.to_bytes());
            for of in &info.devices {
                let (account, label) = (info.account.get(), String::new());
                let record = DeviceRecord { account, key: of.key, label, created_ms: 0 };
                store.put(&keys::device(of.device), &record.to_bytes());
                store.put(&keys::account_device(info.account, of.device), b"");
            }
        }
        let shared: Arc<dyn Store> = store.clone();
        let owners = [1, 2].map(|seed| {
            let directory = Directory::new(shared.clone(), Random::seeded(seed), 100, 16);
            let audience: Arc<dyn Audience> = Arc::new(Deaf);
            let settings = Settings {
                shards: 2,
                queue_commands: 64,
                batch_commands: 16,
                batch_bytes: 1 << 20,
                // Few, so that some are stored and loaded again in between.
                cached_conversations: 2,
                settle_ms: 3_600_000,
                is_shared,
                rules: crate::conversation::Rules { undelivered: 100_000, ..RULES },
            };
            let metrics = Arc::new(Metrics::new());
            let clock = Clock::starting_at(1_000_000);
            Conversations::start(&shared, &directory, &audience, &metrics, clock, &settings).0
        });
        Self { store, owners, infos }
    }

    fn members(&self, device: u64, peer: AccountId) -> [Arc<AccountInfo>; 2] {
        let own = owner(super::world::device(device));
        let of =
            |id: AccountId| self.infos.iter().find(|info| info.account == id).cloned().unwrap();
        [of(own.min(peer)), of(own.max(peer))]
    }

    /// One device: sends, acknowledges and looks, each by the one owner or the other.
    async fn device(&self, id: u64, seed: u64) -> Result<Vec<(ConversationId, u64, u64)>, String> {
        let mut rng = StdRng::seed_from_u64(seed ^ id);
        let own = owner(device(id));
        let peers: Vec<AccountId> =
            ACCOUNTS.iter().map(|&id| account(id)).filter(|&peer| peer != own).collect();
        let mut counters = vec![0; peers.len()];
        let mut accepted = Vec::new();
        for _ in 0..SENDS {
            let to = rng.random_range(0..peers.len());
            let conversation = ConversationId::direct(own, peers[to]).unwrap();
            counters[to] += 1;
            let mut message = send(counters[to], counters[to] - 1);
            message.message_id = id * 1_000_000 + counters[to];
            // As a phone that connects anew: the same again until it is accepted, and maybe once more.
            let mut first = None;
            for attempt in 0.. {
                let members = self.members(id, peers[to]);
                let at = &self.owners[rng.random_range(0..2)];
                let answer = at.append(conversation, device(id), members, message.clone()).await;
                match answer.unwrap().await.unwrap() {
                    Ok(done) => {
                        if *first.get_or_insert(done.seq) != done.seq {
                            return Err(format!("{id}: a repeat has another place: {done:?}"));
                        }
                        if rng.random_bool(0.7) {
                            break;
                        }
                    }
                    Err(Refused { code: Code::Overloaded, .. }) if attempt < 1_000 => {}
                    Err(refused) => return Err(format!("{id}: {refused:?} of {message:?}")),
                }
            }
            let seq = first.unwrap();
            accepted.push((conversation, seq, message.message_id));
            // Whoever is asked knows of what was accepted.
            let at = &self.owners[rng.random_range(0..2)];
            let snapshot = at.snapshot(conversation, device(id)).await.unwrap();
            let head = snapshot.map_or(0, |snapshot| snapshot.head);
            if head < seq {
                return Err(format!("{id}: the head is {head} after {seq} was accepted"));
            }
            let at = &self.owners[rng.random_range(0..2)];
            match at.read(conversation, own, seq).await.unwrap().await {
                Ok(Ok(up_to)) if up_to >= seq => {}
                // Given up under load, which says nothing.
                Err(_) => {}
                other => return Err(format!("{id}: read up to {seq}: {other:?}")),
            }
            let ack = Ack { seq, revision: 0 };
            // The same.
            let _ = self.owners[rng.random_range(0..2)].ack(conversation, device(id), ack).await;
        }
        Ok(accepted)
    }

    async fn run(self, seed: u64) -> Result<(), String> {
        let this = Arc::new(self);
        let tasks: Vec<_> = ACCOUNTS
            .iter()
            .flat_map(|&id| [id * 10, id * 10 + 1])
            .map(|id| {
                let this = this.clone();
                tokio::spawn(async move { this.device(id, seed).await })
            })
            .collect();
        let mut accepted = Vec::new();
        for task in tasks {
            accepted.extend(task.await.map_err(|error| error.to_string())??);
        }
        let mut places: Vec<_> =
            accepted.iter().map(|&(conversation, seq, _)| (conversation, seq)).collect();
        places.sort_unstable();
        places.dedup();
        if places.len() != accepted.len() {
            return Err("two messages have one place".to_owned());
        }
        for &(conversation, seq, message_id) in &accepted {
            let of = accepted.iter().filter(|(other, ..)| *other == conversation).count() as u64;
            if seq > of {
                return Err(format!("{seq} of {of}: there is a gap"));
            }
            // What every device has may be gone.
            let stored = this.store.get(keys::message(conversation, seq)).await.unwrap();
            let stored = stored.map(|stored| MessageRecord::from_bytes(&stored).unwrap());
            if stored.is_some_and(|stored| stored.message_id != message_id) {
                return Err(format!("another message is at {seq}"));
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_both_believe_to_own_everything_lose_repeat_and_reorder_nothing() {
    for seed in 1..=5 {
        Owners::new(true).run(seed).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_trusts_its_memory_is_found_out() {
    let mut found = false;
    for seed in 1..=20 {
        found |= Owners::new(false).run(seed).await.is_err();
        if found {
            return;
        }
    }
    panic!("owners that believe their memory alone are right by chance");
}
