//! Stands between client and server: holds back what the server sends, and cuts connections.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{net::UdpSocket, sync::watch};

/// A relay of UDP packets for one client.
pub struct Relay {
    pub address: SocketAddr,
    held: watch::Sender<bool>,
    cut: Arc<Mutex<Cut>>,
}

/// The connection ids in packets that came behind a handshake, and those that are swallowed.
#[derive(Default)]
struct Cut {
    seen: BTreeSet<Vec<u8>>,
    dead: BTreeSet<Vec<u8>>,
}

impl Cut {
    /// Whether a packet passes. Those with a short header begin with the receiver's connection id,
    /// of which QUIC chooses 8 bytes here on both ends.
    fn passes(&mut self, packet: &[u8]) -> bool {
        if packet[0] & 0x80 != 0 || packet.len() < 9 {
            return true;
        }
        let id = packet[1..9].to_vec();
        let is_dead = self.dead.contains(&id);
        self.seen.insert(id);
        !is_dead
    }
}

impl Relay {
    /// Starts to pass packets on to `server` and back.
    pub async fn start(server: SocketAddr) -> Self {
        let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        inside.connect(server).await.unwrap();
        let address = outside.local_addr().unwrap();
        let (client, from) = watch::channel(None);
        let held = watch::channel(false).0;
        let cut = Arc::<Mutex<Cut>>::default();
        tokio::spawn(up(outside.clone(), inside.clone(), client, cut.clone()));
        tokio::spawn(down(inside, outside, from, held.subscribe(), cut.clone()));
        Self { address, held, cut }
    }

    /// Nothing passes any more, in either direction, of the connections that there are now.
    pub fn cut(&self) {
        let mut cut = self.cut.lock().unwrap();
        cut.dead = cut.seen.clone();
    }

    /// From now on nothing of what the server sends arrives; it is kept.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// All of it arrives.
    pub fn release(&self) {
        self.held.send_replace(false);
    }
}

async fn up(
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    client: watch::Sender<Option<SocketAddr>>,
    cut: Arc<Mutex<Cut>>,
) {
    let mut packet = vec![0; 65_536];
    while let Ok((bytes, address)) = from.recv_from(&mut packet).await {
        client.send_replace(Some(address));
        let passes = cut.lock().unwrap().passes(&packet[..bytes]);
        if passes {
            // A packet that can't be passed on is a lost one.
            let _ = to.send(&packet[..bytes]).await;
        }
    }
}

async fn down(
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    client: watch::Receiver<Option<SocketAddr>>,
    mut held: watch::Receiver<bool>,
    cut: Arc<Mutex<Cut>>,
) {
    let mut packet = vec![0; 65_536];
    while let Ok(bytes) = from.recv(&mut packet).await {
        if held.wait_for(|&held| !held).await.is_err() {
            return;
        }
        let address = *client.borrow();
        let passes = cut.lock().unwrap().passes(&packet[..bytes]);
        if let Some(address) = address
            && passes
        {
            let _ = to.send_to(&packet[..bytes], address).await;
        }
    }
}
