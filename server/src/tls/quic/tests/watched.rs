//! A session that is watched: its key updates are counted, and what it says can be changed.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError,
    crypto::{
        ClientConfig, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig,
        Session, UnsupportedVersion,
    },
    transport_parameters::TransportParameters,
};

/// Changes what is said at a level of encryption: 0 is that of the first packets, 1 that of the
/// handshake, 2 that of data, where nothing would be said.
pub(super) type Change = dyn Fn(usize, &mut Vec<u8>) + Send + Sync;

/// A configuration whose sessions are watched.
pub(super) struct Watched<C: ?Sized> {
    pub(super) inner: Arc<C>,
    pub(super) change: Arc<Change>,
    /// How often keys of a next phase were asked for: once with the handshake, then for each update.
    pub(super) phases: Arc<AtomicUsize>,
}

impl<C: ?Sized> Watched<C> {
    /// Counts and changes nothing.
    pub(super) fn counting(inner: Arc<C>) -> Arc<Self> {
        Self::changing(inner, |_, _| {})
    }

    pub(super) fn changing(
        inner: Arc<C>,
        change: impl Fn(usize, &mut Vec<u8>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { inner, change: Arc::new(change), phases: Arc::default() })
    }

    /// How many key updates there were.
    pub(super) fn updates(&self) -> usize {
        self.phases.load(Ordering::Relaxed).saturating_sub(1)
    }

    fn watch(&self, inner: Box<dyn Session>) -> Box<dyn Session> {
        Box::new(WatchedSession {
            inner,
            change: self.change.clone(),
            phases: self.phases.clone(),
            level: 0,
            said_at: None,
        })
    }
}

impl<C: ClientConfig + ?Sized + 'static> ClientConfig for Watched<C> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        name: &str,
        parameters: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        Ok(self.watch(self.inner.clone().start_session(version, name, parameters)?))
    }
}

impl<C: ServerConfig + ?Sized + 'static> ServerConfig for Watched<C> {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.inner.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn Session> {
        self.watch(self.inner.clone().start_session(version, parameters))
    }
}

struct WatchedSession {
    inner: Box<dyn Session>,
    change: Arc<Change>,
    phases: Arc<AtomicUsize>,
    level: usize,
    /// The last level at which the change had its turn; it has one at each.
    said_at: Option<usize>,
}

impl Session for WatchedSession {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, data: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(data)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let mut said = Vec::new();
        let keys = self.inner.write_handshake(&mut said);
        if (!said.is_empty() || self.level == 2) && self.said_at != Some(self.level) {
            self.said_at = Some(self.level);
            (self.change)(self.level, &mut said);
        }
        buf.append(&mut said);
        self.level += usize::from(keys.is_some());
        keys
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.phases.fetch_add(1, Ordering::Relaxed);
        self.inner.next_1rtt_keys()
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}
