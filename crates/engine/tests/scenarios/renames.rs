//! A key becomes another session's: gates, the one step at rest, and its outcomes.

use crate::clients::{KEY, Seen, long, value};
use crate::requests::Ask;
use crate::rests::with_rest;
use crate::world::{RETRY_US, World};
use bytes::Bytes;
use wayfarer_engine::command::Target;
use wayfarer_engine::ids::{Incarnation, RequestId, SessionId, Ticket};
use wayfarer_engine::node::rename::Rename;
use wayfarer_engine::node::{Input, Note, Purpose, Reason, Verdict};
use wayfarer_engine::residence::Gate;
use wayfarer_engine::rest::change::{KeyChange, Stored, Swap};
use wayfarer_engine::session::Layout;

fn old() -> SessionId {
    SessionId::copy_of(b"1")
}

fn new() -> SessionId {
    SessionId::copy_of(b"2")
}

/// Whatever `look` sees of the other session.
fn of_new<R>(w: &mut World, look: impl FnOnce(&mut World) -> R) -> R {
    w.session = new();
    let seen = look(w);
    w.session = old();
    seen
}

fn rename(w: &mut World, who: Incarnation, if_none: bool) -> Ticket {
    w.last_ticket += 1;
    let ticket = Ticket(w.last_ticket);
    let target = Target { key: Bytes::from_static(KEY), layout: Layout::Hash, label: Bytes::new() };
    let rename = Rename { from: old(), source: target.clone(), to: new(), target, if_none };
    w.feed(who, Input::Rename { rename: Box::new(rename), ticket });
    ticket
}

fn gates(w: &mut World, who: Incarnation) -> [Option<Gate>; 2] {
    [w.gate(who), of_new(w, |w| w.gate(who))]
}

/// The oldest store of two sessions.
fn swap(w: &mut World) -> (Incarnation, RequestId, Swap) {
    w.swaps.remove(0)
}

fn tell(w: &mut World, swap: &(Incarnation, RequestId, Swap), stored: Option<Stored>) {
    w.feed(swap.0, Input::StoredBoth { request: swap.1, stored: stored.map(|one| [one; 2]) });
}

/// Two sessions that are loaded and written: one with a value, one that has just been claimed for it.
fn at_rest() -> (World, Incarnation) {
    let (mut w, [a]) = World::start_with(with_rest());
    w.put_at_rest("carried", long('c'));
    w.check_out(a);
    of_new(&mut w, |w| w.check_out(a));
    (w, a)
}

const OPEN: [Option<Gate>; 2] = [Some(Gate::Open); 2];
const CLOSED: [Option<Gate>; 2] = [Some(Gate::Renaming); 2];

#[test]
fn a_value_goes_over_at_once_where_nothing_rests() {
    let (mut w, [a]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    of_new(&mut w, |w| w.bear(a, &[("carried", long('o')), ("other", long('o'))]));
    let before = of_new(&mut w, |w| w.version(a, "carried"));
    let ticket = rename(&mut w, a, true);
    assert_eq!((w.verdict(ticket), w.read(a, "carried")), (Some(Verdict::NameTaken), value('c')));
    assert_eq!(gates(&mut w, a), OPEN);
    let ticket = rename(&mut w, a, false);
    assert_eq!((w.verdict(ticket), gates(&mut w, a)), (None, [Some(Gate::Ending), Some(Gate::Open)]));
    let (read, other, after) = of_new(&mut w, |w| (w.read(a, "carried"), w.read(a, "other"), w.version(a, "carried")));
    assert_eq!((read, other), (value('c'), Seen::Nil));
    assert!(after > before, "whoever watches the new name sees it");
    let end = w.asked(a, Ask::End);
    w.answer(end);
    assert_eq!((w.verdict(ticket), w.owner()), (Some(Verdict::Ended), None));
    assert!(w.life(a).notes.contains(&Note::Renamed(old(), new())));
    let ticket = rename(&mut w, a, false);
    assert_eq!(w.verdict(ticket), Some(Verdict::Here), "it is not here any more: look again");
}

#[test]
fn what_is_not_ready_changes_nothing() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("deferred", long('d'))]);
    let ticket = rename(&mut w, a, false);
    assert_eq!((w.verdict(ticket), w.gate(a)), (Some(Verdict::Here), Some(Gate::Open)), "the other session is not here");
    w.hand_over(a, b);
    of_new(&mut w, |w| w.bear(b, &[]));
    let ticket = rename(&mut w, b, false);
    assert_eq!((w.verdict(ticket), gates(&mut w, b)), (Some(Verdict::Here), OPEN), "a value is still elsewhere");
    w.fetch(b, a, "deferred");
    w.freeze(b, a);
    let ticket = rename(&mut w, b, false);
    assert_eq!(w.verdict(ticket), Some(Verdict::Parked), "it is leaving");
    assert_eq!(of_new(&mut w, |w| w.gate(b)), Some(Gate::Open));
}

#[test]
fn at_rest_both_halves_are_one_store_and_nobody_sees_either_before_it() {
    let (mut w, a) = at_rest();
    let ticket = rename(&mut w, a, false);
    assert_eq!((gates(&mut w, a), w.answerers()), (CLOSED, vec![]));
    let sent = swap(&mut w);
    assert_eq!((&sent.2.from, &sent.2.to), (&old(), &new()));
    assert!(matches!(sent.2.removal.keys[0].change, KeyChange::Gone));
    assert!(matches!(sent.2.arrival.keys[0].change, KeyChange::Whole(_)));
    assert_eq!(w.locate(a, Purpose::Read).0, ticket.0 + 1);
    assert_eq!(w.verdict(Ticket(ticket.0 + 1)), Some(Verdict::Parked));
    // A move that was proposed meanwhile comes to nothing.
    tell(&mut w, &sent, Some(Stored::Written));
    assert_eq!(gates(&mut w, a), [Some(Gate::Ending), Some(Gate::Open)]);
    assert_eq!(of_new(&mut w, |w| w.read(a, "carried")), value('c'));
    let end = w.asked(a, Ask::End);
    w.answer(end);
    assert_eq!(w.verdict(ticket), Some(Verdict::Ended));
    w.pass(100_000);
    assert!(w.swaps.is_empty());
}

#[test]
fn a_store_of_unknown_outcome_is_sent_again_until_it_is_known() {
    let (mut w, a) = at_rest();
    let ticket = rename(&mut w, a, false);
    let mut last = 0;
    for _ in 0..3 {
        let sent = swap(&mut w);
        assert!(sent.2.removal.sequence > last && sent.2.arrival.sequence > last, "a late one is refused by its sequence");
        last = sent.2.removal.sequence.max(sent.2.arrival.sequence);
        tell(&mut w, &sent, None);
        assert_eq!((gates(&mut w, a), w.verdict(ticket)), (CLOSED, None));
        w.pass(RETRY_US + 500_000);
    }
    // The upstream has answered with an error: an earlier one may have happened all the same.
    let sent = swap(&mut w);
    tell(&mut w, &sent, Some(Stored::Failed));
    assert_eq!((gates(&mut w, a), w.verdict(ticket)), (CLOSED, None));
    w.pass(RETRY_US + 1_000_000);
    let sent = swap(&mut w);
    tell(&mut w, &sent, Some(Stored::WrittenOver));
    assert_eq!(gates(&mut w, a), [Some(Gate::Ending), Some(Gate::Open)]);
}

#[test]
fn one_that_certainly_did_not_happen_leaves_both_as_they_were() {
    for (stored, reason) in [(Stored::Refused, Reason::Taken), (Stored::Failed, Reason::Refused)] {
        let (mut w, a) = at_rest();
        let ticket = rename(&mut w, a, false);
        let sent = swap(&mut w);
        tell(&mut w, &sent, Some(stored));
        assert_eq!((w.verdict(ticket), gates(&mut w, a)), (Some(Verdict::TryAgain(reason)), OPEN));
        assert_eq!(w.read(a, "carried"), value('c'));
        if stored == Stored::Failed {
            // Perhaps some of it is there: the old name is written whole, and nothing is left under the new one.
            w.pass(200_000);
            let mut changes = Vec::new();
            for _ in 0..2 {
                let store = w.asked(a, Ask::Store);
                changes.push(w.batch(store).keys[0].change.clone());
                w.answer(store);
            }
            assert!(changes.contains(&KeyChange::Gone) && changes.iter().any(|c| matches!(c, KeyChange::Whole(_))));
        }
    }
}

#[test]
fn it_waits_for_a_batch_that_is_under_way() {
    let (mut w, a) = at_rest();
    w.write(a, "critical", long('k'));
    w.pass(100_000);
    let store = w.asked(a, Ask::Store);
    let ticket = rename(&mut w, a, false);
    assert_eq!((gates(&mut w, a), w.swaps.len()), (CLOSED, 0));
    w.answer(store);
    let sent = swap(&mut w);
    tell(&mut w, &sent, Some(Stored::Written));
    let end = w.asked(a, Ask::End);
    w.answer(end);
    assert_eq!(w.verdict(ticket), Some(Verdict::Ended));
    assert_eq!(of_new(&mut w, |w| w.read(a, "critical")), value('k'));
}

#[test]
fn while_the_upstream_fails_it_is_declined_at_once() {
    let (mut w, a) = at_rest();
    w.write(a, "carried", long('x'));
    w.pass(100_000);
    let store = w.asked(a, Ask::Store);
    w.lose(store);
    let ticket = rename(&mut w, a, false);
    assert_eq!((w.verdict(ticket), gates(&mut w, a)), (Some(Verdict::TryAgain(Reason::Upstream)), OPEN));
    assert_eq!(w.read(a, "carried"), value('x'));
}
