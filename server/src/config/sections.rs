//! Every setting of the server, with its unit, its bounds, its default and the reason for it.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::section::section;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

section! {
    /// Where the server keeps what it makes for itself.
    Data {
        /// Folder of the store, the keys and the certificates; made if it isn't there.
        /// A relative path is relative to the folder in which the server was started.
        dir: PathBuf = PathBuf::from("./tern-data");
    }
}

section! {
    /// The QUIC end point that clients connect to.
    Listen {
        /// UDP address and port. Port 0 lets the system pick one, which is printed.
        /// `[::]:7777` takes IPv4 and IPv6.
        address: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 7777));
        /// A client with a user who looks is held for gone when nothing has come from it for so long, or a
        /// fifth less; clients are told. Longer is kinder to batteries, shorter shows sooner who is offline.
        idle_for_ms: u32 = 30_000, in 5_000..=600_000;
        /// The same for a client in the background, of which nobody is shown whether it is online.
        /// It may be silent for two fifths of that, so ten minutes let a phone's radio sleep for four at a
        /// time; longer gains little and keeps the connections of phones that are gone for longer.
        inactive_idle_for_ms: u32 = 600_000, in 5_000..=3_600_000;
        /// A stream that is silent for so long may be ended; clients are told.
        stream_idle_for_ms: u32 = 30_000, in 1_000..=3_600_000;
        /// How often the server itself sends a packet on a silent connection; 0 leaves that to the
        /// clients, who know their batteries.
        keep_alive_ms: u32 = 0, in 0..=300_000;
        /// Connections at once; more are refused. 32 kB of memory each when idle.
        connections: u32 = 20_000, in 1..=10_000_000;
        /// Handshakes in progress from which on new clients must prove their address with a Retry
        /// packet, which costs them a round trip. 0 demands it of everybody.
        handshakes_before_retry: u32 = 256, in 0..=1_000_000;
        /// Handshakes in progress at once; more are refused.
        handshakes: u32 = 4_096, in 1..=1_000_000;
        /// Bidirectional streams that a client may have open: the session and its uplinks. Each one
        /// allowed costs memory even while unused. From 8 on, QUIC's implementation gives room back
        /// only when more than an eighth of them have ended, so a client that ends one stream for
        /// another would wait.
        bidi_streams: u32 = 7, in 4..=1_000;
        /// The same for a client that has once used all of them, as one that writes in many
        /// conversations at a time; 70 bytes each. No less than bidi_streams.
        bidi_streams_busy: u32 = 64, in 4..=10_000;
        /// Congestion window at the start of a connection: no more than slow networks can queue for
        /// a second or two.
        initial_window_bytes: u64 = 32_768, in 14_600..=10_000_000;
        /// Bytes sent to a client and not yet acknowledged by it: memory for each client that is slow, and
        /// a bound on the rate, at 100 ms of round trip 20 Mbit/s.
        send_window_bytes: u64 = 262_144, in 4_096..=100_000_000;
        /// Bytes that a client may send before the server has read them, on all its streams.
        receive_window_bytes: u32 = 262_144, in 16_384..=100_000_000;
        /// The same for one stream.
        stream_receive_window_bytes: u32 = 65_536, in 16_384..=100_000_000;
        /// Whether to look for larger packets than 1,200 bytes. It costs memory and packets for each
        /// connection, and chat messages are small.
        mtu_discovery: bool = false;
    }
}

section! {
    /// The certificate that the server shows.
    Tls {
        /// PEM file with the operator's certificate and its chain. Without one the server makes its
        /// own authority and certificate in the data folder; clients trust its `ca.pem`.
        cert_file: Option<PathBuf> = None;
        /// PEM file with the certificate's private key; goes with cert_file.
        key_file: Option<PathBuf> = None;
        /// Further host names and IP addresses for the certificate that the server makes; `localhost`,
        /// `tern`, 127.0.0.1, ::1 and the machine's own name are always in it.
        names: Vec<String> = Vec::new();
        /// How often to look whether the files have changed (or the own certificate is near its end).
        /// SIGHUP does it at once.
        check_every_ms: u64 = 60 * SECOND_MS, in 1_000..=86_400_000;
        /// TLS sessions kept for 0-RTT resumption, in memory, about 1 kB each. 0 switches 0-RTT off.
        resumption_sessions: u32 = 20_000, in 0..=10_000_000;
    }
}

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationPolicy {
    /// Nobody.
    Closed,
    /// Anybody.
    Open,
    /// Who holds an invite made at the admin address.
    Invite,
    /// Who holds a JSON Web Token of the operator's user database.
    Token,
}

/// How a JSON Web Token may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256 and a shared secret.
    HS256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RS256,
    /// ECDSA P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

section! {
    /// Who may make an account. Further devices of an account need a link from one that it has,
    /// whatever the policy.
    Registration {
        /// `open` (anybody), `invite` (who has a token from POST /invites at the admin address),
        /// `token` (who has a JSON Web Token whose `sub` is the name) or `closed` (nobody).
        /// Open by default so that a first run works; choose another before strangers can reach it.
        policy: RegistrationPolicy = RegistrationPolicy::Open;
        /// How long an invite is valid unless its maker says otherwise. A week outlasts a holiday.
        invite_valid_for_ms: u64 = 7 * DAY_MS, in 1..=31_536_000_000;
        /// How long a link for a further device is valid: long enough to scan it.
        link_valid_for_ms: u64 = 10 * MINUTE_MS, in 1..=604_800_000;
        /// Signature algorithms taken in tokens: HS256, RS256, ES256, EdDSA. With jwt_key_file exactly
        /// one, that of the key, so that a token can't choose how it is checked.
        jwt_algorithms: Vec<JwtAlgorithm> = vec![JwtAlgorithm::ES256];
        /// File with the key of the tokens: a public key in PEM, or for HS256 the secret itself, at
        /// least 32 bytes (a newline at the end doesn't count).
        jwt_key_file: Option<PathBuf> = None;
        /// File with a JSON Web Key Set, instead of jwt_key_file.
        jwt_jwks_file: Option<PathBuf> = None;
        /// What a token's `iss` must be; not looked at when unset.
        jwt_issuer: Option<String> = None;
        /// What a token's `aud` must be or contain. Needed for the token policy, so that a token made
        /// for another of the operator's services is of no use here.
        jwt_audience: Option<String> = None;
        /// How far the clocks of token maker and server may be apart.
        jwt_leeway_ms: u64 = 60 * SECOND_MS, in 0..=600_000;
    }
}

section! {
    /// What one client, one address and one conversation may ask for. Who exceeds a rate waits; nothing
    /// that was accepted is dropped.
    Limits {
        /// Longest envelope; clients are told. 65,536 is the most that the protocol has room for.
        envelope_bytes: u32 = 65_536, in 1..=65_536;
        /// Sends without an answer on one uplink; clients are told.
        unanswered_sends: u16 = 64, in 1..=128;
        /// Requests of one client without a response; clients are told.
        requests: u16 = 16, in 1..=1_024;
        /// Accounts whose presence one client may watch; clients are told.
        watches: u16 = 256, in 1..=10_000;
        /// Devices of one account; 16 is the protocol's most.
        devices_per_account: u16 = 16, in 1..=16;
        /// Messages that one device may send in a second, in the long run: faster than anybody types.
        messages_per_device_per_second: u32 = 50, in 1..=1_000_000;
        /// Messages that it may send at once after a pause: an outbox filled in a tunnel.
        messages_per_device_burst: u32 = 500, in 1..=1_000_000;
        /// Hellos of any kind from one address in a second, in the long run. Phones behind one
        /// carrier's address share it, so it is generous.
        sign_ins_per_address_per_second: u32 = 100, in 1..=1_000_000;
        /// Hellos from one address at once after a pause.
        sign_ins_per_address_burst: u32 = 1_000, in 1..=1_000_000;
        /// Registrations from one address in an hour, in the long run.
        registrations_per_address_per_hour: u32 = 600, in 1..=10_000_000;
        /// Registrations from one address at once after a pause.
        registrations_per_address_burst: u32 = 200, in 1..=1_000_000;
        /// Connections from one address at once.
        connections_per_address: u32 = 10_000, in 1..=10_000_000;
        /// Messages of one conversation that wait for a device; further ones are refused.
        undelivered_per_conversation: u32 = 100_000, in 1..=10_000_000;
        /// Commands that wait for one shard of the engine before senders are slowed down.
        queued_commands_per_shard: u32 = 4_096, in 16..=1_000_000;
        /// Deliveries in memory for one client; it gets further ones from the store.
        queued_deliveries_per_session: u32 = 256, in 1..=65_536;
        /// Downlinks open to one client at once; the client's own limit may be lower.
        downlinks_per_session: u32 = 16, in 1..=1_000;
    }
}

/// What becomes of a message that every device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetentionPolicy {
    /// It is deleted.
    Delivered,
    /// It is kept for a time.
    Keep,
}

section! {
    /// How long messages are kept.
    Retention {
        /// `delivered` deletes a message once every device has it; `keep` keeps it keep_for_ms.
        /// What isn't there can't be stolen.
        policy: RetentionPolicy = RetentionPolicy::Delivered;
        /// With the policy `keep`: how long messages are kept after they were sent (30 days).
        keep_for_ms: u64 = 30 * DAY_MS, in 1_000..=315_360_000_000;
        /// How long a message is kept that nobody fetches (30 days). After it the sender is told.
        unfetched_for_ms: u64 = 30 * DAY_MS, in 1_000..=315_360_000_000;
        /// How often the server looks for messages whose time is over.
        sweep_every_ms: u64 = MINUTE_MS, in 100..=86_400_000;
    }
}

section! {
    /// Tickets, with which a device signs in again without a signature.
    Ticket {
        /// How long a ticket is valid (7 days). Every sign-in brings a new one.
        lifetime_ms: u64 = 7 * DAY_MS, in 1_000..=7_776_000_000;
        /// How often the key is replaced that tickets are sealed with (1 day). Old keys are kept
        /// as long as tickets under them are valid.
        rotate_every_ms: u64 = DAY_MS, in 1_000..=7_776_000_000;
        /// How often the server looks for keys that another node made. A new key is used only two
        /// such times after it was made, when every node knows it.
        refresh_every_ms: u64 = 30 * SECOND_MS, in 100..=3_600_000;
    }
}

section! {
    /// Who is shown as online.
    Presence {
        /// How long an account still counts as online after its last connection ended: a change
        /// from Wi-Fi to mobile data isn't worth a flicker. The protocol allows 5 s at most.
        grace_ms: u32 = 3_000, in 0..=5_000;
    }
}

/// What holds the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StoreKind {
    /// A store inside this process, on the local disk.
    Embedded,
    /// A TiKV cluster.
    Tikv,
}

section! {
    /// What holds the data.
    Store {
        /// `embedded`: in the data folder, by this process alone. `tikv`: in the TiKV cluster that pd names;
        /// of the settings below, the first nine are for it, the others for the embedded store.
        kind: StoreKind = StoreKind::Embedded;
        /// Addresses of the cluster's placement drivers, `HOST:PORT`; one is enough to find the others.
        pd: Vec<String> = Vec::new();
        /// What every key in the cluster begins with, so that deployments can share one. All nodes of a deployment
        /// have the same, and it can't be changed later.
        key_prefix: String = "tern/".to_owned();
        /// PEM file with the authority of the cluster's certificates. With it the cluster is spoken to over
        /// TLS, and cert_file and key_file are needed as well.
        ca_file: Option<PathBuf> = None;
        /// PEM file with the certificate that is shown to the cluster.
        cert_file: Option<PathBuf> = None;
        /// PEM file with that certificate's private key.
        key_file: Option<PathBuf> = None;
        /// How long one request to the cluster may take.
        request_timeout_ms: u64 = 2 * SECOND_MS, in 50..=60_000;
        /// How long the cluster is tried before a client is told that the server can't do it now. Locks of a node
        /// that died are in the way for three seconds, so it should be longer than that.
        give_up_after_ms: u64 = 10 * SECOND_MS, in 100..=600_000;
        /// How often one of the nodes has the cluster forget old versions of what was stored, and the locks of processes that
        /// died. It concerns the whole cluster, so where something else does it, as TiDB does: 0, never.
        collect_every_ms: u64 = 5 * MINUTE_MS, in 0..=86_400_000;
        /// How long old versions are kept. No reader and no transaction may take longer.
        keep_versions_for_ms: u64 = 10 * MINUTE_MS, in 60_000..=86_400_000;
        /// Transactions that wait for the disk before their senders are made to wait.
        queue_transactions: u64 = 4_096, in 1..=1_000_000;
        /// Transactions that share one disk sync at most: a burst catches up within a few syncs.
        batch_transactions: u64 = 1_024, in 1..=100_000;
        /// Bytes that share one disk sync at most.
        batch_bytes: u64 = 1_048_576, in 4_096..=16_777_216;
        /// Bytes in memory before they move to the tree on disk. Messages that are fetched before
        /// that never reach it.
        layer_bytes: u64 = 67_108_864, in 4_096..=4_294_967_296;
        /// Bytes of log before they move to the tree. It bounds the time to open after a crash.
        log_bytes: u64 = 134_217_728, in 4_096..=17_179_869_184;
        /// Bytes of the tree cached in memory.
        cache_bytes: u64 = 134_217_728, in 65_536..=1_099_511_627_776;
        /// Keys that one step of the move to the tree changes. Small steps leave the disk to messages.
        step_keys: u64 = 200, in 1..=1_000_000;
        /// Reads that run at the same time.
        read_threads: u32 = 4, in 1..=1_024;
    }
}

section! {
    /// Several nodes on one store.
    Cluster {
        /// Whether this node is one of several. The store must be one that they share: `store.kind = "tikv"`.
        enabled: bool = false;
        /// The node's name among the others: a DNS name that its certificate is good for.
        name: String = String::new();
        /// UDP address and port for the other nodes. Port 0 lets the system pick one.
        listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 7779));
        /// Address and port at which the other nodes reach this one; without it, that of listen.
        advertise: Option<SocketAddr> = None;
        /// Where clients reach this node, `HOST:PORT`: what another node tells its clients when it stops. Empty: they
        /// find their way by themselves, as behind a load balancer.
        client_address: String = String::new();
        /// PEM file with the authority of the nodes' certificates. Whoever has a certificate of it can read and
        /// write everything, so it is to be the cluster's own.
        ca_file: Option<PathBuf> = None;
        /// PEM file with this node's certificate and its chain, good for clients and servers.
        cert_file: Option<PathBuf> = None;
        /// PEM file with that certificate's private key.
        key_file: Option<PathBuf> = None;
        /// How long a node is held for alive after its last sign of life; the same for all nodes. Shorter finds a dead one
        /// sooner, and must be several times the slowest commit of the store.
        lease_ms: u32 = 2_000, in 400..=60_000;
        /// Requests to one other node without an answer; more wait, and so do their senders.
        requests: u32 = 1_024, in 1..=65_536;
        /// How long another node may take to answer a request.
        request_timeout_ms: u32 = 5_000, in 10..=600_000;
        /// Bytes of news that wait for one other node. What doesn't fit is looked up by that node itself.
        note_bytes: u32 = 4_194_304, in 65_536..=1_073_741_824;
        /// Routes to devices on other nodes kept in memory, about 150 bytes each.
        cached_routes: u32 = 200_000, in 16..=100_000_000;
        /// Bytes of disk in the data folder for routes, 4 kB each, which also take 140 bytes of memory each: so that a node
        /// that was stopped and started again finds them. 0: none, else 16,777,216 at least.
        route_cache_bytes: u64 = 268_435_456, in 0..=274_877_906_944;
        /// How long a remembered route is good without having been read again.
        keep_routes_for_ms: u64 = HOUR_MS, in 1_000..=86_400_000;
    }
}

section! {
    /// A load balancer in front of several nodes that goes by connection ids (QUIC-LB, draft 21): a phone that comes
    /// from another network stays on its node. Without one, leave it as it is.
    LoadBalancer {
        /// The node's id in the table of the load balancer: 1 to 15 bytes in hexadecimal, as `0c1f38a4d2e95b67`; no
        /// two nodes have the same. Empty: connection ids say nothing.
        server_id: String = String::new();
        /// The number of this form of ids. With a new key or length it must be another one.
        config_id: u32 = 0, in 0..=6;
        /// Bytes of an id that differ from one connection to the next. With server_id at most 19; together 16 are the
        /// cheapest to read, and fewer than 8 may be used up under an attack.
        nonce_bytes: u32 = 8, in 4..=18;
        /// File with the key that hides the ids from everybody else: 32 hexadecimal digits, made by
        /// `openssl rand -hex 16`; the same for all nodes. Without one, whoever sees packets sees which node they go to.
        key_file: Option<PathBuf> = None;
    }
}

section! {
    /// What gives messages their place.
    Engine {
        /// Parts that work side by side; a conversation belongs to one. 0: as many as the machine
        /// has cores.
        shards: u32 = 0, in 0..=1_024;
        /// Appends in one commit at most. A larger batch shares one disk sync among more messages.
        batch_appends: u32 = 512, in 1..=65_536;
        /// Bytes in one commit at most.
        batch_bytes: u64 = 1_048_576, in 131_072..=67_108_864;
        /// Conversations kept in memory in one shard, about 1 kB each; the others are read from the
        /// store when they are needed.
        cached_conversations: u32 = 50_000, in 16..=10_000_000;
    }
}

section! {
    /// How the server stops.
    Drain {
        /// How long clients have to leave after SIGTERM. Longer spreads their coming back elsewhere.
        within_ms: u64 = 5 * SECOND_MS, in 0..=600_000;
    }
}

section! {
    /// HTTP for the operator: metrics, health, invites. Plain and without a password: whoever reaches
    /// it can make invites, so let only loopback or a private network reach it.
    Admin {
        /// Whether there is one.
        enabled: bool = true;
        /// TCP address and port. Port 0 lets the system pick one, which is printed.
        address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7778));
        /// Connections at once; more wait.
        connections: u32 = 64, in 1..=10_000;
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

section! {
    /// What the server says about its own doings, on standard error. Never what users say.
    Log {
        /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives by module
        /// (`info,tern_server::engine=debug`).
        filter: String = "info".to_owned();
        /// `text` for people, `json` for machines.
        format: LogFormat = LogFormat::Text;
    }
}
