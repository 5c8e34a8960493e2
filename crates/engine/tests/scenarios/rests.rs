//! Sessions at rest: check-out, write-behind, check-in, and what a handover owes, with each answer of the upstream by hand.

use crate::clients::{Seen, long, value};
use crate::requests::Ask;
use crate::world::{FETCH_US, World, settings};
use bytes::Bytes;
use std::sync::Arc;
use wayfarer_engine::ids::Ticket;
use wayfarer_engine::node::{Input, NodeSettings, Note, Purpose, Reason, Verdict};
use wayfarer_engine::plan::{Impact, Policy, Rule, Treatment};
use wayfarer_engine::residence::Gate;
use wayfarer_engine::rest::RestSettings;
use wayfarer_engine::rest::change::{KeyChange, Stored};

const REST: RestSettings = RestSettings {
    high_us: 50_000,
    medium_us: 1_000_000,
    low_us: 30_000_000,
    in_flight_max: 4,
    pause_us: 50_000,
    pause_us_max: 400_000,
    check_ins_max: 4,
};

/// All is `high` but `critical*`.
pub fn with_rest() -> NodeSettings {
    let settings = settings();
    let mut policy = Policy::clone(&settings.policy);
    let critical = Treatment { impact: Impact::Critical, ..policy.default };
    policy.rules.insert(0, Rule { pattern: "critical*".into(), treatment: critical });
    NodeSettings { rest: Some(REST), policy: Arc::new(policy), ..settings }
}

fn flush(w: &mut World, who: wayfarer_engine::ids::Incarnation) -> Ticket {
    w.last_ticket += 1;
    let ticket = Ticket(w.last_ticket);
    w.feed(who, Input::Flush { session: w.session.clone(), ticket });
    ticket
}

#[test]
fn a_session_is_claimed_before_it_is_loaded_and_opens_only_then() {
    let (mut w, [a]) = World::start_with(with_rest());
    w.put_at_rest("carried", long('c'));
    let reader = w.locate(a, Purpose::Read);
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    let look = w.asked(a, Ask::Look);
    w.answer(look);
    let claim = w.asked(a, Ask::Birth);
    w.answer(claim);
    assert_eq!((w.gate(a), w.verdict(reader)), (None, None), "claimed, and not loaded yet");
    let load = w.asked(a, Ask::Load);
    w.answer(load);
    assert_eq!((w.verdict(reader), w.read(a, "carried")), (Some(Verdict::Here), value('c')));
    let epoch = w.record().epoch;
    let version = w.version(a, "carried");
    assert!(version > epoch.0, "its versions are those of this life");
}

#[test]
fn a_load_that_is_not_answered_opens_nothing_and_the_next_claim_has_a_later_epoch() {
    let (mut w, [a]) = World::start_with(with_rest());
    w.put_at_rest("carried", long('c'));
    let first = w.claim(a);
    let load = w.asked(a, Ask::Load);
    w.lose(load);
    assert_eq!((w.gate(a), w.verdict(first)), (None, Some(Verdict::TryAgain(Reason::Upstream))));
    let before = w.record().epoch;
    let again = w.locate(a, Purpose::Read);
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    let claim = w.asked(a, Ask::Again);
    w.answer(claim);
    assert!(w.record().epoch > before);
    let load = w.asked(a, Ask::Load);
    w.answer(load);
    assert_eq!((w.verdict(again), w.read(a, "carried")), (Some(Verdict::Here), value('c')));
}

#[test]
fn a_session_that_nothing_is_at_rest_of_is_absent() {
    let (mut w, [a]) = World::start_with(with_rest());
    let reader = w.locate(a, Purpose::Read);
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    let look = w.asked(a, Ask::Look);
    w.answer(look);
    assert_eq!((w.verdict(reader), w.owner()), (Some(Verdict::Absent), None));
    let reader = w.locate(a, Purpose::Read);
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    let look = w.asked(a, Ask::Look);
    w.lose(look);
    assert_eq!(w.verdict(reader), Some(Verdict::TryAgain(Reason::Upstream)), "nobody knows");
}

#[test]
fn a_change_goes_up_at_its_deadline_and_what_changes_meanwhile_with_the_next_batch() {
    let (mut w, [a]) = World::start_with(with_rest());
    w.check_out(a);
    w.write(a, "carried", long('1'));
    w.pass(REST.high_us - 10_000);
    assert_eq!(w.open_request(a, Ask::Store), None);
    w.pass(20_000);
    let store = w.asked(a, Ask::Store);
    w.write(a, "carried", long('2'));
    w.pass(2 * REST.high_us);
    assert_eq!(w.asked(a, Ask::Store), store, "one batch of a session at a time");
    w.answer(store);
    assert_eq!(w.at_rest("carried"), Some(long('1')));
    let next = w.asked(a, Ask::Store);
    w.answer(next);
    assert_eq!(w.at_rest("carried"), Some(long('2')));
    w.pass(4 * REST.high_us);
    assert_eq!(w.open_request(a, Ask::Store), None, "the upstream has everything");
}

#[test]
fn a_critical_write_is_confirmed_by_a_batch_that_was_made_after_it() {
    let (mut w, [a]) = World::start_with(with_rest());
    w.check_out(a);
    w.write(a, "critical", long('1'));
    let first = flush(&mut w, a);
    let store = w.asked(a, Ask::Store);
    w.write(a, "critical", long('2'));
    let second = flush(&mut w, a);
    w.answer(store);
    assert_eq!((w.verdict(first), w.verdict(second)), (Some(Verdict::Written), None));
    let next = w.asked(a, Ask::Store);
    w.answer(next);
    assert_eq!((w.verdict(second), w.at_rest("critical")), (Some(Verdict::Written), Some(long('2'))));
}

#[test]
fn no_answer_pauses_the_node_and_an_error_only_its_session() {
    let (mut w, [a]) = World::start_with(with_rest());
    w.check_out(a);
    w.write(a, "critical", long('1'));
    let first = flush(&mut w, a);
    let store = w.asked(a, Ask::Store);
    w.answer_stored(store, &[Stored::Failed]);
    assert_eq!(w.verdict(first), Some(Verdict::TryAgain(Reason::Refused)));
    assert!(!w.life(a).node.status().upstream_fails);
    let second = flush(&mut w, a);
    assert_eq!(w.verdict(second), Some(Verdict::TryAgain(Reason::Refused)), "at once, while it is put off");
    let other = std::mem::replace(&mut w.session, wayfarer_engine::ids::SessionId::copy_of(b"2"));
    w.check_out(a);
    w.write(a, "critical", long('3'));
    let third = flush(&mut w, a);
    let store = w.asked(a, Ask::Store);
    w.answer(store);
    assert_eq!(w.verdict(third), Some(Verdict::Written), "another session is not held up");
    w.session = other;
    w.pass(REST.pause_us + 10_000);
    let store = w.asked(a, Ask::Store);
    w.lose(store);
    assert!(w.life(a).node.status().upstream_fails);
    let fourth = flush(&mut w, a);
    assert_eq!(w.verdict(fourth), Some(Verdict::TryAgain(Reason::Upstream)));
    w.pass(4 * REST.pause_us);
    let store = w.asked(a, Ask::Store);
    assert!(matches!(w.batch(store).keys[0].change, KeyChange::Whole(_)), "whatever became of the others");
    w.answer(store);
    assert_eq!(w.at_rest("critical"), Some(long('1')));
}

#[test]
fn a_check_in_writes_first_then_the_record_goes_and_then_the_session() {
    let (mut w, [a, b]) = World::start_with(with_rest());
    w.check_out(a);
    w.write(a, "carried", long('1'));
    w.feed(a, Input::CheckIn { sessions: vec![w.session.clone()], batch: None });
    assert_eq!((w.gate(a), w.answerers()), (Some(Gate::Resting), vec![]));
    assert_eq!(w.open_request(a, Ask::End), None, "not before the upstream has everything");
    let store = w.asked(a, Ask::Store);
    w.answer(store);
    let end = w.asked(a, Ask::End);
    w.lose(end);
    w.pass(10_000);
    assert_eq!(w.gate(a), Some(Gate::Resting), "only the directory knows, so it stays closed");
    w.pass(crate::world::RETRY_US);
    let end = w.asked(a, Ask::End);
    w.answer(end);
    assert_eq!((w.gate(a), w.owner()), (None, None));
    assert!(w.life(a).notes.contains(&Note::CheckedIn));
    w.check_out(b);
    assert_eq!(w.read(b, "carried"), value('1'));
}

#[test]
fn a_check_in_that_the_upstream_does_not_take_is_given_up() {
    let (mut w, [a]) = World::start_with(with_rest());
    w.check_out(a);
    w.write(a, "carried", long('1'));
    w.feed(a, Input::CheckIn { sessions: vec![w.session.clone()], batch: None });
    for _ in 0..3 {
        if let Some(store) = w.open_request(a, Ask::Store) {
            w.lose(store);
        }
        w.pass(REST.pause_us_max);
    }
    assert_eq!((w.answerers(), w.read(a, "carried")), (vec![a], value('1')));
    assert!(w.life(a).notes.iter().any(|note| matches!(note, Note::CheckInFailed(_))));
}

#[test]
fn a_late_batch_of_a_former_owner_is_refused_and_changes_nothing() {
    let (mut w, [a, b]) = World::start_with(with_rest());
    w.check_out(a);
    w.write(a, "carried", long('1'));
    w.pass(REST.high_us + 10_000);
    let late = w.asked(a, Ask::Store);
    w.kill(a);
    w.bury(b, a);
    w.claim_lost(b);
    w.write(b, "carried", long('2'));
    w.pass(REST.high_us + 10_000);
    let store = w.asked(b, Ask::Store);
    w.answer(store);
    w.apply(late);
    assert_eq!(w.at_rest("carried"), Some(long('2')));
}

#[test]
fn a_handover_takes_its_debts_along() {
    let (mut w, [a, b]) = World::start_with(with_rest());
    w.check_out(a);
    w.write(a, "carried", long('1'));
    w.hand_over(a, b);
    assert_eq!(w.at_rest("carried"), None);
    w.pass(REST.high_us + 10_000);
    let store = w.asked(b, Ask::Store);
    w.answer(store);
    assert_eq!(w.at_rest("carried"), Some(long('1')), "written by the new owner, by the deadline of the old one");
    assert_eq!(w.open_request(a, Ask::Store), None);
}

#[test]
fn an_end_removes_what_is_at_rest_before_its_record() {
    let (mut w, [a]) = World::start_with(with_rest());
    w.put_at_rest("carried", long('c'));
    w.check_out(a);
    let ticket = w.delete(a);
    assert_eq!(w.open_request(a, Ask::End), None);
    let store = w.asked(a, Ask::Store);
    w.answer(store);
    assert_eq!(w.at_rest("carried"), None);
    let end = w.asked(a, Ask::End);
    w.answer(end);
    assert_eq!((w.verdict(ticket), w.gate(a)), (Some(Verdict::Ended), None));
}

#[test]
fn a_drain_puts_to_rest_what_nobody_takes_and_takes_nothing_back() {
    let (mut w, [a, b]) = World::start_with(with_rest());
    w.check_out(a);
    w.write(a, "carried", long('1'));
    w.feed(b, Input::Cordon(true));
    let state = w.asked(b, Ask::State);
    w.answer(state);
    w.feed(a, Input::Drain);
    let state = w.asked(a, Ask::State);
    w.answer(state);
    w.show_all();
    w.pass(10_000);
    let store = w.asked(a, Ask::Store);
    w.answer(store);
    let end = w.asked(a, Ask::End);
    w.answer(end);
    assert_eq!((w.gate(a), w.owner()), (None, None));
    let reader = w.locate(a, Purpose::Read);
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    let look = w.asked(a, Ask::Look);
    w.answer(look);
    assert_eq!(w.verdict(reader), Some(Verdict::At(b)), "one that is cordoned is better than one that drains");
    w.pass(50_000);
    assert!(w.life(a).drained);
}

#[test]
fn what_is_not_at_rest_reads_as_nothing_after_a_check_out() {
    let (mut w, [a]) = World::start_with(with_rest());
    w.put_at_rest("carried", Bytes::from_static(b"short"));
    w.check_out(a);
    assert_eq!(w.read(a, "other"), Seen::Nil);
}

/// Its operation has run, and the question whether it is written is still on its way to the node when the session is frozen.
#[test]
fn a_session_leaves_only_when_what_is_critical_is_written() {
    let (mut w, [a, b]) = World::start_with(with_rest());
    w.check_out(a);
    w.write(a, "critical", long('1'));
    w.freeze(a, b);
    w.pass(10_000);
    assert!(matches!(w.gate(a), Some(Gate::Frozen(_))));
    assert!(!w.has_letter(a, b, "Stage"));
    let store = w.asked(a, Ask::Store);
    w.answer(store);
    assert_eq!(w.at_rest("critical"), Some(long('1')));
    let early = flush(&mut w, a);
    assert_eq!(w.verdict(early), Some(Verdict::Written));
    w.deliver(a, b, "Stage");
    let commit = w.asked(b, Ask::Commit);
    w.answer(commit);
    w.deliver(b, a, "Committed");
    assert_eq!(w.answerers(), [b]);
    let late = flush(&mut w, a);
    assert_eq!(w.verdict(late), Some(Verdict::Written), "although the session is elsewhere");
}

#[test]
fn a_session_leaves_while_the_upstream_fails_and_nobody_is_told_that_it_is_written() {
    let (mut w, [a, b]) = World::start_with(with_rest());
    w.check_out(a);
    w.write(a, "critical", long('1'));
    let first = flush(&mut w, a);
    let store = w.asked(a, Ask::Store);
    w.lose(store);
    assert_eq!(w.verdict(first), Some(Verdict::TryAgain(Reason::Upstream)));
    w.hand_over(a, b);
    let late = flush(&mut w, a);
    assert_eq!(w.verdict(late), Some(Verdict::TryAgain(Reason::Taken)));
    w.pass(10_000);
    let store = w.asked(b, Ask::Store);
    w.answer(store);
    assert_eq!(w.at_rest("critical"), Some(long('1')), "the new owner owes it");
}

/// A session of three variables moves; `written`: the upstream has all of it before. Then the former owner dies.
fn bereft(written: bool) -> (World, wayfarer_engine::ids::Incarnation) {
    let (mut w, [a, b, c]) = World::start_with(with_rest());
    w.check_out(a);
    for (field, letter) in [("carried", 'c'), ("streamed", 's'), ("deferred", 'd')] {
        w.write(a, field, long(letter));
    }
    w.pass(REST.high_us + 10_000);
    let store = w.asked(a, Ask::Store);
    w.answer(store);
    if !written {
        w.write(a, "deferred", long('D'));
    }
    w.hand_over(a, b);
    w.kill(a);
    w.bury(c, a);
    (w, b)
}

#[test]
fn what_only_a_dead_node_had_is_taken_from_rest_if_it_is_exactly_that() {
    let (mut w, b) = bereft(true);
    let reader = w.need(b, "deferred");
    assert_eq!((w.verdict(reader), w.read(b, "deferred")), (None, Seen::Elsewhere), "it is being looked for");
    let load = w.asked(b, Ask::Load);
    w.lose(load);
    assert_eq!((w.verdict(reader), w.read(b, "deferred")), (None, Seen::Elsewhere), "not lost: nobody knows");
    w.pass(FETCH_US + REST.pause_us);
    let reader = w.need(b, "deferred");
    w.pass(FETCH_US / 2);
    while let Some(load) = w.open_request(b, Ask::Load) {
        w.answer(load);
    }
    assert_eq!(w.verdict(reader), Some(Verdict::Fetched));
    assert_eq!(["carried", "streamed", "deferred"].map(|field| w.read(b, field)), ['c', 's', 'd'].map(value));
    assert!(!w.life(b).notes.contains(&Note::Lost));
}

#[test]
fn who_waits_for_what_only_the_upstream_has_hears_that_it_is_silent() {
    let (mut w, b) = bereft(true);
    let reader = w.need(b, "deferred");
    for _ in 0..20 {
        w.pass(FETCH_US);
        while let Some(load) = w.open_request(b, Ask::Load) {
            w.lose(load);
        }
    }
    assert_eq!(w.verdict(reader), Some(Verdict::TryAgain(Reason::Upstream)));
}

#[test]
fn an_older_value_at_rest_does_not_take_the_place_of_a_lost_one() {
    let (mut w, b) = bereft(false);
    w.pass(FETCH_US);
    while let Some(load) = w.open_request(b, Ask::Load) {
        w.answer(load);
    }
    assert_eq!((w.read(b, "deferred"), w.read(b, "streamed")), (Seen::Lost, value('s')));
    assert_eq!(w.at_rest("deferred"), Some(long('d')), "what is there stays");
}
