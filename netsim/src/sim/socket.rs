//! UDP sockets of the simulated network, as quinn sees them.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::net::{HostId, Net};

/// A socket of a host. Closed when it is dropped.
pub struct SimSocket {
    net: Net,
    host: HostId,
    port: u16,
    generation: u64,
}

impl SimSocket {
    /// Opens a socket; without a port, on one that the host didn't use before.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if the port is taken, `AddrNotAvailable` if there is none left.
    pub fn bind(net: &Net, host: HostId, port: Option<u16>) -> io::Result<Self> {
        let (port, generation) = net.bind(host, port)?;
        Ok(Self { net: net.clone(), host, port, generation })
    }

    fn id(&self) -> (HostId, u16, u64) {
        (self.host, self.port, self.generation)
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.net.close(self.host, self.port, self.generation);
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({:?}, {})", self.host, self.port)
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for packet in transmit.contents.chunks(size) {
            // As quinn's own socket does: a packet that the system refuses is a lost one. An error would
            // end the connection without a word to anybody.
            let _ = self.net.send(self.id(), transmit.destination, packet);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let most = bufs.len().min(meta.len());
        let mut slots = bufs.iter_mut().zip(meta.iter_mut());
        let taken = self.net.receive(self.id(), cx.waker(), most, |datagram| {
            if let Some((buffer, meta)) = slots.next() {
                let len = datagram.contents.len().min(buffer.len());
                buffer[..len].copy_from_slice(&datagram.contents[..len]);
                *meta = RecvMeta { addr: datagram.from, len, stride: len, ecn: None, dst_ip: None };
            }
        });
        if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        // Like a socket that is bound to no address: the path decides.
        Ok(SocketAddr::from(([0, 0, 0, 0], self.port)))
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// The network drops packets; it makes no sender wait.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
