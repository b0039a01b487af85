"""The Python client against a real server, and the vectors.

    test_interop.py --server HOST:PORT --ca FILE [--pid PID] [NAME ...]

runs every test, or those whose name contains a NAME, and closes with 'N passed, N failed'. Without
--server only the vectors are checked. Nothing here sleeps to let something happen: each wait ends
with what it waits for, or fails after some seconds and says what for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import ipaddress
import os
import pathlib
import secrets
import signal
import tempfile
import traceback

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

import tern_client as client
import tern_frames as tern
import test_vectors
from tern_client import Connection, Registration, Rejected, RequestFailed, Session, Store
from tern_frames import Code, code_name, conversation_id, encode

TESTS = []


def test(function):
    TESTS.append(function)
    return function


def equal(got, wanted, what: str = "") -> None:
    if got != wanted:
        raise AssertionError(f"{what or 'value'}: got {got!r}, wanted {wanted!r}")


def equal_code(got, wanted: int, what: str = "code") -> None:
    if got != wanted:
        raise AssertionError(f"{what}: got {code_name(got)}, wanted {code_name(wanted)}")


async def rejected(work, code: Code) -> None:
    try:
        await work
    except Rejected as error:
        equal_code(error.code, code, str(error))
    else:
        raise AssertionError(f"taken, though {code.name} was due")


async def closed(connection: Connection, code: Code, timeout: float = client.PATIENCE) -> None:
    """Waits for the server to close with this code."""
    how = await connection.wait_close(f"a close with {code.name}", timeout)
    if not how.by_peer or how.code != code:
        raise AssertionError(f"{how}, wanted {code.name}")


class World:
    """The server under test and what the tests make on it."""

    def __init__(self, address, ca: str, pid: int | None, folder: str):
        self.address = address
        self.ca = ca
        self.pid = pid
        self.folder = pathlib.Path(folder)
        self.count = 0

    def store(self) -> Store:
        self.count += 1
        return Store(str(self.folder / f"device-{self.count}.db"))

    def name(self, prefix: str) -> str:
        return f"{prefix}-{secrets.token_hex(5)}"

    async def connection(self, **options) -> Connection:
        return await Connection.open(self.address, self.ca, **options)

    async def open(self, store: Store, **options) -> Session:
        return await Session.open(self.address, self.ca, store, **options)

    @contextlib.asynccontextmanager
    async def session(self, store: Store, **options):
        session = await self.open(store, **options)
        try:
            yield session
            if session.connection.closed is not None and not session.expects_close:
                raise session.connection.closed
        finally:
            await session.close()

    async def register(self, store: Store, **fields) -> Session:
        """Registers, patiently where the server limits the rate."""
        while True:
            try:
                return await self.open(store, registration=Registration(**fields))
            except Rejected as error:
                if error.code != Code.rateLimited or error.retry_after_ms == 0:
                    raise
                await asyncio.sleep(error.retry_after_ms / 1000)

    async def account(self, prefix: str) -> Store:
        store = self.store()
        session = await self.register(store, name=self.name(prefix), label=f"{prefix}'s")
        await session.close()
        return store

    async def device(self, session: Session, label: str) -> Store:
        """A further device of an account."""
        link = await session.request("createLink")
        store = self.store()
        other = await self.register(store, name=session.welcome.name, label=label, link=link.token)
        await other.close()
        return store

    @contextlib.asynccontextmanager
    async def raw(self, store: Store | None = None, **options):
        """A connection with its session stream, signed in if there is a store."""
        connection = await self.connection(**options)
        try:
            stream = connection.open_stream()
            if store is not None:
                welcome = await say_hello(connection, stream, store)
                store.ticket = welcome.ticket
            yield connection, stream
        finally:
            await connection.close()


async def say_hello(connection: Connection, stream, store: Store, **fields):
    stream.send("hello", **(client.hello_fields() | signed(connection, store) | fields))
    return await stream.expect("welcome")


def signed(connection: Connection, store: Store, **instead) -> dict:
    """The sign-in arm of a hello, with other inputs to the signature where the test wants them."""
    inputs = {
        "key": store.key,
        "account": store.account,
        "device": store.device,
        "nonce": connection.greeting.nonce,
        "certificate": connection.certificate_hash,
    }
    return {"signIn": client.sign_in_fields(**(inputs | instead))}


async def response(stream):
    """The next response on a session stream; events may come before it."""
    while (frame := await stream.read("a response")).kind == "event":
        pass
    equal(frame.kind, "response", "frame")
    return frame.body


def open_uplink(connection: Connection, store: Store, peer: int):
    stream = connection.open_stream()
    conversation = conversation_id(store.account, peer)
    stream.send("openUplink", conversation=conversation, peer=peer)
    return stream


def send_fields(counter: int, settled: int = 0, envelope: bytes = b"x", message: int | None = None):
    return {
        "counter": counter,
        "messageId": message if message is not None else 1 + secrets.randbits(63),
        "settled": settled,
        "envelope": envelope,
    }


async def say(session: Session, peer: int, *texts: str) -> list:
    """Sends and waits until everything is accepted."""
    numbers = [session.send(peer, text.encode()) for text in texts]
    rows = [await session.sent(number) for number in numbers]
    for row in rows:
        equal(row["refused"], None, "refused with")
    return rows


async def hear(session: Session, count: int) -> list[str]:
    """Waits for so many new messages and gives their texts in the order of their arrival."""
    await session.until(lambda: len(session.messages) >= count, f"{count} messages")
    equal(len(session.messages), count, "messages")
    return [body.envelope.decode() for _, body in session.messages]


# --- Transport and greeting --------------------------------------------------------------------


@test
async def greeting_is_fresh_and_complete(world):
    nonces = set()
    for _ in range(3):
        async with world.raw() as (connection, _):
            greeting = connection.greeting
            assert greeting.revision >= 1
            equal(greeting.registration, "open", "registration")
            assert greeting.timeMs > 0
            nonces.add(greeting.nonce)
    equal(len(nonces), 3, "different nonces")


@test
async def another_alpn_fails_the_handshake(world):
    try:
        await world.connection(alpn="tern/9")
    except client.ConnectionClosed as how:
        equal(how.code, None, "an application's code")
        equal(how.transport, 0x178, "TLS alert no_application_protocol")
    else:
        raise AssertionError("the handshake went through")


@test
async def a_server_that_cannot_be_verified_is_left(world):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody else")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = world.folder / "other-ca.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    try:
        await Connection.open(world.address, str(file))
    except client.ConnectionClosed as how:
        assert not how.by_peer or how.code is None, how
    else:
        raise AssertionError("the client trusted a stranger")


# --- Registration and sign-in ------------------------------------------------------------------


@test
async def registration_gives_ids_and_a_ticket(world):
    ann, bob = world.store(), world.store()
    name = world.name("ann")
    first = await world.register(ann, name=name, label="Ann's phone")
    await first.close()
    second = await world.register(bob, name=world.name("bob"))
    await second.close()
    for session in (first, second):
        welcome = session.welcome
        assert welcome.account and welcome.device and welcome.epoch
        assert 0 < len(welcome.ticket) <= 512 and welcome.ticketForMs > 0
        equal(welcome.revision, 1, "revision")
        equal((welcome.mailbox.conversations, welcome.mailbox.positions), (0, 0), "mailbox")
        assert 0 < welcome.limits.envelopeBytes <= 65_536
        equal(welcome.extensions, [], "extensions in use")
    equal(first.welcome.name, name, "name")
    assert first.welcome.account != second.welcome.account
    assert first.welcome.device != second.welcome.device


@test
async def a_repeated_registration_gets_the_first_answer(world):
    store, name = world.store(), world.name("again")
    first = await world.register(store, name=name)
    await first.close()
    second = await world.register(store, name=name, link="whatever it is")
    await second.close()
    equal(second.welcome.account, first.welcome.account, "account")
    equal(second.welcome.device, first.welcome.device, "device")
    assert second.welcome.epoch > first.welcome.epoch


@test
async def registrations_that_cannot_be(world):
    store, name = world.store(), world.name("taken")
    await (await world.register(store, name=name)).close()
    await rejected(world.register(world.store(), name=name), Code.nameTaken)
    for bad in ("", "Ann", "-ann", "ann.", "a b", "x" * 33):
        await rejected(world.register(world.store(), name=bad), Code.nameInvalid)
    await rejected(world.register(store, name=world.name("other")), Code.keyInvalid)
    await rejected(
        world.register(world.store(), name=name, link="no such token"), Code.credentialInvalid
    )


@test
async def registration_with_a_wrong_signature(world):
    async with world.raw() as (connection, stream), world.raw() as (other, _):
        key, stranger = tern.DeviceKey(), tern.DeviceKey()
        wanted = Registration(world.name("forged"))
        nonce, certificate = connection.greeting.nonce, connection.certificate_hash
        good = wanted.fields(key, nonce, certificate)
        for bad in (
            wanted.fields(key, other.greeting.nonce, certificate),
            good | {"deviceKey": stranger.public},
        ):
            stream.send("hello", **client.hello_fields(), register=bad)
            body = await stream.expect("rejected")
            equal_code(body.code, Code.badSignature)
        stream.send("hello", **client.hello_fields(), register=good)
        equal((await stream.expect("welcome")).name, wanted.name, "name")


@test
async def a_signature_signs_in_and_the_epoch_grows(world):
    store = await world.account("ann")
    epochs = []
    for _ in range(3):
        store.ticket = None
        async with world.session(store) as session:
            equal(session.welcome.account, store.account, "account")
            epochs.append(session.welcome.epoch)
    assert epochs[0] < epochs[1] < epochs[2], epochs


@test
async def wrong_signatures_are_rejected_on_the_same_stream(world):
    store, bob = await world.account("ann"), await world.account("bob")
    async with world.raw() as (other, _):
        for bad, code in (
            ({"nonce": other.greeting.nonce}, Code.badSignature),
            ({"certificate": bytes(32)}, Code.badSignature),
            ({"key": tern.DeviceKey()}, Code.badSignature),
            ({"key": bob.key}, Code.badSignature),
            ({"device": store.device ^ 1}, Code.unknownDevice),
            ({"account": bob.account}, Code.unknownDevice),
        ):
            async with world.raw() as (connection, stream):
                stream.send("hello", **client.hello_fields(), **signed(connection, store, **bad))
                equal_code((await stream.expect("rejected")).code, code, str(list(bad)))
                await say_hello(connection, stream, store)


@test
async def the_third_rejected_hello_closes(world):
    store = await world.account("ann")
    async with world.raw() as (connection, stream):
        for count in range(3):
            stream.send(
                "hello", **client.hello_fields(), **signed(connection, store, nonce=bytes(32))
            )
            if count < 2:
                equal_code((await stream.expect("rejected")).code, Code.badSignature)
        await closed(connection, Code.tooManyHellos)


@test
async def forged_tickets_are_rejected(world):
    store = await world.account("ann")
    good = store.ticket
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad in (bytes(flipped), b"", b"nonsense", good[:-1], secrets.token_bytes(512)):
        store.ticket = bad
        async with world.raw() as (connection, stream):
            stream.send("hello", **client.hello_fields(), ticket=bad)
            equal_code((await stream.expect("rejected")).code, Code.ticketInvalid, bad.hex())
        async with world.session(store) as session:  # which falls back to its signature
            assert store.ticket not in (bad, good), "a new ticket"
            equal(session.welcome.account, store.account, "account")


@test
async def revisions_that_are_not_spoken(world):
    store = await world.account("ann")
    async with world.raw() as (connection, stream):
        for revision in (0, connection.greeting.revision + 1):
            fields = client.hello_fields() | {"revision": revision}
            stream.send("hello", **fields, ticket=store.ticket)
            equal_code((await stream.expect("rejected")).code, Code.unsupportedRevision)
        welcome = await say_hello(connection, stream, store)
        equal(welcome.revision, 1, "revision")


@test
async def a_connection_without_a_hello_is_closed(world):
    async with world.raw() as (connection, _):
        await closed(connection, Code.helloTimeout, timeout=30)


@test
async def a_newer_connection_replaces_the_older(world):
    store = await world.account("ann")
    async with world.raw(store) as (older, _), world.raw(store) as (newer, stream):
        await closed(older, Code.replaced)
        stream.send("request", id=1, ping=None)
        equal((await response(stream)).which, "done", "response")
        equal(newer.closed, None, "the newer connection")


# --- A conversation ----------------------------------------------------------------------------


@test
async def two_people_talk_and_their_ticks_turn(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    conversation = conversation_id(ann.account, bob.account)
    async with world.session(ann) as a, world.session(bob) as b:
        first, second = await say(a, bob.account, "Hi", "there")
        equal((first["seq"], second["seq"]), (1, 2), "sequence numbers")
        assert 0 < first["time"] <= second["time"]
        equal(await hear(b, 2), ["Hi", "there"], "texts")
        for (where, body), row in zip(b.messages, (first, second), strict=True):
            equal(where, conversation, "conversation")
            equal(
                (body.seq, body.account, body.device, str(body.messageId), body.timeMs),
                (row["seq"], ann.account, ann.device, row["message"], row["time"]),
                "deliver",
            )
        opened = b.downlinks[0][1]
        equal((opened.peer.account, opened.peer.name), (ann.account, a.welcome.name), "peer")
        await a.until(
            lambda: ann.tick(second["number"], bob.account) == "delivered", "the delivered tick"
        )
        equal(ann.receipt(conversation, bob.account)[1], 0, "read before it is")

        await b.mark_read(conversation, 1)
        await a.until(lambda: ann.tick(first["number"], bob.account) == "read", "the read tick")
        equal(ann.tick(second["number"], bob.account), "delivered", "the second message")
        await b.mark_read(conversation, 2)
        await a.until(lambda: ann.tick(second["number"], bob.account) == "read", "the read tick")

        (answer,) = await say(b, ann.account, "Hello")
        equal(answer["seq"], 3, "sequence number")
        equal(await hear(a, 1), ["Hello"], "texts")
        await b.until(
            lambda: bob.tick(answer["number"], ann.account) == "delivered", "the delivered tick"
        )
        equal(a.duplicates + b.duplicates, 0, "repeated deliveries")
    for store in (ann, bob):  # everything is acknowledged: nothing comes again
        async with world.session(store) as session:
            mailbox = session.welcome.mailbox
            await session.until(lambda s=session: s.events_of("caughtUp"), "caughtUp")
            equal(session.messages, [], "messages")
            equal(session.duplicates, 0, "repeated deliveries")
            equal((mailbox.conversations, mailbox.positions), (0, 0), "mailbox")


@test
async def hundreds_of_messages_in_both_directions(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a, world.session(bob) as b:
        texts = [f"message {n}" for n in range(200)]
        rows_a, rows_b = await asyncio.gather(
            say(a, bob.account, *texts), say(b, ann.account, *texts)
        )
        equal(await hear(b, 200), texts, "what bob got")
        equal(await hear(a, 200), texts, "what ann got")
        numbers = sorted(row["seq"] for row in rows_a + rows_b)
        equal(numbers, list(range(1, 401)), "sequence numbers")
        times = [row["time"] for row in sorted(rows_a + rows_b, key=lambda row: row["seq"])]
        equal(times, sorted(times), "times")
        for rows in (rows_a, rows_b):
            equal([row["counter"] for row in rows], list(range(1, 201)), "counters")
            assert all(x["seq"] < y["seq"] for x, y in zip(rows, rows[1:], strict=False))


@test
async def the_longest_envelope_arrives(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a, world.session(bob) as b:
        envelope = secrets.token_bytes(a.welcome.limits.envelopeBytes)
        row = await a.sent(a.send(bob.account, envelope))
        equal(row["refused"], None, "refused")
        await b.until(lambda: b.messages, "the message")
        assert b.messages[0][1].envelope == envelope


@test
async def a_client_with_many_conversations_uses_few_uplinks(world):
    ann = await world.account("ann")
    peers = [await world.account(f"peer{n}") for n in range(7)]
    async with world.session(ann) as a:
        numbers = [a.send(peer.account, f"{turn}".encode()) for turn in range(3) for peer in peers]
        for number in numbers:
            equal((await a.sent(number))["refused"], None, "refused")
    for peer in peers:
        async with world.session(peer) as session:
            equal(await hear(session, 3), ["0", "1", "2"], "texts")


@test
async def own_other_devices_get_a_copy(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    conversation = conversation_id(ann.account, bob.account)
    async with world.session(ann) as a, world.session(bob) as b:
        tablet = await world.device(a, "Ann's tablet")
        equal(tablet.account, ann.account, "account")
        async with world.session(tablet) as t:
            await say(a, bob.account, "from the phone")
            equal(await hear(t, 1), ["from the phone"], "what the tablet got")
            equal(
                (t.messages[0][1].account, t.messages[0][1].device),
                (ann.account, ann.device),
                "sender",
            )
            await say(t, bob.account, "from the tablet")
            equal(await hear(a, 1), ["from the tablet"], "what the phone got")
            equal(await hear(b, 2), ["from the phone", "from the tablet"], "what bob got")
            await say(b, ann.account, "to both")
            equal((await hear(a, 2))[-1], "to both", "what the phone got")
            equal((await hear(t, 2))[-1], "to both", "what the tablet got")
            # What a device sent itself comes to it as `skip own` only.
            equal([row["seq"] for row in ann.inbox(conversation)], [2, 3], "phone")
            equal([row["seq"] for row in tablet.inbox(conversation)], [1, 3], "tablet")
            equal(ann.conversation(conversation)["position"], 3, "the phone's position")
            equal(tablet.conversation(conversation)["position"], 3, "the tablet's position")
            ann.commit()
            tablet.commit()


@test
async def what_was_not_acknowledged_comes_again_once(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    conversation = conversation_id(ann.account, bob.account)
    async with world.session(ann) as a:
        b = await world.open(bob)
        b.withhold_acks = True
        rows = await say(a, bob.account, "one", "two", "three")
        equal(await hear(b, 3), ["one", "two", "three"], "texts")
        b.vanish()  # it stored them, but never said so
        await a.request("ping")
        equal(ann.receipt(conversation, bob.account), (0, 0), "a receipt that would lie")
        async with world.session(bob) as b:
            mailbox = b.welcome.mailbox
            equal((mailbox.conversations, mailbox.positions), (1, 3), "mailbox")
            await b.until(lambda: b.events_of("caughtUp"), "caughtUp")
            equal(b.messages, [], "what the application sees again")
            equal(b.duplicates, 3, "repeated deliveries")
            equal(len(bob.inbox(conversation)), 3, "stored messages")
            await a.until(
                lambda: ann.tick(rows[-1]["number"], bob.account) == "delivered", "the tick"
            )


@test
async def receipts_wait_for_a_sender_who_is_away(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    conversation = conversation_id(ann.account, bob.account)
    async with world.session(ann) as a:
        (row,) = await say(a, bob.account, "see you")
    async with world.session(bob) as b:
        await hear(b, 1)
        await b.mark_read(conversation, 1)
    async with world.session(ann) as a:
        await a.until(lambda: ann.tick(row["number"], bob.account) == "read", "the read tick")


@test
async def a_mailbox_is_drained_newest_conversation_first(world):
    bob = await world.account("bob")
    senders = [await world.account(f"sender{n}") for n in range(5)]
    each = 80
    for sender in senders:
        async with world.session(sender) as session:
            await say(session, bob.account, *[f"message {n}" for n in range(each)])
    async with world.session(bob) as b:
        mailbox = b.welcome.mailbox
        total = each * len(senders)
        equal((mailbox.conversations, mailbox.positions), (len(senders), total), "mailbox")
        await b.until(lambda: b.events_of("caughtUp"), "caughtUp", timeout=60)
        equal(len(b.messages), total, "messages when caught up")
        opened = [body.peer.account for _, body in sorted(b.downlinks, key=lambda x: x[0])]
        equal(opened, [sender.account for sender in reversed(senders)], "order of conversations")
        for sender in senders:
            conversation = conversation_id(bob.account, sender.account)
            texts = [body.envelope for where, body in b.messages if where == conversation]
            equal(texts, [f"message {n}".encode() for n in range(each)], "texts")
        (caught_up,) = b.events_of("caughtUp")
        equal((caught_up.conversations, caught_up.positions), (len(senders), total), "caughtUp")
        await b.request("ping")
        equal(len(b.events_of("caughtUp")), 1, "caughtUp events")
    async with world.session(bob) as b:
        mailbox = b.welcome.mailbox
        equal((mailbox.conversations, mailbox.positions), (0, 0), "mailbox")
        await b.until(lambda: b.events_of("caughtUp"), "caughtUp of an empty mailbox")
        equal(b.messages, [], "messages")


# --- Repeats, tickets, 0-RTT -------------------------------------------------------------------


@test
async def a_ticket_resumes(world):
    store = await world.account("ann")
    tickets = {store.ticket}
    epochs = []
    for _ in range(3):
        async with world.raw() as (connection, stream):
            stream.send("hello", **client.hello_fields(), ticket=store.ticket)
            welcome = await stream.expect("welcome")
            equal((welcome.account, welcome.device), (store.account, store.device), "ids")
            store.ticket = welcome.ticket
            tickets.add(welcome.ticket)
            epochs.append(welcome.epoch)
            equal(connection.closed, None, "close")
    assert epochs[0] < epochs[1] < epochs[2], epochs
    equal(len(tickets), 4, "different tickets")


@test
async def a_repeated_send_gets_the_first_answer(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    send = send_fields(1)
    answers = []
    for _ in range(2):  # on one stream, on the next stream, on the next connection
        async with world.raw(ann) as (connection, _):
            for _ in range(2):
                uplink = open_uplink(connection, ann, bob.account)
                for _ in range(2):
                    uplink.send("send", **send)
                    answers.append(await uplink.expect("accepted"))
                uplink.finish()
                equal(await uplink.end(), None, "the uplink's end")
    equal({(body.counter, body.seq, body.timeMs) for body in answers}, {(1, 1, answers[0].timeMs)})
    async with world.session(bob) as b:
        await b.until(lambda: b.events_of("caughtUp"), "caughtUp")
        equal(len(b.messages), 1, "messages")


@test
async def a_lost_client_repeats_and_nothing_comes_twice(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    texts = [f"message {n}" for n in range(120)]
    async with world.session(bob) as b:
        a = await world.open(ann)
        numbers = [a.send(bob.account, text.encode()) for text in texts]
        await a.sent(numbers[10])
        a.vanish()  # with sends on the way whose answers it will never see
        async with world.session(ann) as a:
            for number in numbers:
                equal((await a.sent(number))["refused"], None, "refused")
        equal(await hear(b, 120), texts, "texts")
        equal([body.seq for _, body in b.messages], list(range(1, 121)), "sequence numbers")
        equal(b.duplicates, 0, "repeated deliveries")


@test
async def the_first_flight_signs_in_and_sends(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a:
        await a.until(lambda: ann.tls.ticket, "a TLS session ticket")
        equal(ann.tls.ticket.max_early_data_size, 0xFFFFFFFF, "max_early_data_size")
    number = client.enqueue(
        ann, conversation_id(ann.account, bob.account), bob.account, b"in the first flight"
    )
    ticket = ann.tls.ticket
    async with world.session(ann, early=True) as a:
        handshake = a.connection.handshake
        assert handshake.session_resumed and handshake.early_data_accepted, handshake
        first = await a.sent(number)
        equal(first["seq"], 1, "sequence number")
        await a.until(lambda: ann.tls.ticket is not ticket, "another TLS session ticket")

    # The same send in the first flight of another connection.
    connection = await world.connection(tls=ann.tls, early=True)
    try:
        stream = connection.open_stream()
        stream.send("hello", **client.hello_fields(), ticket=ann.ticket)
        stream.send_bytes(tern.grease_frame())
        uplink = open_uplink(connection, ann, bob.account)
        uplink.send(
            "send", **send_fields(1, message=int(first["message"]), envelope=b"in the first flight")
        )
        connection.flush()
        ann.ticket = (await stream.expect("welcome")).ticket
        again = await uplink.expect("accepted")
        equal((again.seq, again.timeMs), (first["seq"], first["time"]), "the first answer")
        await connection.until(lambda: connection.handshake, "the handshake")
        assert connection.handshake.early_data_accepted, connection.handshake
    finally:
        await connection.close()
    async with world.session(bob) as b:
        await b.until(lambda: b.events_of("caughtUp"), "caughtUp")
        equal(await hear(b, 1), ["in the first flight"], "texts")


@test
async def a_bad_ticket_in_the_first_flight_costs_only_time(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a:
        await a.until(lambda: ann.tls.ticket, "a TLS session ticket")
    ann.ticket = b"not a ticket"
    number = client.enqueue(
        ann, conversation_id(ann.account, bob.account), bob.account, b"after all"
    )
    # The handshake is resumed, so that no certificate is seen: the signature needs the old one.
    async with world.session(ann, early=True) as a:
        assert a.connection.handshake.session_resumed
        equal((await a.sent(number))["seq"], 1, "sequence number")
    async with world.session(bob) as b:
        equal(await hear(b, 1), ["after all"], "texts")


# --- Requests, devices, presence, typing -------------------------------------------------------


@test
async def requests(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a:
        bob_name = bob.row("SELECT name FROM device")[0]
        found = await a.request("lookup", bob_name)
        equal((found.account, found.name), (bob.account, bob_name), "lookup")
        found = await a.request("account", bob.account)
        equal((found.account, found.name), (bob.account, bob_name), "account")
        await rejected(a.request("lookup", world.name("nobody")), Code.unknownName)
        await rejected(a.request("lookup", "Not A Name"), Code.unknownName)
        await rejected(a.request("account", bob.account ^ 1), Code.unknownName)
        await asyncio.gather(*[a.request("ping") for _ in range(100)])


@test
async def an_unknown_request_is_answered(world):
    ann = await world.account("ann")
    async with world.raw(ann) as (_, stream):
        data = bytearray(encode("request", id=77, ping=None))
        # The request's data section: id in the first four bytes, the union's tag in the next two.
        place = data.index((77).to_bytes(4, "little"))
        data[place + 4 : place + 6] = (900).to_bytes(2, "little")
        stream.send_bytes(bytes(data))
        body = await response(stream)
        equal((body.id, body.which), (77, "error"), "response")
        equal_code(body.error.code, Code.unknownRequest)


@test
async def a_device_joins_by_link_and_is_removed(world):
    ann = await world.account("ann")
    async with world.session(ann) as a:
        (only,) = await a.request("devices")
        equal((only.device, only.label, only.online), (ann.device, "ann's", True), "device")
        link = await a.request("createLink")
        assert 0 < len(link.token) <= 128 and link.validForMs > 0
        await rejected(
            world.register(world.store(), name=world.name("other"), link=link.token),
            Code.credentialInvalid,
        )
        tablet = world.store()
        t = await world.register(tablet, name=a.welcome.name, label="tablet", link=link.token)
        try:
            equal(tablet.account, ann.account, "account")
            assert tablet.device != ann.device
            await a.until(lambda: len(a.events_of("devicesChanged")) == 1, "devicesChanged")
            await rejected(
                world.register(world.store(), name=a.welcome.name, link=link.token),
                Code.credentialInvalid,
            )
            devices = {each.device: each for each in await a.request("devices")}
            equal(set(devices), {ann.device, tablet.device}, "devices")
            equal(devices[tablet.device].label, "tablet", "label")
            assert devices[tablet.device].online and devices[tablet.device].createdMs > 0

            key, device, ticket = tablet.key, tablet.device, tablet.ticket
            equal(await a.request("removeDevice", device), None, "removeDevice")
            await closed(t.connection, Code.deviceRemoved)
        finally:
            await t.close()
        await rejected(a.request("removeDevice", device), Code.unknownDevice)
        equal([each.device for each in await a.request("devices")], [ann.device], "devices")
        async with world.raw() as (connection, stream):
            stream.send("hello", **client.hello_fields(), ticket=ticket)
            equal_code((await stream.expect("rejected")).code, Code.unknownDevice, "its ticket")
            fields = signed(connection, ann, key=key, device=device)
            stream.send("hello", **client.hello_fields(), **fields)
            equal_code((await stream.expect("rejected")).code, Code.unknownDevice, "its key")


@test
async def a_device_removes_itself_and_its_account_is_gone(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a:
        async with world.raw(bob) as (connection, stream):
            stream.send("request", id=1, removeDevice=bob.device)
            await closed(connection, Code.deviceRemoved)
        row = await a.sent(a.send(bob.account, b"anybody there?"))
        equal_code(row["refused"], Code.peerGone)


@test
async def sixteen_devices_are_the_most(world):
    ann = await world.account("ann")
    async with world.session(ann) as a:
        for n in range(14):
            await world.device(a, f"device {n}")
        spare = await a.request("createLink")
        await world.device(a, "the sixteenth")
        equal(len(await a.request("devices")), 16, "devices")
        await rejected(
            world.register(world.store(), name=a.welcome.name, link=spare.token), Code.tooMany
        )
        await rejected(a.request("createLink"), Code.tooMany)


@test
async def presence_is_watched(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    stranger = await world.account("stranger")
    async with world.session(ann) as a:
        await say(a, bob.account, "hi")
        states = {
            each.account: each for each in await a.request("watch", [bob.account, stranger.account])
        }
        equal(set(states), {bob.account, stranger.account}, "accounts")
        equal(states[stranger.account].state, "unknown", "a stranger")
        equal(states[bob.account].state, "offline", "bob, who is away")

        def bob_is(state):
            return lambda: a.presence[bob.account].state == state

        async with world.session(bob) as b:
            await a.until(bob_is("online"), "bob online")
            await b.request("setActive", False)
            await a.until(bob_is("offline"), "bob offline while inactive")
            await b.request("setActive", True)
            await a.until(bob_is("online"), "bob online again")
        await a.until(bob_is("offline"), "bob offline")
        assert a.presence[bob.account].lastSeenMs > 0
        await a.request("unwatch", [bob.account])
        count = len(a.events_of("presence"))
        async with world.session(bob) as b:
            await hear(b, 0)
            await say(b, ann.account, "here I am")
            await a.until(lambda: a.messages, "the message")
        await a.request("ping")
        equal(len(a.events_of("presence")), count, "presence events after unwatch")


@test
async def an_inactive_device_does_not_make_an_account_online(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a:
        await say(a, bob.account, "hi")
        async with world.session(bob, active=False) as b:
            await hear(b, 1)
            (state,) = await a.request("watch", [bob.account])
            equal(state.state, "offline", "bob in the background")
            await b.request("setActive", True)
            await a.until(lambda: a.presence[bob.account].state == "online", "bob online")


@test
async def strangers_are_answered_unknown_and_cost_no_watch(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a:
        await say(a, bob.account, "hi")
        for _ in range(2 + a.welcome.limits.watches // 256):
            wanted = [1 + secrets.randbits(63) for _ in range(256)]
            states = await a.request("watch", wanted)
            equal([each.account for each in states], wanted, "accounts")
            equal({each.state for each in states}, {"unknown"}, "states")
        (state,) = await a.request("watch", [bob.account])
        equal(state.state, "offline", "bob")


@test
async def typing_is_passed_on_to_active_devices(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    conversation = conversation_id(ann.account, bob.account)
    async with world.session(ann) as a, world.session(bob) as b:
        await say(a, bob.account, "hi")
        await hear(b, 1)
        for active in (True, False):
            await a.typing(conversation, active)
            await b.until(
                lambda wanted=active: [e.active for e in b.events_of("typing")][-1:] == [wanted],
                f"typing, {active}",
            )
        event = b.events_of("typing")[0]
        equal((event.conversation, event.account), (conversation, ann.account), "typing")
        await b.request("setActive", False)
        await a.typing(conversation, True)
        await say(a, bob.account, "written meanwhile")
        await hear(b, 2)
        await b.request("ping")
        equal(len(b.events_of("typing")), 2, "typing events")
        equal(a.events_of("typing"), [], "typing events at their origin")


# --- Refused sends and marks -------------------------------------------------------------------


async def refusal(stream, code: Code, counter: int, last: int) -> None:
    body = await stream.expect("refused")
    equal_code(body.code, code)
    equal((body.counter, body.last), (counter, last), "counter and last")


@test
async def refused_sends_use_up_no_counter(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.raw(ann) as (connection, _):
        uplink = open_uplink(connection, ann, bob.account)
        uplink.send("send", **send_fields(3))
        await refusal(uplink, Code.counterGap, 3, 0)
        uplink.send("send", **send_fields(1, envelope=b""))
        await refusal(uplink, Code.envelopeSize, 1, 0)
        uplink.send("send", **send_fields(1, envelope=bytes(65_537)))
        await refusal(uplink, Code.envelopeSize, 1, 0)
        uplink.send("send", **send_fields(1))
        equal((await uplink.expect("accepted")).seq, 1, "sequence number")
        uplink.send("send", **send_fields(1))
        await refusal(uplink, Code.counterReused, 1, 1)
        uplink.send("send", **send_fields(2))
        equal((await uplink.expect("accepted")).seq, 2, "sequence number")


@test
async def sends_behind_a_refused_one_come_back(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a, world.session(bob) as b:
        too_long = bytes(a.welcome.limits.envelopeBytes + 1)
        numbers = [
            a.send(bob.account, each) for each in (b"one", too_long, b"two", b"three", b"four")
        ]
        rows = [await a.sent(number) for number in numbers]
        equal([row["seq"] for row in rows], [1, None, 2, 3, 4], "sequence numbers")
        equal_code(rows[1]["refused"], Code.envelopeSize)
        equal(await hear(b, 4), ["one", "two", "three", "four"], "texts")


@test
async def a_client_whose_memory_is_too_old_goes_on(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    conversation = conversation_id(ann.account, bob.account)
    async with world.session(ann) as a:
        await say(a, bob.account, "one", "two", "three")
    ann.change("UPDATE conversation SET accepted = 1 WHERE id = ?", conversation)
    ann.commit()
    async with world.session(ann) as a:
        (row,) = await say(a, bob.account, "four")
        equal((row["counter"], row["seq"]), (4, 4), "counter and sequence number")


@test
async def the_window_ahead_of_settled(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.raw(ann) as (connection, _):
        uplink = open_uplink(connection, ann, bob.account)
        for counter in range(1, 129):
            uplink.send("send", **send_fields(counter))
            if counter % 32 == 0:
                for each in range(counter - 31, counter + 1):
                    equal((await uplink.expect("accepted")).counter, each, "counter")
        uplink.send("send", **send_fields(129))
        await refusal(uplink, Code.windowExceeded, 129, 128)
        uplink.send("send", **send_fields(129, settled=128))
        equal((await uplink.expect("accepted")).counter, 129, "counter")


@test
async def read_marks_never_go_back(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a:
        await say(a, bob.account, "one", "two", "three")
    async with world.raw(bob) as (connection, _):
        uplink = open_uplink(connection, bob, ann.account)
        for asked, marked in ((2, 2), (1, 2), (3, 3)):
            uplink.send("readMark", upTo=asked)
            equal((await uplink.expect("marked")).upTo, marked, "mark")
        uplink.send("readMark", upTo=4)
        await closed(connection, Code.markBeyondHead)


@test
async def conversations_that_are_not_there(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    carl = await world.account("carl")
    async with world.session(bob) as b:
        await say(b, carl.account, "between us")
    async with world.raw(ann) as (connection, stream):
        nobody = bob.account ^ 1
        for conversation, peer in (
            (secrets.token_bytes(16), 0),
            (conversation_id(ann.account, bob.account), 0),  # not begun yet
            (conversation_id(ann.account, carl.account), bob.account),
            (conversation_id(bob.account, carl.account), 0),  # not ann's
            (conversation_id(bob.account, carl.account), bob.account),
            (conversation_id(ann.account, ann.account), ann.account),
            (conversation_id(ann.account, nobody), nobody),
        ):
            uplink = connection.open_stream()
            uplink.send("openUplink", conversation=conversation, peer=peer)
            equal_code(await uplink.end(), Code.unknownConversation)
            await connection.until(lambda u=uplink: u.stop_code is not None, "STOP_SENDING")
            equal_code(uplink.stop_code, Code.unknownConversation, "STOP_SENDING")
        stream.send("request", id=1, ping=None)
        equal((await response(stream)).which, "done", "the session goes on")


@test
async def an_existing_conversation_needs_no_peer(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a:
        await say(a, bob.account, "hi")
    async with world.raw(bob) as (connection, _):
        uplink = connection.open_stream()
        uplink.send("openUplink", conversation=conversation_id(ann.account, bob.account), peer=0)
        uplink.send("send", **send_fields(1))
        equal((await uplink.expect("accepted")).seq, 2, "sequence number")


@test
async def a_second_uplink_for_a_conversation_is_reset(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.raw(ann) as (connection, _):
        first = open_uplink(connection, ann, bob.account)
        first.send("send", **send_fields(1))
        await first.expect("accepted")
        second = open_uplink(connection, ann, bob.account)
        equal_code(await second.end(), Code.duplicateStream)
        first.send("send", **send_fields(2))
        await first.expect("accepted")


# --- Refused acknowledgements ------------------------------------------------------------------


@contextlib.asynccontextmanager
async def raw_downlink(world):
    """A downlink with two deliveries and nothing acknowledged."""
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a:
        await say(a, bob.account, "one", "two")
    async with world.raw(bob) as (connection, _):
        await connection.until(lambda: connection.incoming, "a downlink")
        downlink = connection.incoming.popleft()
        opened = await downlink.expect("openDownlink")
        equal((opened.start, opened.head), (0, 2), "start and head")
        for seq in (1, 2):
            equal((await downlink.expect("deliver")).seq, seq, "sequence number")
        yield connection, downlink, opened


@test
async def an_ack_beyond_what_was_sent(world):
    async with raw_downlink(world) as (connection, downlink, opened):
        downlink.send("ack", seq=3, revision=opened.revision)
        await closed(connection, Code.ackBeyondHead)


@test
async def an_ack_that_goes_back(world):
    async with raw_downlink(world) as (connection, downlink, opened):
        downlink.send("ack", seq=2, revision=opened.revision)
        downlink.send("ack", seq=1, revision=opened.revision)
        await closed(connection, Code.ackBackwards)


@test
async def an_ack_of_receipts_that_were_never_sent(world):
    async with raw_downlink(world) as (connection, downlink, opened):
        downlink.send("ack", seq=2, revision=opened.revision + 1000)
        await closed(connection, Code.ackBeyondHead)


@test
async def a_downlink_takes_nothing_but_acks(world):
    async with raw_downlink(world) as (connection, downlink, _):
        downlink.send("readMark", upTo=1)
        await closed(connection, Code.unexpectedFrame)


# --- Frames in the wrong place, and frames that aren't -----------------------------------------


@test
async def frames_in_the_wrong_place(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    conversation = conversation_id(ann.account, bob.account)
    ping = encode("request", id=1, ping=None)
    hello = encode("hello", **client.hello_fields(), ticket=ann.ticket)
    opens = encode("openUplink", conversation=conversation, peer=bob.account)
    send = encode("send", **send_fields(1))
    for what, signs_in, where, data in (
        ("a request before the hello", False, "session", ping),
        ("an extension before the hello", False, "session", tern.grease_frame()),
        ("a second hello", True, "session", hello),
        ("a send on the session stream", True, "session", send),
        ("an event from the client", True, "session", encode("event", devicesChanged=None)),
        ("an uplink that begins with a send", True, "uplink", send),
        ("an uplink that begins with an ack", True, "uplink", encode("ack", seq=1, revision=1)),
        ("an uplink that begins with a hello", True, "uplink", hello),
        ("an uplink that is opened twice", True, "uplink", opens + opens),
        ("a request on an uplink", True, "uplink", opens + ping),
        ("an answer on an uplink", True, "uplink", opens + encode("marked", upTo=1)),
    ):
        async with world.raw(ann if signs_in else None) as (connection, stream):
            target = connection.open_stream() if where == "uplink" else stream
            target.send_bytes(data)
            try:
                await closed(connection, Code.unexpectedFrame)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"{what}: {error}") from error


@test
async def an_unknown_kind_of_frame(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    unknown = bytearray(encode("ack", seq=1, revision=1))
    unknown[16:18] = (999).to_bytes(2, "little")  # the union's tag: the first word of the root
    opens = encode(
        "openUplink", conversation=conversation_id(ann.account, bob.account), peer=bob.account
    )
    for signs_in, where, before in (
        (False, "session", b""),
        (True, "session", b""),
        (True, "uplink", b""),
        (True, "uplink", opens),
    ):
        async with world.raw(ann if signs_in else None) as (connection, stream):
            target = connection.open_stream() if where == "uplink" else stream
            target.send_bytes(before + bytes(unknown))
            await closed(connection, Code.unknownFrame)


@test
async def frames_that_are_too_large(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    opens = encode(
        "openUplink", conversation=conversation_id(ann.account, bob.account), peer=bob.account
    )

    def framing(length: int) -> bytes:
        return bytes(4) + ((length - 8) // 8).to_bytes(4, "little")

    for signs_in, where, before, length in (
        (False, "session", b"", 8_200),
        (True, "session", b"", 131_080),
        (True, "uplink", b"", 8_200),
        (True, "uplink", opens, 131_080),
        (True, "uplink", opens, 8 + 8 * 0xFFFF_FFFF),
    ):
        async with world.raw(ann if signs_in else None) as (connection, stream):
            target = connection.open_stream() if where == "uplink" else stream
            target.send_bytes(before + framing(length))
            await closed(connection, Code.frameTooLarge)


@test
async def bad_frames_of_the_vectors_close_the_connection(world):
    may_stand_here = {"extension", "hello", "request"}
    for vector in test_vectors.load("refused")["vectors"]:
        data = test_vectors.vector_bytes(vector)
        allowed = {Code[vector["code"]]}
        kinds = list(tern.SCHEMA.Frame.schema.union_fields)
        tag = int.from_bytes(data[16:18], "little") if len(data) >= 18 else 0
        if vector["mayAccept"] or (tag < len(kinds) and kinds[tag] not in may_stand_here):
            allowed.add(Code.unexpectedFrame)  # this too is wrong with it
        async with world.raw() as (connection, stream):
            stream.send_bytes(data, end=vector["ends"])
            how = await connection.wait_close(f"a close because of: {vector['name']}")
            if not how.by_peer or how.code not in allowed:
                raise AssertionError(f"{vector['name']}: {how}, wanted {vector['code']}")


@test
async def a_frame_cut_short_on_an_uplink(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.raw(ann) as (connection, _):
        uplink = open_uplink(connection, ann, bob.account)
        uplink.send_bytes(encode("send", **send_fields(1))[:-8], end=True)
        await closed(connection, Code.malformedFrame)


@test
async def a_frame_in_small_pieces_is_taken(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.raw(ann) as (connection, _):
        uplink = open_uplink(connection, ann, bob.account)
        for byte in encode("send", **send_fields(1)):
            uplink.send_bytes(bytes([byte]))
            connection.flush()
        equal((await uplink.expect("accepted")).seq, 1, "sequence number")


@test
async def a_unidirectional_stream_is_stopped(world):
    ann = await world.account("ann")
    async with world.raw(ann) as (connection, stream):
        odd = connection.open_stream(unidirectional=True)
        odd.send_bytes(b"from a later revision")
        await connection.until(lambda: odd.stop_code is not None, "STOP_SENDING")
        equal_code(odd.stop_code, Code.unknownStream)
        stream.send("request", id=1, ping=None)
        equal((await response(stream)).which, "done", "the session goes on")


@test
async def the_end_of_the_session_stream_ends_the_connection(world):
    ann = await world.account("ann")
    async with world.raw(ann) as (connection, stream):
        stream.finish()
        await closed(connection, Code.noError)
    async with world.raw(ann) as (connection, stream):
        stream.reset(Code.noError)
        await closed(connection, Code.noError)


@test
async def extensions_that_nobody_announced_are_ignored(world):
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.raw(ann) as (connection, stream):
        uplink = open_uplink(connection, ann, bob.account)
        for target in (stream, uplink):
            for number in (*tern.GREASE, 0x7FFF, 0x8000):
                target.send("extension", id=number, body=secrets.token_bytes(64))
        uplink.send("send", **send_fields(1))
        await uplink.expect("accepted")
        stream.send("request", id=1, ping=None)
        equal((await response(stream)).which, "done", "response")


@test
async def a_client_is_told_where_it_is_seen(world):
    ann = await world.account("ann")
    async with world.raw(ann) as (connection, stream):
        stream.send("request", id=1, address=None)
        body = await response(stream)
        equal(body.which, "address", "response")
        assert len(body.address.ip) in (4, 16), body
        if world.pid is not None:
            # No router stands between.
            own = connection._transport.get_extra_info("sockname")
            equal(body.address.ip, ipaddress.ip_address("127.0.0.1").packed, "IP address")
            equal(body.address.port, own[1], "port")


# --- The end -----------------------------------------------------------------------------------


@test
async def a_server_that_stops_says_so_first(world):
    """The last test: it takes the server with it."""
    if world.pid is None:
        return
    ann, bob = await world.account("ann"), await world.account("bob")
    async with world.session(ann) as a:
        a.expects_close = True
        await say(a, bob.account, "before the end")
        os.kill(world.pid, signal.SIGTERM)
        await a.until(lambda: a.going_away, "goAway")
        equal_code(a.going_away.code, Code.goingAway)
        assert a.going_away.withinMs > 0
        await closed(a.connection, Code.goingAway, timeout=60)


async def run_live(world: World, chosen) -> list[str]:
    failed = []
    for function in TESTS:
        name = function.__name__
        if not chosen(name):
            continue
        try:
            async with asyncio.timeout(180):
                await function(world)
        except Exception:
            failed.append(name)
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
        else:
            print(f"ok     {name}", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", help="HOST:PORT of a server that serves for this run alone")
    parser.add_argument("--ca", help="the trust anchor, PEM")
    parser.add_argument("--pid", type=int, help="the server's process, to see it stop")
    parser.add_argument("names", nargs="*", help="run only tests with these in their names")
    options = parser.parse_args()

    def chosen(name: str) -> bool:
        return not options.names or any(part in name for part in options.names)

    ran, failed = 0, []
    for function in test_vectors.TESTS:
        if not chosen(function.__name__):
            continue
        ran += 1
        try:
            function()
        except Exception:
            failed.append(function.__name__)
            print(f"FAILED {function.__name__}\n{traceback.format_exc()}", flush=True)
        else:
            print(f"ok     {function.__name__}", flush=True)
    if options.server:
        ran += sum(chosen(function.__name__) for function in TESTS)
        with tempfile.TemporaryDirectory() as folder:
            address = client.parse_address(options.server)
            world = World(address, options.ca, options.pid, folder)
            failed += asyncio.run(run_live(world, chosen))
    for name in failed:
        print(f"failed: {name}")
    print(f"{ran - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or ran == 0 else 0


if __name__ == "__main__":
    raise SystemExit(main())
