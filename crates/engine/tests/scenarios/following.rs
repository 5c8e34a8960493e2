//! Sessions that follow their clients: when, and what forgets it.

use crate::clients::long;
use crate::world::{World, settings};
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::node::{Input, Note};
use wayfarer_engine::residence::{AdoptionRule, Came, Resident, Table};

const RULE: AdoptionRule = AdoptionRule { arrivals: 3, gap_us: 0, residence_us_min: 0 };
const TICK_US: u64 = 5_000;
/// As long as a session must have rested, and how long it is waited for.
const RESTED_US: u64 = 10_000;
const WAITED_US: u64 = 200_000;

fn resident<R>(w: &World, owner: Incarnation, f: impl FnOnce(&mut Resident) -> R) -> R {
    w.life(owner).table.with(&w.session, |slot| f(slot.as_mut().unwrap()))
}

/// An operation at `at` (`None`: at the owner) runs on the session.
fn use_it(w: &World, owner: Incarnation, at: Option<Incarnation>) -> bool {
    let now_us = w.now.boot_us;
    resident(w, owner, |resident| {
        resident.used_us = now_us;
        resident.arrived(at, Came::Operation, now_us, &RULE)
    })
}

/// A session at `a` whose clients have arrived at `b`, just now.
fn called() -> (World, [Incarnation; 2]) {
    let (mut w, [a, b]) = World::start();
    w.bear(a, &[("carried", long('c'))]);
    assert_eq!([(); 3].map(|()| use_it(&w, a, Some(b))), [false, false, true]);
    w.feed(a, Input::Follow { session: w.session.clone(), to: b });
    (w, [a, b])
}

#[test]
fn a_session_follows_its_clients_in_the_gap_between_two_requests() {
    let (mut w, [a, b]) = called();
    assert_eq!(w.letters(), 0, "a request is under way");
    for _ in 0..4 {
        w.pass(TICK_US);
        use_it(&w, a, Some(b));
    }
    assert_eq!(w.letters(), 0, "it was used all the time");
    w.pass(RESTED_US);
    assert!(w.has_letter(a, b, "Propose"));
}

#[test]
fn a_session_that_never_rests_follows_too() {
    let (mut w, [a, b]) = called();
    let mut waited_us = 0;
    while w.letters() == 0 {
        w.pass(TICK_US);
        waited_us += TICK_US;
        use_it(&w, a, Some(b));
    }
    assert_eq!(waited_us, WAITED_US);
}

#[test]
fn a_session_whose_clients_have_turned_round_stays() {
    let (mut w, [a, b]) = called();
    use_it(&w, a, None);
    w.pass(2 * WAITED_US);
    assert_eq!(w.letters(), 0);
    // It was not in vain that it followed, for it did not.
    let restlessness = resident(&w, a, |resident| resident.restlessness());
    assert_eq!(restlessness, 0);
    assert_eq!([(); 3].map(|()| use_it(&w, a, Some(b))), [false, false, true], "later arrivals call it again");
    w.feed(a, Input::Follow { session: w.session.clone(), to: b });
    w.pass(2 * RESTED_US);
    assert!(w.has_letter(a, b, "Propose"));
}

#[test]
fn no_more_sessions_wait_for_a_gap_than_may_leave() {
    let (mut w, [a, b]) = called();
    let skipped = |w: &World| w.life(a).notes.contains(&Note::AdoptionSkipped);
    let first = w.session.clone();
    for n in 0..settings().at_once_max {
        assert!(!skipped(&w), "{n}");
        w.feed(a, Input::Follow { session: SessionId::copy_of(format!("other {n}").as_bytes()), to: b });
    }
    assert!(skipped(&w));
    w.feed(a, Input::Follow { session: first, to: b });
    w.pass(2 * RESTED_US);
    assert!(w.has_letter(a, b, "Propose"), "the one that is here");
    assert_eq!(w.letters(), 1, "the others are not");
}
