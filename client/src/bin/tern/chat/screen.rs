//! The terminal: taken over, and given back however the command ends.

use std::{io, time::Duration};

use crossterm::{
    event::{DisableBracketedPaste, EnableBracketedPaste, Event, poll, read},
    execute,
};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

/// How often the thread that reads keys looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The terminal in full-screen mode. Dropping it gives the terminal back; so does a panic.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    typed: mpsc::Receiver<Event>,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        // It also makes a panic give the terminal back before its message is printed.
        let terminal = ratatui::try_init()?;
        let (sender, typed) = mpsc::channel(64);
        let screen = Self { terminal, typed };
        execute!(io::stdout(), EnableBracketedPaste)?;
        std::thread::Builder::new().name("keys".into()).spawn(move || read_keys(&sender))?;
        Ok(screen)
    }

    /// What is typed next; `None` when the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.typed.recv().await
    }

    pub(super) fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(view).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to tell if the terminal is gone.
        let _ = execute!(io::stdout(), DisableBracketedPaste);
        ratatui::restore();
    }
}

fn read_keys(typed: &mpsc::Sender<Event>) {
    while !typed.is_closed() {
        match poll(LOOK_EVERY) {
            Ok(false) => {}
            Ok(true) => match read() {
                Ok(event) => {
                    if typed.blocking_send(event).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            },
            Err(_) => return,
        }
    }
}
