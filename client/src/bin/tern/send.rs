//! `tern send`.

use std::time::Duration;

use tern_client::{Client, ClientEvent, ConnectionState, Events, Tick};

use crate::{
    args::{Send, Wait},
    failure::Failure,
    output::{self, Paint},
};

pub(crate) async fn run(client: &Client, mut events: Events, args: &Send) -> Result<(), Failure> {
    let local = client.send(args.name.as_str(), args.text.as_bytes()).await?;
    client.connect();
    let wanted = match args.wait {
        Wait::Sent => Tick::Sent,
        Wait::Delivered => Tick::Delivered,
        Wait::Read => Tick::Read,
    };
    let mut trouble = None;
    let reached = tokio::select! {
        reached = client.wait_for_tick(local, wanted) => Some(reached?),
        error = until_stopped(&mut events, &mut trouble) => return Err(error),
        () = tokio::time::sleep(Duration::from_secs_f64(args.timeout)) => None,
    };
    let paint = Paint::stdout();
    match reached {
        Some((Tick::Failed, code)) => Err(Failure::Failed(code)),
        Some((tick, _)) => {
            output::line(&format!(
                "{} {}",
                paint.green(output::ticks(tick)),
                output::tick_name(tick)
            ))?;
            Ok(())
        }
        None => Err(not_in_time(client, local, args, trouble).await?),
    }
}

/// Reads events until the client gives up for good; notes what went wrong meanwhile.
async fn until_stopped(events: &mut Events, trouble: &mut Option<String>) -> Failure {
    while let Some(event) = events.next().await {
        match event {
            ClientEvent::Connection(ConnectionState::Stopped { error }) => return error.into(),
            ClientEvent::Connection(ConnectionState::Waiting { error, .. }) => {
                *trouble = Some(error.to_string());
            }
            ClientEvent::Connection(ConnectionState::Connected) => *trouble = None,
            _ => {}
        }
    }
    // The client is gone only when this very command lets it go.
    std::future::pending().await
}

async fn not_in_time(
    client: &Client,
    local: tern_client::LocalId,
    args: &Send,
    trouble: Option<String>,
) -> Result<Failure, Failure> {
    let tick = client.tick(local).await?.map_or(Tick::Waiting, |(tick, _)| tick);
    let seconds = args.timeout;
    let mut what = match tick {
        Tick::Waiting => format!(
            "not sent within {seconds} s; the message waits in the outbox and goes out with the next \
             command that connects"
        ),
        tick => format!("only {} within {seconds} s", output::tick_name(tick)),
    };
    if let Some(trouble) = trouble {
        what = format!("{what}\n  {trouble}");
    }
    Ok(Failure::TimedOut(what))
}
