//! Births, ends and reads under uncertainty.

use crate::clients::{Seen, long, value};
use crate::requests::Ask;
use crate::world::{RETRY_US, World};
use wayfarer_engine::ids::{Incarnation, Ticket};
use wayfarer_engine::node::{Purpose, Reason, Verdict};
use wayfarer_engine::residence::Gate;

/// A creation whose compare-and-set is under way.
fn conceive(w: &mut World, who: Incarnation) -> (Ticket, crate::requests::Request) {
    let ticket = w.locate(who, Purpose::Create);
    let read = w.asked(who, Ask::Read);
    w.answer(read);
    (ticket, w.asked(who, Ask::Birth))
}

#[test]
fn a_birth_that_happened_unknown_to_its_node_is_claimed_again_by_the_next_operation() {
    let (mut w, [a, b]) = World::start();
    let (ticket, birth) = conceive(&mut w, a);
    w.apply(birth);
    w.lose(birth);
    assert_eq!((w.verdict(ticket), w.answerers()), (Some(Verdict::TryAgain(Reason::Directory)), vec![]));
    assert_eq!(w.look_up(b, Purpose::Read), Verdict::At(a));

    // A read does it as well as a creation: the record says that there is a session.
    let forwarded = w.locate(a, Purpose::Read);
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    assert_eq!(w.verdict(forwarded), None, "whether something is in that record, only a compare-and-set can tell");
    let again = w.asked(a, Ask::Again);
    assert!(w.answer(again));
    assert_eq!((w.verdict(forwarded), w.answerers()), (Some(Verdict::Here), vec![a]));
}

#[test]
fn a_birth_of_unknown_outcome_that_comes_late_changes_nothing() {
    let (mut w, [a, _b]) = World::start();
    let (_, first) = conceive(&mut w, a);
    w.lose(first);
    let (ticket, second) = conceive(&mut w, a);
    w.answer(second);
    assert_eq!(w.verdict(ticket), Some(Verdict::Here));
    w.write(a, "carried", long('c'));
    let record = w.record();
    assert!(!w.apply(first));
    assert_eq!((w.record(), w.read(a, "carried")), (record, value('c')));
}

#[test]
fn of_two_births_one_wins_and_the_other_goes_to_it() {
    let (mut w, [a, b]) = World::start();
    let (at_a, birth_a) = conceive(&mut w, a);
    let (at_b, birth_b) = conceive(&mut w, b);
    assert!(w.answer(birth_b));
    assert!(!w.answer(birth_a));
    assert_eq!((w.verdict(at_b), w.verdict(at_a)), (Some(Verdict::Here), Some(Verdict::At(b))));
    assert_eq!((w.answerers(), w.gate(a)), (vec![b], None));
}

#[test]
fn a_late_birth_of_one_node_is_found_by_another_that_then_asks_it() {
    let (mut w, [a, b]) = World::start();
    let (_, birth_a) = conceive(&mut w, a);
    w.lose(birth_a);
    let (at_b, birth_b) = conceive(&mut w, b);
    assert!(w.apply(birth_a), "late, but first");
    assert!(!w.answer(birth_b));
    assert_eq!((w.verdict(at_b), w.answerers()), (Some(Verdict::At(a)), vec![]));
    let at_a = w.locate(a, Purpose::Create);
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    let again = w.asked(a, Ask::Again);
    w.answer(again);
    assert_eq!((w.verdict(at_a), w.answerers()), (Some(Verdict::Here), vec![a]));
}

#[test]
fn a_session_that_left_after_the_read_is_not_born_again_where_it_was() {
    let (mut w, [a, b, c]) = World::start();
    w.bear(b, &[("carried", long('c'))]);
    let ticket = w.locate(a, Purpose::Create);
    let read = w.asked(a, Ask::Read);
    // It comes to the node and leaves it again while the answer is on its way.
    let commit = w.stage(b, a);
    w.apply(commit);
    w.apply(read);
    w.answer(commit);
    w.deliver(a, b, "Committed");
    w.hand_over(a, c);
    w.answer(read);
    assert_eq!(w.verdict(ticket), None, "the record was ours when it was read, and nothing is here");
    let again = w.asked(a, Ask::Again);
    assert!(!w.answer(again));
    assert_eq!((w.verdict(ticket), w.answerers()), (Some(Verdict::At(c)), vec![c]));
    assert_eq!(w.read(c, "carried"), value('c'));
}

#[test]
fn an_end_of_unknown_outcome_is_sent_again_until_it_is_certain() {
    for applied in [true, false] {
        let (mut w, [a, b]) = World::start();
        w.bear(a, &[("carried", long('c'))]);
        let deleted = w.delete(a);
        let first = w.asked(a, Ask::End);
        if applied {
            w.apply(first);
        }
        w.lose(first);
        assert_eq!((w.verdict(deleted), w.answerers()), (None, vec![]), "not before it is in the directory");
        let meanwhile = w.locate(a, Purpose::Create);
        assert_eq!(w.verdict(meanwhile), Some(Verdict::Parked));
        w.pass(RETRY_US);
        let second = w.asked(a, Ask::End);
        assert_eq!(w.answer(second), !applied, "if the first one happened, the record is gone and that tells");
        assert_eq!((w.verdict(deleted), w.gate(a)), (Some(Verdict::Ended), None));
        assert_eq!(w.look_up(b, Purpose::Read), Verdict::Absent);
        w.bear(b, &[("carried", long('C'))]);
        if !applied {
            assert!(!w.apply(first), "an end that comes late does not end the next life of the id");
        }
        assert_eq!((w.answerers(), w.read(b, "carried")), (vec![b], value('C')));
    }
}

#[test]
fn an_end_that_happened_before_another_life_began_is_not_claimed() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    let deleted = w.delete(a);
    let first = w.asked(a, Ask::End);
    w.apply(first);
    w.lose(first);
    w.bear(b, &[("carried", long('C'))]);
    w.pass(RETRY_US);
    let second = w.asked(a, Ask::End);
    assert!(!w.answer(second));
    assert_eq!(w.verdict(deleted), Some(Verdict::TryAgain(Reason::Taken)), "whether it counted is unknown");
    assert_eq!((w.answerers(), w.gate(a)), (vec![b], None));
}

#[test]
fn an_end_frees_what_other_nodes_still_held_of_the_session() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c')), ("deferred", long('d'))]);
    let handover = w.hand_over(a, b);
    w.delete(b);
    assert_eq!(w.gate(b), Some(Gate::Ending));
    let end = w.asked(b, Ask::End);
    w.answer(end);
    w.deliver(b, a, "Confirm");
    assert!(!w.life(a).node.keeps(handover));
    w.bear(b, &[]);
    assert_eq!(w.read(b, "deferred"), Seen::Nil, "nothing deleted comes back");
}

#[test]
fn a_reader_is_not_answered_from_a_read_that_began_before_it_came() {
    let (mut w, [a, b]) = World::start();
    let early = w.locate(b, Purpose::Read);
    let read = w.asked(b, Ask::Read);
    w.apply(read);
    w.bear(a, &[("carried", long('c'))]);
    let late = w.locate(b, Purpose::Read);
    w.answer(read);
    assert_eq!(w.verdict(early), Some(Verdict::Absent), "there was none when it came");
    assert_eq!(w.verdict(late), None, "there was one when this one came");
    let read = w.asked(b, Ask::Read);
    w.answer(read);
    assert_eq!(w.verdict(late), Some(Verdict::At(a)));
}

#[test]
fn a_read_that_is_not_answered_says_nothing_about_the_session() {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    let (early, late) = (w.locate(b, Purpose::Read), w.locate(b, Purpose::Create));
    let read = w.asked(b, Ask::Read);
    w.lose(read);
    assert_eq!(w.verdict(early), Some(Verdict::TryAgain(Reason::Directory)));
    let read = w.asked(b, Ask::Read);
    w.answer(read);
    assert_eq!(w.verdict(late), Some(Verdict::At(a)));
}

#[test]
fn a_session_that_nobody_writes_to_ends_by_itself() {
    let (mut w, [a, _b]) = World::start();
    w.bear(a, &[]);
    w.pass(900_000);
    assert_eq!(w.answerers(), [a]);
    w.pass(200_000);
    let end = w.asked(a, Ask::End);
    w.answer(end);
    assert_eq!((w.owner(), w.gate(a)), (None, None));
}

#[test]
fn more_waiting_operations_than_may_wait_are_told_to_come_again() {
    let (mut w, [a, _b]) = World::start();
    let tickets: Vec<Ticket> = (0..9).map(|_| w.locate(a, Purpose::Read)).collect();
    assert_eq!(w.verdict(tickets[8]), Some(Verdict::TryAgain(Reason::Full)));
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    let read = w.asked(a, Ask::Read);
    w.answer(read);
    assert!(tickets[..8].iter().all(|t| w.verdict(*t) == Some(Verdict::Absent)));
    let next = w.locate(a, Purpose::Read);
    assert_eq!(w.verdict(next), None, "there is room again");
}
