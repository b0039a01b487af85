//! A relay between one client and the server that can swallow packets.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{net::UdpSocket, sync::watch, task::JoinHandle};

/// Passes packets between one client and the server.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    /// So many more packets of the client pass.
    up: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    tasks: [JoinHandle<()>; 2],
}

impl Relay {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        far.connect(server).await.unwrap();
        let address = near.local_addr().unwrap();
        let up = Arc::new(AtomicUsize::new(usize::MAX));
        let down = Arc::new(AtomicBool::new(true));
        let (known, mut client) = watch::channel(None);
        let upwards = {
            let (near, far, passes) = (near.clone(), far.clone(), up.clone());
            tokio::spawn(async move {
                let mut packet = [0; 2_048];
                while let Ok((length, from)) = near.recv_from(&mut packet).await {
                    known.send_replace(Some(from));
                    let left = |left: usize| left.checked_sub(1);
                    if passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
                        // A server that is gone makes errors here, and the client will notice.
                        let _ = far.send(&packet[..length]).await;
                    }
                }
            })
        };
        let passes = down.clone();
        let downwards = tokio::spawn(async move {
            let mut packet = [0; 2_048];
            let Ok(Some(client)) = client.wait_for(Option::is_some).await.map(|it| *it) else {
                return;
            };
            while let Ok(length) = far.recv(&mut packet).await {
                if passes.load(Ordering::SeqCst) {
                    let _ = near.send_to(&packet[..length], client).await;
                }
            }
        });
        Self { address, up, down, tasks: [upwards, downwards] }
    }

    /// How many packets that the client sends from now on get to the server.
    pub(crate) fn pass_up(&self, packets: usize) {
        self.up.store(packets, Ordering::SeqCst);
    }

    /// Whether what the server sends gets to the client.
    pub(crate) fn pass_down(&self, passes: bool) {
        self.down.store(passes, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
