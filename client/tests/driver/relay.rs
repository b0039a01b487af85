//! Stands between client and server, and holds back what the server sends.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::UdpSocket, sync::watch};

/// A relay of UDP packets for one client.
pub struct Relay {
    pub address: SocketAddr,
    held: watch::Sender<bool>,
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
        tokio::spawn(up(outside.clone(), inside.clone(), client));
        tokio::spawn(down(inside, outside, from, held.subscribe()));
        Self { address, held }
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

async fn up(from: Arc<UdpSocket>, to: Arc<UdpSocket>, client: watch::Sender<Option<SocketAddr>>) {
    let mut packet = vec![0; 65_536];
    while let Ok((bytes, address)) = from.recv_from(&mut packet).await {
        client.send_replace(Some(address));
        // A packet that can't be passed on is a lost one.
        let _ = to.send(&packet[..bytes]).await;
    }
}

async fn down(
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    client: watch::Receiver<Option<SocketAddr>>,
    mut held: watch::Receiver<bool>,
) {
    let mut packet = vec![0; 65_536];
    while let Ok(bytes) = from.recv(&mut packet).await {
        if held.wait_for(|&held| !held).await.is_err() {
            return;
        }
        let address = *client.borrow();
        if let Some(address) = address {
            let _ = to.send_to(&packet[..bytes], address).await;
        }
    }
}
