//! The stream of events, and the task that brings messages into it.

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    core::Core,
    event::ClientEvent,
    store::{history, outbox::LocalId},
};

/// Messages that are read from the store at a time, and that wait for the application at most.
const PAGE: usize = 64;

/// What a client tells its application; bounded, however slow the application is.
pub struct Events {
    notices: mpsc::Receiver<ClientEvent>,
    messages: mpsc::Receiver<ClientEvent>,
    core: Arc<Core>,
}

impl Events {
    /// The next event; waits for it. `None` when the client is gone. Nothing is lost if the future is
    /// dropped.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        tokio::select! {
            biased;
            notice = self.notices.recv() => notice,
            message = self.messages.recv() => message,
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<ClientEvent> {
        if let Ok(notice) = self.notices.try_recv() {
            return Some(notice);
        }
        if self.core.take_lagged() {
            return Some(ClientEvent::Lagged);
        }
        self.messages.try_recv().ok()
    }
}

/// Starts to present the messages that the application hasn't confirmed: those of earlier runs first,
/// then what arrives. They come from the store, so a slow application costs no memory, and one that died
/// gets them again.
pub(crate) fn present(
    core: Arc<Core>,
    notices: mpsc::Receiver<ClientEvent>,
) -> (JoinHandle<()>, Events) {
    let (sender, messages) = mpsc::channel(PAGE);
    let task = tokio::spawn(run(core.clone(), sender));
    (task, Events { notices, messages, core })
}

async fn run(core: Arc<Core>, messages: mpsc::Sender<ClientEvent>) {
    let mut grown = core.inbox.subscribe();
    let mut after = LocalId(0);
    loop {
        grown.borrow_and_update();
        let page = match core.store.quickly(move |db| history::unshown(db, after, PAGE)).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "messages can't be read from the store");
                return;
            }
        };
        let is_last = page.len() < PAGE;
        for message in page {
            after = message.local;
            if messages.send(ClientEvent::Message(Box::new(message))).await.is_err() {
                return;
            }
        }
        if is_last {
            tokio::select! {
                // In a fixed order, so that a simulated run can be repeated.
                biased;
                changed = grown.changed() => if changed.is_err() { return },
                () = messages.closed() => return,
            }
        }
    }
}
