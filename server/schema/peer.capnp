# The protocol between the nodes of a Tern cluster, version 1 (ALPN "tern-peer/1").
#
# Who speaks
#
#   Every node is a client of every other: A opens a QUIC connection to B to ask B and to tell B, and B
#   opens one to A. TLS 1.3 with certificates on both ends under the operator's authority. A's
#   certificate must hold, as a DNS name, the name that A gives in its hello, and B's the name that B's
#   record in the store gives; there is no resumption and no 0-RTT.
#
# Streams of a connection that A opened to B
#
#   control   bidirectional, opened by A, the only one. A: hello, then requests. B: welcome, then answers.
#   notes     unidirectional, opened by A after the welcome, the only one. A: notes.
#
#   Each carries `Batch` messages in standard Cap'n Proto stream framing with exactly one segment: four
#   zero bytes, the segment's length in words as a little-endian UInt32, then the segment. A batch, with
#   its eight bytes of framing, is never longer than 1,048,576 bytes, and the first one in each direction
#   of the control stream never longer than 4,096. A batch has at most 4,096 items. What breaks a rule
#   here is answered by closing the connection with a code (see below); other connections don't suffer.
#
# Order
#
#   B begins the requests of a connection in the order in which they are in the stream. Answers come in
#   any order. Between requests and notes there is no order.
#
# Loss
#
#   When a connection ends, requests without an answer may have been done. Notes that were sent may have
#   been lost: therefore the first note of a connection is always `resync`, and it is sent again whenever A
#   had to drop a note. B then looks itself for all that the lost notes could have said; whatever must not
#   be lost is in the store.
#
# Codes with which a connection is closed
#
#   0  noError      the end of a link that isn't needed any more
#   1  malformed    a batch that can't be decoded, or breaks a rule of its fields
#   2  tooLarge     a batch that is longer than allowed
#   3  unexpected   a batch, or a stream, where it doesn't belong
#   4  version      no version that both speak
#   5  wrongNode    the hello is for another node: the address has changed hands
#   6  unknownNode  the node isn't in the store, or not any more, or has another name there
#   7  wrongName    the certificate isn't good for the name of the hello
#   8  timeout      no hello or welcome in time
#   9  replaced     the node has opened a newer connection
#   10 stopping     this node stops
#
# Conventions are those of tern.capnp: ids of accounts, devices and nodes are never 0, a conversation is
# 16 bytes, times end in `Ms`. Fields and members of unions may be added at the end in later versions.

@0xdde73b1f9b37d808;

struct Batch {
  # The one root type.
  union {
    hello @0 :Hello;              # control, A to B, once, first
    welcome @1 :Welcome;          # control, B to A, once, first
    requests @2 :List(Request);   # control, A to B, after the welcome
    answers @3 :List(Answer);     # control, B to A, after the welcome
    notes @4 :List(Note);         # notes
  }
}

struct Hello {
  # B answers when the store says that there is a node with this id and name, for which it waits as long
  # as it waits for a hello: A may be so new that B hasn't read of it.
  version @0 :UInt16;  # the highest version that A speaks, at least 1
  node @1 :UInt64;     # who A is
  name @2 :Text;       # A's name, at most 253 bytes
  to @3 :UInt64;       # whom A believes to speak to
}

struct Welcome {
  version @0 :UInt16;  # the version of this connection: the highest that both speak
}

# --- Requests -----------------------------------------------------------------------------------

struct Request {
  # A command for the owner of a conversation.
  id @0 :UInt64;             # chosen by A: greater than in any request before on this connection
  conversation @1 :Data;
  union {
    append @2 :Append;       # answered by accepted or refused
    read @3 :Read;           # answered by marked or notMarked
    ack @4 :Ack;             # answered by done
    snapshot @5 :UInt64;     # for this device; answered by snapshot or none
    members @6 :Void;        # answered by members or none
    age @7 :Age;             # answered by done
  }                          # one of a later version is answered by declined, unsupported
}

struct Append {
  device @0 :UInt64;     # the device that sends
  account @1 :UInt64;    # its account
  peer @2 :UInt64;       # the other account of the conversation
  counter @3 :UInt64;    # these as in tern.capnp, Send
  messageId @4 :UInt64;
  settled @5 :UInt64;
  envelope @6 :Data;     # at most 65,536 bytes
}

struct Read {
  account @0 :UInt64;
  upTo @1 :UInt64;       # the account's user has read everything up to here
}

struct Ack {
  # The device has everything up to here. A has held it to what the device was sent.
  device @0 :UInt64;
  seq @1 :UInt64;
  revision @2 :UInt64;
}

struct Age {
  # Deletes entries that have been kept for their time.
  upTo @0 :UInt64;         # the last of them
  undelivered @1 :Bool;    # also those that wait for somebody
  bucket @2 :UInt64;       # their bucket of the expiry index
  sent @3 :List(Sent);     # who sent which of them; at most 16,384
}

struct Sent {
  account @0 :UInt64;
  first @1 :UInt64;
  last @2 :UInt64;
}

# --- Answers ------------------------------------------------------------------------------------

struct Answer {
  id @0 :UInt64;           # that of the request
  union {
    unknown @1 :Void;      # it may have been done, and may not
    declined @2 :Reason;   # it hasn't been done, and B won't do it
    accepted @3 :Accepted;
    refused @4 :Refused;
    marked @5 :UInt64;     # where the mark is now
    notMarked @6 :UInt16;  # why the mark isn't moved: a code of Tern's registry
    done @7 :Void;
    none @8 :Void;         # there is no such conversation, or the device has no part in it
    snapshot @9 :Snapshot;
    members @10 :List(UInt64);  # two
  }                        # one of a later version is to be taken for unknown

  enum Reason {
    notOwner @0;      # another node owns the conversation, as B sees the cluster
    suspended @1;     # B may not serve at the moment
    overloaded @2;    # B has too much to do
    stopping @3;      # B is about to stop
    unsupported @4;   # B doesn't know such a request
  }
}

struct Accepted {
  # These as in tern.capnp.
  counter @0 :UInt64;
  seq @1 :UInt64;
  timeMs @2 :UInt64;
}

struct Refused {
  # These as in tern.capnp.
  counter @0 :UInt64;
  code @1 :UInt16;
  retryAfterMs @2 :UInt64;
  last @3 :UInt64;
}

struct Snapshot {
  # What a downlink starts from.
  members @0 :List(UInt64);     # two
  seq @1 :UInt64;               # what the device has acknowledged
  revision @2 :UInt64;
  head @3 :UInt64;              # the conversation's last sequence number
  foreignHead @4 :UInt64;       # the last one that the device is sent
  expiredTo @5 :UInt64;         # what is missing up to here was deleted for its age
  receipts @6 :List(Receipt);   # those that the device hasn't acknowledged, by revision; at most 256
}

struct Receipt {
  # These as in tern.capnp.
  revision @0 :UInt64;
  account @1 :UInt64;
  delivered @2 :UInt64;
  read @3 :UInt64;
  expired @4 :List(Span);       # at most 64, ascending and disjoint
}

struct Span {
  first @0 :UInt64;
  last @1 :UInt64;
}

# --- Notes --------------------------------------------------------------------------------------

struct Note {
  # A hint. `device` and `epoch` are those of the connection of a device at B that is meant; they are 0
  # where there is none.
  device @0 :UInt64;
  epoch @1 :UInt64;
  union {
    resync @2 :Void;            # notes may have been lost: look yourself. No device.
    message @3 :Message;        # news: a message
    receipt @4 :NewReceipt;     # news: a receipt
    unsure @5 :Data;            # news: something may have happened in this conversation
    notHere @6 :Void;           # the device isn't connected at A, or not any more by this connection
    replaced @7 :Void;          # the device has a connection with this epoch elsewhere: close older ones
    presence @8 :Presence;      # event
    typing @9 :Typing;          # event
    devicesChanged @10 :Void;   # event
    accountChanged @11 :UInt64; # what is in memory of this account is old. No device.
    look @12 :Void;             # news of this device may have gone elsewhere: look into its mailbox
    watch @13 :Watch;           # A wants to know of an account's presence, of which B keeps account. No device.
    report @14 :Presence;       # an account's presence as far as A's connections show it. No device.
    reset @15 :Void;            # A's watches and reports begin anew: forget all before. No device.
    state @16 :Presence;        # an account's presence, of which A keeps account. No device.
  }                             # one of a later version is to be ignored
}

struct Message {
  conversation @0 :Data;
  foreignHead @1 :UInt64;   # the last sequence number before it that the device is sent
  seq @2 :UInt64;
  account @3 :UInt64;       # who sent it
  device @4 :UInt64;        # from which device
  messageId @5 :UInt64;
  timeMs @6 :UInt64;
  envelope @7 :Data;        # at most 65,536 bytes
}

struct NewReceipt {
  conversation @0 :Data;
  receipt @1 :Receipt;
}

struct Presence {
  account @0 :UInt64;
  state @1 :State;
  lastSeenMs @2 :UInt64;

  enum State {
    unknown @0;
    offline @1;
    online @2;
  }
}

struct Watch {
  account @0 :UInt64;
  isOn @1 :Bool;
}

struct Typing {
  conversation @0 :Data;
  account @1 :UInt64;
  active @2 :Bool;
}
