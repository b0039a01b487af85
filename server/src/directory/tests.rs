use tern_protocol::frame::Entitlement;

use super::*;
use crate::{config, test_store::MapStore};

const NOW_MS: u64 = 1_000_000;

fn directory(devices: usize) -> (Arc<MapStore>, Directory) {
    let store = Arc::new(MapStore::default());
    (store.clone(), Directory::new(store, Random::seeded(7), 10, devices))
}

fn open() -> Policy {
    Policy::open(&config::Registration::default()).unwrap()
}

fn request(name: &str, key: u8, entitlement: Entitlement) -> Register {
    Register {
        name: name.into(),
        device_key: [key; 32],
        label: "phone".into(),
        signature: [0; 64],
        entitlement,
    }
}

async fn register(
    directory: &Directory,
    name: &str,
    key: u8,
    entitlement: Entitlement,
) -> Result<(AccountId, DeviceId), Code> {
    match directory.register(&request(name, key, entitlement), &open(), NOW_MS).await {
        Ok((info, device)) => Ok((info.account, device)),
        Err(DirectoryError::Refused(code)) => Err(code),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_repeated_registration_gets_the_first_answer() {
    let (store, directory) = directory(16);
    let first = register(&directory, "ann", 1, Entitlement::None).await.unwrap();
    let keys = store.len();
    assert_eq!(register(&directory, "ann", 1, Entitlement::None).await, Ok(first));
    assert_eq!(store.len(), keys);
    assert_eq!(directory.lookup("ann").await.unwrap(), Some(first.0));
    assert_eq!(directory.lookup("Ann").await.unwrap(), None);
}

#[tokio::test]
async fn a_name_and_a_key_belong_to_one() {
    let (_, directory) = directory(16);
    register(&directory, "ann", 1, Entitlement::None).await.unwrap();
    assert_eq!(register(&directory, "ann", 2, Entitlement::None).await, Err(Code::NameTaken));
    assert_eq!(register(&directory, "bob", 1, Entitlement::None).await, Err(Code::KeyInvalid));
    assert_eq!(register(&directory, "-bob", 3, Entitlement::None).await, Err(Code::NameInvalid));
}

#[tokio::test]
async fn of_two_who_want_a_name_at_once_one_gets_it() {
    let (store, directory) = directory(16);
    // Another node makes the account between our read and our commit.
    store.before_next_commit(|store| {
        store.put(&keys::name("ann"), &5u64.to_be_bytes());
        let record = AccountRecord { name: "ann".into(), created_ms: 1 };
        store.put(&keys::account(AccountId::new(5).unwrap()), &record.to_bytes());
    });
    assert_eq!(register(&directory, "ann", 1, Entitlement::None).await, Err(Code::NameTaken));
    assert_eq!(directory.lookup("ann").await.unwrap(), AccountId::new(5));
}

#[tokio::test]
async fn a_link_adds_one_device_in_time() {
    let (_, directory) = directory(16);
    let (account, first) = register(&directory, "ann", 1, Entitlement::None).await.unwrap();
    register(&directory, "bob", 2, Entitlement::None).await.unwrap();
    let link = |token: &Secret| Entitlement::Link(token.clone());
    let token = directory.create_link(account, NOW_MS + 1).await.unwrap();
    assert_eq!(
        register(&directory, "bob", 3, link(&token)).await,
        Err(Code::CredentialInvalid),
        "it is for another account"
    );
    let (same, second) = register(&directory, "ann", 3, link(&token)).await.unwrap();
    assert!(same == account && second != first);
    assert_eq!(
        register(&directory, "ann", 4, link(&token)).await,
        Err(Code::CredentialInvalid),
        "it was used"
    );
    let over = directory.create_link(account, NOW_MS).await.unwrap();
    assert_eq!(register(&directory, "ann", 4, link(&over)).await, Err(Code::CredentialInvalid));
    let info = directory.account(account).await.unwrap().unwrap();
    assert_eq!(info.devices.len(), 2);
}

#[tokio::test]
async fn an_account_has_so_many_devices() {
    let (_, directory) = directory(2);
    let (account, _) = register(&directory, "ann", 1, Entitlement::None).await.unwrap();
    let token = directory.create_link(account, NOW_MS + 9).await.unwrap();
    let other = directory.create_link(account, NOW_MS + 9).await.unwrap();
    register(&directory, "ann", 2, Entitlement::Link(token)).await.unwrap();
    assert_eq!(register(&directory, "ann", 3, Entitlement::Link(other)).await, Err(Code::TooMany));
    assert!(directory.create_link(account, NOW_MS + 9).await.is_err());
}

#[tokio::test]
async fn a_removed_device_leaves_nothing_behind() {
    let (store, directory) = directory(16);
    let (account, device) = register(&directory, "ann", 1, Entitlement::None).await.unwrap();
    directory.seen(&[(device, 77)]).await.unwrap();
    assert_eq!(directory.last_seen_ms(device).await.unwrap(), 77);
    let conversation = tern_protocol::id::ConversationId::new([1; 16]);
    store.put(&keys::mark(device, conversation), b"");
    directory.remove_device(account, device).await.unwrap();
    assert_eq!(store.len(), 3, "account, name and the count of changes stay");
    assert!(directory.device(account, device).await.unwrap().is_none());
    assert!(matches!(
        directory.remove_device(account, device).await,
        Err(DirectoryError::Refused(Code::UnknownDevice))
    ));
    // The key may be used again.
    let token = directory.create_link(account, NOW_MS + 9).await.unwrap();
    register(&directory, "ann", 1, Entitlement::Link(token)).await.unwrap();
}
