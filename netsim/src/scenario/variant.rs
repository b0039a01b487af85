//! A scenario with some of its values changed: `lossy,client.keep_alive_s=30,phones.profile=lte`.

use std::path::Path;

use toml::{Table, Value};

use super::{BUNDLED, Scenario, ScenarioError, bundled};

impl Scenario {
    /// A scenario by what a user calls it: the name of a bundled one or the path of a file, and after
    /// it, each behind a comma, values to change: a key of the scenario's TOML with dots, `=`, and a value as
    /// in TOML, where a text needs no quotation marks. An event is known by its number, from 0:
    /// `subway,events.0.handover.gap_s=20`. A profile takes the place of the links beside it that the file
    /// has: `lossy,phones.profile=lte`.
    ///
    /// ```
    /// use tern_netsim::scenario::Scenario;
    ///
    /// let scenario = Scenario::named("lossy,seconds=5,phones.up.loss={p=0.1,r=0.5}")?;
    /// assert_eq!(scenario.seconds, 5.0);
    /// assert!(Scenario::named("lossy,phones.cuont=3").is_err());
    /// # Ok::<(), tern_netsim::scenario::ScenarioError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ScenarioError`] if there is no such scenario or it can't have these values.
    pub fn named(text: &str) -> Result<Self, ScenarioError> {
        let mut items = items(text).into_iter();
        let name = items.next().unwrap_or("");
        let path = Path::new(name);
        let (toml, folder) = match bundled(name) {
            Some(bundled) => (bundled.toml.to_owned(), Path::new(".")),
            None => {
                let toml = std::fs::read_to_string(path).map_err(|source| {
                    if looks_like_a_path(path) {
                        ScenarioError::File { path: path.to_owned(), source }
                    } else {
                        ScenarioError::Unknown(name.to_owned())
                    }
                })?;
                (toml, path.parent().unwrap_or(Path::new(".")))
            }
        };
        // Read as it is first, so that what is wrong with the file is told with its line.
        let mut scenario: Self = toml::from_str(&toml).map_err(ScenarioError::Toml)?;
        let changes: Vec<&str> = items.collect();
        if !changes.is_empty() {
            let mut table: Table = toml::from_str(&toml).map_err(ScenarioError::Toml)?;
            for change in &changes {
                let wrong = || ScenarioError::Change((*change).to_owned());
                let (key, value) = change.split_once('=').ok_or_else(wrong)?;
                let keys: Vec<&str> = key.trim().split('.').collect();
                set(&mut table, &keys, value_of(value.trim())).ok_or_else(wrong)?;
            }
            scenario = table.try_into().map_err(ScenarioError::Toml)?;
        }
        scenario.load_traces(folder)?;
        scenario.check()?;
        Ok(scenario)
    }
}

/// The names of all bundled scenarios, for an error.
pub(super) fn names() -> String {
    BUNDLED.iter().map(|bundled| bundled.name).collect::<Vec<_>>().join(", ")
}

fn looks_like_a_path(path: &Path) -> bool {
    path.extension().is_some() || path.components().count() > 1
}

/// Cuts at commas that aren't within brackets.
fn items(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let cut = |sign: char| {
        match sign {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        sign == ',' && depth == 0
    };
    text.split(cut).map(str::trim).collect()
}

/// A value of TOML; what is none is a text.
fn value_of(text: &str) -> Value {
    let line = format!("value = {text}");
    let parsed = toml::from_str::<Table>(&line).ok().filter(|table| table.len() == 1);
    parsed
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Sets the value of a key, and makes the tables on the way to it; `None` if there is something else in the way.
fn set(table: &mut Table, keys: &[&str], value: Value) -> Option<()> {
    let (first, rest) = keys.split_first()?;
    if first.is_empty() {
        return None;
    }
    if rest.is_empty() {
        if *first == "profile" {
            table.remove("up");
            table.remove("down");
        }
        table.insert((*first).to_owned(), value);
        return Some(());
    }
    match table.entry(*first).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(table) => set(table, rest, value),
        Value::Array(elements) => {
            let (number, rest) = rest.split_first()?;
            let element = elements.get_mut(number.parse::<usize>().ok()?)?;
            if rest.is_empty() {
                *element = value;
                return Some(());
            }
            set(element.as_table_mut()?, rest, value)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_changed_by_their_path() {
        let text = "lossy,seconds=5,client.keep_alive_s=30,phones.profile=lte,load.pattern=mesh";
        let scenario = Scenario::named(text).unwrap();
        assert_eq!((scenario.seconds, scenario.client.keep_alive_s), (5.0, Some(30.0)));
        // The profile's links count, not the file's.
        assert_eq!(scenario.phones.profile.as_deref(), Some("lte"));
        assert!(scenario.phones.up.is_none() && scenario.phones.down.is_none());
        let scenario = Scenario::named("lossy,phones.profile=lte,phones.up={delay_ms=5,loss=0.5}");
        assert_eq!(scenario.unwrap().phones.up.unwrap().delay_ms, 5.0);
    }

    #[test]
    fn events_have_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "seconds = 9\n[[events]]\nat_s = 3\nrebind = {}\n").unwrap();
        let named = |change: &str| Scenario::named(&format!("{}{change}", file.display()));
        assert_eq!(named(",events.0.at_s=4").unwrap().events[0].at_s, 4.0);
        assert_eq!(named("").unwrap().events[0].at_s, 3.0);
        assert!(matches!(named(",events.1.at_s=4"), Err(ScenarioError::Change(_))));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, said) in [
            ("lossyy", "lossy"),
            ("no/such.toml", "can't read no/such.toml"),
            ("lossy,seconds", "key=value"),
            ("lossy,=1", "key=value"),
            ("lossy,seconds.x=1", "key=value"),
            ("lossy,phones.cuont=1", "cuont"),
            ("lossy,phones.count=0", "phones.count"),
            ("lossy,phones.profile=6g", "6g"),
        ] {
            let error = Scenario::named(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
