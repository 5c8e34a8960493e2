//! Messages that are lost, late, twice, or out of order.

use crate::clients::{long, value};
use crate::requests::Ask;
use crate::world::{PROPOSE_US, STAGE_US, World};
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::node::message::{Message, Rejection};
use wayfarer_engine::residence::Gate;

fn start() -> (World, [Incarnation; 2]) {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c')), ("streamed", long('s')), ("deferred", long('d'))]);
    (w, [a, b])
}

fn nothing_under_way(w: &World, who: &[Incarnation]) {
    for who in who {
        let status = w.life(*who).node.status();
        assert_eq!((status.handovers_out, status.handovers_in), (0, 0));
    }
}

#[test]
fn a_fetch_tells_of_a_commit_whose_message_was_lost() {
    let (mut w, [a, b]) = start();
    let commit = w.stage(a, b);
    w.answer(commit);
    drop(w.take(b, a, "Committed"));
    assert_eq!(w.gate(a).map(|g| matches!(g, Gate::Frozen(_))), Some(true));
    w.deliver(b, a, "Fetch");
    assert_eq!(w.gate(a), None, "only a session that has opened there has anything to fetch");
    w.deliver(a, b, "Fetched");
    assert_eq!((w.answerers(), w.read(b, "streamed")), (vec![b], value('s')));
    w.pass(STAGE_US);
    assert_eq!(w.open_request(a, Ask::Again), None, "no doubt is left");
}

#[test]
fn a_promise_during_the_fence_waits_for_the_fence() {
    let (mut w, [a, b]) = start();
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Accept");
    w.deliver(a, b, "PreCopy");
    w.deliver(b, a, "PreCopied");
    drop(w.take(a, b, "Stage"));
    w.pass(STAGE_US);
    let fence = w.asked(a, Ask::Again);
    w.deliver(b, a, "Promised");
    assert_eq!(w.answerers(), [], "under which epoch to answer, only the fence tells");
    assert!(w.answer(fence));
    assert_eq!((w.answerers(), w.read(a, "deferred")), (vec![a], value('d')));
    w.deliver(a, b, "Abort");
    assert_eq!(w.letters(), 0);
    nothing_under_way(&w, &[a, b]);
}

#[test]
fn a_promise_opens_a_frozen_session_at_once_under_its_old_epoch() {
    let (mut w, [a, b]) = start();
    let before = w.record();
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Accept");
    w.deliver(a, b, "PreCopy");
    w.deliver(b, a, "PreCopied");
    let stage = w.take(a, b, "Stage");
    w.pass(4 * PROPOSE_US);
    assert_eq!(w.answerers(), []);
    w.deliver(b, a, "Promised");
    assert_eq!((w.answerers(), w.record()), (vec![a], before), "the directory was not needed");
    w.hand(stage);
    assert_eq!(w.open_request(b, Ask::Commit), None, "a stage that comes after the promise is not committed");
    w.deliver(b, a, "Promised");
    assert_eq!((w.answerers(), w.letters()), (vec![a], 0));
    nothing_under_way(&w, &[a, b]);
}

#[test]
fn an_abort_that_overtakes_its_proposal_leaves_nothing_behind() {
    let (mut w, [a, b]) = start();
    w.propose(a, b);
    let proposal = w.take(a, b, "Propose");
    w.pass(PROPOSE_US);
    w.deliver(a, b, "Abort");
    assert_eq!(w.letters(), 0, "nothing is known of it, so there is nothing to say");
    w.hand(proposal);
    w.deliver(b, a, "Accept");
    w.deliver(a, b, "Abort");
    w.deliver(b, a, "Promised");
    assert_eq!((w.answerers(), w.letters()), (vec![a], 0));
    nothing_under_way(&w, &[a, b]);
}

#[test]
fn a_stage_of_a_handover_that_was_aborted_is_answered_with_a_promise() {
    let (mut w, [a, b]) = start();
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Accept");
    w.deliver(a, b, "PreCopy");
    w.deliver(b, a, "PreCopied");
    let stage = w.take(a, b, "Stage");
    w.pass(STAGE_US);
    drop(w.take(b, a, "Promised"));
    let fence = w.asked(a, Ask::Again);
    w.answer(fence);
    w.deliver(a, b, "Abort");
    w.hand(stage);
    assert_eq!(w.open_request(b, Ask::Commit), None);
    w.deliver(b, a, "Promised");
    assert_eq!((w.answerers(), w.read(a, "carried")), (vec![a], value('c')));
    nothing_under_way(&w, &[a, b]);
}

#[test]
fn an_abort_after_the_commit_was_sent_changes_nothing() {
    let (mut w, [a, b]) = start();
    let commit = w.stage(a, b);
    w.pass(STAGE_US);
    let fence = w.asked(a, Ask::Again);
    assert!(w.apply(commit));
    w.answer(fence);
    let handover = w.record().last.unwrap();
    w.hand(crate::world::Letter { from: a, to: b, message: Message::Abort { handover } });
    assert_eq!(w.letters(), 0, "no promise is given any more");
    w.answer(commit);
    assert_eq!(w.answerers(), [b]);
}

#[test]
fn messages_that_come_twice_or_from_strangers_change_nothing() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let commit = w.stage(a, b);
    w.apply(commit);
    let handover = w.record().last.unwrap();
    for message in [Message::Promised { handover }, Message::Committed { handover }, Message::Abort { handover }] {
        w.hand(crate::world::Letter { from: c, to: a, message: message.clone() });
        w.hand(crate::world::Letter { from: c, to: b, message });
    }
    assert_eq!((w.answerers(), w.gate(a)), (vec![], Some(Gate::Frozen(handover))));
    w.answer(commit);
    w.deliver(b, a, "Committed");
    for message in [Message::Promised { handover }, Message::Committed { handover }] {
        w.hand(crate::world::Letter { from: b, to: a, message });
    }
    assert_eq!((w.answerers(), w.life(a).node.keeps(handover), w.letters()), (vec![b], true, 0));
}

#[test]
fn a_session_whose_commit_is_under_way_is_not_accepted_again() {
    let (mut w, [a, b]) = start();
    let commit = w.stage(a, b);
    w.pass(STAGE_US);
    let fence = w.asked(a, Ask::Again);
    w.answer(fence);
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    let rejection = w.take(b, a, "Reject");
    assert!(matches!(rejection.message, Message::Reject { reason: Rejection::Busy, .. }));
    w.hand(rejection);
    assert!(!w.answer(commit));
    w.deliver(a, b, "Abort");
    w.hand_over(a, b);
    assert_eq!(w.read(b, "carried"), value('c'));
}

#[test]
fn a_second_proposal_takes_the_place_of_one_that_waits_for_its_stage() {
    let (mut w, [a, b]) = start();
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    drop(w.take(b, a, "Accept"));
    w.pass(PROPOSE_US);
    w.hand_over(a, b);
    // The abort and the promise of the first one come late.
    w.deliver(a, b, "Abort");
    w.deliver(b, a, "Promised");
    assert_eq!((w.answerers(), w.read(b, "carried")), (vec![b], value('c')));
    nothing_under_way(&w, &[a, b]);
}
