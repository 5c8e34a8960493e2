//! The target or the origin dies on the way.

use crate::clients::{Seen, long, value};
use crate::requests::Ask;
use crate::world::{FETCH_US, PROPOSE_US, RETRY_US, STAGE_US, SWEEP_US, World};
use wayfarer_engine::node::message::Message;
use wayfarer_engine::node::{Input, Note, Purpose, Reason, Verdict};
use wayfarer_engine::residence::Gate;

fn three() -> [(&'static str, bytes::Bytes); 3] {
    [("carried", long('c')), ("streamed", long('s')), ("deferred", long('d'))]
}

#[test]
fn a_target_that_never_answers_costs_the_origin_nothing() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &three());
    w.kill(b);
    w.propose(a, b);
    w.pass(PROPOSE_US);
    assert_eq!(w.answerers(), [a]);
    assert_eq!(w.life(a).node.status().handovers_out, 0);
    assert_eq!(w.gate(a), Some(Gate::Open));
}

#[test]
pub fn a_target_that_dies_between_staging_and_commit_leaves_everything_with_the_origin() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &three());
    let late_commit = w.stage(a, b);
    w.kill(b);
    w.pass(STAGE_US - 1);
    assert_eq!((w.answerers(), w.open_request(a, Ask::Again)), (vec![], None), "in doubt nobody answers");
    w.pass(1);
    let fence = w.asked(a, Ask::Again);
    assert_eq!(w.answerers(), [], "nor while the fence is under way");
    assert!(w.answer(fence));
    assert_eq!(w.answerers(), [a]);
    assert_eq!(["carried", "streamed", "deferred"].map(|f| w.read(a, f)), ['c', 's', 'd'].map(value));

    let fenced = w.record();
    w.write(a, "carried", long('C'));
    assert!(!w.apply(late_commit), "the commit of the dead target compares an epoch that is no more");
    assert_eq!((w.record(), w.answerers()), (fenced, vec![a]));
    assert_eq!(w.read(a, "carried"), value('C'));
}

#[test]
pub fn a_session_that_was_committed_to_a_target_that_died_is_not_answered_for_by_the_origin() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &three());
    let commit = w.stage(a, b);
    assert!(w.apply(commit));
    let handover = w.record().last.unwrap();
    w.kill(b);
    w.pass(STAGE_US);
    let fence = w.asked(a, Ask::Again);
    assert!(!w.answer(fence), "the commit had won");
    assert_eq!((w.answerers(), w.gate(a)), (vec![], None));
    assert!(w.life(a).node.keeps(handover), "the target might live, and fetch");
    assert_eq!(w.look_up(a, Purpose::Read), Verdict::At(b), "it is the target's, dead or not");

    w.bury(a, b);
    assert_eq!(w.look_up(a, Purpose::Read), Verdict::Absent, "without a replica the session died with its owner");
    w.pass(SWEEP_US);
    let sweep = w.asked(a, Ask::Read);
    w.answer(sweep);
    assert!(!w.life(a).node.keeps(handover), "nobody will ask for it any more");
    let again = w.locate(a, Purpose::Create);
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    let birth = w.asked(a, Ask::Again);
    w.answer(birth);
    assert_eq!((w.verdict(again), w.read(a, "carried")), (Some(Verdict::Here), Seen::Nil), "a new session under the old id");
}

#[test]
fn an_origin_that_dies_after_the_commit_takes_only_what_was_not_carried() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &three());
    let commit = w.stage(a, b);
    w.apply(commit);
    w.kill(a);
    w.answer(commit);
    assert_eq!((w.answerers(), w.read(b, "carried")), (vec![b], value('c')));

    for _ in 0..2 {
        let reader = w.need(b, "deferred");
        assert_eq!(w.verdict(reader), None);
        w.pass(FETCH_US);
        assert_eq!(w.verdict(reader), Some(Verdict::TryAgain(Reason::Holder)), "a clear error, not an old or empty value");
        assert_eq!(w.read(b, "deferred"), Seen::Elsewhere, "not lost: the holder may only be slow");
    }
    w.bury(c, a);
    let reader = w.need(b, "deferred");
    assert_eq!(w.verdict(reader), Some(Verdict::Fetched), "nobody to wait for");
    assert_eq!((w.read(b, "deferred"), w.read(b, "streamed")), (Seen::Lost, Seen::Lost));
    assert_eq!(w.life(b).notes.iter().filter(|n| **n == Note::Lost).count(), 2, "declared, and counted");
    assert_eq!(w.read(b, "carried"), value('c'));
    w.write(b, "deferred", long('D'));
    assert_eq!(w.read(b, "deferred"), value('D'), "an overwrite cures");

    w.pass(RETRY_US);
    let settle = w.asked(b, Ask::Settle);
    w.answer(settle);
    assert_eq!(w.record().depends, [], "nothing depends on the dead");
    w.hand_over(b, c);
    assert_eq!(w.read(c, "streamed"), Seen::Lost, "a lost variable stays lost where the session goes");
}

/// Its process was not running: the answer has come, but is heard after the tick.
#[test]
fn a_reader_does_not_blame_the_holder_for_what_its_own_node_overslept() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &three());
    w.hand_over(a, b);
    let reader = w.need(b, "deferred");
    w.deliver(b, a, "Fetch");
    w.deliver(b, a, "Fetch");
    w.wait(10 * FETCH_US);
    w.feed(b, Input::Tick);
    assert_eq!(w.verdict(reader), None);
    w.deliver(a, b, "Fetched");
    w.deliver(a, b, "Fetched");
    assert_eq!((w.verdict(reader), w.read(b, "deferred")), (Some(Verdict::Fetched), value('d')));
    // A reader that nobody answers while its node runs waits no longer for it.
    w.hand_over(b, c);
    let reader = w.need(c, "deferred");
    w.wait(10 * FETCH_US);
    w.feed(c, Input::Tick);
    assert_eq!(w.verdict(reader), None);
    w.pass(FETCH_US);
    assert_eq!(w.verdict(reader), Some(Verdict::TryAgain(Reason::Holder)));
}

#[test]
fn a_holder_that_lives_and_is_slow_is_waited_for_and_a_silent_one_is_not() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &three());
    let handover = w.hand_over(a, b);
    let reader = w.need(b, "deferred");
    let speak = |w: &mut World| w.feed(b, Input::Message { from: a, message: Message::Confirm { handover } });
    for _ in 0..10 {
        w.pass(FETCH_US / 2);
        speak(&mut w);
        assert_eq!(w.verdict(reader), None);
    }
    w.pass(FETCH_US);
    assert_eq!(w.verdict(reader), Some(Verdict::TryAgain(Reason::Holder)), "silent for as long as a reader has patience");
    // Not for ever, though it speaks.
    let reader = w.need(b, "deferred");
    for _ in 0..40 {
        w.pass(FETCH_US / 2);
        speak(&mut w);
    }
    w.pass(FETCH_US / 2);
    assert_eq!(w.verdict(reader), Some(Verdict::TryAgain(Reason::Holder)));
}

#[test]
fn an_answer_of_the_holder_that_comes_after_the_readers_patience_is_used() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &three());
    let handover = w.hand_over(a, b);
    let reader = w.need(b, "deferred");
    // The stream was first; both are under way.
    w.deliver(b, a, "Fetch");
    w.deliver(b, a, "Fetch");
    w.pass(FETCH_US);
    assert_eq!(w.verdict(reader), Some(Verdict::TryAgain(Reason::Holder)));
    w.deliver(a, b, "Fetched");
    w.deliver(a, b, "Fetched");
    assert_eq!((w.read(b, "streamed"), w.read(b, "deferred")), (value('s'), value('d')));
    assert!(w.life(a).node.keeps(handover));
}

#[test]
fn an_origin_that_dies_before_the_commit_takes_the_session_with_it() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &three());
    let commit = w.stage(a, b);
    w.kill(a);
    w.bury(c, a);
    assert!(!w.answer(commit), "the group of the origin has no owner any more");
    assert_eq!((w.answerers(), w.owner(), w.gate(b)), (vec![], None, None));
    assert_eq!(w.look_up(c, Purpose::Read), Verdict::Absent);
}
