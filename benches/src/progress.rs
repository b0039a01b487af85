//! Progress on standard error: bars for people at a terminal, a line per step for everybody else.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bars.
    Bars,
    /// A line when a step begins.
    Lines,
    /// Nowhere.
    Quiet,
}

impl Progress {
    /// Bars if standard error is a terminal, lines otherwise.
    pub fn to_stderr() -> Self {
        if io::stderr().is_terminal() { Self::Bars } else { Self::Lines }
    }

    /// Begins a step of `total` parts; it ends when the last handle is dropped.
    pub fn step(self, what: &str, total: u64) -> Step {
        match self {
            Self::Bars => {
                let bar = ProgressBar::new(total);
                let style =
                    ProgressStyle::with_template("{msg:40} {wide_bar} {pos}/{len} {elapsed}");
                if let Ok(style) = style {
                    bar.set_style(style);
                }
                bar.set_message(what.to_owned());
                Step(Some(Arc::new(Bar(bar))))
            }
            Self::Lines => {
                // Nobody may be listening, and that is no reason to stop.
                let _ = writeln!(io::stderr(), "{what} …");
                Step(None)
            }
            Self::Quiet => Step(None),
        }
    }

    /// Waits, and shows how far that is.
    pub async fn wait(self, what: &str, duration: Duration) {
        let tick = Duration::from_millis(100);
        let total = duration.as_millis() / tick.as_millis();
        let step = self.step(what, u64::try_from(total).unwrap_or(u64::MAX));
        let end = Instant::now() + duration;
        while Instant::now() + tick < end {
            tokio::time::sleep(tick).await;
            step.advance();
        }
        tokio::time::sleep_until(end).await;
    }
}

/// A step in progress. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Step(Option<Arc<Bar>>);

impl Step {
    /// One part is done.
    pub fn advance(&self) {
        if let Some(bar) = &self.0 {
            bar.0.inc(1);
        }
    }
}

#[derive(Debug)]
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
