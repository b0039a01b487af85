# The Tern protocol, revision 1 (ALPN "tern/1").
#
# Every stream of a Tern connection carries a sequence of `Frame` messages in standard Cap'n Proto
# stream framing with exactly one segment: four zero bytes, the segment's length in words as a
# little-endian UInt32, then the segment. A frame, with its eight bytes of framing, is never longer
# than 131,072 bytes, and the first frame of a stream never longer than 8,192 bytes. SPEC.md is
# normative; where a comment here and SPEC.md disagree, SPEC.md is right and this file is mended.
#
# Conventions
#   - Times end in `Ms` and are milliseconds since the Unix epoch, UTC, unless they are called a
#     duration. Durations end in `ForMs` or `AfterMs`.
#   - Account and device ids are random and never 0. Printed, they are 16 lowercase hex digits.
#   - A conversation id is 16 bytes. Printed, it is 32 lowercase hex digits.
#   - A sequence number ("seq") counts a conversation's entries from 1 without holes.
#   - Names of fields and enumerants may be added at the end in later revisions; none is removed.

@0xd2d1a5c6f4b3e871;

struct Frame {
  # The one root type. Which kinds are allowed where is said in SPEC.md, chapter 4. The all-zero
  # struct is an extension with the reserved id 0 and therefore refused.
  union {
    extension @0 :Extension;        # any stream, either direction

    greeting @1 :Greeting;          # greeting stream, server to client, once
    hello @2 :Hello;                # session stream, client to server
    welcome @3 :Welcome;            # session stream, server to client, once
    rejected @4 :Rejected;          # session stream, server to client, instead of a welcome
    request @5 :Request;            # session stream, client to server, after the welcome
    response @6 :Response;          # session stream, server to client
    event @7 :Event;                # session stream, server to client
    goAway @8 :GoAway;              # session stream, server to client, at most once

    openUplink @9 :OpenUplink;      # uplink, client to server, first frame
    send @10 :Send;                 # uplink, client to server
    readMark @11 :ReadMark;         # uplink, client to server
    typing @12 :Typing;             # uplink, client to server
    accepted @13 :Accepted;         # uplink, server to client
    refused @14 :Refused;           # uplink, server to client
    marked @15 :Marked;             # uplink, server to client

    openDownlink @16 :OpenDownlink; # downlink, server to client, first frame
    deliver @17 :Deliver;           # downlink, server to client
    skip @18 :Skip;                 # downlink, server to client
    receipt @19 :Receipt;           # downlink, server to client
    ack @20 :Ack;                   # downlink, client to server
  }
}

struct Extension {
  # A frame of an extension that both ends announced, or grease. A receiver that doesn't know the
  # id ignores the frame.
  id @0 :UInt16;    # 0 is reserved and refused; 0x?a?a (0x0a0a, 0x1a1a, ...) are grease
  body @1 :Data;
}

# --- Connection and session -------------------------------------------------------------------

struct Greeting {
  # The server's first words, sent in its first flight on a unidirectional stream of their own, so
  # that signing in costs no round trip.
  nonce @0 :Data;               # 32 random bytes, new for each connection
  revision @1 :UInt16;          # the highest protocol revision the server speaks; at least 1
  timeMs @2 :UInt64;            # the server's clock, for display only
  software @3 :Text;            # name and version, at most 64 bytes, for people
  extensions @4 :List(UInt16);  # at most 32 ids, grease among them
  registration @5 :Registration;

  enum Registration {
    # What a new account needs.
    closed @0;   # nobody can register
    open @1;     # anybody can
    invite @2;   # an invite token
    token @3;    # a JSON Web Token from the operator's user database
  }
}

struct Hello {
  # Says who the client is. In 0-RTT data only `ticket` is of use: the nonce hasn't arrived yet.
  revision @0 :UInt16;          # the revision that the client will speak from here on
  active @1 :Bool;              # false: in the background, see Request.setActive
  software @2 :Text;            # name and version, at most 64 bytes
  extensions @3 :List(UInt16);  # at most 32 ids, grease among them
  union {
    ticket @4 :Data;            # from an earlier Welcome, at most 512 bytes
    signIn @5 :SignIn;
    register @6 :Register;
  }
}

struct SignIn {
  account @0 :UInt64;
  device @1 :UInt64;
  signature @2 :Data;  # Ed25519, 64 bytes, by the device key over:
                       #   "tern/1 sign-in" 0x00, nonce (32), SHA-256 of the server's leaf
                       #   certificate in DER (32), account (8, little-endian), device (8, l.-e.)
}

struct Register {
  # Makes an account with its first device, or adds a device to an account. Repeating it with the
  # same name and device key gives the same answer.
  name @0 :Text;       # 1 to 32 of a-z 0-9 . _ -, first and last a letter or digit
  deviceKey @1 :Data;  # Ed25519 public key, 32 bytes
  label @2 :Text;      # the device as its owner knows it, at most 64 bytes: "Ann's phone"
  signature @3 :Data;  # Ed25519, 64 bytes, by the device key over:
                       #   "tern/1 register" 0x00, nonce (32), certificate hash (32),
                       #   deviceKey (32), name in UTF-8
  union {
    none @4 :Void;     # a new account where registration is open
    invite @5 :Text;   # a new account by an invite token, at most 128 bytes
    token @6 :Text;    # a JSON Web Token whose `sub` is the name, at most 4,096 bytes; also adds
                       # a device to the account of that name
    link @7 :Text;     # a further device: a link token made by another device of the account
  }
}

struct Welcome {
  revision @0 :UInt16;            # what both speak: that of the hello
  account @1 :UInt64;
  device @2 :UInt64;
  name @3 :Text;                  # the account's name
  epoch @4 :UInt64;               # grows with every connection of this device
  ticket @5 :Data;                # for the next hello; opaque, a secret, at most 512 bytes
  ticketForMs @6 :UInt64;         # how long the ticket lasts from now
  timeMs @7 :UInt64;
  mailbox @8 :Mailbox;            # what waits for this device
  limits @9 :Limits;
  extensions @10 :List(UInt16);   # those of the hello that the server will use on this connection
}

struct Mailbox {
  conversations @0 :UInt32;  # conversations with something to deliver
  positions @1 :UInt64;      # sequence numbers to come in them, delivered or skipped
}

struct Limits {
  # What this server allows this device; a client that keeps to them is never refused for them.
  envelopeBytes @0 :UInt32;      # longest Send.envelope
  unansweredSends @1 :UInt16;    # sends without an answer, per uplink
  requests @2 :UInt16;           # requests without a response
  watches @3 :UInt16;            # accounts whose presence is watched at once
  idleForMs @4 :UInt32;          # an active client that is silent for so long is held for gone
  streamIdleForMs @5 :UInt32;    # an uplink or downlink that is silent for so long may be ended
  inactiveIdleForMs @6 :UInt32;  # the same as idleForMs for an inactive client; 0: idleForMs
}

struct Rejected {
  # The hello was refused. The client may send another hello on the same stream (three in all).
  code @0 :UInt16;          # error registry, SPEC.md chapter 9
  text @1 :Text;            # for a log, at most 256 bytes
  retryAfterMs @2 :UInt64;  # 0: retrying unchanged is pointless
}

struct GoAway {
  # The server is about to close the connection; the client opens the new one first, then leaves.
  code @0 :UInt16;
  withinMs @1 :UInt64;  # the server closes the connection after this time
  target @2 :Text;      # where to go, HOST:PORT, at most 256 bytes; empty: the same address again
  text @3 :Text;
}

struct Request {
  id @0 :UInt32;  # chosen by the client, not in use by another request without a response
  union {
    ping @1 :Void;                # answered by done
    lookup @2 :Text;              # name to account
    account @3 :UInt64;           # account to name
    devices @4 :Void;             # the devices of this account
    removeDevice @5 :UInt64;      # a device of this account, also this one
    createLink @6 :Void;          # a token with which a further device joins this account
    setActive @7 :Bool;           # false: presence and typing are held back, receipts batched
    watch @8 :List(UInt64);       # accounts whose presence is wanted; answered by presence
    unwatch @9 :List(UInt64);
    address @10 :Void;            # where the server sees this client; answered by address
  }
}

struct Response {
  id @0 :UInt32;
  union {
    error @1 :Error;
    done @2 :Void;
    account @3 :Account;
    devices @4 :List(Device);
    link @5 :Link;
    presence @6 :List(Presence);
    address @7 :Address;
  }
}

struct Error {
  code @0 :UInt16;
  text @1 :Text;
  retryAfterMs @2 :UInt64;
}

struct Account {
  account @0 :UInt64;
  name @1 :Text;
}

struct Device {
  device @0 :UInt64;
  label @1 :Text;
  createdMs @2 :UInt64;
  lastSeenMs @3 :UInt64;  # 0: never, or not known
  online @4 :Bool;
}

struct Link {
  token @0 :Text;        # works once
  validForMs @1 :UInt64;
}

struct Address {
  # Where the packets of this connection come from, as the server sees it: behind a router that
  # translates ports, the router's outer address. It changes when the router has forgotten the client.
  ip @0 :Data;      # 4 bytes or 16, in network order; never IPv4 mapped to IPv6
  port @1 :UInt16;
}

struct Presence {
  account @0 :UInt64;
  state @1 :State;
  lastSeenMs @2 :UInt64;  # when the account was last online; 0: not known. Now, if online.

  enum State {
    unknown @0;
    offline @1;
    online @2;   # at least one device is connected and active
  }
}

struct Event {
  union {
    presence @0 :Presence;
    typing @1 :PeerTyping;
    caughtUp @2 :CaughtUp;      # once per session: all that Welcome.mailbox counted is acknowledged
    devicesChanged @3 :Void;    # ask for the devices again
  }
}

struct PeerTyping {
  conversation @0 :Data;
  account @1 :UInt64;
  active @2 :Bool;      # true holds for 6 s unless repeated
}

struct CaughtUp {
  conversations @0 :UInt32;
  positions @1 :UInt64;
}

# --- Uplink: one conversation, from this device -----------------------------------------------

struct OpenUplink {
  conversation @0 :Data;  # 16 bytes
  peer @1 :UInt64;        # the other account of a direct conversation; 0: the conversation exists
}

struct Send {
  counter @0 :UInt64;    # counts this device's accepted sends in this conversation, from 1
  messageId @1 :UInt64;  # random; the same in every repeat of this send
  settled @2 :UInt64;    # every counter up to here has its answer stored at the client
  envelope @3 :Data;     # opaque to the server, 1 to Limits.envelopeBytes bytes
}

struct Accepted {
  # The message is durable: the sent tick. A repeat gets the same answer.
  counter @0 :UInt64;
  seq @1 :UInt64;
  timeMs @2 :UInt64;     # when the server accepted it; never decreases along a conversation
}

struct Refused {
  # Nothing was stored and the counter isn't used up.
  counter @0 :UInt64;
  code @1 :UInt16;
  retryAfterMs @2 :UInt64;  # 0: the same send will be refused again
  last @3 :UInt64;          # the last counter that the server has accepted from this device here
}

struct ReadMark {
  upTo @0 :UInt64;       # everything up to this sequence number was read by the user
}

struct Marked {
  # The read mark is durable.
  upTo @0 :UInt64;       # the account's mark now: at least what was asked
}

struct Typing {
  active @0 :Bool;
}

# --- Downlink: one conversation, to this device -----------------------------------------------

struct OpenDownlink {
  conversation @0 :Data;
  start @1 :UInt64;       # the first entry on this stream has the sequence number start + 1
  head @2 :UInt64;        # the conversation's last sequence number at this moment
  peer @3 :Account;       # the other account of a direct conversation
  revision @4 :UInt64;    # receipts on this stream have greater revisions
}

struct Deliver {
  seq @0 :UInt64;
  account @1 :UInt64;     # who sent it
  device @2 :UInt64;      # from which of its devices
  messageId @3 :UInt64;
  timeMs @4 :UInt64;      # as in Accepted
  envelope @5 :Data;
}

struct Skip {
  # Sequence numbers that this device isn't sent, up to and including upTo.
  upTo @0 :UInt64;
  reason @1 :Reason;

  enum Reason {
    own @0;      # this very device sent them
    expired @1;  # kept for as long as the server keeps messages, and deleted
  }
}

struct Receipt {
  # What one member has: the whole state, not a difference.
  revision @0 :UInt64;         # grows with every change of a receipt in this conversation
  account @1 :UInt64;
  delivered @2 :UInt64;        # a device of the account stores everything up to here
  read @3 :UInt64;             # the account's user has read everything up to here
  expired @4 :List(Span);      # at most 64; entries deleted before any device of the account had
                               # them. They count as failed although `delivered` has passed them.
}

struct Span {
  first @0 :UInt64;
  last @1 :UInt64;
}

struct Ack {
  # Cumulative: what the device has decrypted and stored. Never decreases on a stream.
  seq @0 :UInt64;              # entries, delivered or skipped
  revision @1 :UInt64;         # receipts
}
