//! Faults, and how to plant each into a good history.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{Event, History, Kind, Record};

/// Plants a fault; answers whether the history had a place for it.
type Plant = fn(&mut History, &mut StdRng) -> bool;

/// Each fault: its name, what the checker must call it, and how it is made.
pub(super) const FAULTS: &[(&str, Kind, Plant)] = &[
    ("never given", Kind::Lost, never_given),
    ("not in the store", Kind::Lost, not_stored),
    ("forgotten by the outbox", Kind::Lost, not_accepted),
    ("gone from everywhere", Kind::Lost, gone_from_everywhere),
    ("deleted before it was fetched", Kind::Lost, gap),
    ("given twice", Kind::Repeated, given_twice),
    ("given again after the confirmation", Kind::Repeated, given_after_confirmation),
    ("accepted twice", Kind::Repeated, given_at_two_places),
    ("stored twice", Kind::Repeated, stored_twice),
    ("two the wrong way round", Kind::Reordered, swapped),
    ("another text", Kind::Unexpected, another_text),
    ("another sender", Kind::Unexpected, another_sender),
    ("another id", Kind::Unexpected, another_id),
    ("in another conversation", Kind::Unexpected, another_conversation),
    ("at a stranger's", Kind::Unexpected, at_a_strangers),
    ("one's own", Kind::Unexpected, ones_own),
    ("given before it was sent", Kind::Unexpected, before_it_was_sent),
    ("given though it failed", Kind::Unexpected, though_it_failed),
    ("two at one place", Kind::SharedSeq, two_at_one_place),
    ("delivered, but nobody has it", Kind::FalseReceipt, delivered_too_far),
    ("read, but nobody marked it", Kind::FalseReceipt, read_too_far),
    ("a stranger's receipt", Kind::FalseReceipt, strangers_receipt),
    ("delivered, less than before", Kind::BackwardReceipt, delivered_less),
    ("read, less than before", Kind::BackwardReceipt, read_less),
    ("sent twice", Kind::Malformed, sent_twice),
];

/// The position of some record that is as wanted.
fn some(
    history: &History,
    rng: &mut StdRng,
    wanted: impl Fn(usize, &Record) -> bool,
) -> Option<usize> {
    let records = history.records.iter().enumerate();
    let all: Vec<_> =
        records.filter(|&(at, record)| wanted(at, record)).map(|(at, _)| at).collect();
    all.choose(rng).copied()
}

fn is_given(_: usize, record: &Record) -> bool {
    matches!(record.event, Event::Given(_))
}

/// Puts a changed copy of some record that is as wanted behind it.
fn repeat(
    history: &mut History,
    rng: &mut StdRng,
    wanted: impl Fn(usize, &Record) -> bool,
    change: impl FnOnce(&mut Record),
) -> bool {
    let Some(at) = some(history, rng, wanted) else { return false };
    let mut copy = history.records[at].clone();
    change(&mut copy);
    history.records.insert(at + 1, copy);
    true
}

/// Changes some record that is as wanted.
fn change(
    history: &mut History,
    rng: &mut StdRng,
    wanted: impl Fn(usize, &Record) -> bool,
    change: impl FnOnce(&mut Event),
) -> bool {
    let Some(at) = some(history, rng, wanted) else { return false };
    change(&mut history.records[at].event);
    true
}

fn never_given(history: &mut History, rng: &mut StdRng) -> bool {
    let Some(at) = some(history, rng, is_given) else { return false };
    let Record { device, event: Event::Given(lost) } = history.records[at].clone() else {
        return false;
    };
    let is_lost = |event: &Event| matches!(event, Event::Given(entry) if entry.text == lost.text);
    history.records.retain(|record| record.device != device || !is_lost(&record.event));
    true
}

fn not_stored(history: &mut History, rng: &mut StdRng) -> bool {
    // The store of a device with nothing in it counts as not recorded.
    let Some(at) = some(history, rng, |at, record| {
        let is_stored = |other: &Record| {
            matches!(other.event, Event::Stored(_)) && other.device == record.device
        };
        is_stored(record)
            && history.records[..at].iter().chain(&history.records[at + 1..]).any(is_stored)
    }) else {
        return false;
    };
    history.records.remove(at);
    true
}

fn not_accepted(history: &mut History, _: &mut StdRng) -> bool {
    let Some((&conversation, _)) = history.conversations.first_key_value() else { return false };
    let Some((&device, _)) = history.devices.first_key_value() else { return false };
    let text = || "lost".to_owned();
    history
        .records
        .insert(0, Record { device, event: Event::Submitted { conversation, text: text() } });
    history.records.insert(1, Record { device, event: Event::Enqueued { text: text() } });
    true
}

fn gone_from_everywhere(history: &mut History, rng: &mut StdRng) -> bool {
    // Not the last of its conversation: of that one only its sender can know.
    let Some(at) = some(history, rng, |at, record| {
        let Event::Given(entry) = &record.event else { return false };
        history.records[at..].iter().any(|later| {
            matches!(&later.event, Event::Given(other)
                if other.conversation == entry.conversation && other.seq > entry.seq)
        })
    }) else {
        return false;
    };
    let Event::Given(gone) = history.records[at].event.clone() else { return false };
    history.records.retain(|record| match &record.event {
        Event::Given(entry) | Event::Stored(entry) => entry.text != gone.text,
        Event::Accepted { text, .. } | Event::Enqueued { text } => *text != gone.text,
        _ => true,
    });
    true
}

fn gap(history: &mut History, rng: &mut StdRng) -> bool {
    repeat(history, rng, is_given, |record| {
        if let Event::Given(entry) = &record.event {
            record.event = Event::Gap { conversation: entry.conversation };
        }
    })
}

fn given_twice(history: &mut History, rng: &mut StdRng) -> bool {
    repeat(history, rng, is_given, |_| {})
}

fn given_after_confirmation(history: &mut History, rng: &mut StdRng) -> bool {
    let Some(at) = some(history, rng, |at, record| {
        let Event::Given(entry) = &record.event else { return false };
        history.records[at..].iter().any(|later| {
            later.device == record.device
                && matches!(later.event, Event::Confirmed { conversation, seq }
                    if (conversation, seq) == (entry.conversation, entry.seq))
        })
    }) else {
        return false;
    };
    let record = history.records[at].clone();
    history.records.push(Record { device: record.device, event: Event::Started });
    history.records.push(record);
    true
}

fn head(history: &History, of: tern_protocol::id::ConversationId) -> u64 {
    let seqs = history.records.iter().filter_map(|record| match &record.event {
        Event::Stored(entry) if entry.conversation == of => Some(entry.seq),
        _ => None,
    });
    seqs.max().unwrap_or(0)
}

fn given_at_two_places(history: &mut History, rng: &mut StdRng) -> bool {
    let Some(at) = some(history, rng, is_given) else { return false };
    let mut record = history.records[at].clone();
    if let Event::Given(entry) = &mut record.event {
        entry.seq = head(history, entry.conversation) + 1;
    }
    history.records.push(record);
    true
}

fn stored_twice(history: &mut History, rng: &mut StdRng) -> bool {
    repeat(history, rng, |_, record| matches!(record.event, Event::Stored(_)), |_| {})
}

fn swapped(history: &mut History, rng: &mut StdRng) -> bool {
    let next = |at: usize| {
        let Record { device, event: Event::Given(entry) } = &history.records[at] else {
            return None;
        };
        let of_device = |&later: &usize| history.records[later].device == *device;
        for later in (at + 1..history.records.len()).filter(of_device) {
            match &history.records[later].event {
                Event::Started => return None,
                Event::Given(other) if other.conversation == entry.conversation => {
                    return Some(later);
                }
                _ => {}
            }
        }
        None
    };
    let Some(at) = some(history, rng, |at, _| next(at).is_some()) else { return false };
    let Some(later) = next(at) else { return false };
    // The earlier one moves, since the later one may not have been sent before.
    history.records[at..=later].rotate_left(1);
    true
}

fn another_text(history: &mut History, rng: &mut StdRng) -> bool {
    change(history, rng, is_given, |event| {
        if let Event::Given(entry) = event {
            entry.text.push('!');
        }
    })
}

fn another_sender(history: &mut History, rng: &mut StdRng) -> bool {
    let accounts: Vec<_> = history.devices.values().copied().collect();
    change(history, rng, is_given, |event| {
        if let Event::Given(entry) = event
            && let Some(&other) = accounts.iter().find(|&&account| account != entry.account)
        {
            entry.account = other;
        }
    })
}

fn another_id(history: &mut History, rng: &mut StdRng) -> bool {
    change(history, rng, is_given, |event| {
        if let Event::Given(entry) = event {
            entry.message_id ^= 1;
        }
    })
}

fn another_conversation(history: &mut History, rng: &mut StdRng) -> bool {
    let conversations: Vec<_> = history.conversations.keys().copied().collect();
    let other = rng.random_range(0..conversations.len());
    repeat(
        history,
        rng,
        |_, record| matches!(&record.event, Event::Given(entry) if entry.conversation != conversations[other]),
        |record| {
            if let Event::Given(entry) = &mut record.event {
                entry.conversation = conversations[other];
            }
        },
    )
}

fn at_a_strangers(history: &mut History, rng: &mut StdRng) -> bool {
    let devices = history.devices.clone();
    let conversations = history.conversations.clone();
    repeat(history, rng, is_given, |record| {
        if let Event::Given(entry) = &record.event
            && let Some((&stranger, _)) = devices
                .iter()
                .find(|(_, account)| !conversations[&entry.conversation].contains(account))
        {
            record.device = stranger;
        }
    })
}

fn ones_own(history: &mut History, rng: &mut StdRng) -> bool {
    repeat(history, rng, is_given, |record| {
        if let Event::Given(entry) = &record.event {
            record.device = entry.device;
        }
    })
}

fn before_it_was_sent(history: &mut History, rng: &mut StdRng) -> bool {
    let Some(at) = some(history, rng, is_given) else { return false };
    let Event::Given(early) = history.records[at].event.clone() else { return false };
    let Some(sent) = history.records.iter().position(
        |record| matches!(&record.event, Event::Submitted { text, .. } if *text == early.text),
    ) else {
        return false;
    };
    let copy = history.records[at].clone();
    history.records.insert(sent, copy);
    true
}

fn though_it_failed(history: &mut History, rng: &mut StdRng) -> bool {
    let Some(at) = some(history, rng, |_, record| matches!(record.event, Event::Failed { .. }))
    else {
        return false;
    };
    let Record { device: sender, event: Event::Failed { text } } = history.records[at].clone()
    else {
        return false;
    };
    let sent = history.records.iter().find_map(|record| match &record.event {
        Event::Submitted { conversation, text: other } if *other == text => Some(*conversation),
        _ => None,
    });
    let Some(conversation) = sent else { return false };
    let account = history.devices[&sender];
    let receiver = history.devices.iter().find(|&(&device, of)| {
        device != sender && history.conversations[&conversation].contains(of)
    });
    let Some((&device, _)) = receiver else { return false };
    // A place of another message, so that this one's own isn't missed elsewhere.
    let seq = head(history, conversation) + 1;
    let entry = super::Entry { conversation, seq, account, device: sender, message_id: 1, text };
    history.records.push(Record { device, event: Event::Given(entry) });
    true
}

fn two_at_one_place(history: &mut History, rng: &mut StdRng) -> bool {
    let Some(at) = some(history, rng, |_, record| match record.event {
        Event::Accepted { conversation, .. } => head(history, conversation) > 1,
        _ => false,
    }) else {
        return false;
    };
    if let Event::Accepted { seq, .. } = &mut history.records[at].event {
        *seq = if *seq > 1 { *seq - 1 } else { 2 };
    }
    true
}

fn is_receipt(_: usize, record: &Record) -> bool {
    matches!(record.event, Event::Receipt { .. })
}

fn delivered_too_far(history: &mut History, rng: &mut StdRng) -> bool {
    let records = history.clone();
    change(history, rng, is_receipt, |event| {
        if let Event::Receipt { conversation, delivered, .. } = event {
            *delivered = head(&records, *conversation) + 1;
        }
    })
}

fn read_too_far(history: &mut History, rng: &mut StdRng) -> bool {
    let records = history.clone();
    change(history, rng, is_receipt, |event| {
        if let Event::Receipt { conversation, read, .. } = event {
            *read = head(&records, *conversation) + 1;
        }
    })
}

fn strangers_receipt(history: &mut History, rng: &mut StdRng) -> bool {
    let accounts: Vec<_> = history.devices.values().copied().collect();
    let conversations = history.conversations.clone();
    change(history, rng, is_receipt, |event| {
        if let Event::Receipt { conversation, account, .. } = event
            && let Some(&stranger) =
                accounts.iter().find(|&account| !conversations[conversation].contains(account))
        {
            *account = stranger;
        }
    })
}

fn delivered_less(history: &mut History, rng: &mut StdRng) -> bool {
    repeat(
        history,
        rng,
        |_, record| matches!(record.event, Event::Receipt { delivered: 1.., .. }),
        |record| {
            if let Event::Receipt { delivered, .. } = &mut record.event {
                *delivered -= 1;
            }
        },
    )
}

fn read_less(history: &mut History, rng: &mut StdRng) -> bool {
    repeat(
        history,
        rng,
        |_, record| matches!(record.event, Event::Receipt { read: 1.., .. }),
        |record| {
            if let Event::Receipt { read, .. } = &mut record.event {
                *read -= 1;
            }
        },
    )
}

fn sent_twice(history: &mut History, rng: &mut StdRng) -> bool {
    repeat(history, rng, |_, record| matches!(record.event, Event::Submitted { .. }), |_| {})
}
