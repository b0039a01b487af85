//! Hellos that aren't acceptable.

use tern_protocol::{
    code::Code,
    frame::{Credential, Entitlement, Frame, OpenUplink, RequestBody, Secret, SignIn},
    id::{AccountId, ConversationId, DeviceId},
    signature::CertificateHash,
};

use crate::common::{
    Key, World,
    client::{Client, Uplink, send},
    raw::hello,
    talk::Talk,
    until,
};

fn account(id: u64) -> AccountId {
    AccountId::new(id).unwrap()
}

fn device(id: u64) -> DeviceId {
    DeviceId::new(id).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_that_are_none_are_rejected_and_a_signature_may_follow() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let eve = world.register("eve").await.away();
    let good = eve.welcome.ticket.expose().to_vec();
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    let forged = [good[..good.len() - 1].to_vec(), flipped, vec![1; good.len()], vec![], vec![0]];
    for ticket in forged {
        let mut raw = world.connect().await;
        let credential = Credential::Ticket(Secret::new(ticket));
        assert_eq!(raw.rejected(credential.clone()).await, Code::TicketInvalid);
        assert_eq!(raw.rejected(credential).await, Code::TicketInvalid);
        let credential = raw.sign_in(&eve.key, eve.welcome.account, eve.welcome.device);
        assert_eq!(raw.hello(credential).await.unwrap().device, eve.welcome.device);
    }
    let metrics = world.metrics();
    assert_eq!(metrics.hellos_rejected.get(Code::TicketInvalid), 10);
    assert_eq!(metrics.sign_ins_by_signature.get(), 5);
    assert_eq!(metrics.sign_ins_by_ticket.get(), 0);
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_expires() {
    let world = World::with(|config| config.ticket.lifetime_ms = 1_000).await;
    let ann = world.register("ann").await;
    assert_eq!(ann.welcome.ticket_for_ms, 1_000);
    let ann = ann.away();
    // Rejected tickets use connections up, so each look is by a new one.
    until("the ticket to expire", async || {
        let mut raw = world.connect().await;
        raw.hello(ann.ticket()).await.is_err_and(|rejected| rejected.code == Code::TicketExpired)
    })
    .await;
    assert!(world.metrics().hellos_rejected.get(Code::TicketExpired) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_of_use_on_its_connection_alone() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let ann = world.register("eve").await;
    let (own_account, own_device, key) = (ann.account(), ann.device(), &ann.key);
    let other = Key::new();
    let (first, second) = (world.connect().await, world.connect().await);
    let mut third = world.connect().await;
    third.certificate = CertificateHash::of(b"another server's");
    let here = world.connect().await;
    let mut for_other_ids = here.sign_in(key, own_account, device(1));
    if let Credential::SignIn(sign_in) = &mut for_other_ids {
        sign_in.device = own_device;
    }
    let of_a_registration = match here.register(key, "eve", Entitlement::None) {
        Credential::Register(it) => Credential::SignIn(SignIn {
            account: own_account,
            device: own_device,
            signature: it.signature,
        }),
        _ => unreachable!("it registers"),
    };
    let bad = [
        (second.sign_in(key, own_account, own_device), first),
        (third.sign_in(key, own_account, own_device), third),
        (here.sign_in(&other, own_account, own_device), here),
    ];
    for (credential, mut raw) in bad {
        assert_eq!(raw.rejected(credential).await, Code::BadSignature);
        // The right one is taken on the same stream.
        raw.certificate = second.certificate;
        let good = raw.sign_in(key, own_account, own_device);
        assert_eq!(raw.hello(good).await.unwrap().account, own_account);
    }
    for credential in [for_other_ids, of_a_registration] {
        let mut raw = world.connect().await;
        assert_eq!(raw.rejected(credential).await, Code::BadSignature);
    }
    let mut raw = second;
    let strangers =
        [raw.sign_in(key, own_account, device(7)), raw.sign_in(key, account(7), own_device)];
    for credential in strangers {
        assert_eq!(raw.rejected(credential).await, Code::UnknownDevice);
    }
    let metrics = world.metrics();
    assert_eq!(metrics.hellos_rejected.get(Code::BadSignature), 5);
    assert_eq!(metrics.hellos_rejected.get(Code::UnknownDevice), 2);
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_are_held_to_name_key_and_signature() {
    let world = World::start().await;
    let ann = world.register("ann").await;
    let long = "a".repeat(33);
    for name in ["", "Ann", ".ann", "ann-", "an n", "änn", &long] {
        let mut raw = world.connect().await;
        let credential = raw.register(&Key::new(), name, Entitlement::None);
        assert_eq!(raw.rejected(credential).await, Code::NameInvalid, "{name:?}");
    }
    let mut raw = world.connect().await;
    let taken = raw.register(&Key::new(), "ann", Entitlement::None);
    assert_eq!(raw.rejected(taken).await, Code::NameTaken);
    let reused = raw.register(&ann.key, "other", Entitlement::None);
    assert_eq!(raw.rejected(reused).await, Code::KeyInvalid);
    for spoil in [0, 1, 2] {
        let mut raw = world.connect().await;
        let mut credential = raw.register(&Key::new(), "bob", Entitlement::None);
        if let Credential::Register(register) = &mut credential {
            match spoil {
                0 => register.signature[0] ^= 1,
                1 => register.name = "bob2".to_owned(),
                _ => register.device_key = Key::new().public(),
            }
        }
        assert_eq!(raw.rejected(credential).await, Code::BadSignature);
    }
    let metrics = world.metrics();
    assert_eq!(metrics.hellos_rejected.get(Code::NameInvalid), 7);
    assert_eq!(metrics.hellos_rejected.get(Code::NameTaken), 1);
    assert_eq!(metrics.hellos_rejected.get(Code::KeyInvalid), 1);
    assert_eq!(metrics.registrations.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_rejection_closes_the_connection() {
    let world = World::start().await;
    let mut talk = Talk::begin(&world).await;
    let mut raw = world.connect().await;
    let wrong = Credential::Ticket(Secret::new(*b"wrong"));
    for _ in 0..3 {
        // Each is told why, also the last.
        assert_eq!(raw.rejected(wrong.clone()).await, Code::TicketInvalid);
    }
    assert_eq!(raw.closed().await, Code::TooManyHellos);
    assert_eq!(world.metrics().closed.get(Code::TooManyHellos), 1);
    talk.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_that_nobody_speaks_are_rejected() {
    let world = World::start().await;
    let mut ann = world.register("ann").await.away();
    assert_eq!(ann.welcome.revision, 1);
    for revision in [0, 2, u16::MAX] {
        let mut raw = world.connect().await;
        assert_eq!(raw.greeting.revision, 1);
        let mut bad = hello(ann.ticket());
        bad.revision = revision;
        assert_eq!(raw.hello_as(bad).await.unwrap_err().code, Code::UnsupportedRevision);
        ann.welcome = raw.hello(ann.ticket()).await.unwrap();
    }
    assert_eq!(world.metrics().hellos_rejected.get(Code::UnsupportedRevision), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ticket_of_a_removed_device_is_void() {
    let world = World::start().await;
    let mut ann = world.register("ann").await;
    let phone = world.link(&mut ann).await;
    let gone = phone.device();
    ann.done(RequestBody::RemoveDevice(gone)).await;
    assert_eq!(phone.raw.closed().await, Code::DeviceRemoved);
    let phone = phone.away();
    let mut raw = world.connect().await;
    assert_eq!(raw.rejected(phone.ticket()).await, Code::UnknownDevice);
    let credential = raw.sign_in(&phone.key, ann.account(), gone);
    assert_eq!(raw.rejected(credential).await, Code::UnknownDevice);
    let metrics = world.metrics();
    assert_eq!(metrics.closed.get(Code::DeviceRemoved), 1);
    assert_eq!(metrics.hellos_rejected.get(Code::UnknownDevice), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn uplinks_behind_a_rejected_hello_wait_for_the_next() {
    let world = World::start().await;
    let [ann, bob] = world.two().await;
    let (to, conversation) = (bob.account(), ann.with(&bob));
    let ann = ann.leave(&world).await;
    let mut raw = world.connect().await;
    let wrong = Credential::Ticket(Secret::new(*b"wrong"));
    raw.session.say(&Frame::Hello(hello(wrong))).await;
    let mut up = Uplink::open(&raw, conversation, Some(to)).await;
    let message = up.number("early");
    up.stream.say(&Frame::Send(message)).await;
    assert_eq!(raw.answer().await.unwrap_err().code, Code::TicketInvalid);
    assert_eq!(world.metrics().sends_accepted.get(), 0);
    let credential = raw.sign_in(&ann.key, ann.welcome.account, ann.welcome.device);
    raw.hello(credential).await.unwrap();
    assert_eq!(up.accepted().await.seq, 1);
    bob.downlink().await.hears("early").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uplinks_may_come_before_the_hello_that_is_accepted() {
    let world = World::start().await;
    let [ann, bob] = world.two().await;
    let (to, conversation) = (bob.account(), ann.with(&bob));
    let ann = ann.leave(&world).await;
    let mut raw = world.connect().await;
    let mut up = raw.open().await;
    up.say_all(&[
        Frame::OpenUplink(OpenUplink { conversation, peer: Some(to) }),
        Frame::Send(send(1, 0, "first")),
    ])
    .await;
    let welcome = raw.hello(ann.ticket()).await.unwrap();
    let mut up = Uplink { stream: up, next: 2, settled: 0 };
    assert_eq!(up.accepted().await.seq, 1);
    let mut down = bob.downlink().await;
    down.hears("first").await;
    let ann = Client::new(raw, welcome, ann.key);
    assert_eq!(ConversationId::direct(ann.account(), to), Some(conversation));
    up.send("second").await;
    down.hears("second").await;
}
