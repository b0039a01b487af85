//! How everything stands, said to whoever waits for all to settle.

use std::io::{self, Write};

use tern_client::Client;
use tern_netsim::standing::Standing;

/// Prints how everything stands, as one line.
pub(crate) async fn say(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
    let line = serde_json::to_string(&Standing::of(client).await?)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
