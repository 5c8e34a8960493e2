//! Golden bytes of every message, inverse directions for random messages, and bad bytes that never do harm.

use super::*;
use crate::directory::Location;
use crate::ids::{Digest, Epoch, GroupId, HandoverId, RequestId, Version};
use crate::node::message::{Proposer, Rejection, Stage, Summary};
use crate::rest::debts::Debts;
use crate::session::manifest::{Batch, Entry, Held, Manifest, ManifestKey};
use crate::session::{Access, Class, Kind, Layout, Remote, VariableId};
use bytes::{BufMut, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

fn handover(origin: u64, serial: u64) -> HandoverId {
    HandoverId { origin: Incarnation(Epoch(origin)), serial }
}

fn variable(key: &'static str, name: &'static str) -> VariableId {
    VariableId { key: Bytes::from(key), name: Bytes::from(name) }
}

fn session() -> SessionId {
    SessionId::copy_of(b"s1")
}

/// One entry of each way of being held.
fn manifest() -> Manifest {
    let entry = |name, version, held| Entry {
        name: Bytes::from(name),
        version: Version(version),
        access: Access { reads: 3, writes: 1 },
        held,
    };
    let remote = Remote { handover: handover(4, 300), size: 5000, digest: Digest([0xBB; 32]), class: Class::Deferred };
    let hash = vec![
        entry("cart", 1, Held::Inline(Bytes::from("[]"))),
        entry("user", 2, Held::Staged { size: 70_000, digest: Digest([0xAA; 32]) }),
        entry("seen", 3, Held::At(remote)),
        entry("gone", 4, Held::Lost),
    ];
    let keys = vec![ManifestKey {
        name: Bytes::from("sess:s1"),
        layout: Layout::Hash,
        kind: Kind::Hash,
        expires_at_ms: Some(1_700_000_000_000),
        entries: hash,
    }];
    Manifest { last_version: Version(4), keys }
}

fn stage() -> Stage {
    let location = Location { group: GroupId(7), epoch: Epoch(9), last: Some(handover(4, 300)), depends: vec![handover(4, 300)] };
    let mut values = Batch::default();
    values.push(variable("sess:s1", "user"), Bytes::from("u"));
    Stage { location, origin_group_epoch: Epoch(8), manifest: manifest(), values, debts: None, restlessness: 0 }
}

/// The same with debts to the upstream.
fn stage_with_debts() -> Stage {
    let debts = Debts {
        unwritten: vec![Bytes::from("sess:s1")],
        gone: vec![Bytes::from("cart:s1")],
        age_us: [None, Some(300), None, Some(1)],
    };
    Stage { debts: Some(debts), ..stage() }
}

/// Keys of the layouts that came later.
fn stage_of_strings() -> Stage {
    let mut stage = stage();
    let of = |layout, name: &'static str| {
        let held = Held::Inline(Bytes::from("1"));
        let entry = Entry { name: Bytes::from("a"), version: Version(1), access: Access::default(), held };
        ManifestKey { name: Bytes::from(name), layout, kind: Kind::String, expires_at_ms: None, entries: vec![entry] }
    };
    stage.manifest.keys = vec![of(Layout::Msgpack, "m"), of(Layout::Php, "p")];
    stage
}

/// One of every kind; the numbers need one, three, five and nine bytes.
fn examples() -> Vec<ControlMessage> {
    let h = handover(5, 1);
    let mut values = Batch::default();
    values.push(variable("k", "a"), Bytes::from("1"));
    values.push(variable("k", "b"), Bytes::from("2"));
    let summary = Summary { variables: 3, bytes: 1000, carried_bytes: 300, accesses: 70_000 };
    let node = [
        Message::Propose { handover: h, session: session(), proposer: Proposer::Origin, summary },
        Message::Accept {
            handover: h,
            group: (GroupId(2), Epoch(3)),
            have: vec![(variable("k", "a"), Digest([1; 32])), (variable("k", "b"), Digest([2; 32]))],
        },
        Message::Reject { handover: h, reason: Rejection::Busy },
        Message::PreCopy { handover: h, values },
        Message::PreCopied { handover: h },
        Message::Stage { handover: h, stage: Box::new(stage()) },
        Message::Committed { handover: h },
        Message::Promised { handover: h },
        Message::Abort { handover: h },
        Message::Fetch {
            request: RequestId(1 << 40),
            handover: h,
            variables: vec![variable("k", "a"), variable("j", "b"), variable("k", "c")],
        },
        Message::Fetched { request: RequestId(2), values: vec![Some(Bytes::from("v")), None] },
        Message::Confirm { handover: h },
        Message::Arrival { session: session() },
    ];
    let (one, two) = (Incarnation(Epoch(1)), Incarnation(Epoch(2)));
    let (protocol_min, protocol_max) = (PROTOCOL_MIN, PROTOCOL_MAX);
    let (cluster, member) = ("shop".to_owned(), "a".to_owned());
    let mut all = vec![
        ControlMessage::Hello {
            protocol_min,
            protocol_max,
            cluster: cluster.clone(),
            member: member.clone(),
            incarnation: one,
            to: two,
            lane: Lane::Bulk,
            keys: None,
        },
        ControlMessage::Welcome { protocol: 1 },
        ControlMessage::Unwelcome { reason: "no".to_owned() },
    ];
    all.extend(node.map(ControlMessage::Node));
    let arguments = vec![Bytes::from("GET"), Bytes::from("sess:s1")];
    all.extend([
        ControlMessage::Operation { id: 1, session: session(), arguments, resp3: true, create: false },
        ControlMessage::OperationReply { id: 1, outcome: Forwarded::Reply(Bytes::from("+OK\r\n")) },
        ControlMessage::OperationReply { id: 1, outcome: Forwarded::NotHere },
        ControlMessage::OperationReply { id: 1, outcome: Forwarded::Failed(Bytes::from("-ERR x\r\n")) },
        ControlMessage::LoadAsk { id: 1 },
        ControlMessage::Load { id: 1, sessions: 100_000 },
        ControlMessage::Give { id: 1, to: two, count: 500 },
        ControlMessage::Given { id: 1, moved: 499, failed: 1 },
        ControlMessage::Leaving { id: 1 },
        ControlMessage::LeavingHeard { id: 1 },
    ]);
    all.push(ControlMessage::Node(Message::Stage { handover: h, stage: Box::new(stage_of_members()) }));
    all.push(ControlMessage::Node(Message::Stage { handover: handover(4, 300), stage: Box::new(stage_with_debts()) }));
    let event = |database, key, name| KeyEvent { database, key: Bytes::from(key), name: Bytes::from(name) };
    all.push(ControlMessage::Happened { events: vec![event(0, "sess:s1", "expired"), event(3, "k", "del")] });
    let restless = Stage { restlessness: 2, ..stage_with_debts() };
    all.push(ControlMessage::Node(Message::Stage { handover: handover(4, 300), stage: Box::new(restless) }));
    let (incarnation, keys) = (one, Some([7; 32]));
    all.push(ControlMessage::Hello {
        protocol_min,
        protocol_max,
        cluster,
        member,
        incarnation,
        to: two,
        lane: Lane::Control,
        keys,
    });
    all
}

/// Keys of the kinds that have members: a set, a sorted set, a list.
fn stage_of_members() -> Stage {
    let key = |name: &'static str, kind, member: &[u8], value: &[u8]| ManifestKey {
        name: Bytes::from(name),
        layout: Layout::Hash,
        kind,
        expires_at_ms: None,
        entries: vec![Entry {
            name: Bytes::copy_from_slice(member),
            version: Version(1),
            access: Access { reads: 0, writes: 1 },
            held: Held::Inline(Bytes::copy_from_slice(value)),
        }],
    };
    let keys = vec![
        key("s", Kind::Set, b"a", b""),
        key("z", Kind::SortedSet, b"a", &1.5f64.to_be_bytes()),
        key("l", Kind::List, &(1u64 << 63).to_be_bytes(), b"a"),
    ];
    Stage { manifest: Manifest { last_version: Version(3), keys }, ..stage() }
}

fn bytes_of(message: &ControlMessage) -> BytesMut {
    let mut out = BytesMut::new();
    let written = encode(message, &mut out, LIMIT).unwrap();
    assert_eq!(written, out.len());
    out
}

/// Published bytes. A line that is here never changes; new ones are appended.
const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn published_bytes_do_not_change() {
    let mut found = String::new();
    for message in examples() {
        let hex: String = bytes_of(&message).iter().map(|b| format!("{b:02x}")).collect();
        found.push_str(&format!("{} {hex}\n", kind(&message)));
    }
    assert_eq!(found, GOLDEN, "the bytes of a published message changed, or a new one is not in golden.txt");
}

#[test]
fn published_bytes_are_still_read() {
    for (line, message) in GOLDEN.lines().zip(examples()) {
        let hex = line.split(' ').nth(1).unwrap();
        let mut input: BytesMut = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        assert!(decode(&mut input, LIMIT).unwrap() == Some(message), "{line}");
        assert!(input.is_empty());
    }
    assert_eq!(GOLDEN.lines().count(), examples().len());
}

#[test]
fn the_layouts_that_came_later_have_published_bytes() {
    let message = ControlMessage::Node(Message::Stage { handover: handover(5, 1), stage: Box::new(stage_of_strings()) });
    let mut bytes = bytes_of(&message);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "4300000008050107090104fb2c010104fb2c01080402016d04000001016101000000013100017005000001016101000000013100000107736573733a7331010475736572017500"
    );
    assert!(decode(&mut bytes, LIMIT).unwrap() == Some(message));
}

#[test]
fn frames_come_in_pieces_and_together() {
    let mut stream = BytesMut::new();
    for message in examples() {
        encode(&message, &mut stream, LIMIT).unwrap();
    }
    let (mut input, mut found) = (BytesMut::new(), Vec::new());
    for byte in stream {
        input.put_u8(byte);
        found.extend(decode(&mut input, LIMIT).unwrap());
    }
    assert!(found == examples() && input.is_empty());
}

#[test]
fn a_manifest_entry_costs_little_more_than_its_name_and_digest() {
    let of = |entries: u64| {
        let held = Held::Staged { size: 10_000, digest: Digest([7; 32]) };
        let entry = |n: u64| Entry {
            name: Bytes::from(format!("variable-{n:07}")),
            version: Version(n % 200),
            access: Access { reads: 9, writes: 2 },
            held: held.clone(),
        };
        let mut stage = stage();
        stage.manifest.keys[0].entries = (0..entries).map(entry).collect();
        bytes_of(&ControlMessage::Node(Message::Stage { handover: handover(1, 1), stage: Box::new(stage) })).len()
    };
    assert_eq!((of(200) - of(100)) / 100, 16 + 32 + 9);
}

#[test]
fn fields_of_a_later_version_are_skipped() {
    let mut bytes = bytes_of(&ControlMessage::LoadAsk { id: 1 });
    // No field, replaced by one with tag 9 and two bytes.
    assert_eq!(bytes.split_off(bytes.len() - 1), [0][..]);
    bytes.extend_from_slice(&[1, 9, 2, b'h', b'i']);
    bytes[0] += 4;
    assert!(decode(&mut bytes, LIMIT).unwrap() == Some(ControlMessage::LoadAsk { id: 1 }));
}

#[test]
fn bad_frames_are_named() {
    let said = |bytes: &[u8]| decode(&mut BytesMut::from(bytes), LIMIT).unwrap_err().to_string();
    assert_eq!(said(&[255, 255, 255, 255]), "a frame claims 4294967295 bytes, the limit is 1048576");
    assert_eq!(said(b"GET / HTTP/1.1\r\n"), "a frame claims 542393671 bytes, the limit is 1048576");
    assert_eq!(said(&[0, 0, 0, 0]), "a frame is malformed: it ends within a field");
    assert_eq!(said(&[2, 0, 0, 0, 200, 0]), "a frame is malformed: WireMessage has no variant 200");
    // LoadAsk 1 and one byte too many.
    assert_eq!(said(&[4, 0, 0, 0, 18, 1, 0, 0]), "a frame has 1 bytes behind its message");
    // Fetched with 2^20 values, and with 2^60.
    assert_eq!(
        said(&[7, 0, 0, 0, 13, 1, 252, 0, 0, 16, 0]),
        "a frame is malformed: a list claims more elements than the frame has bytes"
    );
    assert_eq!(
        said(&[11, 0, 0, 0, 13, 1, 253, 0, 0, 0, 0, 0, 0, 0, 16]),
        "a frame is malformed: a list claims too many elements"
    );
    // Arrival of a session id of 2^30 bytes.
    assert_eq!(said(&[6, 0, 0, 0, 15, 252, 0, 0, 0, 64]), "a frame is malformed: it ends within a field");
}

#[test]
fn a_message_that_is_too_long_writes_nothing() {
    let long = ControlMessage::OperationReply { id: 1, outcome: Forwarded::Reply(Bytes::from(vec![b'x'; 1000])) };
    let mut out = BytesMut::from(&b"before"[..]);
    let limit = bytes_of(&long).len() - PREFIX_BYTES;
    let error = encode(&long, &mut out, limit - 1).unwrap_err();
    assert_eq!(error, WireError::MessageTooLong { kind: "operation_reply", limit: limit - 1 });
    assert_eq!(out, b"before"[..]);
    encode(&long, &mut out, limit).unwrap();
    let many = ControlMessage::Operation {
        id: 1,
        session: session(),
        arguments: vec![Bytes::new(); codec::ITEMS_MAX + 1],
        resp3: false,
        create: false,
    };
    assert!(matches!(encode(&many, &mut out, 1 << 24), Err(WireError::MessageTooLong { .. })));
}

#[test]
fn names_have_a_limit() {
    let mut bytes = bytes_of(&ControlMessage::Unwelcome { reason: "x".repeat(1025) });
    assert_eq!(decode(&mut bytes, LIMIT).unwrap_err().to_string(), "a frame is malformed: a name is too long");
}

#[test]
fn debug_shows_nothing_private() {
    let secret = Bytes::from("hunter2");
    let message = ControlMessage::Operation {
        id: 1,
        session: SessionId(secret.clone()),
        arguments: vec![secret.clone()],
        resp3: false,
        create: false,
    };
    assert_eq!(format!("{message:?}"), "operation");
    assert_eq!(format!("{:?}", Forwarded::Reply(secret)), "Reply(7 B)");
}

#[test]
fn each_message_has_its_lane_and_phase() {
    let said: Vec<String> = examples().iter().map(|m| format!("{} {:?} {:?}", kind(m), lane(m), phase(m))).collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    hello Control None
    welcome Control None
    unwelcome Control None
    propose Control Some(Eager)
    accept Control Some(Eager)
    reject Control Some(Eager)
    pre_copy Bulk Some(Eager)
    pre_copied Control Some(Eager)
    stage Bulk Some(Eager)
    committed Control Some(Eager)
    promised Control Some(Eager)
    abort Control Some(Eager)
    fetch Control Some(Late)
    fetched Bulk Some(Late)
    confirm Control Some(Late)
    arrival Control None
    operation Control None
    operation_reply Control None
    operation_reply Control None
    operation_reply Control None
    load_ask Control None
    load Control None
    give Control None
    given Control None
    leaving Control None
    leaving_heard Control None
    stage Bulk Some(Eager)
    stage Bulk Some(Eager)
    happened Control None
    stage Bulk Some(Eager)
    hello Control None
    ");
}

fn bytes() -> impl Strategy<Value = Bytes> + Clone {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn handovers() -> impl Strategy<Value = HandoverId> + Clone {
    (any::<u64>(), any::<u64>()).prop_map(|(origin, serial)| handover(origin, serial))
}

fn variables() -> impl Strategy<Value = VariableId> + Clone {
    // Few keys, so that neighbours share one.
    (vec(0..2u8, 0..2), bytes()).prop_map(|(key, name)| VariableId { key: key.into(), name })
}

fn batches() -> impl Strategy<Value = Batch> {
    vec((bytes(), vec((bytes(), bytes()), 0..4)), 0..4).prop_map(Batch)
}

fn held() -> impl Strategy<Value = Held> {
    let class = prop_oneof![Just(Class::Carried), Just(Class::Streamed), Just(Class::Deferred), Just(Class::Dropped)];
    let remote = (handovers(), any::<u64>(), any::<[u8; 32]>(), class);
    prop_oneof![
        bytes().prop_map(Held::Inline),
        (any::<u64>(), any::<[u8; 32]>()).prop_map(|(size, d)| Held::Staged { size, digest: Digest(d) }),
        remote.prop_map(|(handover, size, d, class)| Held::At(Remote { handover, size, digest: Digest(d), class })),
        Just(Held::Lost),
    ]
}

fn keys() -> impl Strategy<Value = ManifestKey> {
    let access = (any::<u16>(), any::<u16>()).prop_map(|(reads, writes)| Access { reads, writes });
    let entry = (bytes(), any::<u64>(), access, held()).prop_map(|(name, version, access, held)| Entry {
        name,
        version: Version(version),
        access,
        held,
    });
    let all = [Layout::Hash, Layout::Key, Layout::Json, Layout::Opaque, Layout::Msgpack, Layout::Php];
    let layout = proptest::sample::select(all.to_vec());
    let kind = prop_oneof![Just(Kind::String), Just(Kind::Hash), Just(Kind::Set), Just(Kind::SortedSet), Just(Kind::List)];
    (bytes(), layout, kind, any::<Option<u64>>(), vec(entry, 0..4))
        .prop_map(|(name, layout, kind, expires_at_ms, entries)| ManifestKey { name, layout, kind, expires_at_ms, entries })
}

fn stages() -> impl Strategy<Value = Stage> {
    let location = (any::<u64>(), any::<u64>(), proptest::option::of(handovers()), vec(handovers(), 0..4));
    let location =
        location.prop_map(|(group, epoch, last, depends)| Location { group: GroupId(group), epoch: Epoch(epoch), last, depends });
    let manifest = (any::<u64>(), vec(keys(), 0..3)).prop_map(|(last, keys)| Manifest { last_version: Version(last), keys });
    (location, any::<u64>(), manifest, batches(), any::<u8>()).prop_map(|(location, epoch, manifest, values, restlessness)| {
        Stage { location, origin_group_epoch: Epoch(epoch), manifest, values, debts: None, restlessness }
    })
}

/// The messages with more in them than numbers.
fn messages() -> impl Strategy<Value = ControlMessage> {
    let digest = any::<[u8; 32]>().prop_map(Digest);
    let node = prop_oneof![
        (handovers(), stages()).prop_map(|(handover, stage)| Message::Stage { handover, stage: Box::new(stage) }),
        (handovers(), batches()).prop_map(|(handover, values)| Message::PreCopy { handover, values }),
        (handovers(), vec((variables(), digest), 0..5)).prop_map(|(handover, have)| Message::Accept {
            handover,
            group: (GroupId(1), Epoch(2)),
            have
        }),
        (handovers(), any::<u64>(), vec(variables(), 0..5)).prop_map(|(handover, request, variables)| Message::Fetch {
            request: RequestId(request),
            handover,
            variables
        }),
        (any::<u64>(), vec(proptest::option::of(bytes()), 0..5))
            .prop_map(|(request, values)| Message::Fetched { request: RequestId(request), values }),
        bytes().prop_map(|id| Message::Arrival { session: SessionId(id) }),
    ];
    prop_oneof![
        node.prop_map(ControlMessage::Node),
        (any::<u64>(), bytes(), vec(bytes(), 0..5), any::<bool>(), any::<bool>()).prop_map(
            |(id, session, arguments, resp3, create)| {
                ControlMessage::Operation { id, session: SessionId(session), arguments, resp3, create }
            }
        ),
        (any::<u64>(), bytes()).prop_map(|(id, reply)| ControlMessage::OperationReply { id, outcome: Forwarded::Reply(reply) }),
        vec((any::<u8>(), bytes(), bytes()), 0..4).prop_map(|events| ControlMessage::Happened {
            events: events.into_iter().map(|(database, key, name)| KeyEvent { database, key, name }).collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_comes_back(message in messages()) {
        let mut bytes = bytes_of(&message);
        prop_assert!(decode(&mut bytes, LIMIT).unwrap() == Some(message));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn a_frame_cut_short_is_not_a_message(message in messages(), cut in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&message);
        let mut part = BytesMut::from(&bytes[..cut.index(bytes.len())]);
        prop_assert!(decode(&mut part, LIMIT).unwrap().is_none());
        // The same with a length that says that it is complete.
        if part.len() >= PREFIX_BYTES {
            let length = u32::try_from(part.len() - PREFIX_BYTES).unwrap();
            part[..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
            prop_assert!(decode(&mut part, LIMIT).is_err());
        }
    }

    #[test]
    fn flipped_bits_do_no_harm(message in messages(), flips in vec((any::<prop::sample::Index>(), 0..8u8), 1..4)) {
        let mut bytes = bytes_of(&message);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let _ = decode(&mut bytes, LIMIT);
    }

    #[test]
    fn random_bytes_do_no_harm(kind in 0..25u8, noise in vec(any::<u8>(), 0..200)) {
        let mut bytes = BytesMut::from(&[u8::try_from(noise.len()).unwrap() + 1, 0, 0, 0, kind][..]);
        bytes.extend_from_slice(&noise);
        let before = bytes.len();
        if let Ok(Some(message)) = decode(&mut bytes, LIMIT) {
            let again = bytes_of(&message);
            prop_assert!(again.len() <= before, "what was read is never more than what was there");
        }
    }
}
