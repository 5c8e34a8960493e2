//! Channels across the cluster: questions to all members, what happens to keys on its way to them, and who listens where.
//!
//! It never encodes for a client and keeps no subscription: [`crate::bus`] does. [`super::traffic`] brings what other members ask
//! and tell.
//!
//! | task | |
//! |---|---|
//! | [`spread`] | what happened here → the subscribers of this node and the members that listen |
//! | [`keep_told`] | what this node says of itself → members that have not heard it, until they have |
//!
//! Bounds: [`EVENTS_AT_ONCE`] and [`BYTES_AT_ONCE`] of one message. A member that does not answer is left out of a count, and told
//! again after [`AGAIN`].
//! Invariant: a member is told of events only after it has said that it listens.

use super::traffic;
use crate::bus::{Bus, question};
use crate::control::Control;
use crate::operations::Operations;
use crate::telemetry::names;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wayfarer_engine::command::Op;
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::wire::control::{ControlMessage, KeyEvent};
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::{Protocol, Reply, parse_integer};

/// Events of one message, at most.
const EVENTS_AT_ONCE: usize = 256;
/// Bytes of keys in one message, unless one key has more.
const BYTES_AT_ONCE: usize = 256 * 1024;
/// When a member that did not answer is told again.
const AGAIN: Duration = Duration::from_millis(500);
/// Names that one member answers with, at most.
const NAMES_MAX: usize = 1_000_000;
const UNFIT: &[u8] = b"-ERR wayfarer: the answers of the members do not fit together\r\n";

/// The answer of the whole cluster to a question of [`crate::bus::question`].
pub(super) async fn everywhere(operations: Arc<Operations>, op: Op, protocol: Protocol) -> Bytes {
    let bus = operations.bus().clone();
    let arguments = question::arguments(op.args()).unwrap_or_default();
    let Some((what, rest)) = arguments.split_first() else { return Bytes::from_static(UNFIT) };
    if what.as_ref() == b"classes" {
        let Some(classes) = rest.first().and_then(|text| question::classes(text)) else { return Bytes::from_static(UNFIT) };
        bus.until_told(bus.set_classes(classes)).await;
        return Bytes::from_static(b"+OK\r\n");
    }
    // Members are asked for their patterns, because one that two of them have counts once.
    let op = if what.as_ref() == b"numpat" { question::question([Bytes::from_static(b"patterns")]) } else { op.clone() };
    let own = question::arguments(op.args()).and_then(|arguments| bus.asked(None, arguments));
    let answers: Vec<Bytes> = own.into_iter().chain(ask_others(&operations, &op).await).collect();
    let mut out = BytesMut::new();
    let mut reply = Reply::new(&mut out, protocol);
    match what.as_ref() {
        b"publish" => reply.integer(answers.iter().filter_map(|answer| integer(answer)).sum()),
        b"numsub" => {
            let counts: Vec<Vec<i64>> = answers.iter().map(|answer| integers(answer)).collect();
            reply.array(rest.len().saturating_mul(2));
            for (at, channel) in rest.iter().enumerate() {
                reply.bulk(channel);
                reply.integer(counts.iter().filter_map(|counts| counts.get(at)).sum());
            }
        }
        b"channels" => {
            let names = names(&answers);
            reply.array(names.len());
            names.iter().for_each(|name| reply.raw(name));
        }
        _ => reply.count(names(&answers).len()),
    }
    out.freeze()
}

/// What the other members answer; those that do not are left out.
async fn ask_others(operations: &Arc<Operations>, op: &Op) -> Vec<Bytes> {
    let mut asking = JoinSet::new();
    for member in others(operations) {
        let (operations, op) = (operations.clone(), op.clone());
        asking.spawn(async move { operations.ask(member, &op).await });
    }
    asking.join_all().await.into_iter().flatten().filter(|answer| answer.first() != Some(&b'-')).collect()
}

fn others(operations: &Operations) -> BTreeSet<Incarnation> {
    let standing = operations.driver().standing();
    let standing = standing.borrow();
    standing.view.others(standing.me).map(|member| member.incarnation).collect()
}

fn integer(answer: &[u8]) -> Option<i64> {
    parse_integer(answer.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

fn integers(answer: &[u8]) -> Vec<i64> {
    elements(answer, NAMES_MAX).into_iter().flatten().filter_map(integer).collect()
}

/// Each name once, still as elements of a reply.
fn names(answers: &[Bytes]) -> BTreeSet<&[u8]> {
    answers.iter().flat_map(|answer| elements(answer, NAMES_MAX).unwrap_or_default()).collect()
}

/// Tells what happens to keys here. Runs until told to stop.
pub(super) async fn spread(bus: Arc<Bus>, control: Arc<Control>, mut stopping: watch::Receiver<bool>) {
    loop {
        let events = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            events = bus.news() => events,
        };
        metrics::counter!(names::EVENTS).increment(events.len() as u64);
        bus.tell(&events);
        for member in bus.interested() {
            for part in parts(&events) {
                let message = ControlMessage::Happened { events: part.to_vec() };
                if traffic::send(&control, member, message).is_err() {
                    metrics::counter!(names::EVENTS_DROPPED).increment(part.len() as u64);
                }
            }
        }
    }
}

/// Events in as few messages as may be.
fn parts(events: &[KeyEvent]) -> impl Iterator<Item = &[KeyEvent]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        let mut bytes = 0usize;
        let fits = rest.iter().take(EVENTS_AT_ONCE).take_while(|event| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(event.key.len()).saturating_add(1);
            first || bytes <= BYTES_AT_ONCE
        });
        let (part, behind) = rest.split_at(fits.count());
        rest = behind;
        (!part.is_empty()).then_some(part)
    })
}

/// Lets all members know what this node says of itself. Runs until told to stop.
pub(super) async fn keep_told(operations: Arc<Operations>, mut stopping: watch::Receiver<bool>) {
    let bus = operations.bus().clone();
    let (mut says, mut standing) = (bus.says(), operations.driver().standing());
    let mut heard: HashMap<Incarnation, u64> = HashMap::new();
    let mut me = operations.driver().me();
    loop {
        says.mark_unchanged();
        standing.mark_unchanged();
        if std::mem::replace(&mut me, operations.driver().me()) != operations.driver().me() {
            // In another life nobody knows this node.
            heard.clear();
        }
        let members = others(&operations);
        bus.keep(&members);
        heard.retain(|member, _| members.contains(member));
        let (number, said) = bus.said();
        let lacks = |heard: &HashMap<Incarnation, u64>| {
            members.iter().filter(|member| heard.get(member) != Some(&number)).copied().collect::<Vec<_>>()
        };
        let mut telling = JoinSet::new();
        for member in lacks(&heard) {
            let (operations, op) = (operations.clone(), question::said(said));
            telling.spawn(async move { (member, operations.ask(member, &op).await) });
        }
        let answers = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            answers = telling.join_all() => answers,
        };
        for (member, answer) in answers {
            if answer.is_some_and(|answer| answer.first() == Some(&b'+')) {
                heard.insert(member, number);
            }
        }
        let all_heard = lacks(&heard).is_empty();
        if all_heard {
            bus.set_told((!members.is_empty()).then_some(number));
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            changed = says.changed() => if changed.is_err() { return },
            changed = standing.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if !all_heard => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn events_go_in_bounded_parts_and_none_is_left_out() {
        let event = |bytes: usize| KeyEvent { database: 0, key: vec![b'k'; bytes].into(), name: Bytes::from_static(b"set") };
        let lengths = |events: &[KeyEvent]| parts(events).map(<[KeyEvent]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&vec![event(10); 600]), [256, 256, 88]);
        assert_eq!(lengths(&[event(BYTES_AT_ONCE * 2), event(10), event(BYTES_AT_ONCE), event(1)]), [1, 1, 1, 1]);
    }
}
