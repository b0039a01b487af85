//! Listeners and connections that can be refused, frozen and reset.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What a test does to one listener and its connections.
#[derive(Debug)]
pub(crate) struct Gate {
    refusing: watch::Sender<bool>,
    frozen: AtomicBool,
    connections: Mutex<Vec<Weak<Switch>>>,
}

/// What a gate tells one connection.
#[derive(Debug, Default)]
struct Switch {
    reset: AtomicBool,
    /// Whoever waits for bytes to come or to go.
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            refusing: watch::Sender::new(false),
            frozen: AtomicBool::new(false),
            connections: Mutex::default(),
        })
    }

    /// Refuses connects from now on, or accepts them again. Open connections stay.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.refusing.send_replace(refuse);
    }

    /// Lets no byte through from now on, neither way, or lets them go on. New connections are accepted and hang.
    pub(crate) fn freeze(&self, freeze: bool) {
        self.frozen.store(freeze, Ordering::SeqCst);
        self.switches().iter().for_each(|switch| switch.wake());
    }

    /// Ends all open connections.
    pub(crate) fn disconnect(&self) {
        for switch in self.switches() {
            switch.reset.store(true, Ordering::SeqCst);
            switch.wake();
        }
    }

    /// Connections of a listener at `address`, which is listened at as long as the stream lives and the gate
    /// doesn't refuse.
    pub(crate) fn connections(
        self: Arc<Self>,
        listener: TcpListener,
        address: SocketAddr,
    ) -> impl Stream<Item = io::Result<Connection>> {
        let refusing = self.refusing.subscribe();
        stream::unfold(
            (Some(listener), refusing, self),
            move |(mut listener, mut refusing, gate)| async move {
                loop {
                    // Closing the socket is what refuses; waiting connects are refused with it.
                    if *refusing.borrow_and_update() {
                        listener = None;
                        refusing.changed().await.ok()?;
                        continue;
                    }
                    let listening = match listener.take() {
                        Some(listening) => listening,
                        None => match listen(address) {
                            Ok(listening) => listening,
                            Err(error) => return Some((Err(error), (None, refusing, gate))),
                        },
                    };
                    tokio::select! {
                        accepted = listening.accept() => {
                            let connection = accepted.map(|(stream, _)| gate.pass(stream));
                            return Some((connection, (Some(listening), refusing, gate)));
                        }
                        changed = refusing.changed() => changed.ok()?,
                    }
                    listener = Some(listening);
                }
            },
        )
    }

    fn pass(self: &Arc<Self>, stream: TcpStream) -> Connection {
        // Small messages to and fro are all there is.
        let _ = stream.set_nodelay(true);
        let switch = Arc::new(Switch::default());
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|weak| weak.strong_count() > 0);
        connections.push(Arc::downgrade(&switch));
        Connection { stream, switch, gate: Arc::clone(self) }
    }

    fn switches(&self) -> Vec<Arc<Switch>> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Switch {
    fn wake(&self) {
        let waiting =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }

    fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}

/// Listens at an address that may just have been listened at.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A connection behind a gate.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    switch: Arc<Switch>,
    gate: Arc<Gate>,
}

impl Connection {
    /// Whether bytes may pass; if not, who asks is woken when that changes.
    fn poll_open(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        // First to be woken, then to look: a change in between isn't missed.
        self.switch.wait(cx.waker());
        if self.switch.reset.load(Ordering::SeqCst) {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        } else if self.gate.frozen.load(Ordering::SeqCst) {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

/// Goes on if bytes may pass.
macro_rules! open {
    ($connection:expr, $cx:expr) => {
        match $connection.poll_open($cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        open!(self, cx);
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        open!(self, cx);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        open!(self, cx);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}
