//! What all methods have in common: counting, faults, and the state.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::sleep};
use tonic::{Response, Status};

use super::command::Command;
use crate::{
    core::Core,
    counters::Counters,
    faults::{Effect, Faults, Loss},
    method::Method,
    network::Gate,
    persist::LogError,
    proto::errorpb,
    regions::Asked,
};

/// More regions than this aren't made by faults: the client asks PD for each anew.
const MAX_REGIONS_BY_FAULT: usize = 64;

/// What PD and the stores of one server share.
#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<Core>,
    faults: Arc<Mutex<Faults>>,
    pub(crate) counters: Arc<Counters>,
    /// Whether PD is silent on its streams of timestamps.
    pub(crate) silence: watch::Sender<bool>,
    /// PD's first, then each store's.
    pub(crate) gates: Vec<Arc<Gate>>,
}

impl Shared {
    pub(crate) fn new(
        core: Core,
        faults: Arc<Mutex<Faults>>,
        counters: Arc<Counters>,
        gates: Vec<Arc<Gate>>,
    ) -> Self {
        Self { core: Mutex::new(core), faults, counters, silence: watch::Sender::new(false), gates }
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        // A panic in a command is a bug that the test must see, not one that hides behind a poisoned lock.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What strikes the call that comes now.
    pub(crate) fn strike(&self, method: Method) -> Option<Effect> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).strike(method)
    }

    /// Answers a call of a store's method.
    pub(crate) async fn call<C: Command>(
        self: &Arc<Self>,
        store_id: u64,
        command: C,
    ) -> Result<Response<C::Reply>, Status> {
        self.counters.request(C::METHOD, command.encoded_len());
        let reply = match self.strike(C::METHOD) {
            None => self.execute(store_id, &command)?,
            Some(effect) => self.call_struck(store_id, command, effect).await?,
        };
        self.counters.response(C::METHOD, prost::Message::encoded_len(&reply));
        Ok(Response::new(reply))
    }

    fn execute<C: Command>(&self, store_id: u64, command: &C) -> Result<C::Reply, Status> {
        self.core().execute(store_id, command).map_err(broken)
    }

    async fn call_struck<C: Command>(
        self: &Arc<Self>,
        store_id: u64,
        command: C,
        effect: Effect,
    ) -> Result<C::Reply, Status> {
        match effect {
            Effect::NotLeader | Effect::EpochNotMatch | Effect::Split | Effect::Merge => {
                if let Some(asked) = command.asked() {
                    self.change_regions(&asked, &command.keys(), &effect).map_err(broken)?;
                }
                self.execute(store_id, &command)
            }
            Effect::ServerIsBusy => Ok(C::refused(errorpb::Error {
                message: "server is busy".to_owned(),
                server_is_busy: Some(errorpb::ServerIsBusy {
                    reason: "a test wants it so".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            })),
            Effect::RaftEntryTooLarge => {
                let region_id = command.asked().map_or(0, |asked| asked.region_id);
                let entry_size = command.encoded_len() as u64;
                Ok(C::refused(errorpb::Error {
                    message: "raft entry is too large".to_owned(),
                    raft_entry_too_large: Some(errorpb::RaftEntryTooLarge {
                        region_id,
                        entry_size,
                    }),
                    ..Default::default()
                }))
            }
            Effect::WriteConflict => match command.conflict() {
                Some(reply) => Ok(reply),
                None => self.execute(store_id, &command),
            },
            Effect::DelayRequest(by) => {
                // A task of its own: what was sent takes effect, also if nobody waits for it any more.
                let late =
                    tokio::spawn(Self::execute_later(Arc::clone(self), store_id, command, by));
                late.await.map_err(|error| Status::internal(error.to_string()))?
            }
            Effect::DelayReply(by) => {
                let reply = self.execute(store_id, &command)?;
                sleep(by).await;
                Ok(reply)
            }
            Effect::LoseRequest(loss) => Err(lost(loss).await),
            Effect::LoseReply(loss) => {
                self.execute(store_id, &command)?;
                Err(lost(loss).await)
            }
            Effect::ApplyLate { after, loss } => {
                tokio::spawn(Self::execute_later(Arc::clone(self), store_id, command, after));
                Err(lost(loss).await)
            }
            Effect::Disconnect => {
                if let Some(gate) =
                    usize::try_from(store_id).ok().and_then(|index| self.gates.get(index))
                {
                    gate.disconnect();
                }
                Err(lost(Loss::Unavailable).await)
            }
        }
    }

    async fn execute_later<C: Command>(
        self: Arc<Self>,
        store_id: u64,
        command: C,
        after: Duration,
    ) -> Result<C::Reply, Status> {
        sleep(after).await;
        self.execute(store_id, &command)
    }

    /// Changes the region that a call asks, so that the call meets the change.
    fn change_regions(
        &self,
        asked: &Asked,
        keys: &[&Bytes],
        effect: &Effect,
    ) -> Result<(), LogError> {
        let mut core = self.core();
        let Some(region) = core.regions().of_id(asked.region_id).cloned() else { return Ok(()) };
        let full = core.regions().iter().count() >= MAX_REGIONS_BY_FAULT;
        // A key of the middle cuts most calls in two.
        let border =
            keys.get(keys.len() / 2).filter(|key| ***key != region.start && region.contains(key));
        core.change_regions(|regions| match effect {
            Effect::NotLeader => {
                regions.move_leader(&region.start, region.leader % regions.stores() + 1)
            }
            Effect::Split => match border {
                Some(border) if !full => regions.split(border).map(|_| ()),
                _ => Ok(()),
            },
            Effect::Merge if !region.end.is_empty() => regions.merge(&region.start),
            Effect::Merge => Ok(()),
            _ => {
                regions.touch(&region.start);
                Ok(())
            }
        })?
        .unwrap_or_default();
        Ok(())
    }
}

/// Tells the client of a loss, in the way that was chosen.
pub(crate) async fn lost(loss: Loss) -> Status {
    match loss {
        Loss::Unavailable => Status::unavailable("a test wants it lost"),
        Loss::Hang => std::future::pending().await,
    }
}

/// Tells the client that the log can't be written.
pub(crate) fn broken(error: LogError) -> Status {
    Status::internal(error.to_string())
}
