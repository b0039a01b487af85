//! The side that connects: to each node of the view, again and again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Code, Handler, LinkSettings, Peers, VERSION,
    batches::{BatchReader, BatchWriter, Stop},
    codec::{Batch, Hello},
    link::Link,
    tls::PeerTls,
};
use crate::{
    cluster::{Node, NodeId, Views},
    metrics::Metrics,
    random::Random,
};

/// How often the pause between two attempts doubles.
const DOUBLINGS: u32 = 4;

/// What all links of a node need to connect.
pub(super) struct Dialler {
    pub(super) endpoint: quinn::Endpoint,
    pub(super) tls: Arc<PeerTls>,
    pub(super) views: Views,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) random: Random,
    pub(super) settings: LinkSettings,
    pub(super) metrics: Arc<Metrics>,
}

/// The tasks of the links. Dropped, they end.
#[derive(Default)]
struct Tasks(BTreeMap<NodeId, JoinHandle<()>>);

impl Tasks {
    fn end(&mut self, node: NodeId) {
        if let Some(task) = self.0.remove(&node) {
            task.abort();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

impl Dialler {
    /// Keeps a link to each other node of the view, for ever.
    pub(super) async fn run(self: Arc<Self>, peers: Peers) {
        let mut tasks = Tasks::default();
        let mut view = self.views.now();
        loop {
            let gone: Vec<NodeId> =
                tasks.0.keys().copied().filter(|&node| view.node(node).is_none()).collect();
            for node in gone {
                tasks.end(node);
                peers.remove(node);
            }
            for (id, node) in view.nodes() {
                if id != view.me() && !tasks.0.contains_key(&id) {
                    let link = peers.add(id);
                    let dialler = self.clone();
                    let node = node.clone();
                    tasks.0.insert(
                        id,
                        tokio::spawn(async move { dialler.keep(id, &node, &link).await }),
                    );
                }
            }
            view = self.views.beyond(view.version()).await;
        }
    }

    /// Keeps one link, for ever.
    async fn keep(&self, id: NodeId, node: &Node, link: &Link) {
        let connect_and_speak = async {
            let mut failures = 0;
            loop {
                match self.connect(id, node).await {
                    Ok((connection, control, answers, notes)) => {
                        tracing::info!(node = %id, name = %node.name, "linked");
                        let linked = || self.handler.linked(id);
                        let stop = link.speak(connection, control, answers, notes, linked).await;
                        tracing::info!(node = %id, why = %stop, "a link broke");
                        // Requests have somewhere else to go, which is better than to wait for a node that may be dead.
                        link.unreachable();
                        self.handler.lost(id);
                        failures = 0;
                    }
                    Err(stop) => {
                        self.metrics.peer_connects_failed.inc();
                        tracing::debug!(node = %id, why = %stop, "no link");
                        link.unreachable();
                        failures = (failures + 1).min(DOUBLINGS);
                    }
                }
                sleep(self.pause(failures)).await;
            }
        };
        tokio::select! {
            biased;
            () = link.watch_time() => {}
            () = connect_and_speak => {}
        }
    }

    /// A jittered pause, twice as long after each failure.
    fn pause(&self, failures: u32) -> Duration {
        let most_ms = u64::from(self.settings.retry_most_ms) >> (DOUBLINGS - failures);
        let [random] = self.random.bytes::<1>();
        Duration::from_millis(most_ms / 2 + most_ms * u64::from(random) / 510)
    }

    async fn connect(
        &self,
        id: NodeId,
        node: &Node,
    ) -> Result<(quinn::Connection, BatchWriter, BatchReader, BatchWriter), Stop> {
        let connect = async {
            let config = self.tls.client_config(&self.settings);
            let connecting = self
                .endpoint
                .connect_with(config, node.peer_address, &node.name)
                .map_err(|_| Stop::Lost)?;
            let connection = connecting.await.map_err(|error| {
                tracing::debug!(node = %id, %error, "can't connect");
                Stop::Lost
            })?;
            let talk = self.greet(id, &connection).await;
            talk.inspect_err(|stop| {
                connection.close(stop.code().var_int(), stop.code().to_string().as_bytes());
            })
            .map(|(control, answers, notes)| (connection, control, answers, notes))
        };
        match timeout(self.settings.hello_timeout(), connect).await {
            Ok(connected) => connected,
            Err(_) => Err(Stop::Close(Code::Timeout)),
        }
    }

    async fn greet(
        &self,
        id: NodeId,
        connection: &quinn::Connection,
    ) -> Result<(BatchWriter, BatchReader, BatchWriter), Stop> {
        let (send, receive) = connection.open_bi().await.map_err(|_| Stop::Lost)?;
        let (mut control, mut answers) = (BatchWriter::new(send), BatchReader::of_control(receive));
        let hello = Hello {
            version: VERSION,
            node: self.views.now().me(),
            name: self.tls.name().to_owned(),
            to: id,
        };
        control.write(&Batch::Hello(hello), 0).await?;
        match answers.next().await? {
            Batch::Welcome(version) if (1..=VERSION).contains(&version) => {}
            Batch::Welcome(_) => return Err(Stop::Close(Code::Version)),
            _ => return Err(Stop::Close(Code::Unexpected)),
        }
        answers.allow_whole_batches();
        let notes = connection.open_uni().await.map_err(|_| Stop::Lost)?;
        Ok((control, answers, BatchWriter::new(notes)))
    }
}
