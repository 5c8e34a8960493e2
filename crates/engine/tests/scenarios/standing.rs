//! Leases, groups, and the drain.

use crate::clients::{Seen, long, value};
use crate::requests::Ask;
use crate::world::{LEASE, World, settings};
use wayfarer_engine::directory::MemberState;
use wayfarer_engine::ids::{SessionId, Ticket};
use wayfarer_engine::node::message::{Message, Rejection};
use wayfarer_engine::node::{Input, NodeSettings, Note, Purpose, Reason, Verdict};
use wayfarer_engine::residence::{Gate, Table};

const USABLE_US: u64 = LEASE.length_us - LEASE.margin_us;

#[test]
fn a_commit_into_a_group_that_was_lost_is_refused_and_the_origin_keeps_the_session() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let before = w.record();
    let commit = w.stage(a, b);
    // The target is only slow; it was declared dead all the same.
    w.feed(a, Input::Probed { incarnation: b, dead: true });
    let death = w.asked(a, Ask::Death);
    w.answer(death);
    assert!(!w.answer(commit));
    assert_eq!(w.gate(b), None);
    w.deliver(b, a, "Promised");
    assert_eq!((w.answerers(), w.record()), (vec![a], before));
    assert_eq!(["carried", "deferred"].map(|f| w.read(a, f)), ['c', 'd'].map(value));
}

#[test]
pub fn a_commit_from_a_group_that_was_lost_is_refused() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    let commit = w.stage(a, b);
    w.kill(a);
    w.bury(c, a);
    assert!(!w.answer(commit));
    assert_eq!((w.gate(b), w.answerers(), w.owner()), (None, vec![], None));
}

#[test]
pub fn a_renewal_that_is_answered_late_counts_from_its_sending() {
    let (mut w, [a]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.renew_by_hand = true;
    w.pass(LEASE.length_us / 4);
    let renewal = w.asked(a, Ask::Renew);
    let sent_us = w.now.boot_us;
    assert!(w.apply(renewal));
    w.wait(1_000_000);
    w.answer(renewal);
    assert_eq!(w.life(a).lease_until_us, sent_us + USABLE_US);
    w.wait(USABLE_US - 1_000_000 - 1);
    assert_eq!(w.answerers(), [a]);
    w.wait(1);
    assert_eq!((w.answerers(), w.read(a, "carried")), (vec![], Seen::NoAnswer), "no lease, no answer");
}

#[test]
fn a_renewal_that_is_answered_after_the_lease_gives_none() {
    let (mut w, [a]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.renew_by_hand = true;
    w.pass(LEASE.length_us / 4);
    let first = w.asked(a, Ask::Renew);
    w.wait(USABLE_US);
    w.answer(first);
    assert_eq!(w.answerers(), []);
    w.pass(LEASE.length_us / 4);
    let next = w.asked(a, Ask::Renew);
    w.answer(next);
    assert_eq!((w.answerers(), w.read(a, "carried")), (vec![a], value('c')), "nobody has taken it meanwhile");
}

#[test]
fn a_node_that_was_declared_dead_answers_nothing_and_lets_nobody_wait() {
    let (mut w, [a, b]) = World::start();
    w.renew_by_hand = true;
    w.bear(b, &[("carried", long('c'))]);
    w.feed(a, Input::Probed { incarnation: b, dead: true });
    w.pass(USABLE_US + LEASE.length_us);
    assert_eq!(w.answerers(), [], "its lease has passed before anybody may take its sessions");
    let death = w.asked(a, Ask::Death);
    w.answer(death);
    let renewal = w.asked(b, Ask::Renew);
    assert!(!w.answer(renewal), "its renewals fail for ever");
    assert!(w.life(b).fenced);
    let ticket = w.locate(b, Purpose::Read);
    assert_eq!(w.verdict(ticket), Some(Verdict::TryAgain(Reason::Taken)));
    assert_eq!(w.look_up(a, Purpose::Read), Verdict::Absent);
}

#[test]
fn a_node_without_a_lease_gives_and_takes_nothing() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.propose(a, b);
    w.renew_by_hand = true;
    w.wait(USABLE_US + LEASE.length_us);
    w.deliver(a, b, "Propose");
    let rejection = w.take(b, a, "Reject");
    assert!(matches!(rejection.message, Message::Reject { reason: Rejection::NotAccepting, .. }));
    w.hand(rejection);
    w.propose(a, b);
    assert_eq!((w.letters(), w.gate(a)), (0, Some(Gate::Open)));
}

#[test]
fn a_cordoned_member_takes_no_sessions_and_keeps_its_own() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.feed(b, Input::Cordon(true));
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Reject");
    w.feed(a, Input::Cordon(true));
    w.pass(100_000);
    assert_eq!((w.answerers(), w.letters()), (vec![a], 0));
}

#[test]
fn a_drain_is_complete_when_nothing_depends_on_the_node_any_more() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    w.feed(a, Input::Drain);
    let state = w.asked(a, Ask::State);
    w.answer(state);
    w.show(a);
    w.pass(5_000);
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Accept");
    w.deliver(a, b, "PreCopy");
    w.deliver(b, a, "PreCopied");
    w.deliver(a, b, "Stage");
    let commit = w.asked(b, Ask::Commit);
    w.answer(commit);
    w.deliver(b, a, "Committed");
    let handover = w.record().last.unwrap();
    w.pass(100_000);
    assert_eq!((w.gate(a), w.life(a).drained), (None, false), "it holds what the new owner has not fetched");
    assert!(!w.has_letter(b, a, "Fetch"), "who does not know of the drain does not hurry");

    w.show(b);
    w.pass(5_000);
    w.deliver(b, a, "Fetch");
    w.deliver(a, b, "Fetched");
    assert_eq!(w.read(b, "deferred"), value('d'));
    let settle = w.asked(b, Ask::Settle);
    w.answer(settle);
    w.pass(5_000);
    assert!(!w.life(a).drained && w.life(a).node.keeps(handover), "not before it is confirmed");
    w.deliver(b, a, "Confirm");
    w.pass(5_000);
    assert!(w.life(a).drained);
}

#[test]
fn a_node_that_has_left_is_not_surprised_to_be_gone() {
    let (mut w, [a, b]) = World::start();
    w.feed(a, Input::Drain);
    let state = w.asked(a, Ask::State);
    w.answer(state);
    w.show(a);
    w.pass(5_000);
    assert!(w.life(a).drained, "it had nothing");
    w.renew_by_hand = true;
    w.pass(LEASE.length_us / 4);
    let renewal = w.asked(a, Ask::Renew);
    w.feed(a, Input::Leave);
    let leave = w.asked(a, Ask::Leave);
    assert!(w.answer(leave));
    assert!(!w.book.view.members.contains_key(&a));
    assert!(!w.answer(renewal), "it was on its way");
    w.show_all();
    w.pass(LEASE.length_us / 2);
    assert_eq!(w.open_request(a, Ask::Renew), None, "it renews no more");
    assert!(!w.life(a).fenced, "so nobody registers it again");
    assert_eq!(w.life(a).node.status().state, MemberState::Draining);
    assert_eq!(w.look_up(b, Purpose::Read), Verdict::Absent);
    let ticket: Ticket = w.locate(a, Purpose::Create);
    assert_eq!(w.verdict(ticket), None, "it asks the directory, as ever");
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    assert_eq!(w.verdict(ticket), Some(Verdict::At(b)), "and sends the client on");
}

#[test]
fn a_session_that_could_not_leave_a_draining_node_is_tried_again() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.feed(a, Input::Drain);
    w.pass(5_000);
    drop(w.take(a, b, "Propose"));
    w.pass(2 * crate::world::PROPOSE_US);
    w.deliver(a, b, "Abort");
    assert_eq!(w.answerers(), [a]);
    assert!(w.has_letter(a, b, "Propose") && !w.life(a).drained);
}

#[test]
fn when_the_time_of_a_drain_is_over_what_is_on_its_way_arrives_and_nothing_else_begins() {
    let (mut w, [a, b]) = World::start_with(NodeSettings { at_once_max: 1, ..settings() });
    w.bear(a, &[("carried", long('c'))]);
    w.session = SessionId::copy_of(b"2");
    w.bear(a, &[("carried", long('d'))]);
    w.feed(a, Input::Drain);
    w.pass(5_000);
    let offered = w.take(a, b, "Propose");
    let Message::Propose { session, .. } = &offered.message else { panic!("a proposal") };
    w.session = session.clone();
    w.feed(a, Input::DrainOver);
    assert_eq!(w.life(a).node.status().handovers_out, 1, "it is not broken off");
    w.hand(offered);
    w.deliver(b, a, "Accept");
    w.deliver(a, b, "PreCopy");
    w.deliver(b, a, "PreCopied");
    w.deliver(a, b, "Stage");
    let commit = w.asked(b, Ask::Commit);
    w.answer(commit);
    w.deliver(b, a, "Committed");
    (0..40).for_each(|_| w.pass(5_000));
    let status = w.life(a).node.status();
    assert_eq!((status.handovers_out, status.handovers_queued), (0, 0));
    assert_eq!((Table::count(&w.life(a).table), w.answerers()), (1, vec![b]), "the other one stays, and can be named");
    assert!(!w.has_letter(a, b, "Propose"));
    w.session = SessionId::copy_of(if w.session.0.as_ref() == b"1" { b"2" } else { b"1" });
    w.propose(a, b);
    assert!(!w.has_letter(a, b, "Propose"), "nor does it follow its clients any more");
}

#[test]
fn a_drain_looks_at_its_sessions_now_and_then_and_not_at_all_without_a_lease() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.feed(a, Input::Drain);
    // Nobody answers, so each round ends with nothing moved.
    let before = w.life(a).table.looks.get();
    (0..20).for_each(|_| w.pass(5_000));
    let with_a_lease = w.life(a).table.looks.get() - before;
    assert!((1..=5).contains(&with_a_lease), "{with_a_lease} looks at all sessions in 100 ms");
    w.renew_by_hand = true;
    w.wait(USABLE_US + LEASE.length_us);
    w.pass(5_000);
    let before = w.life(a).table.looks.get();
    w.pass(100_000);
    assert_eq!(w.life(a).table.looks.get(), before, "what could not start is not queued");
    let letters = w.letters();
    let renewal = w.asked(a, Ask::Renew);
    w.answer(renewal);
    w.pass(30_000);
    drop(w.take(a, b, "Propose"));
    assert!(w.letters() >= letters, "the lease is back, and the drain goes on");
}

#[test]
fn a_node_that_has_asked_to_leave_bears_no_session_even_if_nobody_else_would() {
    let (mut w, [a]) = World::start();
    w.feed(a, Input::Drain);
    w.pass(5_000);
    assert!(w.life(a).drained);
    w.feed(a, Input::Leave);
    let leave = w.asked(a, Ask::Leave);
    w.lose(leave);
    assert_eq!(w.look_up(a, Purpose::Create), Verdict::TryAgain(Reason::NoOwner), "it would be lost when the leave is applied");
    assert!(w.apply(leave));
}

#[test]
fn the_last_member_that_drains_bears_nothing_and_its_sessions_can_be_read() {
    let (mut w, [a]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.feed(a, Input::Drain);
    // A view comes late, so it takes a while to know that there is nobody else.
    (0..60).for_each(|_| w.pass(5_000));
    assert_eq!((w.read(a, "carried"), w.life(a).drained), (value('c'), false));
    w.session = SessionId::copy_of(b"2");
    assert_eq!(w.look_up(a, Purpose::Create), Verdict::TryAgain(Reason::NoOwner));
    assert_eq!(w.look_up(a, Purpose::Read), Verdict::Absent);
    w.session = SessionId::copy_of(b"1");
    assert_eq!(w.read(a, "carried"), value('c'));
}

#[test]
fn readers_of_what_does_not_exist_do_not_hold_a_drain_up() {
    let (mut w, [a, _b]) = World::start();
    w.session = SessionId::copy_of(b"2");
    let readers = [w.locate(a, Purpose::Read), w.locate(a, Purpose::Read)];
    w.feed(a, Input::Drain);
    w.pass(5_000);
    assert!(w.life(a).drained);
    for reader in readers {
        let read = w.asked(a, Ask::Read);
        w.answer(read);
        assert_eq!(w.verdict(reader), Some(Verdict::Absent));
    }
}

#[test]
fn a_birth_on_its_way_holds_a_drain_up() {
    let (mut w, [a, _b]) = World::start();
    let ticket = w.locate(a, Purpose::Create);
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    w.feed(a, Input::Drain);
    w.pass(5_000);
    assert!(!w.life(a).drained);
    let birth = w.asked(a, Ask::Birth);
    w.answer(birth);
    assert_eq!(w.verdict(ticket), Some(Verdict::Here));
}

#[test]
fn no_more_sessions_are_adopted_at_once_than_may_leave_at_once() {
    let (mut w, [a, b]) = World::start_with(NodeSettings { at_once_max: 1, ..settings() });
    w.bear(a, &[("carried", long('c'))]);
    w.propose(a, b);
    w.session = SessionId::copy_of(b"2");
    w.bear(a, &[("carried", long('d'))]);
    w.propose(a, b);
    assert_eq!((w.letters(), w.life(a).node.status().handovers_out), (1, 1));
    assert!(w.life(a).notes.contains(&Note::AdoptionSkipped));
    drop(w.take(a, b, "Propose"));
    w.pass(2 * crate::world::PROPOSE_US);
    w.propose(a, b);
    assert!(w.has_letter(a, b, "Propose"), "a later arrival says it again");
}

#[test]
fn a_member_is_looked_after_once_at_a_time() {
    let (mut w, [a, b]) = World::start();
    let probes = |w: &World| w.life(a).probes;
    for _ in 0..10 {
        w.feed(a, Input::Unreachable(b));
    }
    assert_eq!(probes(&w), 1);
    w.feed(a, Input::Probed { incarnation: b, dead: false });
    w.feed(a, Input::Unreachable(b));
    assert_eq!(probes(&w), 2);
}

#[test]
fn a_session_that_was_lost_with_its_node_is_told_once() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.kill(a);
    w.bury(b, a);
    for _ in 0..3 {
        assert_eq!(w.look_up(b, Purpose::Read), Verdict::Absent);
    }
    let lost = Note::SessionLost(w.session.clone());
    assert_eq!(w.life(b).notes.iter().filter(|n| **n == lost).count(), 1);
    let writer = w.locate(b, Purpose::Create);
    let read = w.asked(b, Ask::Read);
    w.answer(read);
    let birth = w.asked(b, Ask::Again);
    w.answer(birth);
    assert_eq!((w.verdict(writer), w.read(b, "carried")), (Some(Verdict::Here), Seen::Nil));
}
