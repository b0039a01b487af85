//! A server, its clients, and what is done to them.

use std::{path::Path, thread, time::Duration};

use rand::{Rng, rngs::StdRng};
use tern_netsim::checker::History;

use crate::support::{
    load::{Folder, Load, Registered, registered},
    server::Server,
    tail,
    tern::Tern,
};

/// The accounts and how many devices each has. Everybody talks to everybody.
const ACCOUNTS: [(&str, usize); 4] = [("ann", 2), ("bob", 1), ("cem", 2), ("dot", 1)];
/// What the server writes stays if the test fails.
const SERVER_FLAGS: [&str; 4] = ["--admin", "off", "--log", "warn,tern_server=debug"];

pub(crate) struct World {
    server: Server,
    pub(crate) load: Load,
    pub(crate) server_kills: usize,
    // Goes last, when nobody writes to it any more.
    folder: Folder,
}

impl World {
    /// Starts a server, registers all devices, and lets them talk.
    pub(crate) fn start() -> Self {
        let folder = Folder::new();
        let server = Server::start_with(folder.path(), &SERVER_FLAGS);
        let all = register(&server, folder.path());
        let load = Load::start(folder.path(), all, |_, _| true);
        Self { server, load, server_kills: 0, folder }
    }

    pub(crate) fn let_it_run(&mut self, rng: &mut StdRng) {
        let server = &mut self.server;
        self.load.let_it_run(rng, || server.must_run());
    }

    /// Kills the server and starts it again, at times in the middle of its start.
    pub(crate) fn kill_server(&mut self, rng: &mut StdRng) {
        self.server.process().kill();
        self.server_kills += 1;
        while rng.random_bool(0.15) {
            self.server.restart();
            thread::sleep(Duration::from_millis(rng.random_range(0..60)));
            self.server.process().kill();
            self.server_kills += 1;
        }
        self.server.restart();
        self.server.until_ready();
        self.load.change_networks(rng);
    }

    /// Lets everybody send what waits, get what waits and read it.
    pub(crate) fn settle(&mut self) {
        let server = &mut self.server;
        if let Err(error) = self.load.settle(|| server.must_run()) {
            let log = tail(&self.server.log());
            panic!("{error}\n{}\nserver:\n{log}{}", self.counts(), self.load.report());
        }
    }

    /// Ends everything; answers what happened.
    pub(crate) fn finish(mut self) -> History {
        let history = self.load.finish();
        assert!(
            self.server.process().child().try_wait().unwrap().is_none(),
            "the server has ended"
        );
        drop(self.folder);
        history
    }

    pub(crate) fn counts(&self) -> String {
        format!("{} kills of the server, {}", self.server_kills, self.load.counts())
    }
}

fn register(server: &Server, folder: &Path) -> Vec<Registered> {
    let mut all = Vec::new();
    for (name, devices) in ACCOUNTS {
        let first = Tern::register(server, &folder.join(format!("{name}-1")), name);
        all.push(registered(&first, &format!("{name}-1")));
        for number in 2..=devices {
            let link = first.run(&["devices", "--json", "link"]).json();
            let token = link["token"].as_str().unwrap();
            let further = Tern::new(&folder.join(format!("{name}-{number}")));
            further.try_register(server, name, &["--link", token]).good();
            all.push(registered(&further, &format!("{name}-{number}")));
        }
    }
    all
}
