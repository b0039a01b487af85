//! Ids against the draft's vectors, every length, and whatever bytes there are; what the balancer does with them.

mod behind;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use proptest::prelude::*;
use quinn_proto::{ConnectionIdGenerator, DatagramEvent, Endpoint, EndpointConfig};
use ring::hmac;

use super::*;
use crate::random::Random;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    assert!(digits.len().is_multiple_of(2), "{text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn key(text: &str) -> Option<[u8; 16]> {
    Some(unhex(text).try_into().unwrap())
}

fn server_id(bytes: &[u8]) -> ServerId {
    ServerId::new(bytes).unwrap()
}

fn generator(config: &LbConfig, id: &[u8], seed: u64) -> Generator {
    Generator::new(config.clone(), server_id(id), Random::seeded(seed)).unwrap()
}

#[test]
fn the_drafts_vectors_hold() {
    let secret = key("8f95f09245765f80256934e50c66207f");
    for (number, key, id, nonce, cid) in [
        // Appendix B.1. Its second row can't be right: nonce and id have an odd number of digits.
        (0, None, "c4605e", "4504cc4f", "07c4605e4504cc4f"),
        // Appendix B.2. The fourth row says configuration 3, and its id says 0.
        (0, secret, "ed793a", "ee080dbf", "0720b1d07b359d3c"),
        (1, secret, "ed793a51d49b8f5fab65", "ee080dbf48", "2fcc381bc74cb4fbad2823a3d1f8fed2"),
        (2, secret, "ed793a51d49b8f5f", "ee080dbf48c0d1e5", "504dd2d05a7b0de9b2b9907afb5ecf8cc3"),
        (
            0,
            secret,
            "ed793a51d49b8f5fab",
            "ee080dbf48c0d1e55d",
            "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc",
        ),
        // The example of section 5.4.2.
        (
            0,
            self::key("fdf726a9893ec05c0632d3956680baf0"),
            "31441a",
            "9c69c275",
            "0767947d29be054a",
        ),
    ] {
        let (id, nonce, cid) = (unhex(id), unhex(nonce), unhex(cid));
        let config = LbConfig::new(number, id.len(), nonce.len(), key).unwrap();
        assert_eq!(config.encode(&id, &nonce).unwrap()[..], cid);
        assert_eq!(config.decode(&cid), Some(server_id(&id)));
    }
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let config = |number, id, nonce| LbConfig::new(number, id, nonce, None).map(drop);
    assert_eq!(config(7, 8, 8), Err(LbConfigError::ConfigId(7)));
    assert_eq!(config(0, 0, 8), Err(LbConfigError::ServerIdBytes(0)));
    assert_eq!(config(0, 16, 4), Err(LbConfigError::ServerIdBytes(16)));
    assert_eq!(config(0, 1, 3), Err(LbConfigError::NonceBytes(3)));
    assert_eq!(config(0, 1, 19), Err(LbConfigError::NonceBytes(19)));
    assert_eq!(config(0, 15, 5), Err(LbConfigError::BlockBytes(20)));
    assert_eq!(config(0, usize::MAX, usize::MAX), Err(LbConfigError::ServerIdBytes(usize::MAX)));
    assert_eq!(config(6, 15, 4), Ok(()));
    assert_eq!(config(6, 1, 18), Ok(()));

    let config = LbConfig::new(0, 2, 4, None).unwrap();
    assert_eq!(config.encode(&[1], &[0; 4]), Err(EncodeError::ServerId(1)));
    assert_eq!(config.encode(&[1, 2], &[0; 5]), Err(EncodeError::Nonce(5)));
    let wrong = Generator::new(config, server_id(&[1, 2, 3]), Random::seeded(1)).map(drop);
    assert_eq!(wrong, Err(EncodeError::ServerId(3)));
    assert_eq!(ServerId::new(&[]), None);
    assert_eq!(ServerId::new(&[0; 16]), None);
    assert_ne!(ServerId::new(&[0]), ServerId::new(&[0, 0]));
}

/// All lengths that are allowed.
fn lengths() -> impl Iterator<Item = (usize, usize)> {
    let nonces = |id| NONCE_BYTES.filter(move |nonce| id + nonce <= BLOCK_BYTES);
    SERVER_ID_BYTES.flat_map(move |id| nonces(id).map(move |nonce| (id, nonce)))
}

fn configs() -> impl Strategy<Value = LbConfig> {
    let all: Vec<_> = lengths().collect();
    let key = any::<Option<[u8; 16]>>();
    (CONFIG_IDS, prop::sample::select(all), key)
        .prop_map(|(number, (id, nonce), key)| LbConfig::new(number, id, nonce, key).unwrap())
}

#[test]
fn every_length_goes_there_and_back() {
    let random = Random::seeded(7);
    let mut count = 0;
    for (id, nonce) in lengths() {
        for key in [None, Some(random.bytes())] {
            let config = LbConfig::new(5, id, nonce, key).unwrap();
            for _ in 0..20 {
                let (bytes, nonce_bytes): ([u8; 15], [u8; 18]) = (random.bytes(), random.bytes());
                let cid = config.encode(&bytes[..id], &nonce_bytes[..nonce]).unwrap();
                assert_eq!(cid.len(), config.cid_bytes());
                assert_eq!(cid[0], 5 << 5 | (cid.len() - 1) as u8);
                assert_eq!(config.decode(&cid), Some(server_id(&bytes[..id])), "{id} {nonce}");
                // Encryption goes wherever there is a key: no two nonces have one id.
                let mut other = nonce_bytes;
                other[nonce - 1] ^= 1;
                assert_ne!(config.encode(&bytes[..id], &other[..nonce]).unwrap(), cid);
            }
            count += 1;
        }
    }
    assert_eq!(count, 2 * 120);
}

proptest! {
    #[test]
    fn whatever_the_bytes_nothing_breaks(
        config in configs(),
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        fits in any::<bool>(),
    ) {
        let mut cid = bytes;
        if fits {
            cid.resize(config.cid_bytes(), 0x5a);
            cid[0] = config.config_id() << 5 | (config.cid_bytes() - 1) as u8;
        }
        let read = config.decode(&cid);
        if fits {
            prop_assert_eq!(read.unwrap().as_bytes().len(), config.server_id_bytes());
        } else if let Some(id) = read {
            prop_assert_eq!(cid.len(), config.cid_bytes());
            prop_assert_eq!(id.as_bytes().len(), config.server_id_bytes());
        }
    }

    #[test]
    fn another_configuration_reads_nothing_and_another_key_something_else(
        key in any::<[u8; 16]>(),
        other in any::<[u8; 16]>(),
        id in any::<[u8; 8]>(),
        nonce in any::<[u8; 10]>(),
    ) {
        prop_assume!(key != other);
        let config = |number, nonce, key| LbConfig::new(number, 8, nonce, Some(key)).unwrap();
        for length in [4, 8, 10] {
            let cid = config(1, length, key).encode(&id, &nonce[..length]).unwrap();
            prop_assert_eq!(config(2, length, key).decode(&cid), None);
            prop_assert_eq!(config(1, length - 4 + 5, key).decode(&cid), None);
            prop_assert!(config(1, length, other).decode(&cid).is_some());
        }
    }

    #[test]
    fn a_datagram_of_any_bytes_goes_to_a_server(
        configs in proptest::collection::vec(configs(), 0..4),
        datagram in proptest::collection::vec(any::<u8>(), 0..80),
        port in any::<u16>(),
    ) {
        let balancer = Balancer::new(configs, servers(3));
        let addresses = addresses(port);
        let route = balancer.route(&addresses, &datagram).unwrap();
        if matches!(route, Route::ByAddresses(_)) {
            prop_assert_eq!(Some(route), balancer.route_by_addresses(&addresses));
        }
        prop_assert_eq!(Balancer::default().route(&addresses, &datagram), None);
    }
}

#[test]
fn a_nonce_comes_once_whichever_end_point_asks() {
    for (nonce_bytes, key) in
        [(4, Some([1; 16])), (8, Some([2; 16])), (12, Some([3; 16])), (12, None)]
    {
        let config = LbConfig::new(0, 4, nonce_bytes, key).unwrap();
        let mut one = generator(&config, b"tern", 3);
        let mut other = one.clone();
        let mut seen = HashSet::new();
        for _ in 0..20_000 {
            for generator in [&mut one, &mut other] {
                let cid = generator.generate_cid();
                assert!(seen.insert(cid), "{cid} came twice");
                assert_eq!(config.decode(&cid), Some(server_id(b"tern")));
                assert!(generator.validate(&cid).is_ok());
            }
        }
        assert_eq!(one.made(), 40_000);
    }
}

#[test]
fn a_process_begins_its_nonces_elsewhere() {
    let config = LbConfig::new(0, 8, 8, Some([9; 16])).unwrap();
    let ids = |seed| {
        let mut generator = generator(&config, b"the node", seed);
        (0..1_000).map(|_| generator.generate_cid()).collect::<BTreeSet<_>>()
    };
    assert!(ids(1).is_disjoint(&ids(2)));
    assert_eq!(ids(1), ids(1), "a seed repeats a run");
}

#[test]
fn nonces_that_are_used_up_are_not_used_again() {
    let config = LbConfig::new(3, 2, 4, Some([4; 16])).unwrap();
    let mut generator = generator(&config, b"me", 11);
    let first = generator.generate_cid();
    generator.skip(u64::from(u32::MAX) - 1);
    let last = generator.generate_cid();
    assert_eq!(config.decode(&last), Some(server_id(b"me")));
    assert_ne!(last, first);
    assert_eq!(generator.made(), generator.most());
    for _ in 0..100 {
        let cid = generator.generate_cid();
        assert_eq!(cid.len(), generator.cid_len());
        assert_eq!(cid[0], 7 << 5 | 6, "the number of no configuration");
        assert_eq!(config.decode(&cid), None);
    }
}

fn end_point(generator: &Generator) -> Endpoint {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &[5; 64]);
    let mut config = EndpointConfig::new(std::sync::Arc::new(reset_key));
    let generator = generator.clone();
    config.cid_generator(move || Box::new(generator.clone()));
    Endpoint::new(std::sync::Arc::new(config), None, true, Some([6; 32]))
}

/// What an end point answers to a packet for a connection that it doesn't have.
fn answer(end_point: &mut Endpoint, cid: &[u8]) -> Option<Vec<u8>> {
    let datagram = short(cid, 200);
    let (now, client) = (Instant::now(), addresses(5000).client);
    let mut buffer = Vec::new();
    match end_point.handle(now, client, None, None, datagram[..].into(), &mut buffer) {
        Some(DatagramEvent::Response(transmit)) => Some(buffer[..transmit.size].to_vec()),
        Some(_) => panic!("neither a connection nor a new one"),
        None => None,
    }
}

#[test]
fn a_server_that_was_started_again_resets_the_connections_that_it_had_and_no_others() {
    let config = LbConfig::new(0, 8, 8, Some([8; 16])).unwrap();
    let cid = generator(&config, b"server 1", 1).generate_cid();
    let of_another = generator(&config, b"server 2", 2).generate_cid();

    let mut again = end_point(&generator(&config, b"server 1", 3));
    assert_eq!(answer(&mut again, &of_another), None);
    let reset = answer(&mut again, &cid).unwrap();
    let token = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[5; 64]), &cid);
    // The token that the first process told the client, which is made from the id and the reset key.
    assert_eq!(reset[reset.len() - 16..], token.as_ref()[..16]);
}

fn addresses(port: u16) -> Addresses {
    let service = SocketAddr::from(([192, 0, 2, 1], 443));
    Addresses { client: (Ipv4Addr::new(198, 51, 100, 7), port).into(), service }
}

fn id_of(number: u8) -> ServerId {
    server_id(&[0xc0, number, 3, 4, 5, 6, 7, 8])
}

fn address_of(number: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, number), 7777).into()
}

fn servers(count: u8) -> BTreeMap<ServerId, Server> {
    let server = |n| (id_of(n), Server { address: address_of(n), takes_new: true });
    (1..=count).map(server).collect()
}

fn short(cid: &[u8], length: usize) -> Vec<u8> {
    let mut datagram = vec![0x40];
    datagram.extend(cid);
    datagram.resize(length, 0xa5);
    datagram
}

fn long(cid: &[u8], length: usize) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0, 0, 0, 1, cid.len() as u8];
    datagram.extend(cid);
    datagram.resize(length, 0xa5);
    datagram
}

#[test]
fn an_id_leads_to_its_server_from_wherever_it_comes() {
    let old = LbConfig::new(1, 8, 6, Some([1; 16])).unwrap();
    let new = LbConfig::new(2, 8, 8, Some([2; 16])).unwrap();
    let balancer = Balancer::new([old.clone(), new.clone()], servers(3));
    for config in [&old, &new] {
        for number in 1..=3 {
            let cid = generator(config, id_of(number).as_bytes(), 1).generate_cid();
            for port in 1000..1050 {
                let expected = Some(Route::ById(address_of(number)));
                assert_eq!(balancer.route(&addresses(port), &short(&cid, 60)), expected);
                assert_eq!(balancer.route(&addresses(port), &long(&cid, 1200)), expected);
                // Nothing but the first bit of the first byte is the same in all versions.
                let mut greased = short(&cid, 60);
                greased[0] = 0x15;
                assert_eq!(balancer.route(&addresses(port), &greased), expected);
            }
            // The id is there, and a byte of it isn't.
            let cut = balancer.route(&addresses(1000), &short(&cid, cid.len()));
            assert_eq!(cut, balancer.route_by_addresses(&addresses(1000)));
            // A long header says another length than the id itself.
            let longer = balancer.route(&addresses(1000), &long(&[&cid[..], &[1]].concat(), 1200));
            assert_eq!(longer, balancer.route_by_addresses(&addresses(1000)));
        }
    }
}

#[test]
fn ids_of_nobody_go_by_addresses() {
    let config = LbConfig::new(0, 8, 8, Some([3; 16])).unwrap();
    let balancer = Balancer::new([config.clone()], servers(3));
    let gone = generator(&config, id_of(9).as_bytes(), 1).generate_cid();
    for port in 1000..1100 {
        let addresses = addresses(port);
        let by_addresses = balancer.route_by_addresses(&addresses);
        for datagram in
            [short(&gone, 60), long(&gone, 1200), long(&[7; 20], 1200), long(&[], 50), vec![]]
        {
            assert_eq!(balancer.route(&addresses, &datagram), by_addresses);
        }
    }
}

#[test]
fn a_client_is_the_same_in_either_form_of_its_address() {
    let balancer = Balancer::new([], servers(5));
    for port in 1000..1100 {
        let addresses = addresses(port);
        let mapped = Ipv4Addr::new(198, 51, 100, 7).to_ipv6_mapped();
        let other = Addresses { client: (mapped, port).into(), ..addresses };
        assert_eq!(balancer.route_by_addresses(&other), balancer.route_by_addresses(&addresses));
    }
}

#[test]
fn only_the_new_clients_of_a_server_that_drains_go_elsewhere() {
    let config = LbConfig::new(0, 8, 8, Some([3; 16])).unwrap();
    let mut some = servers(4);
    let before = Balancer::new([config.clone()], some.clone());
    some.get_mut(&id_of(2)).unwrap().takes_new = false;
    let after = Balancer::new([config.clone()], some.clone());
    let drained = Route::ByAddresses(address_of(2));
    let mut shares = BTreeMap::new();
    for port in 1..=20_000 {
        let [was, is] = [&before, &after]
            .map(|balancer| balancer.route_by_addresses(&addresses(port)).unwrap());
        *shares.entry(was.address()).or_insert(0_u32) += 1;
        match was == drained {
            true => assert_ne!(is, drained),
            false => assert_eq!(is, was),
        }
    }
    // 5,000 each: the deviation is 61, and 5% is more than four of them.
    assert_eq!(shares.len(), 4);
    assert!(shares.values().all(|share| share.abs_diff(5_000) < 250), "{shares:?}");

    let cid = generator(&config, id_of(2).as_bytes(), 1).generate_cid();
    let route = after.route(&addresses(1), &short(&cid, 60));
    assert_eq!(route, Some(Route::ById(address_of(2))), "it keeps the clients that it has");

    some.values_mut().for_each(|server| server.takes_new = false);
    let closed = Balancer::new([config], some);
    assert_eq!(closed.route_by_addresses(&addresses(1)), None);
    assert_eq!(closed.route(&addresses(1), &short(&cid, 60)), route);
}
