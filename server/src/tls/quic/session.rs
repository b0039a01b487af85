//! TLS on one connection, of which little is left after the handshake.

use std::{any::Any, io, sync::Arc};

use quinn_proto::{
    ConnectionId, Side, TransportError, TransportErrorCode,
    crypto::{
        self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig as _,
        rustls::HandshakeData,
    },
    transport_parameters::TransportParameters,
};
use rustls::{
    AlertDescription,
    quic::{KeyChange, ServerConnection, Version},
};

use super::{QuicTls, both, updates::Updates};

/// The version number that has the retry tags of drafts 29 to 32.
const A_DRAFT: u32 = 0xff00_001d;

/// TLS on one connection.
pub(super) struct Session {
    config: Arc<QuicTls>,
    version: Version,
    tls: Tls,
    /// From the moment at which there are keys for 1-RTT packets.
    updates: Option<Updates>,
}

enum Tls {
    /// The handshake is under way.
    Handshake(Box<Handshake>),
    /// It is over, and the client has no more to say to TLS.
    Over(Agreed),
    /// It can't begin.
    Failed(Box<rustls::Error>),
}

struct Handshake {
    connection: ServerConnection,
    /// Whether quinn was told that it may ask for what was agreed on.
    told: bool,
}

/// What is asked for when the handshake is over.
struct Agreed {
    /// Which of the configured protocols was chosen.
    protocol: Option<usize>,
    server_name: Option<Box<str>>,
}

impl Session {
    pub(super) fn new(
        config: Arc<QuicTls>,
        version: Version,
        connection: Result<ServerConnection, rustls::Error>,
    ) -> Self {
        let tls = match connection {
            Ok(connection) => Tls::Handshake(Box::new(Handshake { connection, told: false })),
            Err(error) => Tls::Failed(Box::new(error)),
        };
        Self { config, version, tls, updates: None }
    }

    /// Whether what rustls had on the connection is gone.
    #[cfg(test)]
    pub(super) fn is_over(&self) -> bool {
        matches!(self.tls, Tls::Over(_))
    }

    fn agreed(&self, connection: &ServerConnection) -> Agreed {
        let protocols = &self.config.rustls.alpn_protocols;
        Agreed {
            protocol: connection
                .alpn_protocol()
                .and_then(|chosen| protocols.iter().position(|protocol| protocol == chosen)),
            server_name: connection.server_name().map(Into::into),
        }
    }

    fn handshake(&self) -> Option<&Handshake> {
        match &self.tls {
            Tls::Handshake(handshake) => Some(handshake),
            _ => None,
        }
    }
}

impl crypto::Session for Session {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.config.initial_keys(self.version, id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let of_handshake;
        let agreed = match &self.tls {
            Tls::Handshake(handshake) if handshake.told => {
                of_handshake = self.agreed(&handshake.connection);
                &of_handshake
            }
            Tls::Over(agreed) => agreed,
            _ => return None,
        };
        let protocols = &self.config.rustls.alpn_protocols;
        Some(Box::new(HandshakeData {
            protocol: agreed.protocol.and_then(|index| protocols.get(index)).cloned(),
            server_name: agreed.server_name.as_deref().map(str::to_owned),
        }))
    }

    /// Clients sign in by other means than certificates.
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        let keys = self.handshake()?.connection.zero_rtt_keys()?;
        Some((Box::new(keys.header), Box::new(keys.packet)))
    }

    /// Only a client needs to be told.
    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        match &self.tls {
            Tls::Handshake(handshake) => handshake.connection.is_handshaking(),
            Tls::Over(_) => false,
            Tls::Failed(_) => true,
        }
    }

    fn read_handshake(&mut self, data: &[u8]) -> Result<bool, TransportError> {
        let Handshake { connection, told } = match &mut self.tls {
            Tls::Handshake(handshake) => &mut **handshake,
            Tls::Over(_) if data.is_empty() => return Ok(false),
            // Of the messages that TLS has after the handshake, a client may send none to a server that
            // asks for no certificate: RFC 9001 forbids KeyUpdate (section 6), the others are the
            // server's. So the first byte of any is one too many.
            Tls::Over(_) => {
                return Err(alert(
                    AlertDescription::UnexpectedMessage,
                    "a message of TLS after the handshake".to_owned(),
                ));
            }
            Tls::Failed(error) => {
                return Err(TransportError {
                    code: TransportErrorCode::INTERNAL_ERROR,
                    frame: None,
                    reason: format!("TLS can't be set up: {error}"),
                });
            }
        };
        if let Err(error) = connection.read_hs(data) {
            return Err(match connection.alert() {
                Some(description) => alert(description, error.to_string()),
                None => TransportError {
                    code: TransportErrorCode::PROTOCOL_VIOLATION,
                    frame: None,
                    reason: format!("TLS error: {error}"),
                },
            });
        }
        // rustls doesn't say when it has read the client's first message; what was agreed on by it does.
        let known = connection.alpn_protocol().is_some()
            || connection.server_name().is_some()
            || !connection.is_handshaking();
        let news = known && !*told;
        *told |= known;
        Ok(news)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        // quinn takes them when it has the client's first message.
        let Some(encoded) = self.handshake().and_then(|h| h.connection.quic_transport_parameters())
        else {
            return Ok(None);
        };
        Ok(Some(TransportParameters::read(Side::Server, &mut io::Cursor::new(encoded))?))
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let Tls::Handshake(handshake) = &mut self.tls else { return None };
        let connection = &mut handshake.connection;
        match connection.write_hs(buf) {
            Some(KeyChange::Handshake { keys }) => Some(both(keys)),
            Some(KeyChange::OneRtt { keys, next }) => {
                self.updates = Some(Updates::new(next, &*keys.local.packet));
                Some(both(keys))
            }
            None => {
                // Without a change of keys, rustls has given all that it had. After the handshake that
                // were the tickets, and nothing follows them.
                if let Some(handshake) = self.handshake()
                    && !handshake.connection.is_handshaking()
                {
                    self.tls = Tls::Over(self.agreed(&handshake.connection));
                }
                None
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        Some(self.updates.as_mut()?.next())
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        let Some((content, tag)) = payload.split_last_chunk::<16>() else { return false };
        let version = match self.version {
            Version::V1Draft => A_DRAFT,
            _ => 1,
        };
        // The tag's key is public: it guards against accidents, so nothing leaks by comparing.
        self.config.retry_tag(version, id, &[header, content].concat()) == *tag
    }

    /// Fails: the secret of it goes with the rest, since nothing of Tern is bound to it.
    fn export_keying_material(
        &self,
        _: &mut [u8],
        _: &[u8],
        _: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

/// The error with which a connection ends when TLS raises an alert (RFC 9001, 4.8).
fn alert(description: AlertDescription, reason: String) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(description.into()), frame: None, reason }
}
