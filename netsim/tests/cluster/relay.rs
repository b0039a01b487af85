//! A relay in front of a node's address for other nodes, which can cut them off.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How often the threads look whether the relay is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// Passes datagrams on, in both directions, unless their sender is cut off.
pub(crate) struct Relay {
    address: SocketAddr,
    cut_off: Arc<Mutex<BTreeSet<SocketAddr>>>,
    is_over: Arc<AtomicBool>,
}

impl Relay {
    /// A relay to an address.
    pub(crate) fn to(node: SocketAddr) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = socket.local_addr().unwrap();
        let cut_off = Arc::new(Mutex::new(BTreeSet::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        socket.set_read_timeout(Some(LOOK)).unwrap();
        let relay = Self { address, cut_off: cut_off.clone(), is_over: is_over.clone() };
        thread::spawn(move || {
            let mut ways: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
            let mut buffer = [0; 65_536];
            while !is_over.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                if cut_off.lock().unwrap().contains(&from) {
                    continue;
                }
                let way = ways
                    .entry(from)
                    .or_insert_with(|| way_back(from, &socket, cut_off.clone(), is_over.clone()));
                // What can't be sent is lost, as on any network.
                let _ = way.send_to(&buffer[..length], node);
            }
        });
        relay
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts off a sender, or not any more.
    pub(crate) fn cut_off(&self, sender: SocketAddr, is_cut_off: bool) {
        let mut cut_off = self.cut_off.lock().unwrap();
        match is_cut_off {
            true => cut_off.insert(sender),
            false => cut_off.remove(&sender),
        };
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// A socket that stands for a sender, and passes on what comes back for it.
fn way_back(
    sender: SocketAddr,
    socket: &Arc<UdpSocket>,
    cut_off: Arc<Mutex<BTreeSet<SocketAddr>>>,
    is_over: Arc<AtomicBool>,
) -> Arc<UdpSocket> {
    let way = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    way.set_read_timeout(Some(LOOK)).unwrap();
    let (back, socket) = (way.clone(), socket.clone());
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while !is_over.load(Ordering::Relaxed) {
            let Ok((length, _)) = back.recv_from(&mut buffer) else { continue };
            if !cut_off.lock().unwrap().contains(&sender) {
                let _ = socket.send_to(&buffer[..length], sender);
            }
        }
    });
    way
}
