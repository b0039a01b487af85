//! How things are said: colours, text from strangers, times, logs.

use std::io::{self, IsTerminal, Write};

use tern_client::Tick;

/// Colours, where they are wanted: on a terminal, and not with NO_COLOR.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    is_on: bool,
}

impl Paint {
    pub(crate) fn stdout() -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { is_on: io::stdout().is_terminal() && !is_unwanted }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text from a stranger, fit for a terminal: control characters could move the cursor, change
/// colours or type for the user.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() || is_direction(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Characters that change the direction of the text behind them, beyond the message.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A message's ticks.
pub(crate) fn ticks(tick: Tick) -> &'static str {
    match tick {
        Tick::Waiting => "…",
        Tick::Sent => "✓",
        Tick::Delivered | Tick::Read => "✓✓",
        Tick::Failed => "!",
    }
}

/// The word for a tick.
pub(crate) fn tick_name(tick: Tick) -> &'static str {
    match tick {
        Tick::Waiting => "waiting",
        Tick::Sent => "sent",
        Tick::Delivered => "delivered",
        Tick::Read => "read",
        Tick::Failed => "failed",
    }
}

/// A time of day in UTC, `HH:MM`.
pub(crate) fn clock(time_ms: u64) -> String {
    let minutes = time_ms / 60_000;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// How long ago something was, for people.
pub(crate) fn ago(now_ms: u64, then_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    match seconds {
        0..60 => "just now".to_owned(),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// The time of day in milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Writes a line and hands it to whoever reads, at once.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Starts logging to standard error.
pub(crate) fn log(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("TERN_LOG").unwrap_or_else(|_| {
        EnvFilter::new(match verbose {
            0 => "off",
            1 => "tern_client=debug",
            _ => "debug",
        })
    });
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_drive_the_terminal() {
        assert_eq!(
            printable("a\x1b[2Jb\u{9b}31m\r\u{202e}c\n"),
            "a\u{fffd}[2Jb\u{fffd}31m\u{fffd}\u{fffd}c\n"
        );
        assert_eq!(printable("Grüße 👋🏽"), "Grüße 👋🏽");
    }

    #[test]
    fn times_read_well() {
        assert_eq!(clock(86_400_000 * 3 + 3_600_000 * 5 + 60_000 * 7), "05:07");
        assert_eq!(ago(10_000, 20_000), "just now");
        assert_eq!(ago(7_200_000, 0), "2 h ago");
    }
}
