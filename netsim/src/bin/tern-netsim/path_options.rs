//! Options that say what a path is like, for each command that makes one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tern_netsim::{
    link::LinkSettings,
    path::{BlackHole, PathSettings},
};

use crate::{failure::Failure, profiles};

/// What the path is like.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The path")]
pub(crate) struct PathOptions {
    /// A named path; `tern-netsim profiles` lists them.
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    profile: Option<String>,
    /// A TOML file with the tables [down] and [up], as `tern-netsim profiles NAME` shows them.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings from the server to the client, on top of the profile or file.
    ///
    /// delay_ms=50, jitter_ms=5, rate_kbit_s=1000, queue_packets=25, loss=0.02, reorder=0.01, reorder_by_ms=20,
    /// duplicate=0.01, corrupt=0.01, mtu_bytes=1400, trace=FILE, without the spaces. Losses in bursts:
    /// loss={p=0.04,r=0.25} (Gilbert), loss={probability=0.3,at_most=3}.
    #[arg(long, value_name = "K=V,…")]
    down: Option<String>,
    /// The same from the client to the server.
    #[arg(long, value_name = "K=V,…")]
    up: Option<String>,
    /// Packets pass for ON seconds, then nothing does for OFF seconds, and so on, or TIMES times.
    #[arg(long, value_name = "ON,OFF[,TIMES]", value_parser = black_hole)]
    black_hole: Option<BlackHole>,
    /// What chance is decided by. The same seed loses the same packets.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

impl PathOptions {
    /// The path's settings, its traces loaded, and all of it within bounds.
    pub(crate) fn settings(&self) -> Result<PathSettings, Failure> {
        let mut path = match (&self.profile, &self.file) {
            (Some(name), _) => profiles::find(name)?.path,
            (None, Some(file)) => read(file)?,
            (None, None) => PathSettings::default(),
        };
        path.down = overridden(&path.down, self.down.as_deref(), "--down")?;
        path.up = overridden(&path.up, self.up.as_deref(), "--up")?;
        path.black_hole = self.black_hole.or(path.black_hole);
        path.load_traces(Path::new("")).map_err(Failure::asked)?;
        path.check().map_err(Failure::asked)?;
        Ok(path)
    }
}

/// A file of a path; its traces count from its folder.
fn read(file: &Path) -> Result<PathSettings, Failure> {
    let failure = |error: String| Failure::Asked(format!("{}: {error}", file.display()));
    let toml = fs::read_to_string(file).map_err(|error| failure(error.to_string()))?;
    let mut path = PathSettings::parse(&toml).map_err(|error| failure(error.to_string()))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    for settings in [&mut path.down, &mut path.up] {
        if let Some(trace) = &settings.trace {
            settings.trace = Some(folder.join(trace.path()).into());
        }
    }
    Ok(path)
}

/// `base` with what `text` sets.
fn overridden(
    base: &LinkSettings,
    text: Option<&str>,
    option: &str,
) -> Result<LinkSettings, Failure> {
    let Some(text) = text else { return Ok(base.clone()) };
    let failure = |error: toml::de::Error| Failure::Asked(format!("{option}: {}", error.message()));
    let mut table = toml::Table::try_from(base).map_err(Failure::ran)?;
    for item in items(text) {
        table.extend(toml::from_str::<toml::Table>(&line(item)).map_err(failure)?);
    }
    // What is given replaces the other way to say how fast the link is.
    for (given, other) in [("rate_kbit_s", "trace"), ("trace", "rate_kbit_s")] {
        if items(text).iter().any(|item| item.starts_with(given))
            && !items(text).iter().any(|item| item.starts_with(other))
        {
            table.remove(other);
        }
    }
    table.try_into().map_err(failure)
}

/// Cuts at commas that aren't within braces.
fn items(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let cut = |sign: char| {
        match sign {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        sign == ',' && depth == 0
    };
    text.split(cut).map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// An item as a line of TOML, in which the path of a trace is quoted.
fn line(item: &str) -> String {
    match item.split_once('=') {
        Some((key, path)) if key.trim() == "trace" && !path.trim().starts_with(['"', '\'']) => {
            toml::Table::from_iter([("trace".to_owned(), path.trim().into())]).to_string()
        }
        _ => item.to_owned(),
    }
}

fn black_hole(text: &str) -> Result<BlackHole, String> {
    let parts: Vec<_> = text.split(',').collect();
    let (on, off, times) = match parts[..] {
        [on, off] => (on, off, None),
        [on, off, times] => (on, off, Some(times)),
        _ => return Err("two times in seconds, such as 5,2, and perhaps how often".to_owned()),
    };
    let ms = |text: &str| text.parse().map(|s: f64| s * 1e3).map_err(|error| error.to_string());
    let times = times.map(|times| times.parse().map_err(|error| format!("{error}"))).transpose()?;
    Ok(BlackHole { on_ms: ms(on)?, off_ms: ms(off)?, times })
}

#[cfg(test)]
mod tests {
    use tern_netsim::{link::Loss, profile::Profile};

    use super::*;

    fn set(base: &LinkSettings, text: &str) -> LinkSettings {
        overridden(base, Some(text), "--down").unwrap()
    }

    #[test]
    fn settings_are_laid_over_a_profile() {
        let base = Profile::named("3g").unwrap().path.down;
        let settings = set(&base, "delay_ms=5, loss={p=0.1,r=0.5},queue_packets=3,");
        assert_eq!(settings.rate_kbit_s, Some(780.0));
        assert_eq!((settings.delay_ms, settings.queue_packets), (5.0, Some(3)));
        assert_eq!(settings.loss, Loss::GilbertElliott { p: 0.1, r: 0.5, h: 0.0, k: 1.0 });
        let settings = set(&base, "trace=/a b/c.down");
        assert_eq!(settings.trace.unwrap().path(), Path::new("/a b/c.down"));
        assert_eq!(settings.rate_kbit_s, None);
        assert_eq!(set(&base, ""), base);
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        for (text, said) in [("dealy_ms=5", "dealy_ms"), ("delay_ms=x", "--down"), ("x", "--down")]
        {
            let error = overridden(&LinkSettings::default(), Some(text), "--down").unwrap_err();
            assert!(error.text().unwrap().contains(said), "{error:?}");
        }
    }

    #[test]
    fn a_black_hole_is_two_times_and_perhaps_how_often() {
        let hole = BlackHole { on_ms: 5_000.0, off_ms: 500.0, times: None };
        assert_eq!(black_hole("5,0.5").unwrap(), hole);
        assert_eq!(black_hole("5,0.5,3").unwrap(), BlackHole { times: Some(3), ..hole });
        for wrong in ["", "5", "a,b", "1,2,x", "1,2,3,4"] {
            black_hole(wrong).unwrap_err();
        }
    }
}
