//! Registration, tickets, devices, requests.

use std::collections::BTreeSet;

use tern_protocol::{
    code::Code,
    frame::{Account, Entitlement, Event, Frame, Request, RequestBody, ResponseBody, Secret},
    id::{AccountId, DeviceId},
};
use tern_server::keys;

use crate::common::{Key, World, client::Client, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_answered_the_same_again() {
    let mut world = World::start().await;
    let ann = world.register("ann").await;
    let first = ann.welcome.clone();
    let Client { key, .. } = ann;
    for entitlement in [
        Entitlement::None,
        Entitlement::Invite(Secret::new(*b"of no use")),
        Entitlement::Link(Secret::new(*b"of no use")),
    ] {
        let mut raw = world.connect().await;
        let credential = raw.register(&key, "ann", entitlement);
        let welcome = raw.hello(credential).await.unwrap();
        assert_eq!((welcome.account, welcome.device), (first.account, first.device));
        assert!(welcome.epoch > first.epoch);
    }
    // Also when everything can be registered that the server takes no registrations of.
    let closed = tern_server::config::RegistrationPolicy::Closed;
    world.restart_with(|config| config.registration.policy = closed).await;
    let mut raw = world.connect().await;
    let credential = raw.register(&key, "ann", Entitlement::None);
    assert_eq!(raw.hello(credential).await.unwrap().device, first.device);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_welcome_brings_a_ticket_and_a_greater_epoch() {
    let mut world = World::start().await;
    let ann = world.register("ann").await;
    assert_eq!(ann.welcome.name, "ann");
    let mut epoch = ann.welcome.epoch;
    let first = ann.away();
    let mut ticket = first.ticket();
    for n in 0..4 {
        let mut raw = world.connect().await;
        let credential = match n {
            3 => raw.sign_in(&first.key, first.welcome.account, first.welcome.device),
            // The first ticket is good for more than once.
            _ if n % 2 == 0 => first.ticket(),
            _ => ticket,
        };
        let welcome = raw.hello(credential).await.unwrap();
        assert_eq!(welcome.account, first.welcome.account);
        assert_eq!(welcome.device, first.welcome.device);
        assert_eq!(welcome.name, "ann");
        assert!(welcome.epoch > epoch, "{} > {epoch}", welcome.epoch);
        assert_ne!(welcome.ticket, first.welcome.ticket);
        epoch = welcome.epoch;
        ticket = tern_protocol::frame::Credential::Ticket(welcome.ticket);
        if n == 1 {
            world.restart().await;
        }
    }
    let mut raw = world.connect().await;
    assert!(raw.hello(ticket).await.unwrap().epoch > epoch);
    assert_eq!(world.metrics().sign_ins_by_signature.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_replaces_the_older() {
    let world = World::start().await;
    let [mut ann, bob] = world.two().await;
    let mut raw = world.connect().await;
    let credential = raw.sign_in(&ann.key, ann.account(), ann.device());
    let welcome = raw.hello(credential).await.unwrap();
    assert_eq!(ann.raw.closed().await, Code::Replaced);
    let key = std::mem::replace(&mut ann.key, Key::new());
    let ann = Client::new(raw, welcome, key);
    // What comes from now on goes to the newer one.
    let mut up = bob.uplink(&ann).await;
    up.send("hello").await;
    ann.downlink().await.hears("hello").await;
    assert_eq!(world.metrics().closed.get(Code::Replaced), 1);
    until("two sessions", async || world.metrics().sessions.get() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_removed_with_all_that_waits_for_it() {
    let world = World::start().await;
    let [mut ann, mut bob] = world.two().await;
    let phone = world.link(&mut ann).await;
    assert_eq!(ann.event().await, Event::DevicesChanged);
    let mut tablet = world.link(&mut ann).await;
    assert_eq!(ann.event().await, Event::DevicesChanged);
    bob.uplink(&ann).await.send("for all of them").await;
    let listed: BTreeSet<DeviceId> = ann.devices().await.iter().map(|it| it.device).collect();
    assert_eq!(listed, BTreeSet::from([ann.device(), phone.device(), tablet.device()]));
    assert!(ann.devices().await.iter().all(|it| it.online));

    let marks = keys::marks(phone.device(), None, 10);
    assert_eq!(world.store().scan(marks.clone()).await.unwrap().len(), 1);
    ann.done(RequestBody::RemoveDevice(phone.device())).await;
    assert_eq!(phone.raw.closed().await, Code::DeviceRemoved);
    assert_eq!(world.store().scan(marks).await.unwrap(), []);
    assert_eq!(tablet.event().await, Event::DevicesChanged);
    let listed: BTreeSet<DeviceId> = tablet.devices().await.iter().map(|it| it.device).collect();
    assert_eq!(listed, BTreeSet::from([ann.device(), tablet.device()]));

    // One that isn't there, and one of somebody else.
    let gone = RequestBody::RemoveDevice(phone.device());
    assert_eq!(ann.refused(gone).await, Code::UnknownDevice);
    let others = RequestBody::RemoveDevice(bob.device());
    assert_eq!(ann.refused(others).await, Code::UnknownDevice);
    bob.done(RequestBody::Ping).await;
    // A device may remove itself.
    let request = Request { id: 9, body: RequestBody::RemoveDevice(tablet.device()) };
    tablet.raw.session.say(&Frame::Request(request)).await;
    assert_eq!(tablet.raw.closed().await, Code::DeviceRemoved);
    assert_eq!(ann.event().await, Event::DevicesChanged);
    assert_eq!(ann.devices().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_adds_one_device_once() {
    let world = World::start().await;
    let [mut ann, _bob] = world.two().await;
    let token = ann.link().await;
    let link = || Entitlement::Link(token.clone());
    let mut raw = world.connect().await;
    for (name, entitlement) in
        [("bob", link()), ("carl", link()), ("ann", Entitlement::Link(Secret::new(*b"forged")))]
    {
        if raw.rejected.len() == 2 {
            raw = world.connect().await;
        }
        let credential = raw.register(&Key::new(), name, entitlement);
        let rejected = raw.hello(credential).await.unwrap_err();
        assert_eq!(rejected.code, Code::CredentialInvalid, "{name}");
        raw.rejected.push_back(rejected);
    }
    let key = Key::new();
    let phone = Client::register_with(world.connect().await, "ann", key, link()).await;
    assert_eq!(phone.account(), ann.account());
    assert_ne!(phone.device(), ann.device());
    assert_eq!(ann.event().await, Event::DevicesChanged);
    let mut raw = world.connect().await;
    let again = raw.register(&Key::new(), "ann", link());
    assert_eq!(raw.rejected(again).await, Code::CredentialInvalid);
    // Who used it up is answered as the first time.
    let repeat = raw.register(&phone.key, "ann", link());
    assert_eq!(raw.hello(repeat).await.unwrap().device, phone.device());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_over_after_its_time() {
    let world = World::with(|config| config.registration.link_valid_for_ms = 1).await;
    let mut ann = world.register("ann").await;
    let ResponseBody::Link { token, valid_for_ms: 1 } = ann.ask(RequestBody::CreateLink).await
    else {
        panic!("a link for a millisecond was due")
    };
    until("the link to be over", async || {
        let mut raw = world.connect().await;
        let link = Entitlement::Link(token.clone());
        let credential = raw.register(&Key::new(), "ann", link);
        raw.hello(credential).await.is_err_and(|it| it.code == Code::CredentialInvalid)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_sixteen_devices_at_most() {
    let world = World::start().await;
    let mut ann = world.register("ann").await;
    let spare = ann.link().await;
    let mut devices = Vec::new();
    for _ in 1..16 {
        devices.push(world.link(&mut ann).await);
    }
    assert_eq!(ann.refused(RequestBody::CreateLink).await, Code::TooMany);
    let mut raw = world.connect().await;
    let link = || Entitlement::Link(spare.clone());
    let credential = raw.register(&Key::new(), "ann", link());
    assert_eq!(raw.rejected(credential).await, Code::TooMany);
    // A message reaches all of them.
    let bob = world.register("bob").await;
    bob.uplink(&ann).await.send("to sixteen").await;
    for device in devices.iter().chain([&ann]) {
        device.downlink().await.hears("to sixteen").await;
    }
    // One that goes makes room, and the link is still good.
    ann.done(RequestBody::RemoveDevice(devices[3].device())).await;
    let mut raw = world.connect().await;
    let credential = raw.register(&Key::new(), "ann", link());
    assert_eq!(raw.hello(credential).await.unwrap().account, ann.account());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_accounts_are_found() {
    let world = World::start().await;
    let [mut ann, bob] = world.two().await;
    let account = Account { account: bob.account(), name: "bob".to_owned() };
    let lookup = |name: &str| RequestBody::Lookup(name.to_owned());
    assert_eq!(ann.ask(lookup("bob")).await, ResponseBody::Account(account.clone()));
    let by_id = RequestBody::Account(bob.account());
    assert_eq!(ann.ask(by_id).await, ResponseBody::Account(account));
    for name in ["nobody", "", "Bob", "not a name"] {
        assert_eq!(ann.refused(lookup(name)).await, Code::UnknownName, "{name:?}");
    }
    let nobody = RequestBody::Account(AccountId::new(7).unwrap());
    assert_eq!(ann.refused(nobody).await, Code::UnknownName);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_one_response_with_its_id() {
    let world = World::with(|config| config.limits.requests = 2).await;
    let mut ann = world.register("ann").await;
    assert_eq!(ann.welcome.limits.requests, 2);
    // More at once than may be: the server takes its time, and answers each.
    let ids = (0..100).map(|n| n * 7_919);
    let requests: Vec<Frame> =
        ids.clone().map(|id| Frame::Request(Request { id, body: RequestBody::Ping })).collect();
    ann.raw.session.say_all(&requests).await;
    let mut due: BTreeSet<u32> = ids.collect();
    while !due.is_empty() {
        match ann.raw.session.frame().await {
            Frame::Response(response) => assert!(due.remove(&response.id), "{}", response.id),
            Frame::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
    ann.done(RequestBody::Ping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_where_it_is_seen() {
    let world = World::start().await;
    let mut ann = world.register("ann").await;
    let address = world.endpoint.local_addr().unwrap();
    assert_eq!(ann.ask(RequestBody::Address).await, ResponseBody::Address(address));
}
