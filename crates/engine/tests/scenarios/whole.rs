//! One handover from its proposal to its last confirmation, and what its budgets do.

use crate::clients::{Seen, long, value};
use crate::requests::Ask;
use crate::world::{World, settings};
use bytes::Bytes;
use wayfarer_engine::node::{NodeSettings, Note, Purpose, Verdict};
use wayfarer_engine::residence::Gate;

#[test]
pub fn at_each_step_one_node_answers_and_between_freeze_and_open_nobody() {
    let (mut w, [a, b]) = World::start();
    let name = Bytes::from_static(b"ann");
    w.bear(
        a,
        &[
            ("carried", long('c')),
            ("streamed", long('s')),
            ("deferred", long('d')),
            ("dropped", long('x')),
            ("name", name.clone()),
        ],
    );
    let before = w.record();

    w.propose(a, b);
    assert_eq!(w.answerers(), [a]);
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Accept");
    assert_eq!(w.answerers(), [a], "it answers while carried values are copied ahead");
    w.write(a, "carried", long('C'));
    w.deliver(a, b, "PreCopy");
    assert_eq!(w.answerers(), [a]);

    w.deliver(b, a, "PreCopied");
    assert_eq!(w.answerers(), [], "frozen");
    let parked = w.locate(a, Purpose::Read);
    assert_eq!(w.verdict(parked), Some(Verdict::Parked));
    assert_eq!(w.look_up(b, Purpose::Read), Verdict::At(a), "until the stage is there, the target knows no better");
    w.deliver(a, b, "Stage");
    let waits = w.locate(b, Purpose::Read);
    assert_eq!(w.verdict(waits), Some(Verdict::Parked), "from here on it may be the target's any moment");
    let commit = w.asked(b, Ask::Commit);
    assert_eq!((w.answerers(), w.owner()), (vec![], Some(a)));

    assert!(w.apply(commit));
    assert_eq!((w.answerers(), w.owner()), (vec![], Some(b)), "committed, and nobody knows it yet");
    let handover = w.record().last.unwrap();
    assert_eq!((handover.origin, w.record().depends), (a, vec![handover]));
    assert!(w.record().epoch > before.epoch);

    let (wakes_a, wakes_b) = (w.life(a).wakes, w.life(b).wakes);
    w.answer(commit);
    assert_eq!(w.answerers(), [b]);
    assert!(w.life(b).wakes > wakes_b, "who waits at the target tries again");
    assert_eq!(w.read(b, "carried"), value('C'), "as it was at the freeze, not at the pre-copy");
    assert_eq!(w.read(b, "name"), Seen::Value(name), "a short value travels in the manifest");
    assert_eq!((w.read(b, "streamed"), w.read(b, "deferred")), (Seen::Elsewhere, Seen::Elsewhere));
    assert_eq!(w.read(b, "dropped"), Seen::Nil, "policy says so");

    w.deliver(b, a, "Committed");
    assert_eq!((w.answerers(), w.gate(a)), (vec![b], None));
    assert!(w.life(a).node.keeps(handover) && w.life(a).wakes > wakes_a);
    assert_eq!(w.look_up(a, Purpose::Read), Verdict::At(b), "what was parked goes to the target");

    w.deliver(b, a, "Fetch");
    w.deliver(a, b, "Fetched");
    assert_eq!((w.read(b, "streamed"), w.read(b, "deferred")), (value('s'), Seen::Elsewhere), "only what streams has followed");
    assert_eq!(w.open_request(b, Ask::Settle), None, "something is with the origin still");
    w.fetch(b, a, "deferred");
    assert_eq!(w.read(b, "deferred"), value('d'));

    let settle = w.asked(b, Ask::Settle);
    let epoch = w.record().epoch;
    assert!(w.answer(settle));
    assert_eq!((w.record().depends, w.record().epoch), (vec![], epoch), "no change of ownership");
    assert!(w.life(a).node.keeps(handover), "until it is confirmed");
    w.deliver(b, a, "Confirm");
    assert!(!w.life(a).node.keeps(handover));
    assert_eq!((w.letters(), w.life(a).node.status().handovers_out, w.life(b).node.status().handovers_in), (0, 0, 0));
}

#[test]
fn a_write_to_a_deferred_variable_needs_no_fetch_and_is_not_undone_by_one() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("deferred", long('d'))]);
    let handover = w.hand_over(a, b);
    let reader = w.need(b, "deferred");
    w.write(b, "deferred", long('D'));
    w.deliver(b, a, "Fetch");
    w.deliver(a, b, "Fetched");
    assert_eq!((w.verdict(reader), w.read(b, "deferred")), (Some(Verdict::Fetched), value('D')));
    let settle = w.asked(b, Ask::Settle);
    w.answer(settle);
    w.deliver(b, a, "Confirm");
    assert!(!w.life(a).node.keeps(handover));
}

#[test]
fn a_reader_that_comes_while_a_fetch_is_under_way_joins_it() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("deferred", long('d'))]);
    w.hand_over(a, b);
    let readers = [w.need(b, "deferred"), w.need(b, "deferred")];
    w.deliver(b, a, "Fetch");
    assert!(!w.has_letter(b, a, "Fetch"));
    w.deliver(a, b, "Fetched");
    assert_eq!(readers.map(|r| w.verdict(r)), [Some(Verdict::Fetched); 2]);
}

#[test]
fn what_exceeds_the_carried_budget_is_fetched_later_and_not_lost() {
    let (mut w, [a, b]) = World::start_with(NodeSettings { carried_bytes_max: 250, ..settings() });
    w.bear(a, &[("carried_1", long('1')), ("carried_2", long('2')), ("carried_3", long('3'))]);
    w.hand_over(a, b);
    assert!(w.life(a).notes.contains(&Note::Demoted(1)));
    let seen = ["carried_1", "carried_2", "carried_3"].map(|f| w.read(b, f));
    assert_eq!(seen.iter().filter(|s| **s == Seen::Elsewhere).count(), 1);
    let missing = ["carried_1", "carried_2", "carried_3"].into_iter().zip(seen).find(|(_, s)| *s == Seen::Elsewhere).unwrap().0;
    w.fetch(b, a, missing);
    assert_eq!(["carried_1", "carried_2", "carried_3"].map(|f| w.read(b, f)), ['1', '2', '3'].map(value));
}

#[test]
fn what_was_written_after_the_pre_copy_and_exceeds_the_pause_is_fetched_later() {
    let (mut w, [a, b]) = World::start_with(NodeSettings { pause_bytes_max: 150, ..settings() });
    w.bear(a, &[("carried_1", long('1')), ("carried_2", long('2')), ("carried_3", long('3'))]);
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    w.deliver(b, a, "Accept");
    w.deliver(a, b, "PreCopy");
    w.write(a, "carried_1", long('A'));
    w.write(a, "carried_2", Bytes::from("B".repeat(120)));
    w.deliver(b, a, "PreCopied");
    w.deliver(a, b, "Stage");
    let commit = w.asked(b, Ask::Commit);
    w.answer(commit);
    assert_eq!(w.read(b, "carried_1"), value('A'), "the smaller one crosses in the pause");
    assert_eq!(w.read(b, "carried_2"), Seen::Elsewhere, "the larger one would make it too long");
    assert_eq!(w.read(b, "carried_3"), value('3'), "it was copied ahead");
    w.fetch(b, a, "carried_2");
    assert_eq!(w.read(b, "carried_2"), Seen::Value(Bytes::from("B".repeat(120))));
}

#[test]
fn when_residuals_are_full_everything_crosses_with_the_handover() {
    let (mut w, [a, b]) = World::start_with(NodeSettings { residual_bytes_max: 0, ..settings() });
    w.bear(a, &[("carried", long('c')), ("streamed", long('s')), ("deferred", long('d'))]);
    let handover = w.hand_over(a, b);
    assert_eq!(["carried", "streamed", "deferred"].map(|f| w.read(b, f)), ['c', 's', 'd'].map(value));
    assert!(!w.life(a).node.keeps(handover));
    assert_eq!(w.record().depends, []);
}

#[test]
fn a_session_that_ends_before_the_freeze_does_not_leave() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    w.propose(a, b);
    w.deliver(a, b, "Propose");
    let deleted = w.delete(a);
    assert_eq!(w.gate(a), Some(Gate::Ending));
    w.deliver(b, a, "Accept");
    w.deliver(a, b, "Abort");
    w.deliver(b, a, "Promised");
    let end = w.asked(a, Ask::End);
    w.answer(end);
    assert_eq!((w.verdict(deleted), w.owner()), (Some(Verdict::Ended), None));
    assert_eq!((w.life(a).node.status().handovers_out, w.life(b).node.status().handovers_in), (0, 0));
}

#[test]
fn a_session_of_which_policy_drops_everything_crosses_empty_and_ends_if_nobody_writes() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("dropped", long('x'))]);
    w.hand_over(a, b);
    assert_eq!((w.read(b, "dropped"), w.record().depends), (Seen::Nil, vec![]));
    w.pass(1_100_000);
    let end = w.asked(b, Ask::End);
    w.answer(end);
    assert_eq!((w.owner(), w.gate(b)), (None, None));
}

#[test]
fn what_trickles_follows_at_its_rate_and_no_faster() {
    let (mut w, [a, b]) = World::start_with(NodeSettings { trickle_bytes_per_s: 1000, ..settings() });
    w.bear(a, &[("deferred_1", long('1')), ("deferred_2", long('2')), ("deferred_3", long('3'))]);
    w.hand_over(a, b);
    let here = |w: &mut World| {
        ["deferred_1", "deferred_2", "deferred_3"].into_iter().filter(|f| w.read(b, f) != Seen::Elsewhere).count()
    };
    // 100 bytes take 100 ms; what was saved up before the first lets it go at once.
    let mut arrived_ms = Vec::new();
    for ms in (0..400).step_by(5) {
        while w.has_letter(b, a, "Fetch") {
            w.deliver(b, a, "Fetch");
            w.deliver(a, b, "Fetched");
        }
        while here(&mut w) > arrived_ms.len() {
            arrived_ms.push(ms);
        }
        w.pass(5_000);
    }
    let [first, second, third] = arrived_ms[..] else { panic!("all three follow: {arrived_ms:?}") };
    assert!(second - first >= 90 && third - second >= 90, "{arrived_ms:?}");
}
