//! `tern register`.

use tern_client::{Client, Entitlement, Registration, Secret, Server};

use crate::{
    args::{Register, ServerArgs},
    failure::Failure,
    output::Paint,
};

pub(crate) async fn run(
    client: &Client,
    server: &ServerArgs,
    args: &Register,
) -> Result<(), Failure> {
    let (Some(address), Some(ca_pem)) = (&server.server, server.read_ca()?) else {
        return Err(Failure::ServerNeeded);
    };
    let secret = |text: &String| Secret::new(text.as_bytes());
    let entitlement = match (&args.invite, &args.token, &args.link) {
        (Some(invite), _, _) => Entitlement::Invite(secret(invite)),
        (_, Some(token), _) => Entitlement::Token(secret(token)),
        (_, _, Some(link)) => Entitlement::Link(secret(link)),
        _ => Entitlement::None,
    };
    let identity = client
        .register(Registration {
            server: Server { address: address.clone(), name: server.server_name.clone(), ca_pem },
            name: args.name.clone(),
            label: args.label.clone(),
            entitlement,
        })
        .await?;
    let paint = Paint::stdout();
    println!(
        "{} is registered at {}; this is device {}",
        paint.bold(&identity.name),
        identity.server.address,
        identity.device
    );
    Ok(())
}
