//! Commits and fences whose outcome is unknown, applied late.

use crate::clients::{long, value};
use crate::requests::Ask;
use crate::world::{RETRY_US, STAGE_US, World};
use wayfarer_engine::ids::Incarnation;

fn all_there(w: &mut World, who: Incarnation) {
    assert_eq!(w.answerers(), [who]);
    assert_eq!(w.owner(), Some(who));
    assert_eq!(w.read(who, "carried"), value('c'));
    if w.read(who, "deferred") != value('d') {
        let origin = w.record().depends[0].origin;
        w.fetch(who, origin, "deferred");
    }
    assert_eq!(w.read(who, "deferred"), value('d'));
}

/// The target has sent its commit twice without an outcome; the first is still under way; the origin begins to fence.
fn in_doubt() -> (World, [Incarnation; 2], [crate::requests::Request; 3]) {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let first = w.stage(a, b);
    w.lose(first);
    w.pass(STAGE_US);
    let (second, fence) = (w.asked(b, Ask::Commit), w.asked(a, Ask::Again));
    assert_ne!(first, second);
    assert_eq!(w.answerers(), []);
    (w, [a, b], [first, second, fence])
}

#[test]
pub fn a_commit_that_comes_after_the_fence_is_refused() {
    let (mut w, [a, b], [first, second, fence]) = in_doubt();
    assert!(w.answer(fence));
    assert_eq!(w.answerers(), [a]);
    assert!(!w.apply(first), "the late one");
    assert!(!w.answer(second));
    assert_eq!(w.gate(b), None);
    w.deliver(a, b, "Abort");
    w.deliver(b, a, "Promised");
    all_there(&mut w, a);
    assert_eq!(w.letters(), 0);
}

#[test]
fn a_fence_that_comes_after_the_commit_is_refused() {
    let (mut w, [a, b], [first, second, fence]) = in_doubt();
    assert!(w.apply(first), "the late one, of which nobody knows");
    assert!(!w.answer(fence));
    assert_eq!((w.answerers(), w.gate(a)), (vec![], None), "the origin has left; the target does not know yet");
    assert!(!w.answer(second), "refused: but the record shows that an earlier try had won");
    all_there(&mut w, b);
}

#[test]
fn a_target_that_learns_first_answers_while_the_fence_is_on_its_way() {
    let (mut w, [a, b], [first, second, fence]) = in_doubt();
    assert!(w.apply(first));
    w.answer(second);
    assert_eq!(w.answerers(), [b]);
    w.write(b, "carried", long('c'));
    w.deliver(b, a, "Committed");
    assert_eq!(w.gate(a), None, "it need not wait for its fence");
    assert!(!w.answer(fence));
    all_there(&mut w, b);
}

#[test]
fn a_fence_of_unknown_outcome_is_sent_again_and_the_record_shows_that_the_first_one_won() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let commit = w.stage(a, b);
    w.pass(STAGE_US);
    let first = w.asked(a, Ask::Again);
    assert!(w.apply(first));
    w.lose(first);
    assert_eq!(w.answerers(), [], "it has won, but the origin cannot know");
    w.pass(RETRY_US);
    let second = w.asked(a, Ask::Again);
    assert!(!w.answer(second), "the epoch that it compares is no more: the record is under that of the first");
    all_there(&mut w, a);
    assert!(!w.answer(commit));
    all_there(&mut w, a);
    w.hand_over(a, b);
    all_there(&mut w, b);
}

#[test]
fn a_fence_of_unknown_outcome_that_comes_last_of_all_changes_nothing() {
    for fence_wins in [true, false] {
        let (mut w, [a, b]) = World::start();
        w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
        let commit = w.stage(a, b);
        w.pass(STAGE_US);
        let first = w.asked(a, Ask::Again);
        w.lose(first);
        w.pass(RETRY_US - 1);
        assert_eq!(w.open_request(a, Ask::Again), None, "not before a pause");
        w.pass(1);
        let second = w.asked(a, Ask::Again);
        assert!(if fence_wins { w.answer(second) } else { w.answer(commit) });
        let record = w.record();
        assert!(!w.apply(first));
        assert_eq!(w.record(), record);
        if !fence_wins {
            assert!(!w.answer(second));
        }
        all_there(&mut w, if fence_wins { a } else { b });
    }
}

#[test]
fn a_settlement_of_unknown_outcome_is_tried_again() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let handover = w.hand_over(a, b);
    w.fetch(b, a, "deferred");
    let first = w.asked(b, Ask::Settle);
    w.apply(first);
    w.lose(first);
    assert!(w.life(a).node.keeps(handover) && !w.has_letter(b, a, "Confirm"));
    w.pass(RETRY_US);
    let second = w.asked(b, Ask::Settle);
    assert!(w.answer(second), "it compares and keeps the same epoch");
    w.deliver(b, a, "Confirm");
    assert!(!w.life(a).node.keeps(handover));
    all_there(&mut w, b);
}

#[test]
fn a_settlement_that_meets_a_fence_leaves_no_handover_in_the_record_that_nobody_keeps() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let first = w.hand_over(a, b);
    w.fetch(b, a, "deferred");
    let settle = w.asked(b, Ask::Settle);
    w.apply(settle);
    let commit = w.stage(b, c);
    w.pass(STAGE_US);
    // The fence carries what the session depended on when it was sent; the answer to the settlement comes after that.
    let fence = w.asked(b, Ask::Again);
    w.answer(settle);
    assert!(!w.has_letter(b, a, "Confirm"), "not while the record may name it again");
    assert!(w.answer(fence));
    assert_eq!(w.record().depends, [first]);
    w.pass(RETRY_US);
    let settle = w.asked(b, Ask::Settle);
    w.answer(settle);
    w.pass(RETRY_US);
    assert_eq!((w.record().depends, w.life(b).node.status().dependents), (vec![], 0));
    w.deliver(b, a, "Confirm");
    assert!(!w.life(a).node.keeps(first));
    assert!(!w.answer(commit));
    all_there(&mut w, b);
}
