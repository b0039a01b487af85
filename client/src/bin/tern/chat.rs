//! `tern chat`.
use crate::failure::Failure;
use tern_client::{Client, Events};
pub(crate) async fn run(_client: &Client, _events: Events, _name: &str) -> Result<(), Failure> {
    Ok(())
}
