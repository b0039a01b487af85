//! The emulator, between real kernels' ends of it. Where there is no root, no TUN or no `ip`, the tests say so
//! and pass.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests may panic and speak")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
    thread,
};

use tern_netsim::{
    emulate::{CLIENT, EmulateError, Emulation, SERVER, Side},
    link::{LinkSettings, Loss},
    path::PathSettings,
    profile::Profile,
};

fn start(path: PathSettings) -> Option<Emulation> {
    match Emulation::start(path, 1) {
        Ok(emulation) => Some(emulation),
        Err(error) if is_missing(&error) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn is_missing(error: &EmulateError) -> bool {
    match error {
        EmulateError::NotRoot | EmulateError::NoIp(_) | EmulateError::Tun(_) => true,
        // Root without the right to make namespaces, as in many containers.
        EmulateError::Ip { command, .. } => command.starts_with("netns add"),
        _ => false,
    }
}

/// Sends `bytes` from the client to the server over TCP; what arrives there.
fn transfer(emulation: &Emulation, bytes: &[u8]) -> Vec<u8> {
    let listener =
        emulation.within(Side::Server, || TcpListener::bind((SERVER, 0)).unwrap()).unwrap();
    let to = listener.local_addr().unwrap();
    let mut stream = emulation.within(Side::Client, || TcpStream::connect(to).unwrap()).unwrap();
    let (mut accepted, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), CLIENT);
    thread::scope(|scope| {
        scope.spawn(move || stream.write_all(bytes).unwrap());
        let mut arrived = Vec::new();
        accepted.read_to_end(&mut arrived).unwrap();
        arrived
    })
}

#[test]
fn tcp_gets_through_a_perfect_path() {
    let Some(emulation) = start(PathSettings::default()) else { return };
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
    assert_eq!(transfer(&emulation, &bytes), bytes);
    let report = emulation.report();
    assert!(report.up.delivered.bytes > 1_000_000);
    assert_eq!(report.up.delivered, report.up.entered);
    assert!(report.down.delivered.packets > 0);
}

#[test]
fn tcp_gets_through_a_path_that_damages_packets() {
    let settings = LinkSettings {
        reorder: 0.05,
        reorder_by_ms: 2.0,
        duplicate: 0.05,
        corrupt: 0.02,
        loss: Loss::Bursts { probability: 0.02, at_most: 2 },
        ..LinkSettings::default()
    };
    let Some(emulation) = start(PathSettings::symmetric(settings)) else { return };
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
    assert_eq!(transfer(&emulation, &bytes), bytes);
}

#[test]
fn what_is_lost_does_not_arrive() {
    let up = LinkSettings { loss: Loss::ALL, ..LinkSettings::default() };
    let Some(emulation) = start(PathSettings { up, ..PathSettings::default() }) else { return };
    let bind = |side, address| {
        emulation.within(side, move || UdpSocket::bind((address, 0)).unwrap()).unwrap()
    };
    let (client, server) = (bind(Side::Client, CLIENT), bind(Side::Server, SERVER));
    for _ in 0..10 {
        client.send_to(b"up", server.local_addr().unwrap()).unwrap();
    }
    server.send_to(b"down", client.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 10];
    let (len, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from), (&b"down"[..], server.local_addr().unwrap()));
    while emulation.report().up.lost.packets < 10 {
        thread::yield_now();
    }
    server.set_nonblocking(true).unwrap();
    assert!(server.recv_from(&mut buffer).is_err());
}

#[test]
fn commands_run_on_their_side_and_nothing_stays() {
    let Some(emulation) = start(PathSettings::default()) else { return };
    let mut addresses = Command::new("ip");
    addresses.args(["-brief", "address"]).stdout(std::process::Stdio::piped());
    let output = emulation.spawn(Side::Server, addresses).unwrap().wait_with_output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.contains("10.77.0.2/24") && !output.contains("10.77.0.1/24"), "{output}");

    let mut long = Command::new("sleep");
    long.arg("1000");
    let mut long = emulation.spawn(Side::Client, long).unwrap();
    let names = [Side::Client, Side::Server].map(|side| emulation.namespace(side).to_owned());
    drop(emulation);
    assert!(!long.wait().unwrap().success());
    for name in names {
        assert!(!std::path::Path::new("/run/netns").join(name).exists());
    }
}

#[test]
fn a_path_that_it_cannot_make_is_refused() {
    let path = Profile::named("rebind-port").unwrap().path;
    assert!(matches!(Emulation::start(path, 0), Err(EmulateError::Rebind)));
}
