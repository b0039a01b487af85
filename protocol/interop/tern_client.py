"""A client of the Tern protocol on asyncio: connections, a durable store, and a session on both.

`Connection` carries frames and has no opinions, so that it can also say what a client shouldn't.
`Session` is a client as SPEC.md wants it: it signs in, numbers and repeats its sends, stores before
it acknowledges, and checks that what the server sends is dense and in order.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import ipaddress
import os
import random
import socket
import sqlite3

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events as quic
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography.hazmat.primitives.serialization import Encoding

import tern_frames as tern
from tern_frames import Code, Frame, FrameError, Framer, code_name, encode

SOFTWARE = "tern-interop 1"
PATIENCE = 20.0  # seconds after which a wait has failed
UPLINKS = 3  # [TERN-2.1-4]
UNACKNOWLEDGED = 256  # [TERN-7.1-7]


class ConnectionClosed(Exception):
    """`code` is an application's error code, or None where QUIC or TLS closed with `transport`."""

    def __init__(self, code: int | None, transport: int | None, reason: str, by_peer: bool):
        what = code_name(code) if code is not None else f"transport error {transport:#x}"
        super().__init__(f"closed by the {'server' if by_peer else 'client'}: {what} {reason!r}")
        self.code = code
        self.transport = transport
        self.reason = reason
        self.by_peer = by_peer


class StreamEnded(Exception):
    """The peer's direction is over: `code` of its reset, None after FIN."""

    def __init__(self, code: int | None):
        super().__init__(f"the stream ended with {code_name(code)}")
        self.code = code


class Rejected(Exception):
    def __init__(self, code: int, text: str = "", retry_after_ms: int = 0):
        super().__init__(f"{code_name(code)}: {text}")
        self.code = code
        self.retry_after_ms = retry_after_ms


class RequestFailed(Rejected):
    pass


# --- Connection --------------------------------------------------------------------------------


@dataclasses.dataclass
class TlsMemory:
    """What a later connection needs to send 0-RTT data.

    A resumed handshake shows no certificate: the one that counts for a signature is that of the
    handshake in which it was seen.
    """

    ticket: object = None
    certificate: bytes | None = None


class Stream:
    def __init__(self, connection: Connection, stream_id: int):
        self.connection = connection
        self.id = stream_id
        self.frames: collections.deque[Frame] = collections.deque()
        self.framer = Framer("welcome" if stream_id == 0 else None)
        self.ended = False  # by the peer
        self.reset_code: int | None = None  # of the peer's reset
        self.stop_code: int | None = None  # of the peer's STOP_SENDING
        self.finished = False  # by this end
        self._first = True

    def send(self, kind: str, **fields) -> None:
        self.send_bytes(encode(kind, **fields))

    def send_bytes(self, data: bytes, end: bool = False) -> None:
        if self.stop_code is not None:
            return  # the peer doesn't read any more
        self.finished = self.finished or end
        self.connection._quic.send_stream_data(self.id, data, end_stream=end)
        self.connection._transmit_soon()

    def finish(self) -> None:
        if not self.finished:
            self.send_bytes(b"", end=True)

    def reset(self, code: int) -> None:
        """Ends both directions."""
        if not self.finished and self.stop_code is None:
            self.finished = True
            self.connection._quic.reset_stream(self.id, code)
        if not self.ended:
            self.connection._quic.stop_stream(self.id, code)
        self.connection._transmit_soon()

    async def read(self, what: str = "a frame", timeout: float = PATIENCE) -> Frame:
        """The next frame. Extensions that nobody announced never get here."""
        await self.connection.until(lambda: self.frames or self.ended, what, timeout)
        if self.frames:
            return self.frames.popleft()
        raise StreamEnded(self.reset_code)

    async def expect(self, kind: str, timeout: float = PATIENCE):
        """The body of the next frame, which must be of this kind."""
        frame = await self.read(kind, timeout)
        if frame.kind != kind:
            raise AssertionError(f"expected {kind}, got {frame}")
        return frame.body

    async def end(self, what: str = "the end of the stream", timeout: float = PATIENCE):
        """Waits for the peer's end and gives the code of its reset, None after FIN."""
        await self.connection.until(lambda: self.ended, what, timeout)
        return self.reset_code

    def _feed(self, data: bytes, end: bool) -> None:
        for frame in self.framer.feed(data, end):
            if frame.kind != "extension":
                self.frames.append(frame)
            elif self._first:
                raise FrameError(Code.unexpectedFrame, "a stream begins with an extension")
            else:
                self.connection.ignored += 1
            self._first = False
        self.ended = self.ended or end


class Connection(QuicConnectionProtocol):
    """A QUIC connection that carries frames."""

    def __init__(self, transport_state, tls: TlsMemory):
        super().__init__(transport_state)
        self.tls = tls
        self.streams: dict[int, Stream] = {}
        self.incoming: collections.deque[Stream] = collections.deque()
        self.greeting = None
        self.handshake: quic.HandshakeCompleted | None = None
        self.closed: ConnectionClosed | None = None
        self.ignored = 0  # extension frames
        self._waiters: set[asyncio.Future] = set()
        self._datagrams: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(
        cls,
        address: tuple[str, int],
        ca: str,
        *,
        tls: TlsMemory | None = None,
        early: bool = False,
        alpn: str = tern.ALPN,
    ) -> Connection:
        """Connects and waits for handshake and greeting.

        With `early` it returns before anything is sent: what is then written to streams rides in
        0-RTT data if `tls` holds a ticket that allows it.
        """
        host, port = address
        tls = tls if tls is not None else TlsMemory()
        configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=[alpn],
            cafile=ca,
            server_name=host,
            idle_timeout=30.0,
            session_ticket=tls.ticket,
        )
        state = QuicConnection(
            configuration=configuration,
            session_ticket_handler=lambda ticket: setattr(tls, "ticket", ticket),
        )
        loop = asyncio.get_running_loop()
        family, _, _, _, peer = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
        local = "::" if family == socket.AF_INET6 else "0.0.0.0"
        datagrams, self = await loop.create_datagram_endpoint(
            lambda: cls(state, tls), local_addr=(local, 0), family=family
        )
        self._datagrams = datagrams
        self.connect(peer, transmit=not early)
        if not early:
            try:
                await self.until(lambda: self.handshake, "the handshake")
                await self.until(lambda: self.greeting, "the greeting")
            except BaseException:
                await self.close()
                raise
        return self

    async def until(self, predicate, what: str, timeout: float = PATIENCE):
        """Waits until something makes the predicate true and gives its value."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    value = predicate()
                    if value:
                        return value
                    if self.closed is not None:
                        raise self.closed
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.discard(waiter)
        except TimeoutError:
            raise TimeoutError(f"waited {timeout:g} s in vain for {what}") from None

    def notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def open_stream(self, unidirectional: bool = False) -> Stream:
        stream_id = self._quic.get_next_available_stream_id(is_unidirectional=unidirectional)
        # A stream exists for aioquic once something was sent on it.
        self._quic.send_stream_data(stream_id, b"")
        stream = self.streams[stream_id] = Stream(self, stream_id)
        return stream

    def flush(self) -> None:
        """Sends now what was written so far."""
        self.transmit()

    @property
    def certificate_hash(self) -> bytes:
        return tern.certificate_hash(self.tls.certificate)

    async def wait_close(self, what: str = "the close", timeout: float = PATIENCE):
        with contextlib.suppress(ConnectionClosed):
            await self.until(lambda: self.closed, what, timeout)
        return self.closed

    async def close(self, code: int = Code.noError, reason: str = "") -> None:
        if self.closed is None:
            self.abort(code, reason)
        if not self._datagrams.is_closing():
            self.transmit()
            self.vanish()

    def abort(self, code: int, reason: str) -> None:
        """Closes with a code of this end's choice."""
        if self.closed is None:
            self.closed = ConnectionClosed(int(code), None, reason, by_peer=False)
            self._quic.close(error_code=int(code), reason_phrase=reason[:200])
            self._transmit_soon()
            self.notify()

    def vanish(self) -> None:
        """Is gone without a word, as a phone whose battery is empty."""
        if self.closed is None:
            self.closed = ConnectionClosed(None, 0, "vanished", by_peer=False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transmit_task is not None:
            self._transmit_task.cancel()
            self._transmit_task = None
        self._datagrams.close()
        self.notify()

    def transmit(self) -> None:
        if self._datagrams is None or not self._datagrams.is_closing():
            super().transmit()

    def datagram_received(self, data, addr) -> None:
        if not self._datagrams.is_closing():
            super().datagram_received(data, addr)

    def quic_event_received(self, event: quic.QuicEvent) -> None:
        try:
            self._take(event)
        except FrameError as error:
            self.abort(error.code, error.text)
        self.notify()

    def _take(self, event: quic.QuicEvent) -> None:
        if isinstance(event, quic.HandshakeCompleted):
            self.handshake = event
            certificate = self._quic.tls._peer_certificate  # aioquic has no public way to it
            if certificate is not None:
                self.tls.certificate = certificate.public_bytes(Encoding.DER)
        elif isinstance(event, quic.StreamDataReceived):
            if self.closed is None:
                self._take_data(event)
        elif isinstance(event, quic.StreamReset):
            stream = self._stream(event.stream_id)
            stream.ended = True
            stream.reset_code = event.error_code
        elif isinstance(event, quic.StopSendingReceived):
            self._stream(event.stream_id).stop_code = event.error_code
        elif isinstance(event, quic.ConnectionTerminated) and self.closed is None:
            application = event.frame_type is None
            self.closed = ConnectionClosed(
                event.error_code if application else None,
                None if application else event.error_code,
                event.reason_phrase,
                by_peer=True,
            )

    def _take_data(self, event: quic.StreamDataReceived) -> None:
        stream_id = event.stream_id
        if stream_id % 4 == 3 and stream_id != 3:
            if stream_id not in self.streams:  # [TERN-4.1-6]
                self._stream(stream_id)
                self._quic.stop_stream(stream_id, Code.unknownStream)
            return
        stream = self._stream(stream_id)
        stream._feed(event.data, event.end_stream)
        if stream_id == 3 and stream.frames and self.greeting is None:
            first = stream.frames.popleft()
            if first.kind != "greeting":
                raise FrameError(Code.unexpectedFrame, f"{first.kind} instead of a greeting")
            self.greeting = first.body
        if stream_id == 3 and stream.frames:
            raise FrameError(Code.unexpectedFrame, "more than a greeting")

    def _stream(self, stream_id: int) -> Stream:
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self.streams[stream_id] = Stream(self, stream_id)
            if stream_id % 4 == 1:
                self.incoming.append(stream)
        return stream


# --- Store -------------------------------------------------------------------------------------


class Store:
    """What a device must not forget, in SQLite; `commit` makes it survive the process."""

    def __init__(self, path: str):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS device (
                seed BLOB, account TEXT, device TEXT, name TEXT, ticket BLOB);
            CREATE TABLE IF NOT EXISTS conversation (
                id BLOB PRIMARY KEY, peer TEXT,
                position INTEGER,              -- stored up to here; NULL: nothing yet
                revision INTEGER DEFAULT 0,    -- of receipts
                accepted INTEGER DEFAULT 0);   -- counters with a stored answer, for `settled`
            CREATE TABLE IF NOT EXISTS inbox (
                conversation BLOB, seq INTEGER, account TEXT, device TEXT, message TEXT,
                time INTEGER, envelope BLOB, PRIMARY KEY (conversation, seq));
            CREATE TABLE IF NOT EXISTS outbox (
                number INTEGER PRIMARY KEY, conversation BLOB, message TEXT, envelope BLOB,
                counter INTEGER, seq INTEGER, time INTEGER, refused INTEGER);
            CREATE TABLE IF NOT EXISTS receipt (
                conversation BLOB, account TEXT, delivered INTEGER, read INTEGER,
                PRIMARY KEY (conversation, account));
            CREATE TABLE IF NOT EXISTS expired (
                conversation BLOB, account TEXT, first INTEGER, last INTEGER,
                PRIMARY KEY (conversation, account, first));
            """
        )
        if self.row("SELECT * FROM device") is None:
            self.db.execute("INSERT INTO device (seed) VALUES (?)", (os.urandom(32),))
        self.tls = TlsMemory()  # of this process alone: aioquic can't write it down

    # 64-bit ids don't fit into SQLite's signed integers: they are kept as text.

    def rows(self, query: str, *values) -> list[sqlite3.Row]:
        return self.db.execute(query, values).fetchall()

    def row(self, query: str, *values) -> sqlite3.Row | None:
        return self.db.execute(query, values).fetchone()

    def change(self, query: str, *values) -> int:
        """Changes something within a transaction, which `commit` ends."""
        if not self.db.in_transaction:
            self.db.execute("BEGIN IMMEDIATE")
        return self.db.execute(query, values).rowcount

    def commit(self) -> None:
        if self.db.in_transaction:
            self.db.execute("COMMIT")

    def close(self) -> None:
        self.db.close()

    @property
    def key(self) -> tern.DeviceKey:
        return tern.DeviceKey(self.row("SELECT seed FROM device")[0])

    @property
    def account(self) -> int | None:
        value = self.row("SELECT account FROM device")[0]
        return None if value is None else int(value)

    @property
    def device(self) -> int | None:
        value = self.row("SELECT device FROM device")[0]
        return None if value is None else int(value)

    @property
    def ticket(self) -> bytes | None:
        return self.row("SELECT ticket FROM device")[0]

    @ticket.setter
    def ticket(self, value: bytes | None) -> None:
        self.change("UPDATE device SET ticket = ?", value)
        self.commit()

    def forget(self) -> None:
        """The device was removed. [TERN-5.4-3]"""
        self.change("DELETE FROM device")
        self.change("INSERT INTO device (seed) VALUES (?)", os.urandom(32))
        self.commit()

    def conversation(self, conversation: bytes) -> sqlite3.Row:
        self.change("INSERT OR IGNORE INTO conversation (id) VALUES (?)", conversation)
        return self.row("SELECT * FROM conversation WHERE id = ?", conversation)

    def sent(self, number: int) -> sqlite3.Row:
        return self.row("SELECT * FROM outbox WHERE number = ?", number)

    def inbox(self, conversation: bytes) -> list[sqlite3.Row]:
        return self.rows("SELECT * FROM inbox WHERE conversation = ? ORDER BY seq", conversation)

    def receipt(self, conversation: bytes, account: int) -> tuple[int, int]:
        """Delivered and read."""
        row = self.row(
            "SELECT * FROM receipt WHERE conversation = ? AND account = ?",
            conversation,
            str(account),
        )
        return (0, 0) if row is None else (row["delivered"], row["read"])

    def tick(self, number: int, peer: int) -> str:
        """What the user sees beside a message of hers."""
        row = self.sent(number)
        if row["refused"] is not None:
            return "refused"
        if row["seq"] is None:
            return "waiting"
        if self.row(
            "SELECT 1 FROM expired WHERE conversation = ? AND account = ? AND ? BETWEEN first AND last",
            row["conversation"],
            str(peer),
            row["seq"],
        ):
            return "failed"  # [TERN-8.1-4]
        delivered, read = self.receipt(row["conversation"], peer)
        if row["seq"] <= read:
            return "read"
        return "delivered" if row["seq"] <= delivered else "sent"


# --- Session -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Registration:
    name: str
    label: str = ""
    invite: str | None = None
    token: str | None = None
    link: str | None = None

    def fields(self, key: tern.DeviceKey, nonce: bytes, certificate: bytes) -> dict:
        message = tern.register_message(nonce, certificate, key.public, self.name)
        fields = {
            "name": self.name,
            "deviceKey": key.public,
            "label": self.label,
            "signature": key.sign(message),
        }
        for name in ("invite", "token", "link"):
            if getattr(self, name) is not None:
                fields[name] = getattr(self, name)
                return fields
        return fields | {"none": None}


def hello_fields(active: bool = True) -> dict:
    return {
        "revision": tern.REVISION,
        "active": active,
        "software": SOFTWARE,
        "extensions": [tern.grease()],
    }


def sign_in_fields(key: tern.DeviceKey, account, device, nonce: bytes, certificate: bytes) -> dict:
    message = tern.sign_in_message(nonce, certificate, account, device)
    return {"account": account, "device": device, "signature": key.sign(message)}


class Uplink:
    """This device's sends in one conversation, over one stream."""

    def __init__(self, session: Session, conversation: bytes, peer: int):
        self.session = session
        self.store = session.store
        self.conversation = conversation
        self.stream = session.connection.open_stream()
        self.stream.send("openUplink", conversation=conversation, peer=peer)
        self.unanswered: collections.deque[sqlite3.Row] = collections.deque()
        self.marks: collections.deque[int] = collections.deque()
        self.rewinding = False  # something was refused: what is behind it comes back as well
        self.closing = False
        self.task: asyncio.Task | None = None

    def pump(self) -> None:
        """Sends what waits, as far as the windows allow. Sends keep their order and counter."""
        if self.closing or self.rewinding:
            return
        accepted = self.store.conversation(self.conversation)["accepted"]
        self.store.commit()
        room = min(self.session.unanswered_sends, tern.WINDOW) - len(self.unanswered)
        last = self.unanswered[-1]["number"] if self.unanswered else 0
        waiting = self.store.rows(
            "SELECT * FROM outbox WHERE conversation = ? AND seq IS NULL AND refused IS NULL"
            " AND number > ? ORDER BY number LIMIT ?",
            self.conversation,
            last,
            max(room, 0),
        )
        for row in waiting:
            counter = accepted + len(self.unanswered) + 1
            if row["counter"] != counter:
                self.store.change(
                    "UPDATE outbox SET counter = ? WHERE number = ?", counter, row["number"]
                )
            self.unanswered.append(self.store.sent(row["number"]))
        self.store.commit()
        for row in list(self.unanswered)[len(self.unanswered) - len(waiting) :]:
            self.stream.send(
                "send",
                counter=row["counter"],
                messageId=int(row["message"]),
                settled=accepted,
                envelope=row["envelope"],
            )

    @property
    def idle(self) -> bool:
        return not self.unanswered and not self.marks and not self.rewinding

    def finish(self) -> None:
        if not self.closing:
            self.closing = True
            self.stream.finish()

    async def run(self) -> int | None:
        """Takes answers until the stream has ended and gives the code of its reset."""
        while True:
            try:
                frame = await self.stream.read("an answer", timeout=3600)
            except StreamEnded as ended:
                return ended.code
            self.take(frame)
            if self.idle and len(self.session.uplinks) >= UPLINKS:
                self.session._pump()  # another conversation may wait for this stream
            self.session.changed()

    def take(self, frame: Frame) -> None:
        body = frame.body
        if frame.kind == "marked" and self.marks:
            if body.upTo < self.marks.popleft():
                raise FrameError(Code.unexpectedFrame, "a read mark went back")
            return
        if frame.kind not in ("accepted", "refused") or not self.unanswered:
            raise FrameError(Code.unexpectedFrame, f"{frame} without a question")
        row = self.unanswered.popleft()
        if body.counter != row["counter"]:
            raise FrameError(Code.unexpectedFrame, f"{frame} instead of counter {row['counter']}")
        if frame.kind == "accepted":
            if self.rewinding:
                raise FrameError(Code.unexpectedFrame, "accepted behind a refusal")
            self.store.change(
                "UPDATE outbox SET seq = ?, time = ? WHERE number = ?",
                body.seq,
                body.timeMs,
                row["number"],
            )
            self._accepted_up_to(body.counter)
        elif not self.rewinding:
            self._first_refusal(row, body)
        self.store.commit()
        if self.rewinding and not self.unanswered:
            delay = self.rewind_after_ms / 1000
            asyncio.get_running_loop().call_later(delay, self._rewound)
        else:
            self.pump()

    def _first_refusal(self, row: sqlite3.Row, body) -> None:
        self.rewinding = True
        self.rewind_after_ms = body.retryAfterMs
        if body.code in (Code.counterGap, Code.counterReused):
            # The server knows better what was accepted.
            self._accepted_up_to(body.last)
        elif body.retryAfterMs == 0:
            self.store.change(
                "UPDATE outbox SET refused = ? WHERE number = ?", body.code, row["number"]
            )

    def _accepted_up_to(self, counter: int) -> None:
        self.store.change(
            "UPDATE conversation SET accepted = ? WHERE id = ?", counter, self.conversation
        )

    def _rewound(self) -> None:
        self.rewinding = False
        if self.session.connection.closed is None:
            self.pump()


class Session:
    """A signed-in device."""

    def __init__(self, store: Store, connection: Connection):
        self.store = store
        self.connection = connection
        self.welcome = None
        self.events: list = []  # bodies of `event`, in order
        self.messages: list[tuple[bytes, object]] = []  # new ones: conversation, `deliver`
        self.downlinks: list[tuple[int, object]] = []  # stream id, `openDownlink`
        self.presence: dict[int, object] = {}
        self.going_away = None
        self.duplicates = 0  # deliveries that were there already
        self.withhold_acks = False
        self.expects_close = False
        self.unanswered_sends = 16  # until the welcome says it
        self.uplinks: dict[bytes, Uplink] = {}
        self._session: Stream | None = None
        self._responses: dict[int, object] = {}
        self._next_request = 1
        self._tasks: set[asyncio.Task] = set()

    # Opening and closing

    @classmethod
    async def open(
        cls,
        address: tuple[str, int],
        ca: str,
        store: Store,
        *,
        registration: Registration | None = None,
        active: bool = True,
        early: bool = False,
    ) -> Session:
        """Signs in by ticket if there is one, else by signature, or registers.

        With `early`, hello and everything in the outbox go out in the first flight.
        """
        connection = await Connection.open(address, ca, tls=store.tls, early=early)
        self = cls(store, connection)
        try:
            await self._sign_in(registration, active, early)
        except BaseException:
            await self.close()
            raise
        return self

    async def _sign_in(self, registration, active: bool, early: bool) -> None:
        connection, store = self.connection, self.store
        stream = self._session = connection.open_stream()
        while self.welcome is None:
            ticket = None if registration else store.ticket
            if ticket is not None:
                way = {"ticket": ticket}
            else:
                if early:
                    connection.flush()
                await connection.until(lambda: connection.handshake, "the handshake")
                await connection.until(lambda: connection.greeting, "the greeting")
                nonce, certificate = connection.greeting.nonce, connection.certificate_hash
                if registration is not None:
                    way = {"register": registration.fields(store.key, nonce, certificate)}
                else:
                    way = {
                        "signIn": sign_in_fields(
                            store.key, store.account, store.device, nonce, certificate
                        )
                    }
            stream.send("hello", **hello_fields(active), **way)
            stream.send_bytes(tern.grease_frame())
            if early and ticket is not None:
                self._pump()
                connection.flush()
            frame = await stream.read("the welcome")
            if frame.kind == "welcome":
                self._welcomed(frame.body)
            elif frame.kind != "rejected":
                raise FrameError(Code.unexpectedFrame, f"{frame} instead of a welcome")
            else:
                code, retry_after_ms = frame.body.code, frame.body.retryAfterMs
                keeps, step = tern.after_rejection(code, retry_after_ms, ticket is not None)
                if not keeps:
                    store.ticket = None
                if step != "signIn":
                    raise Rejected(code, frame.body.text, retry_after_ms)
        await connection.until(lambda: connection.handshake, "the handshake")
        self._spawn(self._read_session)
        self._spawn(self._accept_downlinks)
        self._spawn(self._keep_alive)
        self._pump()

    def _welcomed(self, body) -> None:
        self.welcome = body
        self.unanswered_sends = body.limits.unansweredSends
        self.store.change(
            "UPDATE device SET account = ?, device = ?, name = ?, ticket = ?",
            str(body.account),
            str(body.device),
            body.name,
            body.ticket,
        )
        self.store.commit()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.connection.close()

    def vanish(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.connection.vanish()

    def _spawn(self, work, *values) -> asyncio.Task:
        task = asyncio.create_task(self._guard(work, *values))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work, *values) -> None:
        try:
            await work(*values)
        except (ConnectionClosed, ConnectionError, asyncio.CancelledError):
            closed = self.connection.closed
            if closed is not None and closed.by_peer and not tern.after_close(closed.code)[0]:
                self.store.forget()
        except FrameError as error:
            self.connection.abort(error.code, error.text)
        except Exception as error:  # a bug of this client: it ends the connection, loudly
            self.connection.abort(Code.internal, repr(error))
            raise

    async def until(self, predicate, what: str, timeout: float = PATIENCE):
        return await self.connection.until(predicate, what, timeout)

    def changed(self) -> None:
        self.connection.notify()

    # The session stream

    async def _read_session(self) -> None:
        while True:
            frame = await self._session.read("the session stream", timeout=3600)
            body = frame.body
            if frame.kind == "response" and body.id in self._responses:
                self._responses[body.id] = body
            elif frame.kind == "event":
                self.events.append(body)
                if body.which == "presence":
                    self.presence[body.presence.account] = body.presence
            elif frame.kind == "goAway" and self.going_away is None:
                self.going_away = body
            else:
                raise FrameError(Code.unexpectedFrame, f"{frame} on the session stream")
            self.changed()

    async def _keep_alive(self) -> None:
        """[TERN-2.1-5]"""
        while True:
            await asyncio.sleep(self.welcome.limits.idleForMs / 3000)
            await self.connection.ping()

    def events_of(self, kind: str) -> list:
        return [getattr(event, kind) for event in self.events if event.which == kind]

    async def request(self, kind: str, value=None):
        """The response's value; an error raises RequestFailed."""
        await self.until(
            lambda: len(self._responses) < self.welcome.limits.requests, "a turn for a request"
        )
        number = self._next_request
        self._next_request += 1
        self._responses[number] = None
        self._session.send("request", id=number, **{kind: value})
        try:
            body = await self.until(lambda: self._responses[number], f"the response to {kind}")
        finally:
            del self._responses[number]
            self.changed()
        if body.which == "error":
            raise RequestFailed(body.error.code, body.error.text, body.error.retryAfterMs)
        if kind == "watch":
            self.presence.update((each.account, each) for each in body.presence)
        return getattr(body, body.which)

    # Sending

    def queue(self, peer: int, envelope: bytes) -> int:
        """Puts a message to an account into the outbox and gives its number there."""
        conversation = tern.conversation_id(self.store.account, peer)
        return enqueue(self.store, conversation, peer, envelope)

    def send(self, peer: int, envelope: bytes) -> int:
        number = self.queue(peer, envelope)
        self._pump()
        return number

    async def sent(self, number: int) -> sqlite3.Row:
        """Waits for the answer to a message and gives its row."""
        return await self.until(
            lambda: (
                (row := self.store.sent(number))
                and (row["seq"] is not None or row["refused"] is not None)
                and row
            ),
            "the answer to a send",
        )

    async def mark_read(self, conversation: bytes, up_to: int) -> None:
        uplink = await self.uplink(conversation)
        uplink.marks.append(up_to)
        uplink.stream.send("readMark", upTo=up_to)
        await self.until(lambda: up_to not in uplink.marks, "marked")

    async def typing(self, conversation: bytes, active: bool) -> None:
        (await self.uplink(conversation)).stream.send("typing", active=active)

    async def uplink(self, conversation: bytes) -> Uplink:
        return await self.until(lambda: self._uplink(conversation), "a free uplink")

    def _uplink(self, conversation: bytes) -> Uplink | None:
        uplink = self.uplinks.get(conversation)
        if uplink is not None:
            return None if uplink.closing else uplink
        if len(self.uplinks) >= UPLINKS:
            idle = [each for each in self.uplinks.values() if each.idle and not each.closing]
            if idle and not any(each.closing for each in self.uplinks.values()):
                idle[0].finish()
            return None
        peer = self.store.conversation(conversation)["peer"]
        self.store.commit()
        uplink = self.uplinks[conversation] = Uplink(self, conversation, int(peer or 0))
        uplink.task = self._spawn(self._run_uplink, uplink)
        return uplink

    async def _run_uplink(self, uplink: Uplink) -> None:
        code = await uplink.run()
        del self.uplinks[uplink.conversation]
        if code == Code.unknownConversation:
            self.store.change(
                "UPDATE outbox SET refused = ? WHERE conversation = ? AND seq IS NULL",
                code,
                uplink.conversation,
            )
            self.store.commit()
        if self.welcome is not None:
            self._pump()  # what has no answer yet is repeated on another stream
        self.changed()

    def _pump(self) -> None:
        for row in self.store.rows(
            "SELECT conversation, MIN(number) FROM outbox WHERE seq IS NULL AND refused IS NULL"
            " GROUP BY conversation ORDER BY MIN(number)"
        ):
            uplink = self._uplink(row["conversation"])
            if uplink is not None:
                uplink.pump()

    # Receiving

    async def _accept_downlinks(self) -> None:
        incoming = self.connection.incoming
        while True:
            await self.until(lambda: incoming, "a downlink", timeout=3600)
            self._spawn(self._downlink, incoming.popleft())

    async def _downlink(self, stream: Stream) -> None:
        try:
            opened = await stream.expect("openDownlink", timeout=3600)
        except StreamEnded:
            return
        self.downlinks.append((stream.id, opened))
        conversation = opened.conversation
        if opened.peer.account:
            self.store.conversation(conversation)
            self.store.change(
                "UPDATE conversation SET peer = ? WHERE id = ?",
                str(opened.peer.account),
                conversation,
            )
        held = self.store.conversation(conversation)["position"]
        if held is None:
            held = opened.start
            self._hold(conversation, held)
        self.store.commit()
        if opened.start > held:
            stream.reset(Code.gap)
            raise FrameError(Code.noError, f"a gap between {held} and {opened.start}")
        position, revision, unacknowledged = opened.start, opened.revision, 0
        while True:
            try:
                frames = [await stream.read("a downlink frame", timeout=3600)]
            except StreamEnded as ended:
                if ended.code is None:
                    stream.finish()
                return
            frames += stream.frames  # what came together is stored and acknowledged together
            stream.frames.clear()
            new = []
            for frame in frames:
                position, revision = self._entry(conversation, frame, position, revision, new)
            self.store.commit()
            unacknowledged += sum(frame.kind == "deliver" for frame in frames)
            if unacknowledged > UNACKNOWLEDGED:
                raise FrameError(
                    Code.unexpectedFrame, f"{unacknowledged} deliveries without an ack"
                )
            if not self.withhold_acks:
                unacknowledged = 0
                stream.send("ack", seq=position, revision=revision)
            self.messages += new
            self.changed()

    def _hold(self, conversation: bytes, position: int) -> None:
        self.store.change(
            "UPDATE conversation SET position = ? WHERE id = ?"
            " AND (position IS NULL OR position < ?)",
            position,
            conversation,
            position,
        )

    def _entry(self, conversation: bytes, frame: Frame, position, revision, new: list):
        body = frame.body
        if frame.kind == "deliver" and body.seq == position + 1:
            position = body.seq
            if self.store.change(
                "INSERT OR IGNORE INTO inbox VALUES (?, ?, ?, ?, ?, ?, ?)",
                conversation,
                body.seq,
                str(body.account),
                str(body.device),
                str(body.messageId),
                body.timeMs,
                body.envelope,
            ):
                new.append((conversation, body))
            else:
                self.duplicates += 1
        elif frame.kind == "skip" and body.upTo > position:
            position = body.upTo
        elif frame.kind == "receipt" and body.revision > revision:
            revision = body.revision
            self._receipt(conversation, body)
        else:
            raise FrameError(
                Code.unexpectedFrame, f"{frame} at position {position}, revision {revision}"
            )
        self._hold(conversation, position)
        return position, revision

    def _receipt(self, conversation: bytes, body) -> None:
        delivered, read = self.store.receipt(conversation, body.account)
        if body.delivered < delivered or body.read < read:
            if body.revision > self.store.conversation(conversation)["revision"]:
                raise FrameError(Code.unexpectedFrame, f"a receipt went back: {body}")
            return
        account = str(body.account)
        self.store.change(
            "INSERT OR REPLACE INTO receipt VALUES (?, ?, ?, ?)",
            conversation,
            account,
            body.delivered,
            body.read,
        )
        for span in body.expired:
            self.store.change(
                "INSERT OR REPLACE INTO expired VALUES (?, ?, ?, ?)",
                conversation,
                account,
                span.first,
                span.last,
            )
        self.store.change(
            "UPDATE conversation SET revision = max(revision, ?) WHERE id = ?",
            body.revision,
            conversation,
        )


def enqueue(store: Store, conversation: bytes, peer: int, envelope: bytes) -> int:
    """Puts a message into the outbox, whether there is a connection or not."""
    store.conversation(conversation)
    store.change("UPDATE conversation SET peer = ? WHERE id = ?", str(peer), conversation)
    store.change(
        "INSERT INTO outbox (conversation, message, envelope) VALUES (?, ?, ?)",
        conversation,
        str(random.SystemRandom().randrange(1, 1 << 64)),
        envelope,
    )
    number = store.row("SELECT last_insert_rowid()")[0]
    store.commit()
    return number


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, with an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    with contextlib.suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    return host, int(port)
