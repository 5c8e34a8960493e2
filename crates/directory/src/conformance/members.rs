//! Cases about members and groups: registration, leases, fencing, leaving, proof of death.
//!
//! Each public function is one case, called by `conformance_suite!` with an empty store. Where two members stand for two
//! processes, each has an instance of its own.

use super::*;
use wayfarer_engine::directory::{DirectoryError, GroupRecord, MemberRecord, MemberState};

/// What a member says of itself stands in the view of every instance, with its groups.
pub async fn registration_shows_in_the_view(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    assert_eq!(view(&here).await, View::default(), "the store must be empty");
    let said = MemberDraft { zone: String::new(), role: Role::Client, ..draft("wörker \"1\"") };
    let a = here.register(said.clone(), 0).await.expect("the name is free");
    assert!(a.groups.is_empty());
    let b = there.register(draft("b"), 3).await.expect("the name is free");
    let seen = view(&here).await;
    assert_eq!(seen, view(&there).await);
    let record =
        MemberRecord { incarnation: a.incarnation, draft: said, state: MemberState::Accepting, renewals: 0, confirmed: 0 };
    assert_eq!(seen.members.get(&a.incarnation), Some(&record));
    assert_eq!((seen.members.len(), seen.groups.len()), (2, 3));
    for (group, epoch) in b.groups {
        assert_eq!(seen.groups.get(&group), Some(&GroupRecord { group, owner: Some(b.incarnation), epoch }));
    }
    let accepting: Vec<_> = seen.accepting().map(|m| m.incarnation).collect();
    assert_eq!(accepting, [b.incarnation], "a client takes no sessions");
}

/// Two living members cannot have one name, through whichever instance they register.
pub async fn a_name_belongs_to_one_living_member(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (a, group, epoch) = member(&here, "a").await;
    for directory in [&here, &there] {
        let taken = directory.register(draft("a"), 1).await;
        assert_eq!(taken, Err(DirectoryError::NameTaken("a".to_owned())));
    }
    let seen = view(&there).await;
    assert_eq!((seen.members.len(), seen.groups.len()), (1, 1), "a refused registration left something");
    assert!(!seen.is_dead(a));
    applied(&there, vec![Compare::Group { group, owner: a, epoch }, Compare::Alive { incarnation: a }], vec![]).await;
    member(&there, "A").await;
}

/// After fencing, or leaving, the name can be used again, without any proof.
pub async fn a_fenced_name_is_free(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (first, ..) = member(&here, "a").await;
    applied(&there, vec![], vec![Write::Fence { incarnation: first }]).await;
    let (second, group, _) = member(&there, "a").await;
    assert!(second > first);
    let seen = view(&here).await;
    assert!(seen.is_dead(first) && !seen.is_dead(second));
    assert_eq!(seen.groups.get(&group).and_then(|g| g.owner), Some(second), "the new one owns its new group, and only it");
    assert_eq!(seen.groups.values().filter(|g| g.owner.is_some()).count(), 1);
    applied(&here, vec![], vec![Write::Leave { incarnation: second }]).await;
    let (third, ..) = member(&here, "a").await;
    assert!(third > second);
}

/// Where a backend can prove death: not before the process ends, then for ever, and its name is taken over with a fence.
pub async fn a_dead_process_is_proven_dead(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (first, group, epoch) = member(&here, "a").await;
    let (other, ..) = member(&there, "b").await;
    for directory in [&here, &there] {
        assert_eq!(directory.is_proven_dead(first).await, Ok(false), "its process is alive");
    }
    if !store.end_process(&here) {
        assert_eq!(there.is_proven_dead(first).await, Ok(false), "this backend has no proof");
        return;
    }
    assert_eq!(there.is_proven_dead(first).await, Ok(true));
    assert_eq!(there.is_proven_dead(other).await, Ok(false));
    assert!(!view(&there).await.is_dead(first), "a proof alone fences nobody");
    let (second, ..) = member(&there, "a").await;
    let seen = view(&there).await;
    assert!(seen.is_dead(first) && !seen.is_dead(second) && !seen.is_dead(other));
    assert_eq!(seen.groups.get(&group).map(|g| g.owner), Some(None), "its group is lost");
    refused(&there, vec![Compare::Group { group, owner: first, epoch }], vec![]).await;
    refused(&there, vec![], vec![Write::Renew { incarnation: first }]).await;
}

/// Nothing is proven of who was never registered.
pub async fn nobody_is_proven_dead_without_a_record(store: &impl Store) {
    let directory = store.open().await;
    assert_eq!(directory.is_proven_dead(Incarnation(Epoch(1))).await, Ok(false));
    let (a, ..) = member(&directory, "a").await;
    assert_eq!(directory.is_proven_dead(Incarnation(Epoch(a.0.0 + 1))).await, Ok(false));
}

/// A takeover: the fence, the loss of the groups and the new place of a session are one transaction.
pub async fn fencing_loses_groups_in_one_transaction(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let a = here.register(draft("a"), 4).await.expect("the name is free");
    let (b, group_b, epoch_b) = member(&there, "b").await;
    let (group_a, _) = a.groups[0];
    let epoch = born(&here, "s", group_a).await;
    born(&here, "t", group_a).await;
    assert_eq!(read(&there, "t").await.owner(), Some(a.incarnation));
    let conditions = vec![
        is("s", Some((group_a, epoch))),
        Compare::Group { group: group_b, owner: b, epoch: epoch_b },
        Compare::Alive { incarnation: a.incarnation },
    ];
    let writes = vec![Write::Fence { incarnation: a.incarnation }, place("s", group_b, NextEpoch::Fresh)];
    applied(&there, conditions.clone(), writes.clone()).await;
    refused(&there, conditions, writes).await;
    assert_eq!(read(&here, "s").await.owner(), Some(b));
    let orphan = read(&here, "t").await;
    assert!(orphan.location.is_some() && orphan.owner().is_none(), "its group is lost: {orphan:?}");
    let seen = view(&here).await;
    assert_eq!(seen.members.get(&a.incarnation).map(|m| m.state), Some(MemberState::Fenced));
    for (group, epoch) in a.groups {
        assert_eq!(seen.groups.get(&group).map(|g| g.owner), Some(None));
        refused(&here, vec![Compare::Group { group, owner: a.incarnation, epoch }], vec![]).await;
    }
    // Once more changes nothing, and somebody unknown is as good as dead.
    applied(&there, vec![], vec![Write::Fence { incarnation: a.incarnation }]).await;
    applied(&there, vec![], vec![Write::Fence { incarnation: Incarnation(Epoch(b.0.0 + 1000)) }]).await;
    assert_eq!(view(&here).await.members, seen.members);
}

/// Renewals of a fenced incarnation fail for ever, and so does every transaction that contains one.
pub async fn a_fenced_member_never_renews(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (a, group, _) = member(&here, "a").await;
    applied(&here, vec![], vec![Write::Renew { incarnation: a }]).await;
    applied(&there, vec![], vec![Write::Fence { incarnation: a }]).await;
    for _ in 0..3 {
        refused(&here, vec![], vec![Write::Renew { incarnation: a }]).await;
        refused(&here, vec![], vec![place("s", group, NextEpoch::Fresh), Write::Renew { incarnation: a }]).await;
    }
    member(&there, "a").await;
    refused(&here, vec![], vec![Write::Renew { incarnation: a }]).await;
    assert_eq!(read(&here, "s").await, Placement::default());
    assert_eq!(view(&here).await.members.get(&a).map(|m| m.renewals), Some(1));
}

/// No change of state brings a fenced member back.
pub async fn a_fenced_member_stays_fenced(store: &impl Store) {
    let directory = store.open().await;
    let (a, ..) = member(&directory, "a").await;
    applied(&directory, vec![], vec![Write::Fence { incarnation: a }]).await;
    for state in [MemberState::Accepting, MemberState::Cordoned, MemberState::Draining] {
        refused(&directory, vec![], vec![Write::State { incarnation: a, state }]).await;
        assert!(view(&directory).await.is_dead(a));
    }
}

/// A member that leaves is gone from the view, and what it still had is lost.
pub async fn a_member_leaves(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (a, group, epoch) = member(&here, "a").await;
    let (b, ..) = member(&there, "b").await;
    born(&here, "s", group).await;
    applied(&here, vec![Compare::Alive { incarnation: a }], vec![Write::Leave { incarnation: a }]).await;
    let seen = view(&there).await;
    assert!(seen.is_dead(a) && !seen.is_dead(b));
    assert!(!seen.members.contains_key(&a));
    assert!(seen.groups.get(&group).is_none_or(|g| g.owner.is_none()));
    assert_eq!(read(&there, "s").await.owner(), None);
    refused(&here, vec![], vec![Write::Renew { incarnation: a }]).await;
    refused(&here, vec![Compare::Group { group, owner: a, epoch }], vec![]).await;
    applied(&here, vec![], vec![Write::Leave { incarnation: a }]).await;
}

/// Each renewal counts, and counts once.
pub async fn renewals_are_counted(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (a, ..) = member(&here, "a").await;
    let (b, ..) = member(&there, "b").await;
    for n in 1..=5 {
        applied(&here, vec![], vec![Write::Renew { incarnation: a }]).await;
        let seen = view(&there).await;
        assert_eq!(seen.members.get(&a).map(|m| m.renewals), Some(n));
        assert_eq!(seen.members.get(&b).map(|m| m.renewals), Some(0));
    }
}

/// Who has renewed since it was looked at does not stand still; nor does one that is fenced or was never there.
pub async fn a_renewal_ends_standing_still(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (a, ..) = member(&here, "a").await;
    let seen = view(&there).await.members.get(&a).map(|m| m.renewals).unwrap_or_default();
    let still = |renewals| vec![Compare::StandsStill { incarnation: a, renewals }];
    applied(&there, still(seen), vec![]).await;
    applied(&here, vec![], vec![Write::Renew { incarnation: a }]).await;
    refused(&there, still(seen), vec![Write::Fence { incarnation: a }]).await;
    applied(&there, still(seen + 1), vec![Write::Fence { incarnation: a }]).await;
    refused(&there, still(seen + 1), vec![]).await;
    let nobody = Incarnation(Epoch(a.0.0 + 1000));
    refused(&there, vec![Compare::StandsStill { incarnation: nobody, renewals: 0 }], vec![]).await;
}

/// A member's state is what was last written, and only who accepts is offered sessions.
pub async fn states_are_kept(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (a, ..) = member(&here, "a").await;
    for state in [MemberState::Cordoned, MemberState::Draining, MemberState::Accepting] {
        applied(&here, vec![], vec![Write::State { incarnation: a, state }]).await;
        let seen = view(&there).await;
        assert_eq!(seen.members.get(&a).map(|m| m.state), Some(state));
        assert_eq!(seen.accepting().count(), usize::from(state == MemberState::Accepting));
        applied(&here, vec![Compare::Alive { incarnation: a }], vec![Write::Renew { incarnation: a }]).await;
    }
    refused(&here, vec![], vec![Write::State { incarnation: Incarnation(Epoch(a.0.0 + 1000)), state: MemberState::Accepting }])
        .await;
}
