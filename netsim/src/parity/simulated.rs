//! In virtual time, on a simulated network.

use std::{net::SocketAddr, sync::Arc};

use tern_client::{Client, Events, Settings};

use super::{ParityError, Times, job};
use crate::{
    figures::Case,
    sim::{Access, Credentials, Net, Phone, SERVER_PORT, ServerHost, in_virtual_time},
};

struct Simulated<'a> {
    phones: [Phone; 2],
    server: SocketAddr,
    credentials: &'a Credentials,
}

impl job::Stage for Simulated<'_> {
    async fn start(&mut self, phone: usize) -> Result<(Client, Events), ParityError> {
        Ok(self.phones[phone].start().await?)
    }

    fn server(&self, _phone: usize) -> SocketAddr {
        self.server
    }

    fn credentials(&self) -> &Credentials {
        self.credentials
    }
}

pub(super) fn run(case: &Case, seed: u64) -> Result<Times, ParityError> {
    in_virtual_time(|| async {
        let net = Net::new(seed);
        let credentials = Credentials::new(seed)?;
        let host = net.add_host(&Access::default()).map_err(std::io::Error::other)?;
        let config = super::real::config(&credentials);
        let mut server = ServerHost::new(&net, host, &credentials, config, seed);
        server.start().await?;
        let access = Access { up: case.up.clone(), down: case.down.clone(), ..Access::default() };
        let phone = |name: &str| {
            let host = net.add_host(&access).map_err(std::io::Error::other)?;
            let settings = Arc::new(Settings::default);
            Ok::<_, ParityError>(Phone::new(&net, host, &credentials, name, seed, settings))
        };
        let phones = [phone("asks")?, phone("answers")?];
        let server = net
            .address(host, SERVER_PORT)
            .ok_or_else(|| std::io::Error::other("the server has no address"))?;
        job::run(&mut Simulated { phones, server, credentials: &credentials }).await
    })?
}
