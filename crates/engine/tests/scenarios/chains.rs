//! Sessions that move on, or back, with variables still elsewhere.

use crate::clients::{Seen, long, value};
use crate::requests::Ask;
use crate::world::{RETRY_US, World, settings};
use bytes::Bytes;
use wayfarer_engine::ids::HandoverId;
use wayfarer_engine::node::message::Message;
use wayfarer_engine::node::{Input, NodeSettings, Note, Reason, Verdict};

#[test]
fn a_variable_that_was_left_two_moves_ago_is_fetched_from_where_it_is() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let first = w.hand_over(a, b);
    w.write(b, "deferred_too", long('e'));
    let second = w.hand_over(b, c);
    assert_eq!(w.record().depends, [first, second], "on the residuals of both");
    assert_eq!((w.read(c, "carried"), w.read(c, "deferred")), (value('c'), Seen::Elsewhere));

    w.fetch(c, a, "deferred");
    assert_eq!(w.read(c, "deferred"), value('d'));
    let settle = w.asked(c, Ask::Settle);
    w.answer(settle);
    assert_eq!(w.record().depends, [second], "what is still needed stays");
    w.deliver(c, a, "Confirm");
    assert!(!w.life(a).node.keeps(first) && w.life(b).node.keeps(second));

    w.fetch(c, b, "deferred_too");
    let settle = w.asked(c, Ask::Settle);
    w.answer(settle);
    w.deliver(c, b, "Confirm");
    assert_eq!((w.record().depends, w.read(c, "deferred_too")), (vec![], value('e')));
    assert!(!w.life(b).node.keeps(second));
}

#[test]
fn who_only_passed_a_variable_on_keeps_nothing_of_it() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let first = w.hand_over(a, b);
    let second = w.hand_over(b, c);
    assert_eq!(w.record().depends, [first]);
    assert!(!w.life(b).node.keeps(second));
    w.kill(b);
    w.fetch(c, a, "deferred");
    assert_eq!(w.read(c, "deferred"), value('d'), "the one in the middle is not needed");
}

#[test]
fn a_confirmation_of_a_former_owner_frees_nothing_that_is_needed() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let first = w.hand_over(a, b);
    let reader = w.need(b, "deferred");
    let late = w.take(b, a, "Fetch");
    let commit = w.stage(b, c);
    w.answer(commit);
    w.deliver(c, b, "Committed");
    w.hand(late);
    w.deliver(a, b, "Fetched");
    assert_eq!(w.verdict(reader), Some(Verdict::Fetched), "to try again, and to find that it has left");
    w.pass(RETRY_US);
    assert_eq!(w.open_request(b, Ask::Settle), None, "it is not its session any more");
    assert!(w.life(a).node.keeps(first));
    w.fetch(c, a, "deferred");
    assert_eq!(w.read(c, "deferred"), value('d'));
}

#[test]
fn a_frozen_session_does_not_ask_its_own_node_over_and_over_for_what_that_has_freed() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let first = w.hand_over(a, b);
    w.hand_over(b, a);
    assert_eq!(w.read(a, "deferred"), Seen::Elsewhere, "at this very node");
    let commit = w.stage(a, b);
    w.answer(commit);
    // The origin has not heard of the commit, and the new owner has all that it needs.
    w.fetch(b, a, "deferred");
    let settle = w.asked(b, Ask::Settle);
    w.answer(settle);
    w.deliver(b, a, "Confirm");
    assert!(!w.life(a).node.keeps(first));
    // What is at a node that drains is fetched soon, also by the node itself.
    w.feed(a, Input::Drain);
    let state = w.asked(a, Ask::State);
    w.answer(state);
    w.show(a);
    w.pass(10_000);
    w.deliver(b, a, "Committed");
    assert_eq!((w.gate(a), w.answerers()), (None, vec![b]));
}

#[test]
fn a_session_that_comes_back_finds_what_it_left_and_nothing_of_it_crosses() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c')), ("carried_too", long('e')), ("deferred", long('d'))]);
    let first = w.hand_over(a, b);
    w.write(b, "carried_too", long('E'));
    w.propose(b, a);
    w.deliver(b, a, "Propose");
    w.deliver(a, b, "Accept");
    let pre_copy = w.take(b, a, "PreCopy");
    let Message::PreCopy { values, .. } = &pre_copy.message else { panic!("a pre-copy") };
    let names: Vec<_> = values.0.iter().flat_map(|(_, v)| v).map(|(name, _)| name.as_ref()).collect();
    assert_eq!(names, [b"carried_too"], "only what has changed since it left");
    w.hand(pre_copy);
    w.deliver(a, b, "PreCopied");
    let stage = w.take(b, a, "Stage");
    assert!(matches!(&stage.message, Message::Stage { stage, .. } if stage.values.is_empty()));
    w.hand(stage);
    let commit = w.asked(a, Ask::Commit);
    w.answer(commit);
    w.deliver(a, b, "Committed");
    assert_eq!(["carried", "carried_too"].map(|f| w.read(a, f)), ['c', 'E'].map(value));

    assert_eq!((w.read(a, "deferred"), w.record().depends), (Seen::Elsewhere, vec![first]));
    let reader = w.need(a, "deferred");
    assert_eq!((w.verdict(reader), w.read(a, "deferred")), (Some(Verdict::Fetched), value('d')));
    assert_eq!(w.letters(), 0, "its holder is the node itself");
    let settle = w.asked(a, Ask::Settle);
    w.answer(settle);
    assert!(!w.life(a).node.keeps(first));
    assert_eq!((w.record().depends, w.letters()), (vec![], 0));
}

#[test]
fn what_the_target_had_when_it_was_asked_and_has_no_more_keeps_the_session_where_it_is() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let first = w.hand_over(a, b);
    w.fetch(b, a, "deferred");
    let settle = w.asked(b, Ask::Settle);
    w.propose(b, a);
    w.deliver(b, a, "Propose");
    // Settled and confirmed while the target's list of what it holds is on its way.
    w.answer(settle);
    w.deliver(b, a, "Confirm");
    assert!(!w.life(a).node.keeps(first));
    w.deliver(a, b, "Accept");
    w.deliver(b, a, "Stage");
    assert_eq!(w.open_request(a, Ask::Commit), None, "never a session without its carried values");
    assert!(!w.life(a).notes.contains(&Note::Mismatch), "and nothing is wrong");
    w.deliver(a, b, "Promised");
    assert_eq!(w.answerers(), [b]);
    assert_eq!(["carried", "deferred"].map(|f| w.read(b, f)), ['c', 'd'].map(value));
    w.hand_over(b, a);
    assert_eq!(w.read(a, "carried"), value('c'));
}

#[test]
fn a_value_that_does_not_match_its_manifest_is_never_shown() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("deferred", long('d')), ("deferred_too", long('e'))]);
    w.hand_over(a, b);
    for (field, forged) in [("deferred", long('x')), ("deferred_too", long('e').slice(1..))] {
        let reader = w.need(b, field);
        w.deliver(b, a, "Fetch");
        let mut answer = w.take(a, b, "Fetched");
        let Message::Fetched { values, .. } = &mut answer.message else { panic!("an answer") };
        *values = vec![Some(forged)];
        w.hand(answer);
        assert_eq!((w.verdict(reader), w.read(b, field)), (Some(Verdict::Fetched), Seen::Lost));
    }
    assert_eq!(w.life(b).notes.iter().filter(|n| **n == Note::Mismatch).count(), 2);
}

#[test]
fn a_stage_with_another_value_than_its_manifest_says_is_not_committed() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Accept");
    let mut pre_copy = w.take(a, b, "PreCopy");
    let Message::PreCopy { values, .. } = &mut pre_copy.message else { panic!("a pre-copy") };
    values.0[0].1[0].1 = long('x');
    w.hand(pre_copy);
    w.deliver(b, a, "PreCopied");
    w.deliver(a, b, "Stage");
    assert_eq!(w.open_request(b, Ask::Commit), None);
    assert!(w.life(b).notes.contains(&Note::Mismatch));
    w.deliver(b, a, "Promised");
    assert_eq!((w.answerers(), w.read(a, "carried")), (vec![a], value('c')));
}

#[test]
fn a_session_that_left_while_its_reader_waited_gives_the_reader_a_verdict() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    w.hand_over(a, b);
    let reader = w.need(b, "deferred");
    drop(w.take(b, a, "Fetch"));
    let second: HandoverId = w.hand_over(b, c);
    assert!(!w.life(b).node.keeps(second));
    w.pass(crate::world::FETCH_US);
    assert_eq!(w.verdict(reader), Some(Verdict::TryAgain(Reason::Holder)));
    w.fetch(c, a, "deferred");
    assert_eq!(w.read(c, "deferred"), value('d'));
}

#[test]
fn a_session_moves_on_and_on_although_the_residuals_of_all_are_full() {
    let (mut w, [a, b, c]) = World::start_with(NodeSettings { residual_bytes_max: 0, ..settings() });
    w.bear(a, &[("carried", long('c')), ("streamed", long('s')), ("deferred", long('d'))]);
    for (from, to) in [(a, b), (b, c), (c, a), (a, b)] {
        let handover = w.hand_over(from, to);
        assert_eq!(["carried", "streamed", "deferred"].map(|f| w.read(to, f)), ['c', 's', 'd'].map(value));
        assert!(w.record().depends.is_empty() && !w.life(from).node.keeps(handover));
    }
}

#[test]
fn what_one_message_does_not_hold_is_left_behind_also_when_residuals_are_full() {
    // The message holds the manifest and one of the values.
    let small = NodeSettings { residual_bytes_max: 0, frame_bytes_max: 1024 + 700 + 250, ..settings() };
    let (mut w, [a, b, c]) = World::start_with(small);
    w.bear(a, &[("deferred_1", long('1')), ("deferred_2", long('2')), ("deferred_3", long('3'))]);
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Accept");
    // All three are written anew after the pre-copy, so that they would have to cross with the stage.
    let mut copies = 0;
    while w.has_letter(a, b, "PreCopy") {
        w.deliver(a, b, "PreCopy");
        copies += 1;
    }
    for (field, c) in [("deferred_1", 'A'), ("deferred_2", 'B'), ("deferred_3", 'C')] {
        w.write(a, field, long(c));
    }
    for left in (0..copies).rev() {
        w.deliver(b, a, "PreCopied");
        assert_eq!(w.answerers().len(), usize::from(left > 0), "frozen when all of the pre-copy is staged");
    }
    w.deliver(a, b, "Stage");
    let commit = w.asked(b, Ask::Commit);
    w.answer(commit);
    w.deliver(b, a, "Committed");
    let first = w.record().last.unwrap();
    assert!(w.life(a).node.keeps(first) && w.life(a).notes.iter().any(|n| matches!(n, Note::Demoted(_))));
    w.hand_over(b, c);
    assert_eq!(w.record().depends[0], first, "passed on as it is");
    for (field, seen) in [("deferred_1", 'A'), ("deferred_2", 'B'), ("deferred_3", 'C')] {
        if w.read(c, field) == Seen::Elsewhere {
            w.fetch(c, a, field);
        }
        assert_eq!(w.read(c, field), value(seen));
    }
}

#[test]
fn a_session_with_a_value_that_no_message_holds_stays_where_it_can_be_read() {
    let (mut w, [a, b]) = World::start_with(NodeSettings { frame_bytes_max: 2000, ..settings() });
    w.bear(a, &[("deferred", Bytes::from(vec![b'x'; 2000]))]);
    w.propose(a, b);
    assert_eq!((w.letters(), w.answerers()), (0, vec![a]));
    assert!(w.life(a).notes.contains(&Note::Unsendable(w.session.clone())));
    w.write(a, "deferred", long('d'));
    w.propose(a, b);
    w.write(a, "deferred", Bytes::from(vec![b'x'; 2000]));
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Accept");
    assert_eq!(w.answerers(), [a], "it has grown since it was proposed");
    w.deliver(a, b, "Abort");
    assert_eq!((w.life(a).node.status().handovers_out, w.life(b).node.status().handovers_in), (0, 0));
}

#[test]
fn a_stage_that_was_not_sent_opens_the_session_at_once() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Accept");
    let copy = w.take(a, b, "PreCopy");
    let Some(Input::NotSent { handover, .. }) = Input::not_sent(&copy.message) else { panic!("a pre-copy") };
    w.hand(copy);
    w.deliver(b, a, "PreCopied");
    assert_eq!(w.answerers(), []);
    w.feed(a, Input::NotSent { handover, stage: false });
    assert_eq!(w.answerers(), [], "the stage is on its way for all that this says");
    let stage = w.take(a, b, "Stage");
    w.feed(a, Input::not_sent(&stage.message).unwrap());
    assert_eq!((w.answerers(), w.read(a, "carried")), (vec![a], value('c')));
    w.deliver(a, b, "Abort");
    assert_eq!(w.life(b).node.status().handovers_in, 0);
}

#[test]
fn an_answer_of_another_than_the_holder_is_not_heard() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &[("deferred", long('d'))]);
    w.hand_over(a, b);
    let reader = w.need(b, "deferred");
    w.deliver(b, a, "Fetch");
    let mut answer = w.take(a, b, "Fetched");
    let Message::Fetched { request, .. } = answer.message else { panic!("an answer") };
    assert!(request.0 > u64::from(u32::MAX), "another number than in any other life");
    w.feed(b, Input::Message { from: c, message: Message::Fetched { request, values: vec![None] } });
    assert_eq!((w.verdict(reader), w.read(b, "deferred")), (None, Seen::Elsewhere));
    answer.from = a;
    w.hand(answer);
    assert_eq!(w.read(b, "deferred"), value('d'));
}

#[test]
fn a_frozen_session_is_not_changed_by_the_death_of_a_holder() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    w.hand_over(a, b);
    let commit = w.stage(b, c);
    w.kill(a);
    w.bury(c, a);
    w.pass(10_000);
    assert!(!w.life(b).notes.contains(&Note::Lost), "its manifest says that it is with the dead");
    w.answer(commit);
    w.deliver(c, b, "Committed");
    w.pass(10_000);
    assert_eq!((w.read(c, "deferred"), w.read(c, "carried")), (Seen::Lost, value('c')));
    assert!(w.life(c).notes.contains(&Note::Lost));
}
