//! Orders on standard input.

use std::{io, thread};

use tokio::sync::mpsc;

/// What a device can be told.
pub(crate) enum Order {
    Network,
    Settle,
    Finish,
}

/// The orders that come; ends with standard input.
pub(crate) fn orders() -> mpsc::Receiver<Order> {
    let (sender, receiver) = mpsc::channel(8);
    // A thread that nobody waits for: a read from standard input can't be given up.
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let order = match line.as_str() {
                "network" => Order::Network,
                "settle" => Order::Settle,
                "finish" => Order::Finish,
                other => {
                    tracing::warn!(other, "unknown order");
                    continue;
                }
            };
            if sender.blocking_send(order).is_err() {
                return;
            }
        }
    });
    receiver
}
