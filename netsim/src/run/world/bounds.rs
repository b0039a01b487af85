//! When and where a world is held to the bounds of its memory.

use std::time::Duration;

use tern_client::KeepAlive;

use super::World;
use crate::{
    checker::presence::{GONE_WITHIN, TOLD_SOON},
    run::{
        device::Device,
        memory::{Crowd, size},
    },
};

impl World<'_> {
    fn crowd(&self) -> Crowd {
        let (devices, conversations) = (self.devices.len(), self.conversations.len());
        Crowd {
            devices: devices as u64,
            conversations: conversations as u64,
            waiting: self.tape.waiting() as u64,
        }
    }

    pub(super) fn sample(&mut self) {
        let crowd = self.crowd();
        let config = self.server.config();
        if let Some(server) = self.server.server() {
            self.meter.sample_server(server.metrics(), config, crowd);
        }
        self.meter.sample_disk(self.server.disk(), config, crowd);
    }

    /// When everything has arrived, and dead connections have had the time to be noticed, what only waited for that
    /// must be gone.
    pub(super) async fn rest(&mut self) {
        // An attempt that was long given up begins at the server when its packets come out of a slow link's queue.
        let late = self.net.quiet_at().saturating_sub(self.net.now());
        let has_pockets = self.scenario.phones.inactive > 0;
        let rest = if has_pockets { pocket_rest() } else { GONE_WITHIN + TOLD_SOON };
        tokio::time::sleep(late + rest).await;
        self.sample();
        // Without a keep-alive, nobody finds out that the server has died.
        if self.scenario.client.keep_alive_s != Some(0.0) {
            self.at_rest(self.devices.len());
            let messages = self.server.disk().count(b"m/") as u64;
            self.meter.at_rest("messages stored", messages, 0);
            let marks = self.server.disk().count(b"b/") as u64;
            self.meter.at_rest("mailbox marks stored", marks, 0);
        }
        let hosts = self.devices.iter().map(Device::host).chain([self.server.host()]);
        let unread: usize = hosts.map(|host| self.net.unread(host)).sum();
        self.meter.at_rest("packets that nobody has read", unread as u64, 0);
    }

    /// What the server may have with so many devices connected and nothing to do.
    pub(super) fn at_rest(&mut self, connected: usize) {
        let Some(server) = self.server.server() else { return };
        let (metrics, connected) = (server.metrics(), connected as u64);
        self.meter.at_rest("devices signed in", size(metrics.sessions.get()), connected);
        // The server's time for a hello bounds them.
        let handshakes = size(metrics.handshakes_in_progress.get());
        let connections = size(metrics.connections.get()).saturating_sub(handshakes);
        self.meter.at_rest("connections beyond their handshake", connections, connected);
        for shard in 0..self.server.config().shards() {
            let queue = size(metrics.shard_queue(shard as u32).get());
            self.meter.at_rest("commands that wait for a shard", queue, 0);
        }
        if connected == 0 {
            self.meter.at_rest("uplinks", size(metrics.uplinks.get()), 0);
            self.meter.at_rest("downlinks", size(metrics.downlinks.get()), 0);
        }
    }
}

/// A phone in a pocket finds out that its server has died when it breaks its silence, and then has to connect; until
/// then messages that it has are held for it. The receipts that are held back from it come sooner.
fn pocket_rest() -> Duration {
    KeepAlive::default().inactive_most + Duration::from_secs(15)
}
