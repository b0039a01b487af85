"""The vectors of ../vectors, read by code that was written from SPEC.md alone."""

import json
import pathlib
import types

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import tern_frames as tern
from tern_frames import FrameError, Framer

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "vectors"


def load(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def vector_bytes(vector: dict) -> bytes:
    return bytes.fromhex(vector["bytes"]) + bytes(vector.get("zeros", 0))


def meaning(value):
    """A decoded value in the vectors' notation, all numbers still numbers."""
    if isinstance(value, types.SimpleNamespace):
        fields = {name: meaning(field) for name, field in vars(value).items() if name != "which"}
        if getattr(value, "which", "") is None:
            fields["unknown"] = None
        return fields
    if isinstance(value, list):
        return [meaning(each) for each in value]
    return value.hex() if isinstance(value, bytes) else value


def same(ours, theirs) -> bool:
    """Compares with a vector, where 64-bit numbers are decimal text."""
    if isinstance(theirs, dict):
        return (
            isinstance(ours, dict)
            and ours.keys() == theirs.keys()
            and all(key == "unknown" or same(ours[key], theirs[key]) for key in theirs)
        )
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, int) and isinstance(theirs, str):
        return str(ours) == theirs
    return type(ours) is type(theirs) and ours == theirs


def check_meaning(vector: dict) -> None:
    frame = tern.decode(vector_bytes(vector))
    ours = {frame.kind: meaning(frame.body)}
    if vector["meaning"] is not None and not same(ours, vector["meaning"]):
        raise AssertionError(f"{vector['name']}: {ours} instead of {vector['meaning']}")


def values(fields):
    """A decoded body as arguments of `encode`."""
    if isinstance(fields, types.SimpleNamespace):
        return {name: values(field) for name, field in vars(fields).items() if name != "which"}
    if isinstance(fields, list):
        return [values(each) for each in fields]
    return fields


def test_frames_have_their_meaning():
    kinds = set()
    for vector in load("frames")["vectors"]:
        check_meaning(vector)
        kinds |= vector["meaning"].keys()
    assert kinds == set(tern.SCHEMA.Frame.schema.union_fields), "a kind without a vector"


def test_the_worked_example_has_its_meaning():
    for vector in load("example")["vectors"]:
        check_meaning({**vector, "name": vector["stream"]})


def test_frames_encode_to_the_same_meaning():
    for vector in load("frames")["vectors"]:
        frame = tern.decode(vector_bytes(vector))
        again = tern.encode(frame.kind, **values(frame.body))
        check_meaning({**vector, "bytes": again.hex()})


def test_other_layouts_are_taken():
    for vector in load("layouts")["vectors"]:
        data = vector_bytes(vector)
        framer = Framer()
        framer.limit = vector["limitBytes"]
        assert len(framer.feed(data, end=True)) == 1, vector["name"]
        check_meaning(vector)


def test_bad_frames_are_refused():
    for vector in load("refused")["vectors"]:
        framer = Framer(lifted_by="nothing")
        framer.limit = vector["limitBytes"]
        try:
            framer.feed(vector_bytes(vector), vector["ends"])
        except FrameError as error:
            assert error.code.name == vector["code"], f"{vector['name']}: {error}"
        else:
            assert vector["mayAccept"], f"{vector['name']} was taken"


def test_frames_are_cut_at_any_byte():
    data = b"".join(vector_bytes(vector) for vector in load("frames")["vectors"])
    whole = [repr(frame) for frame in Framer().feed(data, end=True)]
    framer = Framer()
    bytewise = [repr(frame) for byte in data for frame in framer.feed(bytes([byte]))] + framer.feed(
        b"", end=True
    )
    assert bytewise == whole


def test_the_longest_envelope_fits_into_one_segment():
    data = tern.encode("send", counter=1, messageId=1, settled=0, envelope=bytes(65_536))
    assert len(tern.decode(data).body.envelope) == 65_536


def test_signatures():
    for vector in load("signatures")["vectors"]:
        raw = {
            name: bytes.fromhex(vector[name])
            for name in ("nonce", "deviceKey", "seed", "signature", "certificate")
        }
        certificate = tern.certificate_hash(raw["certificate"])
        assert certificate.hex() == vector["certificateHash"], vector["name"]
        if "accountName" in vector:
            message = tern.register_message(
                raw["nonce"], certificate, raw["deviceKey"], vector["accountName"]
            )
        else:
            message = tern.sign_in_message(
                raw["nonce"], certificate, int(vector["account"]), int(vector["device"])
            )
        assert message.hex() == vector["message"], vector["name"]
        key = tern.DeviceKey(raw["seed"])
        assert key.public == raw["deviceKey"], vector["name"]
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(raw["signature"], message)
            valid = True
        except InvalidSignature:
            valid = False
        assert valid == vector["valid"], vector["name"]
        assert (key.sign(message) == raw["signature"]) == valid, vector["name"]


def test_ids():
    ids = load("ids")
    for vector in ids["direct"]:
        ours = tern.conversation_id(int(vector["a"]), int(vector["b"])).hex()
        assert ours == vector["conversation"], vector
    for vector in ids["names"]:
        assert tern.name_is_valid(vector["name"]) == vector["valid"], vector
    for vector in ids["printed"]:
        assert f"{int(vector['id']):016x}" == vector["printed"], vector
    assert sorted(ids["grease"]) == sorted(tern.GREASE)
    assert not set(ids["notGrease"]) & set(tern.GREASE)


def test_tickets():
    for scenario in load("tickets")["scenarios"]:
        ticket, step = scenario["holds"], None
        for number, vector in enumerate(scenario["steps"]):
            where = f"{scenario['name']}, step {number}"
            presents = {"signIn": True} if ticket is None else {"ticket": ticket}
            assert presents == vector["presents"], where
            answer = vector["answer"]
            if "welcome" in answer:
                keeps, step = True, "signedIn"
                ticket = answer["welcome"]["ticket"]
            elif "rejected" in answer:
                rejected = answer["rejected"]
                keeps, step = tern.after_rejection(
                    tern.Code[rejected["code"]], int(rejected["retryAfterMs"]), "ticket" in presents
                )
            else:
                keeps, step = tern.after_close(
                    tern.Code[answer["close"]] if "close" in answer else None
                )
            ticket = ticket if keeps else None
            assert (ticket, step) == (vector["keeps"], vector["next"]), f"{where}: {ticket}, {step}"


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]
