//! Cases about the cluster's mode: it changes by compare-and-set, waits for confirmations, and claims compare it.
//!
//! Each public function is one case, called by `conformance_suite!` with an empty store.

use super::*;
use wayfarer_engine::mode::{Event, Goal, Mode, Phase, unconfirmed};

/// Changes the mode as an event does; panics if that is refused.
async fn changed(directory: &impl Directory, mode: Mode, event: Event) -> Mode {
    let change = mode.change(event, format!("by {event:?}")).expect("the event changes something");
    applied(directory, change.compare, change.write).await;
    view(directory).await.mode
}

/// A change is seen by every instance, in views and in reads, and the same change does not happen twice.
pub async fn a_mode_changes_once_a_generation(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let begins = view(&here).await.mode;
    assert_eq!(begins, Mode::default());
    let settling = changed(&here, begins, Event::Ordered(Goal::Observe)).await;
    assert_eq!(settling, Mode { generation: begins.generation + 1, phase: Phase::Settling });
    let seen = view(&there).await;
    assert_eq!((seen.mode, seen.mode_note.as_str()), (settling, "by Ordered(Observe)"));
    assert_eq!(read(&there, "nobody's").await.mode, settling);
    let again = begins.change(Event::Ordered(Goal::Observe), String::new()).expect("it changes something");
    assert_eq!(refused(&there, again.compare, again.write).await.mode, settling, "a refusal tells the mode");
    let parking = changed(&there, settling, Event::Ordered(Goal::Own)).await;
    assert_eq!(parking.phase, Phase::Parking { observed: false });
    let observe = changed(&there, changed(&here, parking, Event::Late).await, Event::AllConfirmed).await;
    let parking = changed(&there, observe, Event::Ordered(Goal::Own)).await;
    assert_eq!((parking.phase, parking.generation), (Phase::Parking { observed: true }, begins.generation + 5));
    let long = vec![Write::Mode { phase: Phase::Own, note: "x".repeat(100_000) }];
    here.transact(Transaction { compare: vec![], write: long }).await.expect_err("a note has a bound");
    assert_eq!(view(&here).await.mode, parking);
}

/// What needs everybody's confirmation is refused until every living member has confirmed this very generation; a dead one is not
/// waited for, and one that joins in between is.
pub async fn a_mode_waits_for_every_living_member(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (a, ..) = member(&here, "a").await;
    let (b, ..) = member(&there, "b").await;
    let settling = changed(&here, Mode::default(), Event::Ordered(Goal::Observe)).await;
    let next = settling.change(Event::AllConfirmed, String::new()).expect("it changes something");
    let waiting = async |names: &[&str]| {
        refused(&there, next.compare.clone(), next.write.clone()).await;
        assert_eq!(unconfirmed(&view(&here).await).collect::<Vec<_>>(), names);
    };
    waiting(&["a", "b"]).await;
    let confirm = async |mode: Mode, who| {
        let confirmation = mode.confirmation(who);
        transact(&here, confirmation.compare, confirmation.write).await
    };
    assert!(matches!(confirm(Mode::default(), a).await, Outcome::Refused { .. }), "an old mode is confirmed no more");
    assert!(matches!(confirm(settling, a).await, Outcome::Applied { .. }));
    waiting(&["b"]).await;
    let (c, ..) = member(&here, "c").await;
    applied(&here, vec![], vec![Write::Fence { incarnation: b }]).await;
    assert!(matches!(confirm(settling, b).await, Outcome::Refused { .. }), "the dead confirm nothing");
    waiting(&["c"]).await;
    assert!(matches!(confirm(settling, c).await, Outcome::Applied { .. }));
    applied(&there, vec![], vec![Write::Confirm { incarnation: a, generation: 0 }]).await;
    waiting(&["a"]).await;
    assert!(matches!(confirm(settling, a).await, Outcome::Applied { .. }));
    assert_eq!(changed(&there, settling, Event::AllConfirmed).await.phase, Phase::Observe);
}

/// A claim that was made in one mode does not succeed in the next one.
pub async fn a_claim_in_another_mode_is_refused(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (_, group, _) = member(&here, "a").await;
    let own = read(&here, "s").await.mode;
    let claim = |name: &str, mode: Mode| {
        let compare = vec![is(name, None), Compare::Mode { generation: mode.generation }];
        (compare, vec![place(name, group, NextEpoch::Fresh)])
    };
    let (compare, write) = claim("s", own);
    applied(&here, compare, write).await;
    let settling = changed(&there, own, Event::Ordered(Goal::Observe)).await;
    let (compare, write) = claim("t", own);
    let found = refused(&here, compare, write).await;
    assert_eq!((found.location, found.mode), (None, settling));
}

/// A member that confirms that it has no session leaves no location behind, and takes none of another.
pub async fn what_a_member_disowns_is_its_own(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (a, of_a, _) = member(&here, "a").await;
    let (_, of_b, _) = member(&there, "b").await;
    born(&here, "mine", of_a).await;
    born(&here, "too", of_a).await;
    born(&there, "other", of_b).await;
    let settling = changed(&here, Mode::default(), Event::Ordered(Goal::Observe)).await;
    let confirmation = settling.confirmation(a);
    applied(&here, confirmation.compare, confirmation.write).await;
    for (name, there_is) in [("mine", false), ("too", false), ("other", true)] {
        assert_eq!(read(&there, name).await.location.is_some(), there_is, "{name}");
    }
    assert_eq!(view(&there).await.members[&a].confirmed, settling.generation);
}
