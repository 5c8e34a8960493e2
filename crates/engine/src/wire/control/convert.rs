//! Core messages to wire messages and back.
//!
//! It never reads or writes bytes: [`super::codec`] does, and calls this. Encoding borrows, so that no value is copied but into
//! the frame. Decoding copies each byte string once: what a node receives lives long, and a value that shared its frame would
//! keep all of the frame in memory.
//!
//! Invariant: each direction is the inverse of the other, for every message whose names are within their limits.

use super::codec::{
    ByKey, DEBTS, Later, List, RESTLESSNESS, WireClass, WireDebts, WireDigest, WireEntry, WireForwarded, WireHandover, WireHeld,
    WireKey, WireKind, WireLane, WireLayout, WireManifest, WireMessage, WireProposer, WireRejection, WireStage, WireSummary,
    decode_debts,
};
use super::{ControlMessage, Forwarded, KeyEvent, Lane};
use crate::directory::Location;
use crate::ids::{Digest, Epoch, GroupId, HandoverId, Incarnation, RequestId, SessionId, Version};
use crate::node::message::{Message, Proposer, Rejection, Stage, Summary};
use crate::rest::debts::Debts;
use crate::session::manifest::{Batch, Entry, Held, Manifest, ManifestKey};
use crate::session::{Access, Class, Kind, Layout, Remote, VariableId};
use bytes::Bytes;

/// A cluster, a member or a reason, at most. A longer one is no mistake that a node of ours could make.
const NAME_BYTES_MAX: usize = 1024;

/// Both directions of an enum whose variants have the same names and no fields.
macro_rules! same_variants {
    ($core:ty, $wire:ty: $($variant:ident),+) => {
        impl From<$core> for $wire {
            fn from(core: $core) -> $wire {
                match core { $(<$core>::$variant => <$wire>::$variant),+ }
            }
        }
        impl From<$wire> for $core {
            fn from(wire: $wire) -> $core {
                match wire { $(<$wire>::$variant => <$core>::$variant),+ }
            }
        }
    };
}

same_variants!(Lane, WireLane: Control, Bulk);
same_variants!(Proposer, WireProposer: Router, Origin, Target);
same_variants!(Rejection, WireRejection: NotAccepting, Busy);
same_variants!(Layout, WireLayout: Hash, Key, Json, Opaque, Msgpack, Php);
same_variants!(Kind, WireKind: String, Hash, Set, SortedSet, List);
same_variants!(Class, WireClass: Carried, Streamed, Deferred, Dropped);

/// The wire form of a message; it borrows all of its bytes.
pub(super) fn message_to_wire<'a>(message: &'a ControlMessage, debts: Option<&'a [u8]>) -> WireMessage<'a> {
    match message {
        ControlMessage::Hello { protocol_min, protocol_max, cluster, member, incarnation, to, lane, keys: _ } => {
            WireMessage::Hello {
                protocols: (*protocol_min, *protocol_max),
                cluster,
                member,
                incarnation: incarnation.0.0,
                to: to.0.0,
                lane: (*lane).into(),
            }
        }
        ControlMessage::Welcome { protocol } => WireMessage::Welcome { protocol: *protocol },
        ControlMessage::Unwelcome { reason } => WireMessage::Unwelcome { reason },
        ControlMessage::Node(message) => node_to_wire(message, debts),
        ControlMessage::Operation { id, session, arguments, resp3, create } => WireMessage::Operation {
            id: *id,
            session: &session.0,
            arguments: List(arguments.iter().map(Bytes::as_ref).collect()),
            resp3: *resp3,
            create: *create,
        },
        ControlMessage::OperationReply { id, outcome } => {
            let outcome = match outcome {
                Forwarded::Reply(bytes) => WireForwarded::Reply(bytes),
                Forwarded::NotHere => WireForwarded::NotHere,
                Forwarded::Failed(bytes) => WireForwarded::Failed(bytes),
            };
            WireMessage::OperationReply { id: *id, outcome }
        }
        ControlMessage::LoadAsk { id } => WireMessage::LoadAsk { id: *id },
        ControlMessage::Load { id, sessions } => WireMessage::Load { id: *id, sessions: *sessions },
        ControlMessage::Give { id, to, count } => WireMessage::Give { id: *id, to: to.0.0, count: *count },
        ControlMessage::Given { id, moved, failed } => WireMessage::Given { id: *id, moved: *moved, failed: *failed },
        ControlMessage::Leaving { id } => WireMessage::Leaving { id: *id },
        ControlMessage::LeavingHeard { id } => WireMessage::LeavingHeard { id: *id },
        ControlMessage::Happened { events } => {
            let events = events.iter().map(|event| (event.database, event.key.as_ref(), event.name.as_ref()));
            WireMessage::Happened { events: List(events.collect()) }
        }
    }
}

fn node_to_wire<'a>(message: &'a Message, debts: Option<&'a [u8]>) -> WireMessage<'a> {
    let of = |h: &HandoverId| (h.origin.0.0, h.serial);
    match message {
        Message::Propose { handover, session, proposer, summary } => WireMessage::Propose {
            handover: of(handover),
            session: &session.0,
            proposer: (*proposer).into(),
            summary: WireSummary {
                variables: summary.variables,
                bytes: summary.bytes,
                carried_bytes: summary.carried_bytes,
                accesses: summary.accesses,
            },
        },
        Message::Accept { handover, group: (group, epoch), have } => WireMessage::Accept {
            handover: of(handover),
            group: (group.0, epoch.0),
            have: by_key(have.iter().map(|(id, digest)| (id.key.as_ref(), (id.name.as_ref(), digest.0)))),
        },
        Message::Reject { handover, reason } => WireMessage::Reject { handover: of(handover), reason: (*reason).into() },
        Message::PreCopy { handover, values } => WireMessage::PreCopy { handover: of(handover), values: batch_to_wire(values) },
        Message::PreCopied { handover } => WireMessage::PreCopied { handover: of(handover) },
        Message::Stage { handover, stage } => WireMessage::Stage { handover: of(handover), stage: stage_to_wire(stage, debts) },
        Message::Committed { handover } => WireMessage::Committed { handover: of(handover) },
        Message::Promised { handover } => WireMessage::Promised { handover: of(handover) },
        Message::Abort { handover } => WireMessage::Abort { handover: of(handover) },
        Message::Fetch { request, handover, variables } => WireMessage::Fetch {
            request: request.0,
            handover: of(handover),
            variables: by_key(variables.iter().map(|id| (id.key.as_ref(), id.name.as_ref()))),
        },
        Message::Fetched { request, values } => {
            WireMessage::Fetched { request: request.0, values: List(values.iter().map(Option::as_deref).collect()) }
        }
        Message::Confirm { handover } => WireMessage::Confirm { handover: of(handover) },
        Message::Arrival { session } => WireMessage::Arrival { session: &session.0 },
    }
}

/// Joins neighbours of one key; the order stays.
fn by_key<'a, T>(items: impl Iterator<Item = (&'a [u8], T)>) -> ByKey<'a, T> {
    let mut keys: Vec<(&'a [u8], List<T>)> = Vec::new();
    for (key, item) in items {
        match keys.last_mut() {
            Some((last, items)) if *last == key => items.0.push(item),
            _ => keys.push((key, List(vec![item]))),
        }
    }
    List(keys)
}

fn batch_to_wire(batch: &Batch) -> ByKey<'_, (&[u8], &[u8])> {
    let pairs = batch.0.iter().map(|(key, values)| {
        let values = values.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        (key.as_ref(), List(values))
    });
    List(pairs.collect())
}

fn stage_to_wire<'a>(stage: &'a Stage, debts: Option<&'a [u8]>) -> WireStage<'a> {
    let location = &stage.location;
    let restlessness = (stage.restlessness > 0).then(|| (RESTLESSNESS, std::slice::from_ref(&stage.restlessness)));
    WireStage {
        group: location.group.0,
        epoch: location.epoch.0,
        last: location.last.map(|h| (h.origin.0.0, h.serial)),
        depends: List(location.depends.iter().map(|h| (h.origin.0.0, h.serial)).collect()),
        origin_group_epoch: stage.origin_group_epoch.0,
        manifest: WireManifest {
            last_version: stage.manifest.last_version.0,
            keys: List(stage.manifest.keys.iter().map(key_to_wire).collect()),
            later: List(debts.map(|debts| (DEBTS, debts)).into_iter().chain(restlessness).collect()),
        },
        values: batch_to_wire(&stage.values),
    }
}

/// The debts that go with a message, if it is one that has some.
pub(super) fn debts_of(message: &ControlMessage) -> Option<WireDebts<'_>> {
    let ControlMessage::Node(Message::Stage { stage, .. }) = message else { return None };
    let debts = stage.debts.as_ref()?;
    let [critical, high, medium, low] = debts.age_us;
    Some(WireDebts {
        unwritten: List(debts.unwritten.iter().map(AsRef::as_ref).collect()),
        gone: List(debts.gone.iter().map(AsRef::as_ref).collect()),
        age_us: (critical, high, medium, low),
    })
}

fn debts(wire: WireDebts<'_>) -> Debts {
    let (critical, high, medium, low) = wire.age_us;
    let names = |names: List<&[u8]>| names.0.into_iter().map(Bytes::copy_from_slice).collect();
    Debts { unwritten: names(wire.unwritten), gone: names(wire.gone), age_us: [critical, high, medium, low] }
}

fn key_to_wire(key: &ManifestKey) -> WireKey<'_> {
    WireKey {
        name: &key.name,
        layout: key.layout.into(),
        kind: key.kind.into(),
        expires_at_ms: key.expires_at_ms,
        entries: List(key.entries.iter().map(entry_to_wire).collect()),
    }
}

fn entry_to_wire(entry: &Entry) -> WireEntry<'_> {
    let held = match &entry.held {
        Held::Inline(value) => WireHeld::Inline(value),
        Held::Staged { size, digest } => WireHeld::Staged { size: *size, digest: digest.0 },
        Held::At(Remote { handover, size, digest, class }) => WireHeld::At {
            handover: (handover.origin.0.0, handover.serial),
            size: *size,
            digest: digest.0,
            class: (*class).into(),
        },
        Held::Lost => WireHeld::Lost,
    };
    let Access { reads, writes } = entry.access;
    WireEntry { name: &entry.name, version: entry.version.0, reads, writes, held, later: Later::default() }
}

/// The message that a wire message stands for; an error says what in it is not allowed.
pub(super) fn wire_to_message(wire: WireMessage<'_>) -> Result<ControlMessage, &'static str> {
    let node = |message| Ok(ControlMessage::Node(message));
    match wire {
        WireMessage::Hello { protocols: (protocol_min, protocol_max), cluster, member, incarnation, to, lane } => {
            Ok(ControlMessage::Hello {
                protocol_min,
                protocol_max,
                cluster: text(cluster)?,
                member: text(member)?,
                incarnation: Incarnation(Epoch(incarnation)),
                to: Incarnation(Epoch(to)),
                lane: lane.into(),
                keys: None,
            })
        }
        WireMessage::Welcome { protocol } => Ok(ControlMessage::Welcome { protocol }),
        WireMessage::Unwelcome { reason } => Ok(ControlMessage::Unwelcome { reason: text(reason)? }),
        WireMessage::Propose { handover: h, session, proposer, summary } => {
            let WireSummary { variables, bytes, carried_bytes, accesses } = summary;
            let summary = Summary { variables, bytes, carried_bytes, accesses };
            node(Message::Propose { handover: handover(h), session: session_id(session), proposer: proposer.into(), summary })
        }
        WireMessage::Accept { handover: h, group: (group, epoch), have } => {
            let have = flat(have).map(|(key, (name, d))| (variable(key, name), digest(d))).collect();
            node(Message::Accept { handover: handover(h), group: (GroupId(group), Epoch(epoch)), have })
        }
        WireMessage::Reject { handover: h, reason } => node(Message::Reject { handover: handover(h), reason: reason.into() }),
        WireMessage::PreCopy { handover: h, values } => node(Message::PreCopy { handover: handover(h), values: batch(values) }),
        WireMessage::PreCopied { handover: h } => node(Message::PreCopied { handover: handover(h) }),
        WireMessage::Stage { handover: h, stage: s } => {
            node(Message::Stage { handover: handover(h), stage: Box::new(stage(s)?) })
        }
        WireMessage::Committed { handover: h } => node(Message::Committed { handover: handover(h) }),
        WireMessage::Promised { handover: h } => node(Message::Promised { handover: handover(h) }),
        WireMessage::Abort { handover: h } => node(Message::Abort { handover: handover(h) }),
        WireMessage::Fetch { request, handover: h, variables } => {
            let variables = flat(variables).map(|(key, name)| variable(key, name)).collect();
            node(Message::Fetch { request: RequestId(request), handover: handover(h), variables })
        }
        WireMessage::Fetched { request, values } => {
            let values = values.0.into_iter().map(|v| v.map(Bytes::copy_from_slice)).collect();
            node(Message::Fetched { request: RequestId(request), values })
        }
        WireMessage::Confirm { handover: h } => node(Message::Confirm { handover: handover(h) }),
        WireMessage::Arrival { session } => node(Message::Arrival { session: session_id(session) }),
        WireMessage::Operation { id, session, arguments, resp3, create } => {
            let arguments = arguments.0.into_iter().map(Bytes::copy_from_slice).collect();
            Ok(ControlMessage::Operation { id, session: session_id(session), arguments, resp3, create })
        }
        WireMessage::OperationReply { id, outcome } => {
            let outcome = match outcome {
                WireForwarded::Reply(bytes) => Forwarded::Reply(Bytes::copy_from_slice(bytes)),
                WireForwarded::NotHere => Forwarded::NotHere,
                WireForwarded::Failed(bytes) => Forwarded::Failed(Bytes::copy_from_slice(bytes)),
            };
            Ok(ControlMessage::OperationReply { id, outcome })
        }
        WireMessage::LoadAsk { id } => Ok(ControlMessage::LoadAsk { id }),
        WireMessage::Load { id, sessions } => Ok(ControlMessage::Load { id, sessions }),
        WireMessage::Give { id, to, count } => Ok(ControlMessage::Give { id, to: Incarnation(Epoch(to)), count }),
        WireMessage::Given { id, moved, failed } => Ok(ControlMessage::Given { id, moved, failed }),
        WireMessage::Leaving { id } => Ok(ControlMessage::Leaving { id }),
        WireMessage::LeavingHeard { id } => Ok(ControlMessage::LeavingHeard { id }),
        WireMessage::Happened { events } => {
            let event = |(database, key, name)| KeyEvent {
                database,
                key: Bytes::copy_from_slice(key),
                name: Bytes::copy_from_slice(name),
            };
            Ok(ControlMessage::Happened { events: events.0.into_iter().map(event).collect() })
        }
    }
}

fn text(wire: &str) -> Result<String, &'static str> {
    if wire.len() > NAME_BYTES_MAX { Err("a name is too long") } else { Ok(wire.to_owned()) }
}

fn session_id(wire: &[u8]) -> SessionId {
    SessionId::copy_of(wire)
}

fn handover((origin, serial): WireHandover) -> HandoverId {
    HandoverId { origin: Incarnation(Epoch(origin)), serial }
}

fn digest(wire: WireDigest) -> Digest {
    Digest(wire)
}

fn variable(key: Bytes, name: &[u8]) -> VariableId {
    VariableId { key, name: Bytes::copy_from_slice(name) }
}

/// Each item with its key; items of one key share the copy of its name.
fn flat<'a, T: 'a>(wire: ByKey<'a, T>) -> impl Iterator<Item = (Bytes, T)> + 'a {
    wire.0.into_iter().flat_map(|(key, items)| {
        let key = Bytes::copy_from_slice(key);
        items.0.into_iter().map(move |item| (key.clone(), item))
    })
}

fn batch(wire: ByKey<'_, (&[u8], &[u8])>) -> Batch {
    let copied = |(name, value)| (Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
    let keys = wire.0.into_iter();
    Batch(keys.map(|(key, values)| (Bytes::copy_from_slice(key), values.0.into_iter().map(copied).collect())).collect())
}

fn stage(wire: WireStage<'_>) -> Result<Stage, &'static str> {
    let tagged = |wanted| wire.manifest.later.0.iter().find(|(tag, _)| *tag == wanted).map(|(_, bytes)| *bytes);
    let debts = tagged(DEBTS).map(decode_debts).transpose()?.map(debts);
    let restlessness = match tagged(RESTLESSNESS) {
        None => 0,
        Some(&[times]) => times,
        Some(_) => return Err("the restlessness of a session is not one byte"),
    };
    let location = Location {
        group: GroupId(wire.group),
        epoch: Epoch(wire.epoch),
        last: wire.last.map(handover),
        depends: wire.depends.0.into_iter().map(handover).collect(),
    };
    let last_version = Version(wire.manifest.last_version);
    let manifest = Manifest { last_version, keys: wire.manifest.keys.0.into_iter().map(manifest_key).collect() };
    let origin_group_epoch = Epoch(wire.origin_group_epoch);
    Ok(Stage { location, origin_group_epoch, manifest, values: batch(wire.values), debts, restlessness })
}

fn manifest_key(wire: WireKey<'_>) -> ManifestKey {
    let entry = |wire: WireEntry<'_>| Entry {
        name: Bytes::copy_from_slice(wire.name),
        version: Version(wire.version),
        access: Access { reads: wire.reads, writes: wire.writes },
        held: match wire.held {
            WireHeld::Inline(value) => Held::Inline(Bytes::copy_from_slice(value)),
            WireHeld::Staged { size, digest: d } => Held::Staged { size, digest: digest(d) },
            WireHeld::At { handover: h, size, digest: d, class } => {
                Held::At(Remote { handover: handover(h), size, digest: digest(d), class: class.into() })
            }
            WireHeld::Lost => Held::Lost,
        },
    };
    ManifestKey {
        name: Bytes::copy_from_slice(wire.name),
        layout: wire.layout.into(),
        kind: wire.kind.into(),
        expires_at_ms: wire.expires_at_ms,
        entries: wire.entries.0.into_iter().map(entry).collect(),
    }
}
