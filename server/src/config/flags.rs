//! The command line of `tern-server`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;

use super::{ConfigError, LogFormat, Problem, sources::Single};

/// The Tern chat server: QUIC, end-to-end encrypted messages, ticks that don't lie.
///
/// Runs with nothing configured. Every setting can be given in the configuration file, in the
/// environment (TERN_SECTION__NAME) or with --set, the later winning; --print-config lists them all.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "tern-server", version)]
pub struct Flags {
    /// TOML file with settings.
    #[arg(long, value_name = "FILE", env = "TERN_CONFIG")]
    pub config: Option<PathBuf>,

    /// UDP address to listen on; port 0 picks one (listen.address).
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,

    /// Folder for the store, keys and certificates (data.dir).
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// TCP address of metrics, health and invites; port 0 picks one; "off" for none (admin.address).
    #[arg(long, value_name = "ADDR|off", value_parser = parse_admin)]
    pub admin: Option<AdminFlag>,

    /// What is logged, such as "info" or "warn,tern_server=debug" (log.filter).
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,

    /// How log lines are written (log.format).
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Any setting; may be repeated.
    #[arg(long, value_name = "SECTION.NAME=VALUE")]
    pub set: Vec<String>,

    /// Check the configuration and stop.
    #[arg(long)]
    pub check_config: bool,

    /// Print the effective configuration as commented TOML and stop.
    #[arg(long)]
    pub print_config: bool,
}

/// What `--admin` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminFlag {
    /// No admin address.
    Off,
    /// This one.
    On(SocketAddr),
}

fn parse_admin(text: &str) -> Result<AdminFlag, String> {
    match text {
        "off" => Ok(AdminFlag::Off),
        address => address
            .parse()
            .map(AdminFlag::On)
            .map_err(|error| format!("{error}; it is IP:PORT or \"off\"")),
    }
}

impl Flags {
    /// The settings that flags make, those with a name of their own last.
    pub(super) fn sources(&self) -> Result<Vec<Single>, ConfigError> {
        let mut singles = Vec::new();
        for text in &self.set {
            singles.push(parse_set(text)?);
        }
        let mut flag = |name: &str, key: &str, value: String| {
            singles.push(Single::new(format!("flag --{name}"), key, value));
        };
        if let Some(address) = self.listen {
            flag("listen", "listen.address", address.to_string());
        }
        if let Some(dir) = &self.data {
            flag("data", "data.dir", dir.to_string_lossy().into_owned());
        }
        if let Some(filter) = &self.log {
            flag("log", "log.filter", filter.clone());
        }
        if let Some(format) = self.log_format {
            let format = match format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            };
            flag("log-format", "log.format", format.to_owned());
        }
        if let Some(AdminFlag::On(address)) = self.admin {
            flag("admin", "admin.address", address.to_string());
        }
        if let Some(admin) = self.admin {
            let enabled = admin != AdminFlag::Off;
            let source = "flag --admin".to_owned();
            singles.push(Single::new(source, "admin.enabled", enabled));
        }
        Ok(singles)
    }
}

fn parse_set(text: &str) -> Result<Single, ConfigError> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => {
            Ok(Single::from_text(format!("flag --set {text}"), key.trim(), value))
        }
        _ => Err(ConfigError::of(Problem {
            key: text.to_owned(),
            value: None,
            source: "flag --set".to_owned(),
            reason: "it is SECTION.NAME=VALUE, such as limits.watches=100".to_owned(),
        })),
    }
}
