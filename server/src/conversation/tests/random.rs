//! Arbitrary histories against a model of the devices, with crashes between any two steps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tern_protocol::frame::Ack;

use super::world::*;
use crate::conversation::state::News;

const DEVICES: [u64; 3] = [10, 11, 20];

#[derive(Debug, Clone)]
enum Step {
    /// A device sends, or repeats its last send.
    Send {
        device: usize,
        repeat: bool,
    },
    /// A device takes so many of what waits for it, and acknowledges.
    Take {
        device: usize,
        most: u64,
    },
    /// A device acknowledges the receipts that it is sent.
    Receipts {
        device: usize,
    },
    /// A device's user reads all that the device has.
    Read {
        device: usize,
    },
    Settle,
    /// The server dies: before the commit, or after.
    Crash {
        committed: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let device = 0..DEVICES.len();
    prop_oneof![
        4 => (device.clone(), any::<bool>()).prop_map(|(device, repeat)| Step::Send { device, repeat }),
        4 => (device.clone(), 1..4u64).prop_map(|(device, most)| Step::Take { device, most }),
        1 => device.clone().prop_map(|device| Step::Receipts { device }),
        1 => device.prop_map(|device| Step::Read { device }),
        1 => Just(Step::Settle),
        2 => any::<bool>().prop_map(|committed| Step::Crash { committed }),
    ]
}

#[derive(Default)]
struct Device {
    counter: u64,
    /// What its application has, in the order in which it got it.
    has: Vec<u64>,
    position: u64,
    /// The highest receipts that it was told, by account.
    told: BTreeMap<u64, (u64, u64)>,
}

struct Model {
    world: World,
    devices: BTreeMap<u64, Device>,
    /// The author of each accepted message, by sequence number.
    accepted: BTreeMap<u64, u64>,
    /// What the user of an account has read.
    read: BTreeMap<u64, u64>,
}

impl Model {
    fn new() -> Self {
        let devices = DEVICES.into_iter().map(|device| (device, Device::default())).collect();
        Self { world: World::new(), devices, accepted: BTreeMap::new(), read: BTreeMap::new() }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Send { device, repeat } => self.send(DEVICES[device], repeat),
            Step::Take { device, most } => self.take(DEVICES[device], most),
            Step::Receipts { device } => self.receipts(DEVICES[device]),
            Step::Read { device } => self.read(DEVICES[device]),
            Step::Settle => self.world.settle(),
            Step::Crash { committed } => {
                if committed {
                    self.world.commit();
                }
                self.world.crash();
            }
        }
        self.check();
    }

    fn send(&mut self, device: u64, repeat: bool) {
        let state = self.devices.get_mut(&device).unwrap();
        if repeat && state.counter > 0 {
            let answer =
                self.world.append(device, &send(state.counter, state.counter - 1)).unwrap();
            assert_eq!(self.accepted.get(&answer.seq), Some(&device));
            return;
        }
        let counter = state.counter + 1;
        let answer = self.world.append(device, &send(counter, counter - 1)).unwrap();
        self.world.commit();
        state.counter = counter;
        let before = self.accepted.insert(answer.seq, device);
        assert_eq!(before, None, "a sequence number was given twice");
        assert_eq!(answer.seq, self.accepted.len() as u64, "a hole in the numbers");
        self.hear();
    }

    /// What a downlink would deliver: everything behind the cursor, without holes.
    fn take(&mut self, device: u64, most: u64) {
        let Some(snapshot) = self.world.state.snapshot(super::world::device(device)) else {
            return;
        };
        let stored = self.world.stored();
        let state = self.devices.get_mut(&device).unwrap();
        assert!(snapshot.cursor.seq <= state.position, "the server's cursor is ahead");
        let to = snapshot.foreign_head.min(snapshot.cursor.seq + most);
        for seq in snapshot.cursor.seq + 1..=to {
            let author = self.accepted[&seq];
            if seq > state.position {
                if author != device {
                    let message = stored.get(&seq).expect("an accepted message is lost");
                    assert_eq!(message.device.get(), author);
                    state.has.push(seq);
                }
                state.position = seq;
            }
        }
        if to > snapshot.cursor.seq {
            let ack = Ack { seq: to, revision: snapshot.cursor.revision };
            self.world.state.ack(super::world::device(device), ack, &mut self.world.news);
            if !self.world.news.is_empty() {
                self.world.commit();
            }
            self.hear();
        }
    }

    fn receipts(&mut self, device: u64) {
        let Some(snapshot) = self.world.state.snapshot(super::world::device(device)) else {
            return;
        };
        let Some(last) = snapshot.receipts.last() else { return };
        let ack = Ack { seq: snapshot.cursor.seq, revision: last.revision };
        self.world.state.ack(super::world::device(device), ack, &mut self.world.news);
    }

    fn read(&mut self, device: u64) {
        if !self.world.state.exists() {
            return;
        }
        let account = owner(super::world::device(device));
        let up_to = self.devices[&device].position;
        let mark = self.world.state.read(account, up_to, &mut self.world.news).unwrap();
        let read = self.read.entry(account.get()).or_default();
        *read = (*read).max(up_to);
        assert_eq!(mark, *read);
        self.world.commit();
        self.hear();
    }

    /// The devices are told the news, which is durable by now.
    fn hear(&mut self) {
        for (device, news) in std::mem::take(&mut self.world.news) {
            let News::Receipt(receipt) = news else { continue };
            let has = |(device, state): (&u64, &Device)| {
                let own = owner(super::world::device(*device)) == receipt.account;
                own.then_some(state.position)
            };
            let delivered = self.devices.iter().filter_map(has).max().unwrap();
            assert!(receipt.delivered <= delivered, "delivered is a lie");
            let read = self.read.get(&receipt.account.get()).copied().unwrap_or(0);
            assert!(receipt.read <= read, "read is a lie");
            let state = self.devices.get_mut(&device.get()).unwrap();
            let told = state.told.entry(receipt.account.get()).or_default();
            assert!(told.0 <= receipt.delivered && told.1 <= receipt.read, "a receipt went back");
            *told = (receipt.delivered, receipt.read);
        }
    }

    fn check(&self) {
        let stored = self.world.stored();
        for (&device, state) in &self.devices {
            assert!(state.has.windows(2).all(|pair| pair[0] < pair[1]), "order or repetition");
            let missing =
                |&(&seq, &author): &(&u64, &u64)| author != device && seq > state.position;
            for (seq, _) in self.accepted.iter().filter(missing) {
                assert!(stored.contains_key(seq), "message {seq} is lost to device {device}");
                assert!(self.world.is_marked(device), "device {device} would not be asked");
            }
        }
    }

    /// Everybody takes all; then nothing is left.
    fn finish(&mut self) {
        for device in DEVICES {
            self.take(device, u64::MAX / 2);
        }
        self.world.commit();
        for device in DEVICES {
            self.receipts(device);
        }
        self.world.settle();
        assert_eq!(self.world.stored().len(), 0, "something wasn't deleted");
        for device in DEVICES {
            assert!(!self.world.is_marked(device), "a mark was left");
            let theirs: Vec<u64> = self
                .accepted
                .iter()
                .filter(|&(_, &author)| author != device)
                .map(|(&seq, _)| seq)
                .collect();
            assert_eq!(self.devices[&device].has, theirs);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_repeated_reordered_or_lied_about(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.run(step);
        }
        model.finish();
    }
}
