use super::*;
use crate::test_store::MapStore;

const START_MS: u64 = 1_700_000_000_000;
const HOUR_MS: u64 = 3_600_000;

fn settings() -> config::Ticket {
    config::Ticket { lifetime_ms: 10 * HOUR_MS, rotate_every_ms: HOUR_MS, refresh_every_ms: 1_000 }
}

async fn open_at(store: &MapStore, seed: u64, now_ms: u64) -> Tickets {
    Tickets::open(&settings(), store, Random::seeded(seed), now_ms).await.unwrap()
}

fn ids() -> (AccountId, DeviceId) {
    (AccountId::new(7).unwrap(), DeviceId::new(8).unwrap())
}

fn sealed(tickets: &Tickets, now_ms: u64) -> Vec<u8> {
    let (account, device) = ids();
    tickets.seal(account, device, now_ms).expose().to_vec()
}

fn key_id(ticket: &[u8]) -> u64 {
    u64::from_le_bytes(ticket[1..9].try_into().unwrap())
}

#[tokio::test]
async fn a_ticket_says_what_was_sealed_until_it_expires() {
    let store = MapStore::default();
    let tickets = open_at(&store, 1, START_MS).await;
    let ticket = sealed(&tickets, START_MS);
    assert_eq!(ticket.len(), TICKET_LEN);
    let (account, device) = ids();
    let expires_ms = START_MS + 10 * HOUR_MS;
    let claims = Claims { account, device, issued_ms: START_MS, expires_ms };
    assert_eq!(tickets.open_ticket(&ticket, START_MS), Ok(claims));
    assert_eq!(tickets.open_ticket(&ticket, expires_ms - 1), Ok(claims));
    let error = tickets.open_ticket(&ticket, expires_ms).unwrap_err();
    assert_eq!(error.code(), Code::TicketExpired);
    assert_ne!(ticket, sealed(&tickets, START_MS), "each has its own nonce");
}

#[tokio::test]
async fn no_changed_bit_and_no_other_length_is_taken() {
    let store = MapStore::default();
    let tickets = open_at(&store, 1, START_MS).await;
    let ticket = sealed(&tickets, START_MS);
    for bit in 0..ticket.len() * 8 {
        let mut changed = ticket.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = tickets.open_ticket(&changed, START_MS).unwrap_err();
        assert_eq!(error, TicketError::Invalid, "bit {bit}");
    }
    for len in 0..ticket.len() {
        assert!(tickets.open_ticket(&ticket[..len], START_MS).is_err());
    }
    let longer = [ticket.as_slice(), &[0]].concat();
    assert!(tickets.open_ticket(&longer, START_MS).is_err());
    // Even an expired one must be genuine before it is called expired.
    let mut forged = ticket.clone();
    forged[TICKET_LEN - 1] ^= 1;
    let late_ms = START_MS + 100 * HOUR_MS;
    assert_eq!(tickets.open_ticket(&forged, late_ms), Err(TicketError::Invalid));
}

#[tokio::test]
async fn a_ticket_of_another_server_is_refused() {
    let (here, there) = (MapStore::default(), MapStore::default());
    let tickets = open_at(&here, 1, START_MS).await;
    let foreign = sealed(&open_at(&there, 2, START_MS).await, START_MS);
    assert_eq!(key_id(&foreign), 1, "the same key id, another key");
    let error = tickets.open_ticket(&foreign, START_MS).unwrap_err();
    assert_eq!(error.code(), Code::TicketInvalid);
}

#[tokio::test]
async fn tickets_outlive_a_restart_and_a_change_of_keys() {
    let store = MapStore::default();
    let first = open_at(&store, 1, START_MS).await;
    let ticket = sealed(&first, START_MS);
    drop(first);
    let second = open_at(&store, 2, START_MS + 2 * HOUR_MS).await;
    assert!(second.open_ticket(&ticket, START_MS + 2 * HOUR_MS).is_ok());
}

#[tokio::test]
async fn a_new_key_is_used_only_when_every_node_knows_it() {
    let store = MapStore::default();
    let one = open_at(&store, 1, START_MS).await;
    let two = open_at(&store, 2, START_MS).await;
    let due_ms = START_MS + HOUR_MS;
    one.refresh(&store, due_ms - 1).await.unwrap();
    assert_eq!(one.keys().len(), 1);
    one.refresh(&store, due_ms).await.unwrap();
    assert_eq!(one.keys().len(), 2);
    // The other node doesn't have it yet, and needn't.
    let ticket = sealed(&one, due_ms + 1_999);
    assert_eq!(key_id(&ticket), 1);
    assert!(two.open_ticket(&ticket, due_ms).is_ok());
    // After two refreshes it has.
    two.refresh(&store, due_ms + 1_000).await.unwrap();
    let ticket = sealed(&one, due_ms + 2_000);
    assert_eq!(key_id(&ticket), 2);
    assert!(two.open_ticket(&ticket, due_ms + 2_000).is_ok());
}

#[tokio::test]
async fn nodes_that_want_a_key_at_once_agree_on_one() {
    let store = MapStore::default();
    let (one, two) = tokio::join!(open_at(&store, 1, START_MS), open_at(&store, 2, START_MS));
    assert!(two.open_ticket(&sealed(&one, START_MS), START_MS).is_ok());
    assert!(one.open_ticket(&sealed(&two, START_MS), START_MS).is_ok());
    // And when another makes one between this node's reading and its commit:
    let due_ms = START_MS + HOUR_MS;
    store.before_next_commit(move |store| {
        let key = [b"sys/ticket-key/".as_slice(), &2_u64.to_be_bytes()].concat();
        let value = [due_ms.to_le_bytes().as_slice(), &[9; 32]].concat();
        store.put(&key, &value);
    });
    one.refresh(&store, due_ms).await.unwrap();
    two.refresh(&store, due_ms).await.unwrap();
    assert_eq!((one.keys().len(), two.keys().len()), (2, 2));
    let ticket = sealed(&one, due_ms + HOUR_MS / 2);
    assert_eq!(key_id(&ticket), 2);
    assert!(two.open_ticket(&ticket, due_ms + HOUR_MS / 2).is_ok());
}

#[tokio::test]
async fn a_key_is_kept_as_long_as_its_tickets_and_then_deleted() {
    let store = MapStore::default();
    let tickets = open_at(&store, 1, START_MS).await;
    let mut now_ms = START_MS;
    let mut live: Vec<Vec<u8>> = Vec::new();
    for _ in 0..60 {
        now_ms += HOUR_MS / 2;
        tickets.refresh(&store, now_ms).await.unwrap();
        live.push(sealed(&tickets, now_ms));
        for ticket in &live {
            assert_ne!(
                tickets.open_ticket(ticket, now_ms),
                Err(TicketError::Invalid),
                "a ticket is valid until it expires"
            );
        }
        live.retain(|ticket| tickets.open_ticket(ticket, now_ms + HOUR_MS / 2).is_ok());
    }
    let keys = tickets.keys().len();
    assert!((10..=13).contains(&keys), "{keys} keys");
    assert_eq!(store.len(), keys);
}

#[tokio::test]
async fn a_store_that_fails_leaves_the_keys_as_they_are() {
    let store = MapStore::default();
    let tickets = open_at(&store, 1, START_MS).await;
    let ticket = sealed(&tickets, START_MS);
    store.fail(true);
    assert!(tickets.refresh(&store, START_MS + HOUR_MS).await.is_err());
    assert!(tickets.open_ticket(&ticket, START_MS).is_ok());
    store.fail(false);
    store.put(b"sys/ticket-key/\0\0\0\0\0\0\0\x05", b"damaged");
    let error = tickets.refresh(&store, START_MS).await.unwrap_err();
    assert!(matches!(error, RefreshError::Damaged { id: 5 }), "{error}");
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let store = MapStore::default();
    let tickets = open_at(&store, 1, START_MS).await;
    assert_eq!(format!("{tickets:?}"), "Tickets { keys: 1, .. }");
}

proptest::proptest! {
    #[test]
    fn no_input_panics_or_passes(bytes: Vec<u8>, framed: [u8; 32]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = MapStore::default();
            let tickets = open_at(&store, 1, START_MS).await;
            let head = [&[VERSION], 1_u64.to_le_bytes().as_slice()].concat();
            let long = [&framed[..], &framed[..]].concat();
            for ticket in [bytes, [head, long[..TICKET_LEN - HEAD_LEN].to_vec()].concat()] {
                assert_eq!(tickets.open_ticket(&ticket, START_MS), Err(TicketError::Invalid));
            }
        });
    }
}
