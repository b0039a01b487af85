use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const ACTIVE: Mode = Mode { active: true, idle_for: Duration::from_secs(30) };
const INACTIVE: Mode = Mode { active: false, idle_for: Duration::from_secs(600) };

/// A client that has nothing to say behind a router that forgets.
struct World {
    learner: Learner,
    line: Line,
    now: Instant,
    last: Instant,
    sent: u64,
    port: u16,
    forgets_after: Duration,
    /// Silences before the packets that the client had to make.
    silences: Vec<Duration>,
    /// How many of them were too long.
    forgotten: usize,
}

impl World {
    fn new(forgets_after: Duration) -> Self {
        Self::with(Some(KeepAlive::default()), forgets_after)
    }

    fn with(settings: Option<KeepAlive>, forgets_after: Duration) -> Self {
        let now = Instant::now();
        Self {
            learner: Learner::new(settings),
            line: Line::new(now, 0),
            now,
            last: now,
            sent: 0,
            port: 1,
            forgets_after,
            silences: Vec::new(),
            forgotten: 0,
        }
    }

    fn address(&self) -> SocketAddr {
        ([203, 0, 113, 7], self.port).into()
    }

    /// Lets time pass; the server's answers come at once.
    fn pass(&mut self, time: Duration, mode: Mode) {
        let end = self.now + time;
        while let Some(every) = self.learner.every(self.now, mode) {
            let look_at = self.line.next_look(self.last, every);
            if look_at > end {
                break;
            }
            self.now = self.now.max(look_at);
            let Some(silence) = self.line.look(self.now, self.last, every, self.sent) else {
                continue;
            };
            let passed = self.now - self.last;
            assert!(silence <= passed, "{silence:?} of {passed:?}");
            if passed > self.forgets_after {
                self.port += 1;
                self.forgotten += 1;
            }
            self.silences.push(passed);
            let question = self.learner.asks(silence);
            (self.sent, self.last) = (self.sent + 1, self.now);
            let address = self.address();
            self.learner.answered(self.now, question, Some(address));
        }
        self.now = end;
    }

    fn last_silence(&self) -> Duration {
        *self.silences.last().unwrap()
    }
}

#[test]
fn silence_grows_while_it_does_no_harm() {
    let mut world = World::new(Duration::MAX);
    world.pass(60 * MINUTE, INACTIVE);
    // The first question is only to have something to compare with.
    assert_eq!(world.silences[..2], [5 * SECOND, 25 * SECOND]);
    assert!(world.silences.is_sorted(), "{:?}", world.silences);
    assert!(world.silences.windows(2).skip(1).all(|two| two[1] <= two[0] * 3 / 2));
    assert_eq!(world.last_silence(), 240 * SECOND);
    assert!(world.silences.len() < 25, "{:?}", world.silences);
}

#[test]
fn silence_settles_below_what_the_router_remembers() {
    for forgets_after_s in [10, 20, 30, 45, 60, 61, 90, 120, 180, 239] {
        let forgets_after = forgets_after_s * SECOND;
        let mut world = World::new(forgets_after);
        world.pass(10 * MINUTE, INACTIVE);
        let (silence, forgotten) = (world.last_silence(), world.forgotten);
        assert!(silence <= forgets_after, "{forgets_after_s} {silence:?}");
        // Not needlessly short either.
        assert!(silence >= forgets_after / 2, "{forgets_after_s} {silence:?}");
        assert!(forgotten <= 3, "{forgets_after_s} {:?}", world.silences);
        // A try now and then, ever more rarely.
        world.pass(24 * 60 * MINUTE, INACTIVE);
        let tries = world.forgotten - forgotten;
        assert!((1..=9).contains(&tries), "{forgets_after_s}: {tries}");
        assert!(world.silences.iter().rev().take(3).all(|silence| *silence <= forgets_after));
    }
}

#[test]
fn what_a_router_forgot_once_is_tried_again() {
    let mut world = World::new(60 * SECOND);
    world.pass(10 * MINUTE, INACTIVE);
    assert!(world.last_silence() <= 60 * SECOND);
    // It had been told to forget sooner, and isn't any more.
    world.forgets_after = Duration::MAX;
    world.pass(60 * MINUTE, INACTIVE);
    assert_eq!(world.last_silence(), 240 * SECOND);
}

#[test]
fn a_router_that_becomes_impatient_is_followed() {
    let mut world = World::new(Duration::MAX);
    world.pass(60 * MINUTE, INACTIVE);
    world.forgets_after = 30 * SECOND;
    let before = world.silences.len();
    world.pass(30 * MINUTE, INACTIVE);
    assert!(world.last_silence() <= 30 * SECOND, "{:?}", &world.silences[before..]);
    assert!(world.last_silence() >= 15 * SECOND, "{:?}", &world.silences[before..]);
}

#[test]
fn another_network_is_another_matter() {
    let mut world = World::new(240 * SECOND);
    world.pass(60 * MINUTE, INACTIVE);
    let before = world.silences.len();
    world.learner.network_changed();
    // With the check of the new network.
    (world.sent, world.last) = (world.sent + 1, world.now);
    world.forgets_after = 60 * SECOND;
    world.pass(10 * MINUTE, INACTIVE);
    assert_eq!(world.silences[before..before + 2], [5 * SECOND, 25 * SECOND]);
    assert!(world.last_silence() <= 60 * SECOND);

    // What was asked on the old one and is answered on the new one says nothing.
    let mut learner = Learner::new(Some(KeepAlive::default()));
    let now = Instant::now();
    let address = |port| Some(([203, 0, 113, 7], port).into());
    let question = learner.asks(5 * SECOND);
    learner.answered(now, question, address(1));
    let question = learner.asks(25 * SECOND);
    learner.network_changed();
    learner.answered(now, question, address(2));
    assert_eq!(learner.every(now, INACTIVE), Some(5 * SECOND));
}

#[test]
fn who_looks_is_alive_within_half_of_the_servers_limit() {
    let mut world = World::new(Duration::MAX);
    world.pass(10 * MINUTE, ACTIVE);
    assert!(world.silences.iter().all(|silence| *silence <= ACTIVE.idle_for / 2));
    assert_eq!(world.last_silence(), 12 * SECOND);
    // What was learnt while nobody looked changes nothing, and the other way round.
    world.pass(60 * MINUTE, INACTIVE);
    world.pass(MINUTE, ACTIVE);
    assert_eq!(world.last_silence(), 12 * SECOND);
    world.pass(10 * MINUTE, INACTIVE);
    assert_eq!(world.last_silence(), 240 * SECOND);
    // A router that forgets sooner is followed here as well.
    let mut world = World::new(9 * SECOND);
    world.pass(MINUTE, ACTIVE);
    assert!(world.last_silence() <= 9 * SECOND, "{:?}", world.silences);
}

#[test]
fn the_servers_limit_goes_before_all_bounds() {
    let minute = Some(KeepAlive::fixed(MINUTE));
    for settings in [Some(KeepAlive::default()), minute, Some(KeepAlive::fixed(Duration::ZERO))] {
        let learner = Learner::new(settings);
        for idle_for_ms in [600, 5_000, 19_999, 30_000, 600_000, u32::MAX] {
            let idle_for = Duration::from_millis(idle_for_ms.into());
            for active in [false, true] {
                let every = learner.every(Instant::now(), Mode { active, idle_for }).unwrap();
                assert!(every <= idle_for / 2 && every >= FLOOR, "{settings:?} {idle_for:?}");
            }
        }
        let none = Mode { active: true, idle_for: Duration::ZERO };
        assert_eq!(learner.every(Instant::now(), none), Some(FLOOR));
    }
}

#[test]
fn none_means_never_and_fixed_means_always() {
    let mut world = World::with(None, 20 * SECOND);
    world.pass(60 * MINUTE, INACTIVE);
    assert!(world.silences.is_empty());
    let mut world = World::with(Some(KeepAlive::fixed(10 * SECOND)), 8 * SECOND);
    world.pass(10 * MINUTE, ACTIVE);
    world.pass(10 * MINUTE, INACTIVE);
    assert!(world.silences.iter().all(|silence| *silence == 10 * SECOND), "{:?}", world.silences);
    assert_eq!(world.silences.len(), 120);
}

#[test]
fn a_server_that_lies_about_the_address_can_not_make_a_client_flood() {
    for mode in [ACTIVE, INACTIVE] {
        let mut world = World::new(Duration::ZERO);
        world.pass(24 * 60 * MINUTE, mode);
        assert!(world.silences.iter().all(|silence| *silence >= 5 * SECOND));
    }
}

#[test]
fn a_server_that_does_not_know_the_question_is_asked_at_the_safe_pace() {
    let mut learner = Learner::new(Some(KeepAlive::default()));
    let now = Instant::now();
    for silence in [5 * SECOND, 25 * SECOND, 25 * SECOND, 25 * SECOND] {
        assert_eq!(learner.every(now, INACTIVE), Some(silence));
        let question = learner.asks(silence);
        learner.answered(now, question, None);
    }
}

#[test]
fn what_was_asked_in_vain_is_answered_by_the_next_connection() {
    let mut learner = Learner::new(Some(KeepAlive::default()));
    let now = Instant::now();
    let address = |port| Some(([203, 0, 113, 7], port).into());
    let question = learner.asks(5 * SECOND);
    learner.answered(now, question, address(1));
    let question = learner.asks(30 * SECOND);
    learner.answered(now, question, address(1));
    assert_eq!(learner.every(now, INACTIVE), Some(45 * SECOND));
    // A server behind another router: a forgotten client's packets lead nowhere.
    let _ = learner.asks(44 * SECOND);
    learner.connected();
    assert_eq!(learner.every(now, INACTIVE), Some(5 * SECOND));
    let question = learner.asks(5 * SECOND);
    learner.answered(now, question, address(2));
    assert_eq!(learner.every(now, INACTIVE), Some(30 * SECOND));
}

#[test]
fn an_address_that_changes_without_a_silence_says_nothing_of_silence() {
    let mut learner = Learner::new(Some(KeepAlive::default()));
    let now = Instant::now();
    for port in 1..10 {
        let question = learner.asks(SECOND);
        learner.answered(now, question, Some(([203, 0, 113, 7], port).into()));
    }
    assert_eq!(learner.every(now, INACTIVE), Some(25 * SECOND));
}

#[test]
fn whatever_is_sent_postpones_the_next_packet_and_shortens_the_silence() {
    let begin = Instant::now();
    let at = |seconds: u32| begin + seconds * SECOND;
    let mut line = Line::new(begin, 0);
    let every = 25 * SECOND;
    // Settled: from then on it counts.
    assert_eq!(line.next_look(at(0), every), at(1));
    assert_eq!(line.look(at(1), at(0), every, 1), None);
    assert_eq!(line.next_look(at(0), every), at(25));
    // Meanwhile a message came.
    assert_eq!(line.look(at(25), at(20), every, 2), None);
    assert_eq!(line.next_look(at(20), every), at(45));
    assert_eq!(line.look(at(45), at(20), every, 2), Some(20 * SECOND));
    // QUIC repeated something by itself: less than it seems is proven.
    assert_eq!(line.look(at(46), at(45), every, 3), None);
    assert_eq!(line.next_look(at(45), every), at(70));
    assert_eq!(line.look(at(70), at(45), every, 4), Some(Duration::ZERO));
}
