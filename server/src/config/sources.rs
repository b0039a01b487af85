//! Where settings come from: the file, the environment, flags. Each value remembers its own source,
//! so that an error can name it.

use std::{ffi::OsString, path::Path};

use figment::{
    Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};
use serde_json::Value as Json;

use super::{Config, ConfigError};

/// One setting from one place.
pub(super) struct Single {
    source: String,
    key: String,
    value: Value,
}

impl Single {
    /// A setting given as text, which is read as the type that the setting has by default: so a
    /// text that looks like a number is a number only where one is wanted.
    pub(super) fn from_text(source: String, key: &str, text: &str) -> Self {
        Self { source, key: key.to_owned(), value: typed(key, text) }
    }

    pub(super) fn new(source: String, key: &str, value: impl Into<Value>) -> Self {
        Self { source, key: key.to_owned(), value: value.into() }
    }
}

impl Provider for Single {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        let dict = nested.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

/// A file whose syntax is right.
pub(super) struct File {
    source: String,
    data: Map<Profile, Dict>,
}

impl Provider for File {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(self.data.clone())
    }
}

/// The settings of a TOML file.
pub(super) fn file(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { file: path.to_owned(), source })?;
    let data = Toml::string(&text).data().map_err(|error| ConfigError::Syntax {
        file: path.to_owned(),
        reason: error.kind.to_string(),
    })?;
    Ok(File { source: format!("file {}", path.display()), data })
}

/// The settings in the environment: `TERN_SECTION__NAME`. A variable without the double underscore
/// isn't a setting, so that other tools may have `TERN_` variables of their own.
pub(super) fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<Single> {
    let mut singles: Vec<(String, Single)> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            let name = name.to_str()?;
            let (section, setting) = name.strip_prefix("TERN_")?.split_once("__")?;
            let key = format!("{section}.{setting}").to_ascii_lowercase();
            let source = format!("environment variable {name}");
            let single = Single::from_text(source, &key, &value.to_string_lossy());
            Some((name.to_owned(), single))
        })
        .collect();
    // The order in which the system lists variables mustn't decide.
    singles.sort_by(|a, b| a.0.cmp(&b.0));
    singles.into_iter().map(|(_, single)| single).collect()
}

/// The default of a setting, null where it is unset; `None` if there is no such setting.
pub(super) fn default_of(key: &str) -> Option<Json> {
    let (section, name) = key.split_once('.')?;
    let config = Config::default();
    let (_, section) = config.sections().into_iter().find(|(s, _)| *s == section)?;
    let setting = section.settings().into_iter().find(|s| s.name == name)?;
    Some(setting.value)
}

fn typed(key: &str, text: &str) -> Value {
    let text = text.trim();
    match default_of(key) {
        Some(Json::Number(_)) => match (text.parse::<u64>(), text.parse::<i64>()) {
            (Ok(number), _) => Value::from(number),
            (_, Ok(number)) => Value::from(number),
            _ => Value::from(text),
        },
        Some(Json::Bool(_)) => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Some(Json::Array(_)) => {
            let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
            let items: Vec<Value> = inner
                .split(',')
                .map(|item| item.trim().trim_matches(['"', '\'']))
                .filter(|item| !item.is_empty())
                .map(Value::from)
                .collect();
            Value::from(items)
        }
        _ => Value::from(text),
    }
}
