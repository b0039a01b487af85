//! What a configuration must be beyond its types: known keys, values in their bounds, no
//! contradictions.

use figment::{Figment, Provider, error::Kind, value::Value};

use super::{
    Config, ConfigError, JwtAlgorithm, Problem, RegistrationPolicy, RetentionPolicy, Setting,
    StoreKind,
};
use crate::lb::{BLOCK_BYTES, ServerId};

/// Refuses keys that no setting has, naming the nearest that one has.
pub(super) fn unknown_keys(figment: &Figment) -> Result<(), ConfigError> {
    let known = Config::default();
    let sections = known.sections();
    let mut problems = Vec::new();
    let data = match figment.data() {
        Ok(data) => data,
        Err(error) => return Err(ConfigError::of(wrong_type(figment, error))),
    };
    for (section, value) in data.into_values().flatten() {
        let settings = match sections.iter().find(|(name, _)| *name == section) {
            Some((_, known)) => known.settings(),
            None => {
                let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
                let reason = format!("there is no such section; {}", suggest(&section, &names));
                problems.push(problem_of(figment, &section, &value, reason));
                continue;
            }
        };
        let Value::Dict(_, dict) = value else {
            let reason = format!("{section} is a section, [{section}], and not a value");
            problems.push(problem_of(figment, &section, &value, reason));
            continue;
        };
        for (name, value) in dict {
            if !settings.iter().any(|setting| setting.name == name) {
                let names: Vec<&str> = settings.iter().map(|s| s.name).collect();
                let reason = format!("there is no such setting; {}", suggest(&name, &names));
                let key = format!("{section}.{name}");
                problems.push(problem_of(figment, &key, &value, reason));
            }
        }
    }
    ConfigError::unless_none(problems)
}

/// A value that isn't of its setting's type.
pub(super) fn wrong_type(figment: &Figment, error: figment::Error) -> Problem {
    let key = error.path.get(..2).unwrap_or(&error.path).join(".");
    let mut reason = match &error.kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
            format!("it is {}", plain(expected))
        }
        Kind::UnknownVariant(_, allowed) => format!("it is one of {}", allowed.join(", ")),
        other => other.to_string(),
    };
    if let Some((low, high)) = setting(&Config::default(), &key).and_then(|s| s.bounds) {
        reason = format!("it is a whole number from {low} to {high}");
    }
    Problem {
        value: figment.find_value(&key).ok().map(|v| shown(&v)),
        source: source_of(figment, &key),
        key,
        reason,
    }
}

/// Values that lie outside of their bounds.
pub(super) fn bounds(config: &Config, figment: &Figment) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (section, settings) in config.sections() {
        for setting in settings.settings() {
            let Some((low, high)) = setting.bounds.filter(|_| !setting.is_in_bounds()) else {
                continue;
            };
            let key = format!("{section}.{}", setting.name);
            let reason = format!("it is a whole number from {low} to {high}");
            problems.push(problem(config, figment, &key, reason));
        }
    }
    problems
}

/// Settings that are right each for itself and wrong together.
pub(super) fn contradictions(config: &Config, figment: &Figment) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |wrong: bool, key: &str, reason: &str| {
        if wrong {
            problems.push(problem(config, figment, key, reason.to_owned()));
        }
    };

    let listen = &config.listen;
    refuse(
        listen.keep_alive_ms >= listen.idle_for_ms,
        "listen.keep_alive_ms",
        "it must be less than listen.idle_for_ms, or connections die before it is sent",
    );
    refuse(
        listen.inactive_idle_for_ms < listen.idle_for_ms,
        "listen.inactive_idle_for_ms",
        "it must not be less than listen.idle_for_ms: who looks is the one to be missed soonest",
    );
    refuse(
        listen.stream_receive_window_bytes > listen.receive_window_bytes,
        "listen.stream_receive_window_bytes",
        "it must not be more than listen.receive_window_bytes, which holds for all streams together",
    );

    let cluster = &config.cluster;
    let needed = |is_missing: bool| cluster.enabled && is_missing;
    refuse(
        needed(config.store.kind != StoreKind::Tikv),
        "store.kind",
        "the nodes of a cluster share a store, and the embedded one belongs to one process: it must be tikv",
    );
    refuse(
        (1..16 << 20).contains(&cluster.route_cache_bytes),
        "cluster.route_cache_bytes",
        "it must be 0 or at least 16777216: a smaller disk isn't worth its threads",
    );
    refuse(
        needed(cluster.name.is_empty()),
        "cluster.name",
        "the node needs a name, for which its certificate is good",
    );
    refuse(
        needed(cluster.ca_file.is_none()),
        "cluster.ca_file",
        "without the authority of the cluster nobody knows which nodes belong to it",
    );
    refuse(
        needed(cluster.cert_file.is_none()),
        "cluster.cert_file",
        "without a certificate the other nodes don't believe this one",
    );
    refuse(
        needed(cluster.key_file.is_none()),
        "cluster.key_file",
        "a certificate is of no use without its key",
    );
    refuse(
        needed(cluster.listen.ip().is_unspecified() && cluster.advertise.is_none()),
        "cluster.advertise",
        "the other nodes need an address of this one, and cluster.listen names none",
    );

    let balancer = &config.load_balancer;
    let server_id = ServerId::from_hex(&balancer.server_id);
    refuse(
        !balancer.server_id.is_empty() && server_id.is_none(),
        "load_balancer.server_id",
        "it must be 1 to 15 bytes in hexadecimal, two digits each",
    );
    refuse(
        server_id
            .is_some_and(|id| id.as_bytes().len() + balancer.nonce_bytes as usize > BLOCK_BYTES),
        "load_balancer.nonce_bytes",
        "it must be at most 19 together with the bytes of load_balancer.server_id",
    );
    refuse(
        balancer.server_id.is_empty() && balancer.key_file.is_some(),
        "load_balancer.server_id",
        "load_balancer.key_file is of no use without it",
    );

    let tls = &config.tls;
    refuse(
        tls.cert_file.is_some() && tls.key_file.is_none(),
        "tls.cert_file",
        "tls.key_file is missing: a certificate is of no use without its key",
    );
    refuse(
        tls.key_file.is_some() && tls.cert_file.is_none(),
        "tls.key_file",
        "tls.cert_file is missing: a key is of no use without its certificate",
    );

    let retention = &config.retention;
    refuse(
        retention.policy == RetentionPolicy::Keep
            && retention.keep_for_ms > retention.unfetched_for_ms,
        "retention.keep_for_ms",
        "it must not be more than retention.unfetched_for_ms: \
         what everybody has isn't kept longer than what somebody waits for",
    );

    let ticket = &config.ticket;
    refuse(
        ticket.rotate_every_ms < 4 * ticket.refresh_every_ms,
        "ticket.rotate_every_ms",
        "it must be at least four times ticket.refresh_every_ms, \
         so that every node knows a key before it is used",
    );
    refuse(
        ticket.lifetime_ms / ticket.rotate_every_ms.max(1) > 100,
        "ticket.rotate_every_ms",
        "it must be at least a hundredth of ticket.lifetime_ms: \
         every key is kept as long as tickets under it are valid",
    );

    let store = &config.store;
    let tikv = store.kind == StoreKind::Tikv;
    refuse(
        tikv && store.pd.is_empty(),
        "store.pd",
        "the tikv store needs the address of at least one placement driver",
    );
    refuse(
        store.pd.iter().any(|address| !is_host_and_port(address)),
        "store.pd",
        "each is HOST:PORT, without a scheme",
    );
    let files = [&store.ca_file, &store.cert_file, &store.key_file];
    refuse(
        files.iter().any(|file| file.is_some()) && files.iter().any(|file| file.is_none()),
        "store.ca_file",
        "store.ca_file, store.cert_file and store.key_file go together",
    );

    for (key, empty) in [
        ("data.dir", config.data.dir.as_os_str().is_empty()),
        ("log.filter", config.log.filter.trim().is_empty()),
    ] {
        refuse(empty, key, "it must not be empty");
    }
    problems.extend(registration(config, figment));
    problems
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    })
}

fn registration(config: &Config, figment: &Figment) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |wrong: bool, key: &str, reason: &str| {
        if wrong {
            problems.push(problem(config, figment, key, reason.to_owned()));
        }
    };
    let registration = &config.registration;
    let algorithms = &registration.jwt_algorithms;
    refuse(
        algorithms.is_empty(),
        "registration.jwt_algorithms",
        "at least one of HS256, RS256, ES256, EdDSA is needed",
    );
    refuse(
        registration.jwt_key_file.is_some() && registration.jwt_jwks_file.is_some(),
        "registration.jwt_key_file",
        "either this or registration.jwt_jwks_file, not both",
    );
    refuse(
        registration.jwt_key_file.is_some() && algorithms.len() > 1,
        "registration.jwt_algorithms",
        "with registration.jwt_key_file it is exactly one, that of the key",
    );
    refuse(
        algorithms.contains(&JwtAlgorithm::HS256) && algorithms.len() > 1,
        "registration.jwt_algorithms",
        "HS256 stands alone: its key is a secret, the other keys are public",
    );
    let token = registration.policy == RegistrationPolicy::Token;
    refuse(
        token && registration.jwt_key_file.is_none() && registration.jwt_jwks_file.is_none(),
        "registration.policy",
        "the token policy needs registration.jwt_key_file or registration.jwt_jwks_file",
    );
    refuse(
        token && registration.jwt_audience.is_none(),
        "registration.policy",
        "the token policy needs registration.jwt_audience",
    );
    problems
}

fn problem(config: &Config, figment: &Figment, key: &str, reason: String) -> Problem {
    Problem {
        value: setting(config, key)
            .filter(|setting| !setting.value.is_null())
            .map(|setting| setting.value.to_string()),
        source: source_of(figment, key),
        key: key.to_owned(),
        reason,
    }
}

fn problem_of(figment: &Figment, key: &str, value: &Value, reason: String) -> Problem {
    Problem {
        key: key.to_owned(),
        value: Some(shown(value)).filter(|_| value.as_dict().is_none()),
        source: source_of(figment, key),
        reason,
    }
}

fn setting(config: &Config, key: &str) -> Option<Setting> {
    let (section, name) = key.split_once('.')?;
    let (_, section) = config.sections().into_iter().find(|(s, _)| *s == section)?;
    section.settings().into_iter().find(|s| s.name == name)
}

fn source_of(figment: &Figment, key: &str) -> String {
    figment.find_metadata(key).map_or_else(|| "default".to_owned(), |m| m.name.to_string())
}

/// A value as somebody would write it.
fn shown(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Rust's names of types, said plainly.
fn plain(expected: &str) -> String {
    match expected {
        "u16" | "u32" | "u64" => "a whole number".to_owned(),
        "a boolean" | "bool" => "true or false".to_owned(),
        "path string" | "a string" | "string" => "a text".to_owned(),
        other => other.to_owned(),
    }
}

fn suggest(wrong: &str, names: &[&str]) -> String {
    let nearest = names
        .iter()
        .map(|name| (distance(wrong, name), name))
        .min()
        .filter(|(distance, _)| *distance <= wrong.len() / 3 + 1);
    match nearest {
        Some((_, name)) => format!("did you mean {name}?"),
        None => format!("there are {}", names.join(", ")),
    }
}

/// Letters to add, remove or change to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
