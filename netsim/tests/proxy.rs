//! The proxy over real sockets. Nothing here depends on how long anything takes: what must come is waited for,
//! and what must not come is followed by something that must.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{collections::BTreeSet, net::SocketAddr};

use tern_netsim::{
    link::{LinkSettings, Loss},
    path::{BlackHole, PathSettings},
    proxy::{Proxy, ProxyError, ProxySettings},
};
use tokio::net::UdpSocket;

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

fn settings(to: SocketAddr, path: PathSettings) -> ProxySettings {
    ProxySettings { listen: "127.0.0.1:0".parse().unwrap(), to, path, seed: 1, max_flows: 8 }
}

async fn start(server: &UdpSocket, path: PathSettings) -> Proxy {
    Proxy::start(settings(server.local_addr().unwrap(), path)).await.unwrap()
}

async fn client(proxy: &Proxy) -> UdpSocket {
    let client = socket().await;
    client.connect(proxy.address()).await.unwrap();
    client
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_535];
    let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
    (buffer[..len].to_vec(), from)
}

#[tokio::test]
async fn a_perfect_path_carries_everything_unchanged() {
    let server = socket().await;
    let proxy = start(&server, PathSettings::default()).await;
    let client = client(&proxy).await;
    for len in [0_usize, 1, 1_200, 20_000] {
        let packet: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        client.send(&packet).await.unwrap();
        let (there, from) = receive(&server).await;
        assert_eq!(there, packet);
        server.send_to(&there, from).await.unwrap();
        let (back, from) = receive(&client).await;
        assert_eq!(back, packet);
        assert_eq!(from, proxy.address());
    }
    let report = proxy.stop();
    for counts in [report.down, report.up] {
        assert_eq!((counts.entered.packets, counts.entered.bytes), (4, 21_201));
        assert_eq!(counts.delivered, counts.entered);
    }
    assert_eq!(report.flows, 1);
}

#[tokio::test]
async fn what_is_lost_does_not_arrive() {
    let server = socket().await;
    let up = LinkSettings { loss: Loss::ALL, ..LinkSettings::default() };
    let proxy = start(&server, PathSettings { up, ..PathSettings::default() }).await;
    let client = client(&proxy).await;
    for _ in 0..50 {
        client.send(b"lost").await.unwrap();
    }
    while proxy.report().up.lost.packets < 50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(proxy.report().up.delivered.packets, 0);
    // What comes directly is the first that the server sees.
    client.connect(server.local_addr().unwrap()).await.unwrap();
    client.send(b"directly").await.unwrap();
    assert_eq!(receive(&server).await.0, b"directly");
}

#[tokio::test]
async fn a_black_hole_swallows_both_directions() {
    let server = socket().await;
    let black_hole = Some(BlackHole { on_ms: 0.0, off_ms: 1_000.0, times: None });
    let proxy = start(&server, PathSettings { black_hole, ..PathSettings::default() }).await;
    let client = client(&proxy).await;
    client.send(b"gone").await.unwrap();
    while proxy.report().black_hole.packets < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(proxy.report().up.entered.packets, 0);
}

#[tokio::test]
async fn rebinding_changes_what_the_server_sees_and_forgets_the_old_address() {
    let server = socket().await;
    let proxy = start(&server, PathSettings::default()).await;
    let client = client(&proxy).await;
    let mut seen = Vec::new();
    for address in [false, true, true] {
        client.send(b"ping").await.unwrap();
        seen.push(receive(&server).await.1);
        proxy.rebind(address).unwrap();
    }
    client.send(b"ping").await.unwrap();
    seen.push(receive(&server).await.1);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 4);
    let hosts: Vec<_> = seen.iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(hosts, ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3"]);

    server.send_to(b"to an old address", seen[2]).await.unwrap();
    server.send_to(b"to the new one", seen[3]).await.unwrap();
    assert_eq!(receive(&client).await.0, b"to the new one");
    assert_eq!(proxy.report().rebinds, 3);
}

#[tokio::test]
async fn clients_do_not_mix() {
    let server = socket().await;
    let proxy = start(&server, PathSettings::default()).await;
    let clients = [client(&proxy).await, client(&proxy).await];
    for (client, text) in clients.iter().zip(["one", "two"]) {
        client.send(text.as_bytes()).await.unwrap();
    }
    let (first, second) = (receive(&server).await, receive(&server).await);
    assert_ne!(first.1, second.1);
    for (text, from) in [second, first] {
        server.send_to(&text, from).await.unwrap();
    }
    for (client, text) in clients.iter().zip(["one", "two"]) {
        assert_eq!(receive(client).await.0, text.as_bytes());
    }
    assert_eq!(proxy.report().flows, 2);
}

#[tokio::test]
async fn one_client_too_many_takes_the_place_of_the_quietest() {
    let server = socket().await;
    let to = server.local_addr().unwrap();
    let limited = ProxySettings { max_flows: 2, ..settings(to, PathSettings::default()) };
    let proxy = Proxy::start(limited).await.unwrap();
    let clients = [client(&proxy).await, client(&proxy).await, client(&proxy).await];
    let mut addresses = Vec::new();
    // The first speaks again, so the second has been quiet for longest when the third comes.
    for i in [0, 1, 0, 2, 0, 1] {
        clients[i].send(&[u8::try_from(i).unwrap()]).await.unwrap();
        let (packet, from) = receive(&server).await;
        assert_eq!(packet, [u8::try_from(i).unwrap()]);
        addresses.push(from);
    }
    assert_eq!(addresses[0], addresses[2]);
    assert_eq!(addresses[0], addresses[4]);
    assert_ne!(addresses[1], addresses[5]);
    let report = proxy.report();
    assert_eq!((report.flows, report.evicted), (4, 2));
    // The counts of the forgotten are still there.
    assert_eq!(report.up.delivered.packets, 6);
}

#[tokio::test]
async fn copies_and_flipped_bits_arrive() {
    let server = socket().await;
    let up = LinkSettings { duplicate: 1.0, corrupt: 1.0, ..LinkSettings::default() };
    let proxy = start(&server, PathSettings { up, ..PathSettings::default() }).await;
    client(&proxy).await.send(&[0; 100]).await.unwrap();
    for _ in 0..2 {
        let (packet, _) = receive(&server).await;
        assert_eq!(packet.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let to: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let none = ProxySettings { max_flows: 0, ..settings(to, PathSettings::default()) };
    assert!(matches!(Proxy::start(none).await, Err(ProxyError::NoFlows)));
    let down = LinkSettings { corrupt: 2.0, ..LinkSettings::default() };
    let impossible = settings(to, PathSettings { down, ..PathSettings::default() });
    let error = Proxy::start(impossible).await.unwrap_err().to_string();
    assert_eq!(error, "down: corrupt is 2, but may be a share from 0 to 1");
    let path = tern_netsim::profile::Profile::named("rebind-address").unwrap().path;
    let elsewhere = settings("192.0.2.1:1".parse().unwrap(), path);
    assert!(matches!(Proxy::start(elsewhere).await, Err(ProxyError::OneAddress)));
}
