//! `tern devices`.

use serde_json::json;
use tern_client::{Client, Device, DeviceId, Events, RequestError};

use crate::{
    args::{Devices, DevicesCommand},
    failure::Failure,
    output::{self, Paint},
    status::until_connected,
};

pub(crate) async fn run(
    client: &Client,
    mut events: Events,
    args: &Devices,
) -> Result<(), Failure> {
    client.connect();
    until_connected(&mut events).await?;
    match &args.command {
        None => list(client, args.json).await,
        Some(DevicesCommand::Link) => link(client, args.json).await,
        Some(DevicesCommand::Remove { id }) => remove(client, id).await,
    }
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let own = client.identity().await?.map(|own| own.device);
    let devices = client.devices().await?;
    if json {
        let devices: Vec<_> = devices
            .iter()
            .map(|device| {
                json!({
                    "id": device.device.to_string(),
                    "label": device.label,
                    "created_ms": device.created_ms,
                    "last_seen_ms": device.last_seen_ms,
                    "online": device.online,
                    "this": Some(device.device) == own,
                })
            })
            .collect();
        return Ok(output::line(&json!({ "devices": devices }).to_string())?);
    }
    for device in devices {
        output::line(&describe(&device, Some(device.device) == own))?;
    }
    Ok(())
}

fn describe(device: &Device, is_this: bool) -> String {
    let paint = Paint::stdout();
    let seen = match (device.online, device.last_seen_ms) {
        (true, _) => paint.green("online"),
        (false, 0) => paint.dim("never seen"),
        (false, last_ms) => paint.dim(&format!("seen {}", output::ago(output::now_ms(), last_ms))),
    };
    let label = paint.bold(&output::printable(&device.label));
    let this = if is_this { "  (this device)" } else { "" };
    format!("{}  {label}  {seen}{this}", device.device)
}

async fn link(client: &Client, json: bool) -> Result<(), Failure> {
    let (token, valid_for_ms) = client.create_link().await?;
    let token = token.expose_text().unwrap_or_default();
    if json {
        let value = json!({ "token": token, "valid_for_ms": valid_for_ms });
        return Ok(output::line(&value.to_string())?);
    }
    let name = client.identity().await?.map(|own| own.name).unwrap_or_default();
    output::line(&format!(
        "On the new device, within {} minutes:\n  \
         tern --server HOST:PORT --ca FILE register {name} --link {token}",
        valid_for_ms / 60_000
    ))?;
    Ok(())
}

async fn remove(client: &Client, id: &str) -> Result<(), Failure> {
    let device: DeviceId = id.parse().map_err(|_| Failure::NotAnId(id.to_owned()))?;
    match client.remove_device(device).await {
        // Who removes the device in hand is disconnected, maybe before the answer.
        Err(RequestError::ConnectionLost)
            if client.identity().await?.is_some_and(|own| own.device == device) => {}
        other => other?,
    }
    output::line(&format!("device {device} is removed"))?;
    Ok(())
}
