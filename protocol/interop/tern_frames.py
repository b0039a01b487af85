"""Frames, identifiers and signatures of the Tern protocol: everything that needs no network.

Frames are built from and read into plain Python values. `decode` applies every limit of SPEC.md to
what it reads, whichever end would have sent it.
"""

from __future__ import annotations

import enum
import hashlib
import os
import pathlib
import random
import re
import types

import capnp
from cryptography.hazmat.primitives.asymmetric import ed25519

SCHEMA = capnp.load(str(pathlib.Path(__file__).resolve().parents[1] / "schema" / "tern.capnp"))

ALPN = "tern/1"
REVISION = 1
FRAME_LIMIT = 131_072
FIRST_FRAME_LIMIT = 8_192
NESTING_LIMIT = 8
WINDOW = 128  # counters ahead of `settled`
GREASE = tuple(0x1010 * n + 0x0A0A for n in range(16))


class Code(enum.IntEnum):
    """The error registry, SPEC.md chapter 9."""

    noError = 0x000
    internal = 0x100
    malformedFrame = 0x101
    frameTooLarge = 0x102
    unknownFrame = 0x103
    unexpectedFrame = 0x104
    helloTimeout = 0x105
    tooManyHellos = 0x106
    replaced = 0x107
    deviceRemoved = 0x108
    goingAway = 0x109
    overloaded = 0x10A
    ackBackwards = 0x10B
    ackBeyondHead = 0x10C
    markBeyondHead = 0x10D
    unknownConversation = 0x200
    duplicateStream = 0x201
    streamIdle = 0x202
    unknownStream = 0x203
    gap = 0x204
    notSignedIn = 0x205
    unsupportedRevision = 0x300
    badSignature = 0x301
    unknownDevice = 0x302
    ticketInvalid = 0x303
    ticketExpired = 0x304
    nameInvalid = 0x305
    nameTaken = 0x306
    registrationClosed = 0x307
    credentialNeeded = 0x308
    credentialInvalid = 0x309
    rateLimited = 0x30A
    keyInvalid = 0x30B
    counterGap = 0x310
    counterReused = 0x311
    windowExceeded = 0x312
    envelopeSize = 0x313
    mailboxFull = 0x314
    peerGone = 0x315
    unknownName = 0x320
    unknownRequest = 0x321
    tooMany = 0x322
    notAllowed = 0x323


def code_name(code: int | None) -> str:
    if code is None:
        return "FIN"
    try:
        return Code(code).name
    except ValueError:
        return f"{code:#x}"


class FrameError(Exception):
    """What was received can't be taken; `code` is what the connection is closed with."""

    def __init__(self, code: Code, text: str):
        super().__init__(f"{code.name}: {text}")
        self.code = code
        self.text = text


class Frame:
    """A decoded frame: `kind` is the union's arm, `body` has the fields under the schema's names."""

    __slots__ = ("body", "kind")

    def __init__(self, kind: str, body: types.SimpleNamespace):
        self.kind = kind
        self.body = body

    def __repr__(self) -> str:
        return f"{self.kind}({self.body})"


# --- What a field may hold ---------------------------------------------------------------------


def _exactly(size):
    return lambda value: len(value) == size


def _at_most(size):
    return lambda value: len(value) <= size


def _bytes_at_most(size):
    return lambda value: len(value.encode()) <= size


def _not_zero(value):
    return value != 0


def _all_not_zero(size):
    return lambda value: len(value) <= size and 0 not in value


def _spans(value):
    last = 0
    for span in value:
        if not last < span.first <= span.last:
            return False
        last = span.last
    return len(value) <= 64


_RULES = {
    "Extension.id": _not_zero,
    "Greeting.nonce": _exactly(32),
    "Greeting.revision": _not_zero,
    "Greeting.software": _bytes_at_most(64),
    "Greeting.extensions": _at_most(32),
    "Hello.software": _bytes_at_most(64),
    "Hello.extensions": _at_most(32),
    "Hello.ticket": _at_most(512),
    "SignIn.account": _not_zero,
    "SignIn.device": _not_zero,
    "SignIn.signature": _exactly(64),
    "Register.deviceKey": _exactly(32),
    "Register.label": _bytes_at_most(64),
    "Register.signature": _exactly(64),
    "Register.invite": _bytes_at_most(128),
    "Register.token": _bytes_at_most(4096),
    "Register.link": _bytes_at_most(128),
    "Welcome.account": _not_zero,
    "Welcome.device": _not_zero,
    "Welcome.name": _bytes_at_most(32),
    "Welcome.ticket": _at_most(512),
    "Welcome.extensions": _at_most(32),
    "Rejected.text": _bytes_at_most(256),
    "GoAway.target": _bytes_at_most(256),
    "GoAway.text": _bytes_at_most(256),
    "Request.account": _not_zero,
    "Request.removeDevice": _not_zero,
    "Request.watch": _all_not_zero(256),
    "Request.unwatch": _all_not_zero(256),
    "Response.devices": _at_most(16),
    "Error.text": _bytes_at_most(256),
    "Account.account": _not_zero,
    "Account.name": _bytes_at_most(32),
    "Device.device": _not_zero,
    "Device.label": _bytes_at_most(64),
    "Link.token": _bytes_at_most(128),
    "Address.ip": lambda value: len(value) in (4, 16),
    "Presence.account": _not_zero,
    "PeerTyping.conversation": _exactly(16),
    "PeerTyping.account": _not_zero,
    "OpenUplink.conversation": _exactly(16),
    "OpenDownlink.conversation": _exactly(16),
    "Deliver.account": _not_zero,
    "Deliver.device": _not_zero,
    "Receipt.account": _not_zero,
    "Receipt.expired": _spans,
}


# --- Encoding and decoding ---------------------------------------------------------------------


def _size(value) -> int:
    """Room for a value's bytes, generously."""
    if isinstance(value, dict):
        return 64 + sum(_size(each) for each in value.values())
    if isinstance(value, (list, tuple)):
        return 16 + sum(_size(each) for each in value)
    if isinstance(value, (bytes, str)):
        return 24 + 4 * len(value) if isinstance(value, str) else 24 + len(value)
    return 16


def encode(kind: str, **fields) -> bytes:
    """One frame. A first segment that is large enough keeps Cap'n Proto from adding a second."""
    words = 64 + _size(fields) // 8
    data = SCHEMA.Frame.new_message(num_first_segment_words=words, **{kind: fields}).to_bytes()
    assert data[:4] == bytes(4), "a frame has one segment"
    return data


def _arm(struct) -> str | None:
    """The name of a union's arm, None if this revision has no such arm."""
    try:
        return struct.which()
    except capnp.KjException:  # nothing else can go wrong here: the struct's place was checked
        return None


def _plain(value):
    """A Cap'n Proto value as a Python value, checked; raises what `decode` turns into FrameError."""
    if isinstance(value, capnp.lib.capnp._DynamicStructReader):
        struct = value.schema.node.displayName.rpartition(":")[2]
        names = list(value.schema.non_union_fields)
        result = types.SimpleNamespace()
        if value.schema.union_fields:
            result.which = _arm(value)
            if result.which is not None:
                names.append(result.which)
            elif struct not in ("Request", "Event"):
                raise FrameError(Code.malformedFrame, f"an unknown kind of {struct}")
        for name in names:
            field = _plain(getattr(value, name))
            rule = _RULES.get(f"{struct}.{name}")
            if rule is not None and not rule(field):
                raise FrameError(Code.malformedFrame, f"{struct}.{name} has an impossible value")
            setattr(result, name, field)
        return result
    if isinstance(value, capnp.lib.capnp._DynamicListReader):
        return [_plain(each) for each in value]
    if isinstance(value, capnp.lib.capnp._DynamicEnum):
        return str(value)
    return value


def decode(data: bytes) -> Frame:
    """A whole frame, framing included."""
    traversal = 2 * (len(data) // 8) + 64
    try:
        with SCHEMA.Frame.from_bytes(
            data, traversal_limit_in_words=traversal, nesting_limit=NESTING_LIMIT
        ) as root:
            kind = _arm(root)
            if kind is None:
                raise FrameError(Code.unknownFrame, "an unknown kind of frame")
            frame = Frame(kind, _plain(getattr(root, kind)))
    except (capnp.KjException, RuntimeError, UnicodeDecodeError, ValueError) as error:
        raise FrameError(Code.malformedFrame, str(error).splitlines()[0]) from error
    body = frame.body
    if frame.kind == "openDownlink" and body.start > body.head:
        raise FrameError(Code.malformedFrame, "a downlink starts beyond its head")
    return frame


class Framer:
    """Cuts one direction of a stream into frames."""

    def __init__(self, lifted_by=None):
        """The limit is that of a first frame until one has come: any, or one of kind `lifted_by`."""
        self.limit = FIRST_FRAME_LIMIT
        self._lifted_by = lifted_by
        self._data = bytearray()

    def feed(self, data: bytes, end: bool = False) -> list[Frame]:
        self._data += data
        frames = []
        while len(self._data) >= 8:
            segments = int.from_bytes(self._data[:4], "little") + 1
            length = 8 + 8 * int.from_bytes(self._data[4:8], "little")
            if segments != 1 or length == 8:
                raise FrameError(Code.malformedFrame, f"{segments} segments, {length} bytes")
            if length > self.limit:
                raise FrameError(Code.frameTooLarge, f"{length} bytes, the limit is {self.limit}")
            if len(self._data) < length:
                break
            frame = decode(bytes(self._data[:length]))
            del self._data[:length]
            if self._lifted_by in (None, frame.kind):
                self.limit = FRAME_LIMIT
            frames.append(frame)
        if end and self._data:
            raise FrameError(Code.malformedFrame, "the stream ends within a frame")
        return frames


# --- Identifiers and signatures ----------------------------------------------------------------


def _le64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def conversation_id(a: int, b: int) -> bytes:
    """[TERN-3.2-2]"""
    low, high = sorted((a, b))
    return hashlib.sha256(b"tern/1 direct\0" + _le64(low) + _le64(high)).digest()[:16]


def name_is_valid(name: str) -> bool:
    """[TERN-3.2-3]"""
    return re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?", name) is not None


def certificate_hash(der: bytes) -> bytes:
    return hashlib.sha256(der).digest()


def sign_in_message(nonce: bytes, certificate: bytes, account: int, device: int) -> bytes:
    """[TERN-5.2-3]; `certificate` is the hash."""
    return b"tern/1 sign-in\0" + nonce + certificate + _le64(account) + _le64(device)


def register_message(nonce: bytes, certificate: bytes, device_key: bytes, name: str) -> bytes:
    """[TERN-5.2-5]; `certificate` is the hash."""
    return b"tern/1 register\0" + nonce + certificate + device_key + name.encode()


class DeviceKey:
    """The Ed25519 key of a device."""

    def __init__(self, seed: bytes | None = None):
        self.seed = seed if seed is not None else os.urandom(32)
        self._private = ed25519.Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


# --- Tickets -----------------------------------------------------------------------------------


def after_rejection(code: int, retry_after_ms: int, by_ticket: bool) -> tuple[bool, str]:
    """Whether a ticket is kept when a hello was rejected, and what comes next. [TERN-5.3-4]"""
    if by_ticket and code in (Code.ticketInvalid, Code.ticketExpired, Code.unknownDevice):
        return False, "signIn"
    return True, "later" if retry_after_ms else "giveUp"


def after_close(code: int | None) -> tuple[bool, str]:
    """Likewise when the server has closed; None is a connection that was lost."""
    if code == Code.deviceRemoved:
        return False, "giveUp"
    ours = (Code.malformedFrame, Code.frameTooLarge, Code.unknownFrame, Code.unexpectedFrame)
    if code in (Code.replaced, Code.ackBackwards, Code.ackBeyondHead, Code.markBeyondHead, *ours):
        return True, "giveUp"
    return True, "reconnect"


# --- Grease ------------------------------------------------------------------------------------


def grease() -> int:
    return random.choice(GREASE)


def grease_frame() -> bytes:
    """[TERN-11.3-1]"""
    return encode("extension", id=grease(), body=os.urandom(random.randrange(65)))
