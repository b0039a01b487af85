//! The server's configuration.
//!
//! Each setting has a value from, in this order, the later winning: its default, the TOML file
//! (`--config`), the environment (`TERN_SECTION__NAME`), the flags (`--set section.name=value` and
//! those of their own name). [`load`] puts them together and checks them; what it returns can be
//! relied on. A [`ConfigError`] names every key that is wrong, its value, where it comes from and
//! what is allowed.

mod check;
mod error;
mod example;
mod flags;
mod section;
mod sections;
mod sources;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use figment::Figment;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::links::LinkSettings,
    route::cache::{DiskSettings, RouteCacheSettings},
    store::{
        embedded::EmbeddedSettings,
        tikv::{TikvSettings, TikvTls},
    },
};
pub use error::{ConfigError, Problem};
pub use flags::Flags;
pub use section::{Section, Setting};
pub use sections::*;

macro_rules! config {
    ($($name:ident: $section:ident,)*) => {
        /// Everything that can be set, checked.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[expect(missing_docs, reason = "a field is the section that it holds")]
        pub struct Config {
            $(pub $name: $section,)*
            /// Whether clients may have all their streams in one, to compare. No file can set it.
            #[cfg(feature = "single-stream")]
            #[serde(skip)]
            pub single_stream: bool,
        }

        impl Config {
            /// The sections and their names.
            pub fn sections(&self) -> Vec<(&'static str, &dyn Section)> {
                vec![$((stringify!($name), &self.$name as &dyn Section),)*]
            }
        }
    };
}

config! {
    data: Data,
    listen: Listen,
    tls: Tls,
    registration: Registration,
    limits: Limits,
    retention: Retention,
    ticket: Ticket,
    presence: Presence,
    store: Store,
    cluster: Cluster,
    load_balancer: LoadBalancer,
    engine: Engine,
    drain: Drain,
    admin: Admin,
    log: Log,
}

impl Config {
    /// The effective configuration as commented TOML, as `--print-config` shows it.
    pub fn to_commented_toml(&self) -> String {
        example::render(self)
    }

    /// What a welcome tells a client.
    pub fn client_limits(&self) -> tern_protocol::frame::Limits {
        tern_protocol::frame::Limits {
            envelope_bytes: self.limits.envelope_bytes,
            unanswered_sends: self.limits.unanswered_sends,
            requests: self.limits.requests,
            watches: self.limits.watches,
            idle_for_ms: self.listen.idle_for_ms,
            inactive_idle_for_ms: self.listen.inactive_idle_for_ms,
            stream_idle_for_ms: self.listen.stream_idle_for_ms,
        }
    }

    /// What a greeting says about registration.
    pub fn announced_registration(&self) -> tern_protocol::frame::Registration {
        use tern_protocol::frame::Registration as Announced;
        match self.registration.policy {
            RegistrationPolicy::Closed => Announced::Closed,
            RegistrationPolicy::Open => Announced::Open,
            RegistrationPolicy::Invite => Announced::Invite,
            RegistrationPolicy::Token => Announced::Token,
        }
    }

    /// How many shards the engine has: as set, or as many as there are cores.
    pub fn shards(&self) -> usize {
        match self.engine.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards as usize,
        }
    }

    /// How the embedded store works.
    pub fn embedded_store(&self) -> EmbeddedSettings {
        let store = &self.store;
        // On a machine where a setting is beyond what can be addressed, the bound is that.
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        EmbeddedSettings {
            queue_transactions: size(store.queue_transactions),
            batch_transactions: size(store.batch_transactions),
            batch_bytes: size(store.batch_bytes),
            layer_bytes: size(store.layer_bytes),
            log_bytes: store.log_bytes,
            cache_bytes: size(store.cache_bytes),
            step_keys: size(store.step_keys),
            read_threads: size(store.read_threads.into()),
            ..EmbeddedSettings::default()
        }
    }

    /// Where the TiKV cluster is, and how long it is waited for.
    pub fn tikv_store(&self) -> TikvSettings {
        let store = &self.store;
        let files = (&store.ca_file, &store.cert_file, &store.key_file);
        let tls = match files {
            (Some(ca_file), Some(cert_file), Some(key_file)) => Some(TikvTls {
                ca_file: ca_file.clone(),
                cert_file: cert_file.clone(),
                key_file: key_file.clone(),
            }),
            // The check has refused a part of them.
            _ => None,
        };
        TikvSettings {
            pd: store.pd.clone(),
            key_prefix: store.key_prefix.clone().into(),
            tls,
            request_timeout_ms: store.request_timeout_ms,
            give_up_after_ms: store.give_up_after_ms,
        }
    }

    /// How nodes of a cluster talk.
    pub fn links(&self) -> LinkSettings {
        let cluster = &self.cluster;
        LinkSettings {
            lease_ms: cluster.lease_ms,
            requests: cluster.requests,
            request_timeout_ms: cluster.request_timeout_ms,
            note_bytes: cluster.note_bytes,
            ..LinkSettings::default()
        }
    }

    /// How routes are remembered.
    pub fn route_cache(&self) -> RouteCacheSettings {
        let cluster = &self.cluster;
        let disk = (cluster.route_cache_bytes > 0).then(|| DiskSettings {
            dir: self.in_data_dir("routes"),
            bytes: cluster.route_cache_bytes,
        });
        RouteCacheSettings {
            memory_routes: cluster.cached_routes as usize,
            disk,
            keep_for_ms: cluster.keep_routes_for_ms,
            ..RouteCacheSettings::default()
        }
    }

    /// A path in the data folder.
    pub fn in_data_dir(&self, name: impl AsRef<Path>) -> PathBuf {
        self.data.dir.join(name)
    }
}

/// Puts the configuration together from file, environment and flags, and checks it.
///
/// `environment` is what [`std::env::vars_os`] gives; it is passed in so that tests can have their
/// own.
pub fn load(
    flags: &Flags,
    environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Result<Config, ConfigError> {
    let mut figment = Figment::new();
    if let Some(file) = &flags.config {
        figment = figment.merge(sources::file(file)?);
    }
    for source in sources::environment(environment) {
        figment = figment.merge(source);
    }
    for source in flags.sources()? {
        figment = figment.merge(source);
    }
    check::unknown_keys(&figment)?;
    let config: Config =
        figment.extract().map_err(|error| ConfigError::of(check::wrong_type(&figment, error)))?;
    ConfigError::unless_none(check::bounds(&config, &figment))?;
    ConfigError::unless_none(check::contradictions(&config, &figment))?;
    Ok(config)
}
