use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use bytes::BufMut;
use proptest::{prelude::*, sample::Index};

use super::{chunk::Chunk, *};

const NONE: &Context<'_> = &Context::from_waker(Waker::noop());

fn pair() -> (Mux, Mux) {
    (Mux::new(Side::Client), Mux::new(Side::Server))
}

fn open(mux: &mut Mux) -> StreamId {
    match mux.poll_open(NONE) {
        Poll::Ready(Ok(id)) => id,
        other => panic!("{other:?}"),
    }
}

fn write(mux: &mut Mux, id: StreamId, bytes: &[u8]) -> usize {
    match mux.poll_write(id, bytes, NONE) {
        Poll::Ready(Ok(taken)) => taken,
        Poll::Pending => 0,
        other => panic!("{other:?}"),
    }
}

/// Everything that `from` has to say goes to `to`.
fn carry(from: &mut Mux, to: &mut Mux) {
    let mut wire = BytesMut::new();
    while from.poll_output(&mut wire, 4_096, NONE).is_ready() {
        to.receive(&wire.split()).unwrap();
    }
}

fn chunk(id: StreamId, chunk: Chunk) -> BytesMut {
    let mut wire = BytesMut::new();
    chunk.write(id, &mut wire);
    wire
}

fn data(bytes: usize) -> Chunk {
    Chunk::Data(vec![7; bytes].into(), false)
}

#[derive(Debug, Clone)]
enum Step {
    Open(bool),
    Write(Index, bool, Vec<u8>),
    Finish(Index, bool),
    Reset(Index, bool, u16),
    Stop(Index, bool, u16),
    Carry(bool, usize, Vec<usize>),
    Read(Index, bool, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = || (any::<Index>(), any::<bool>());
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        proptest::collection::vec(any::<u8>(), 900..20_000),
    ];
    let step = prop_oneof![
        2 => any::<bool>().prop_map(Step::Open),
        8 => (stream(), bytes).prop_map(|((i, end), bytes)| Step::Write(i, end, bytes)),
        1 => stream().prop_map(|(i, end)| Step::Finish(i, end)),
        1 => (stream(), any::<u16>()).prop_map(|((i, end), code)| Step::Reset(i, end, code)),
        1 => (stream(), any::<u16>()).prop_map(|((i, end), code)| Step::Stop(i, end, code)),
        8 => (any::<bool>(), 1..9_000_usize, proptest::collection::vec(1..999_usize, 0..4))
            .prop_map(|(end, most, cuts)| Step::Carry(end, most, cuts)),
        8 => (stream(), 1..30_000_usize).prop_map(|((i, end), most)| Step::Read(i, end, most)),
    ];
    proptest::collection::vec(step, 0..200)
}

/// One direction of a stream, as a test sees it: what was written, how far it was read, how it ends.
#[derive(Debug, Default)]
struct Direction {
    written: Vec<u8>,
    read: usize,
    finished: bool,
    reset: Option<u16>,
    stopped: Option<u16>,
    /// How the reader saw it end.
    end: Option<Result<(), Stop>>,
}

/// Two ends with a wire in each direction on which chunks may be cut anywhere.
struct World {
    ends: [Mux; 2],
    streams: Vec<StreamId>,
    directions: BTreeMap<(StreamId, bool), Direction>,
}

impl World {
    fn read(&mut self, id: StreamId, end: bool, most: usize) -> bool {
        let direction = self.directions.get_mut(&(id, !end)).unwrap();
        match self.ends[usize::from(end)].poll_read(id, most, NONE) {
            Poll::Ready(Ok(Some(bytes))) => {
                assert!(bytes.len() <= most);
                let expected = &direction.written[direction.read..][..bytes.len()];
                assert_eq!(bytes, expected, "in order and nobody else's");
                direction.read += bytes.len();
                return true;
            }
            Poll::Ready(Ok(None)) => direction.end = Some(Ok(())),
            // The other end may not have heard of it; so there is nothing to read either.
            Poll::Ready(Err(Stop::Closed))
                if !self.ends[usize::from(end)].streams.contains_key(&id) => {}
            Poll::Ready(Err(stop)) => direction.end = Some(Err(stop)),
            Poll::Pending => {}
        }
        false
    }

    fn carry(&mut self, from: bool, most: usize, cuts: &[usize]) -> bool {
        let mut wire = BytesMut::new();
        let [first, second] = &mut self.ends;
        let (from, to) = if from { (second, first) } else { (first, second) };
        if from.poll_output(&mut wire, most, NONE).is_pending() {
            return false;
        }
        for &cut in cuts {
            to.receive(&wire.split_to(cut.min(wire.len()))).unwrap();
        }
        to.receive(&wire).unwrap();
        true
    }

    fn take(&mut self, step: Step) {
        let streams = self.streams.clone();
        let known = |index: Index| (!streams.is_empty()).then(|| *index.get(&streams));
        match step {
            Step::Open(end) => {
                let id = open(&mut self.ends[usize::from(end)]);
                self.streams.push(id);
                self.directions.insert((id, false), Direction::default());
                self.directions.insert((id, true), Direction::default());
            }
            Step::Write(index, end, bytes) => {
                let Some(id) = known(index) else { return };
                let direction = self.directions.get_mut(&(id, end)).unwrap();
                let written = self.ends[usize::from(end)].poll_write(id, &bytes, NONE);
                if let Poll::Ready(Ok(taken)) = written {
                    direction.written.extend_from_slice(&bytes[..taken]);
                }
            }
            Step::Finish(index, end) => {
                let Some(id) = known(index) else { return };
                let mux = &mut self.ends[usize::from(end)];
                let direction = self.directions.get_mut(&(id, end)).unwrap();
                if mux.streams.contains_key(&id) && direction.reset.is_none() {
                    mux.finish(id);
                    direction.finished = true;
                }
            }
            Step::Reset(index, end, code) => {
                let Some(id) = known(index) else { return };
                let mux = &mut self.ends[usize::from(end)];
                if mux.streams.contains_key(&id) {
                    mux.reset(id, code);
                    self.directions.get_mut(&(id, end)).unwrap().reset.get_or_insert(code);
                }
            }
            Step::Stop(index, end, code) => {
                let Some(id) = known(index) else { return };
                let mux = &mut self.ends[usize::from(end)];
                if mux.streams.contains_key(&id) {
                    mux.stop(id, code);
                    self.directions.get_mut(&(id, !end)).unwrap().stopped.get_or_insert(code);
                }
            }
            Step::Carry(from, most, cuts) => drop(self.carry(from, most, &cuts)),
            Step::Read(index, end, most) => {
                if let Some(id) = known(index) {
                    self.read(id, end, most);
                }
            }
        }
        let bound = self.streams.len() * (SEND_BYTES + WINDOW_BYTES) + CHUNK_BYTES + HEAD_BYTES;
        assert!(self.ends.iter().all(|end| end.buffered_bytes() <= bound));
    }

    /// Carries and reads until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut moved = self.carry(false, 4_096, &[]);
            moved |= self.carry(true, 4_096, &[]);
            for id in self.streams.clone() {
                moved |= self.read(id, false, 10_000);
                moved |= self.read(id, true, 10_000);
            }
            if !moved {
                return;
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_interleaving_each_streams_bytes_come_in_order_and_its_end_is_seen(
        steps in steps()
    ) {
        let (client, server) = pair();
        let mut world = World { ends: [client, server], streams: vec![], directions: BTreeMap::new() };
        for step in steps {
            world.take(step);
        }
        world.settle();
        for ((id, end), direction) in &world.directions {
            let what = format!("{id} from {end}: {:?}", (direction.finished, direction.reset, direction.stopped));
            match (direction.stopped, direction.reset) {
                (None, None) => {
                    prop_assert_eq!(direction.read, direction.written.len(), "{}", what);
                    let end = direction.finished.then_some(Ok(()));
                    prop_assert_eq!(direction.end, end, "{}", what);
                }
                // A reset overtakes what was written, but not an end that has left.
                (None, Some(code)) => prop_assert!(
                    direction.end == Some(Err(Stop::Code(code)))
                        || (direction.finished && direction.end == Some(Ok(()))),
                    "{}", what
                ),
                // A reader that has stopped reads no more, and the writer may have been told.
                (Some(_), _) => {}
            }
        }
        // When everybody lets go, nothing is left; an end may hear of a stream only now.
        for _ in 0..2 {
            for mux in &mut world.ends {
                for &id in &world.streams {
                    mux.drop_reader(id);
                    mux.drop_writer(id);
                }
            }
            world.settle();
        }
        for end in &world.ends {
            prop_assert_eq!((end.stream_count(), end.buffered_bytes()), (0, 0));
            prop_assert_eq!((end.held_here, end.held_there.len()), (0, 0));
        }
    }

    #[test]
    fn whatever_comes_is_refused_or_stays_within_bounds(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                (0..7_u8, 0..600_u32, 0..1_100_u16, 0..1_100_usize).prop_map(|(kind, id, value, bytes)| {
                    let mut chunk = vec![kind];
                    chunk.put_u32_le(id);
                    chunk.put_u16_le(value);
                    chunk.resize(HEAD_BYTES + bytes, 0);
                    chunk
                }),
            ],
            0..50,
        )
    ) {
        let mut mux = Mux::new(Side::Server);
        let mut bytes = 0;
        for piece in pieces {
            bytes += piece.len();
            if mux.receive(&piece).is_err() {
                break;
            }
            prop_assert!(mux.stream_count() <= MAX_STREAMS);
            prop_assert!(mux.buffered_bytes() <= bytes);
        }
    }
}

#[test]
fn streams_take_turns_chunk_by_chunk() {
    let (mut client, _) = pair();
    let (bulk, message) = (open(&mut client), open(&mut client));
    write(&mut client, bulk, &[1; 10_000]);
    write(&mut client, message, &[2; 200]);
    let mut wire = BytesMut::new();
    assert!(client.poll_output(&mut wire, 1_500, NONE).is_ready());
    let mut order = Vec::new();
    while let Some((id, _)) = Chunk::read(&mut wire).unwrap() {
        order.push(id);
    }
    assert_eq!(order, [bulk, message, bulk]);
}

#[test]
fn a_reader_that_sleeps_holds_its_writer_up_and_nobody_else() {
    let (mut client, mut server) = pair();
    let (slow, quick) = (open(&mut client), open(&mut client));
    let mut taken = 0;
    loop {
        let now = write(&mut client, slow, &[1; 5_000]);
        carry(&mut client, &mut server);
        if now == 0 {
            break;
        }
        taken += now;
    }
    assert_eq!(taken, WINDOW_BYTES + SEND_BYTES);
    assert_eq!(server.buffered_bytes(), WINDOW_BYTES);
    write(&mut client, quick, b"quick");
    carry(&mut client, &mut server);
    let read = server.poll_read(quick, 100, NONE);
    assert_eq!(read, Poll::Ready(Ok(Some(Bytes::from_static(b"quick")))));
    // Once it reads, the rest comes.
    assert!(server.poll_read(slow, WINDOW_BYTES, NONE).is_ready());
    carry(&mut server, &mut client);
    carry(&mut client, &mut server);
    assert_eq!(server.buffered_bytes(), SEND_BYTES);
}

#[test]
fn an_end_opens_a_further_stream_when_the_other_has_let_go_of_one() {
    let (mut client, mut server) = pair();
    let ids: Vec<_> = (0..MAX_STREAMS).map(|_| open(&mut client)).collect();
    assert!(client.poll_open(NONE).is_pending());
    for &id in &ids {
        client.finish(id);
    }
    carry(&mut client, &mut server);
    assert!(client.poll_open(NONE).is_pending());
    let Poll::Ready(Ok(first)) = server.poll_accept(NONE) else { panic!("nothing was offered") };
    assert_eq!(first, ids[0]);
    server.drop_writer(first);
    server.drop_reader(first);
    carry(&mut server, &mut client);
    assert_eq!(open(&mut client), ids[MAX_STREAMS - 1] + 2);
}

#[test]
fn what_a_good_end_never_sends_is_refused() {
    let finished = chunk(0, Chunk::Data(Bytes::new(), true));
    let full = vec![chunk(0, data(CHUNK_BYTES)); WINDOW_BYTES / CHUNK_BYTES + 1];
    let cases: [(&[BytesMut], Violation); 12] = [
        (&[BytesMut::from(&[9, 0, 0, 0, 0, 0, 0][..])], Violation::Kind(9)),
        (&[chunk(0, data(CHUNK_BYTES + 1))], Violation::Length),
        (&[chunk(0, data(0))], Violation::Length),
        (&[chunk(2 * MAX_STREAMS as u32, data(1))], Violation::Streams),
        (&[chunk(u32::MAX - 1, data(1))], Violation::Streams),
        (&full, Violation::Window),
        (&[chunk(0, Chunk::Credit(1))], Violation::Window),
        (&[finished.clone(), chunk(0, data(1))], Violation::State),
        (&[finished.clone(), finished.clone()], Violation::State),
        (&[finished, chunk(0, Chunk::Reset(1))], Violation::State),
        // Streams of this end that it never opened.
        (&[chunk(1, data(1))], Violation::State),
        (&[chunk(1, Chunk::Gone)], Violation::State),
    ];
    for (chunks, violation) in cases {
        let mut server = Mux::new(Side::Server);
        let (last, first) = chunks.split_last().unwrap();
        for chunk in first {
            server.receive(chunk).unwrap();
        }
        assert_eq!(server.receive(last), Err(violation));
    }
}

#[test]
fn a_stop_reaches_the_writer_and_its_reset_the_reader() {
    let (mut client, mut server) = pair();
    let id = open(&mut client);
    write(&mut client, id, b"a");
    carry(&mut client, &mut server);
    write(&mut client, id, b"unwanted");
    server.stop(id, 7);
    carry(&mut server, &mut client);
    assert_eq!(client.poll_write(id, b"b", NONE), Poll::Ready(Err(Stop::Code(7))));
    assert_eq!(client.poll_stopped(id, NONE), Poll::Ready(Ok(7)));
    carry(&mut client, &mut server);
    assert_eq!(server.poll_read(id, 10, NONE), Poll::Ready(Err(Stop::Closed)));
    // The other direction goes on.
    write(&mut server, id, b"c");
    carry(&mut server, &mut client);
    let read = client.poll_read(id, 10, NONE);
    assert_eq!(read, Poll::Ready(Ok(Some(Bytes::from_static(b"c")))));
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn everybody_who_waits_is_woken() {
    let (mut client, mut server) = pair();
    let id = open(&mut client);
    write(&mut client, id, &[0; SEND_BYTES]);
    carry(&mut client, &mut server);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let cx = &Context::from_waker(&waker);
    let woken = || count.0.swap(0, Ordering::Relaxed) > 0;

    // A reader by bytes, who sends by bytes written.
    while client.poll_read(id, 10, cx).is_ready() {}
    assert!(client.poll_output(&mut BytesMut::new(), 1, cx).is_pending());
    write(&mut client, id, b"x");
    assert!(woken());
    write(&mut server, id, b"x");
    carry(&mut server, &mut client);
    assert!(woken());
    // An acceptor by a stream.
    while server.poll_accept(cx).is_ready() {}
    let second = open(&mut client);
    write(&mut client, second, b"x");
    carry(&mut client, &mut server);
    assert!(woken());
    // A writer by room.
    write(&mut client, second, &[0; SEND_BYTES]);
    assert!(client.poll_write(second, b"x", cx).is_pending());
    carry(&mut client, &mut server);
    assert!(woken());
    // All of them by the end.
    assert!(client.poll_accept(cx).is_pending());
    assert!(client.poll_read(second, 10, cx).is_pending());
    client.end();
    assert!(woken());
    assert_eq!(client.poll_read(second, 10, cx), Poll::Ready(Err(Stop::Ended)));
    assert_eq!(client.poll_write(second, b"x", cx), Poll::Ready(Err(Stop::Ended)));
    assert_eq!(client.poll_accept(cx), Poll::Ready(Err(Stop::Ended)));
    assert_eq!(client.poll_open(cx), Poll::Ready(Err(Stop::Ended)));
}
