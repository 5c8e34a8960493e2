//! Cases about the locations of sessions: conditions, refusals, epochs, batches.
//!
//! Each public function is one case, called by `conformance_suite!` with an empty store. One instance is enough here; what
//! several do at once is in `together`.

use super::*;
use wayfarer_engine::ids::HandoverId;

/// A location changes only when its group and epoch are those that the transaction names.
pub async fn a_location_is_set_only_by_its_right_key(store: &impl Store) {
    let directory = store.open().await;
    let (_, group, _) = member(&directory, "a").await;
    let first = born(&directory, "s", group).await;
    let wrong = [None, Some((group, Epoch(first.0 + 1))), Some((GroupId(group.0 + 1000), first)), Some((group, Epoch(0)))];
    for key in wrong {
        refused(&directory, vec![is("s", key)], vec![place("s", group, NextEpoch::Fresh)]).await;
        assert_eq!(read(&directory, "s").await.key(), Some((group, first)), "a refused transaction changed the location");
    }
    let right = vec![is("s", Some((group, first)))];
    let second = applied(&directory, right.clone(), vec![place("s", group, NextEpoch::Fresh)]).await;
    assert!(second > first, "epochs grow: {first:?}, then {second:?}");
    refused(&directory, right, vec![place("s", group, NextEpoch::Fresh)]).await;
    refused(&directory, vec![is("never born", Some((group, second)))], vec![]).await;
    applied(&directory, vec![is("never born", None)], vec![]).await;
}

/// A refusal tells what it found, of the session that the transaction names first.
pub async fn a_refusal_carries_the_placement(store: &impl Store) {
    let directory = store.open().await;
    let (owner, group, since) = member(&directory, "a").await;
    let epoch = born(&directory, "s", group).await;
    born(&directory, "t", group).await;
    let found = refused(&directory, vec![is("s", None), is("t", None)], vec![]).await;
    assert_eq!(found, read(&directory, "s").await, "the first session that it compares");
    assert_eq!(found.key(), Some((group, epoch)));
    assert_eq!(found.owner(), Some(owner));
    assert_eq!(found.group.map(|g| g.epoch), Some(since));

    let dead = Compare::Alive { incarnation: Incarnation(Epoch(u64::MAX >> 2)) };
    let found = refused(&directory, vec![dead.clone()], vec![place("s", group, NextEpoch::Fresh)]).await;
    assert_eq!(found.key(), Some((group, epoch)), "the first session that it places, if it compares none");
    let found = refused(&directory, vec![dead.clone(), is("t", None)], vec![place("s", group, NextEpoch::Fresh)]).await;
    assert_eq!(found, read(&directory, "t").await, "the session that it compares, if it also places one");
    assert_eq!(refused(&directory, vec![dead], vec![]).await, Placement::default(), "no session, nothing found");
    assert_eq!(refused(&directory, vec![is("none", Some((group, epoch)))], vec![]).await, Placement::default());
}

/// The condition on a group holds for exactly its owner and epoch, and no more after it is lost.
pub async fn a_group_must_have_this_owner_and_epoch(store: &impl Store) {
    let directory = store.open().await;
    let (a, group_a, epoch_a) = member(&directory, "a").await;
    let (b, group_b, _) = member(&directory, "b").await;
    let belongs = |group, owner, epoch| vec![Compare::Group { group, owner, epoch }];
    applied(&directory, belongs(group_a, a, epoch_a), vec![]).await;
    for wrong in [
        belongs(group_a, b, epoch_a),
        belongs(group_b, a, epoch_a),
        belongs(group_a, a, Epoch(epoch_a.0 + 1000)),
        belongs(GroupId(group_b.0 + 1000), a, epoch_a),
    ] {
        refused(&directory, wrong, vec![place("s", group_a, NextEpoch::Fresh)]).await;
    }
    assert_eq!(read(&directory, "s").await, Placement::default());
    applied(&directory, vec![], vec![Write::Fence { incarnation: a }]).await;
    refused(&directory, belongs(group_a, a, epoch_a), vec![]).await;
}

/// The condition on an incarnation holds from its registration until it is fenced or leaves.
pub async fn an_incarnation_must_be_alive(store: &impl Store) {
    let directory = store.open().await;
    let (a, ..) = member(&directory, "a").await;
    let (b, ..) = member(&directory, "b").await;
    let alive = |incarnation| vec![Compare::Alive { incarnation }];
    applied(&directory, alive(a), vec![]).await;
    refused(&directory, alive(Incarnation(Epoch(b.0.0 + 1000))), vec![]).await;
    applied(&directory, vec![], vec![Write::Fence { incarnation: a }]).await;
    refused(&directory, alive(a), vec![]).await;
    applied(&directory, alive(b), vec![Write::Leave { incarnation: b }]).await;
    refused(&directory, alive(b), vec![]).await;
}

/// One comparison that fails among many leaves everything as it was.
pub async fn all_or_nothing_is_written(store: &impl Store) {
    let directory = store.open().await;
    let (a, group, _) = member(&directory, "a").await;
    let epoch = born(&directory, "last", group).await;
    let mut compare: Vec<_> = (0..20).map(|n| is(&format!("s{n}"), None)).collect();
    compare.push(is("last", None));
    let mut write: Vec<_> = (0..20).map(|n| place(&format!("s{n}"), group, NextEpoch::Fresh)).collect();
    write.push(Write::Forget { session: session("last") });
    write.push(Write::Fence { incarnation: a });
    refused(&directory, compare.clone(), write.clone()).await;
    for n in 0..20 {
        assert_eq!(read(&directory, &format!("s{n}")).await, Placement::default());
    }
    assert_eq!(read(&directory, "last").await.key(), Some((group, epoch)));
    assert!(!view(&directory).await.is_dead(a));
    // A member that may not be renewed refuses the rest as a comparison does.
    let renew = Write::Renew { incarnation: Incarnation(Epoch(a.0.0 + 1000)) };
    refused(&directory, vec![], vec![place("s0", group, NextEpoch::Fresh), renew]).await;
    assert_eq!(read(&directory, "s0").await, Placement::default());

    compare.pop();
    applied(&directory, compare, write).await;
    assert!(read(&directory, "s19").await.location.is_some());
    assert_eq!(read(&directory, "last").await, Placement::default());
    assert!(view(&directory).await.is_dead(a));
}

/// Two sessions in one transaction: the record of one goes and that of the other changes, or neither; and so for two that change.
pub async fn two_sessions_change_together(store: &impl Store) {
    let directory = store.open().await;
    let (a, group, since) = member(&directory, "a").await;
    let (old, new) = (born(&directory, "old", group).await, born(&directory, "new", group).await);
    let both = |old, new| {
        vec![is("old", Some((group, old))), is("new", Some((group, new))), Compare::Group { group, owner: a, epoch: since }]
    };
    let swap = vec![Write::Forget { session: session("old") }, place("new", group, NextEpoch::Fresh)];
    let later = |epoch: Epoch| Epoch(epoch.0 + 1000);
    for wrong in [both(later(old), new), both(old, later(new))] {
        refused(&directory, wrong, swap.clone()).await;
        assert_eq!(read(&directory, "old").await.key(), Some((group, old)));
        assert_eq!(read(&directory, "new").await.key(), Some((group, new)));
    }
    let found = refused(&directory, both(old, later(new)), swap.clone()).await;
    assert_eq!(found.key(), Some((group, old)), "the first of the two tells");
    let epoch = applied(&directory, both(old, new), swap.clone()).await;
    assert_eq!(read(&directory, "old").await, Placement::default());
    assert_eq!(read(&directory, "new").await.key(), Some((group, epoch)));
    // Sent once more, as after an unknown outcome: nothing of it happens twice.
    refused(&directory, both(old, new), swap).await;
    assert_eq!(read(&directory, "new").await.key(), Some((group, epoch)));
    let again = born(&directory, "old", group).await;
    let places = vec![place("old", group, NextEpoch::Fresh), place("new", group, NextEpoch::Fresh)];
    refused(&directory, both(old, epoch), places.clone()).await;
    let last = applied(&directory, both(again, epoch), places).await;
    assert_eq!(
        (read(&directory, "old").await.key(), read(&directory, "new").await.key()),
        (Some((group, last)), Some((group, last)))
    );
}

/// All fresh epochs of a transaction are one, and it is told.
pub async fn one_fresh_epoch_serves_a_whole_transaction(store: &impl Store) {
    let directory = store.open().await;
    let (_, group, _) = member(&directory, "a").await;
    let both = vec![place("s", group, NextEpoch::Fresh), place("t", group, NextEpoch::Fresh)];
    let epoch = applied(&directory, vec![], both).await;
    assert_eq!(read(&directory, "s").await.key(), Some((group, epoch)));
    assert_eq!(read(&directory, "t").await.key(), Some((group, epoch)));
    assert!(born(&directory, "u", group).await > epoch);
}

/// A change that is no change of ownership keeps the epoch, and takes none from the counter.
pub async fn an_epoch_can_be_kept(store: &impl Store) {
    let directory = store.open().await;
    let (a, group, _) = member(&directory, "a").await;
    let epoch = born(&directory, "s", group).await;
    let depends = vec![HandoverId { origin: a, serial: 7 }];
    let keep = |depends: &Vec<HandoverId>| Write::Place {
        session: session("s"),
        group,
        epoch: NextEpoch::Keep(epoch),
        last: Some(HandoverId { origin: a, serial: 7 }),
        depends: depends.clone(),
    };
    let told = applied(&directory, vec![is("s", Some((group, epoch)))], vec![keep(&depends)]).await;
    assert_eq!(told, epoch, "no fresh epoch was asked for, so the counter stands where it was");
    assert_eq!(read(&directory, "s").await.location.expect("it is there").depends, depends);
    applied(&directory, vec![is("s", Some((group, epoch)))], vec![keep(&Vec::new())]).await;
    let location = read(&directory, "s").await.location.expect("it is there");
    assert_eq!((location.epoch, location.depends.len()), (epoch, 0));
    // Both kinds in one transaction.
    let fresh = applied(&directory, vec![], vec![keep(&depends), place("t", group, NextEpoch::Fresh)]).await;
    assert_eq!(read(&directory, "s").await.key(), Some((group, epoch)));
    assert_eq!(read(&directory, "t").await.key(), Some((group, fresh)));
}

/// Ids are bytes: empty ones, long ones, with zeros, not UTF-8, one a prefix of the other.
pub async fn any_bytes_are_an_id(store: &impl Store) {
    let directory = store.open().await;
    let (_, group, _) = member(&directory, "a").await;
    let long = vec![b'x'; 5000];
    let ids: [&[u8]; 9] = [b"", b"\0", b"\0\0", b"s", b"s\0", b"\xff\xfe", b"%_'\";--", b"{a}:b", &long];
    let mut epochs = Vec::new();
    for id in ids {
        let session = SessionId::copy_of(id);
        let put = Write::Place { session: session.clone(), group, epoch: NextEpoch::Fresh, last: None, depends: Vec::new() };
        epochs.push(applied(&directory, vec![Compare::Location { session, is: None }], vec![put]).await);
    }
    for (id, epoch) in ids.iter().zip(epochs) {
        let found = directory.read(SessionId::copy_of(id)).await.expect("the directory answers");
        assert_eq!(found.key(), Some((group, epoch)), "{} bytes", id.len());
    }
}

/// The last handover and the list of those that a session depends on come back as they were put.
pub async fn handovers_come_back(store: &impl Store) {
    let directory = store.open().await;
    let (a, group, _) = member(&directory, "a").await;
    for len in [0u64, 1, 3, 200] {
        let depends: Vec<_> =
            (0..len).map(|n| HandoverId { origin: Incarnation(Epoch(a.0.0 + n)), serial: u64::MAX >> (n % 50 + 1) }).collect();
        let last = depends.last().copied();
        let put = Write::Place { session: session("s"), group, epoch: NextEpoch::Fresh, last, depends: depends.clone() };
        applied(&directory, vec![], vec![put]).await;
        let location = read(&directory, "s").await.location.expect("it is there");
        assert_eq!((location.last, location.depends), (last, depends));
    }
}

/// A forgotten session is as one that never was, and its next life has a later epoch.
pub async fn a_location_can_be_forgotten(store: &impl Store) {
    let directory = store.open().await;
    let (_, group, _) = member(&directory, "a").await;
    let epoch = born(&directory, "s", group).await;
    let forget = vec![Write::Forget { session: session("s") }];
    refused(&directory, vec![is("s", None)], forget.clone()).await;
    applied(&directory, vec![is("s", Some((group, epoch)))], forget.clone()).await;
    assert_eq!(read(&directory, "s").await, Placement::default());
    applied(&directory, vec![], forget).await;
    assert!(born(&directory, "s", group).await > epoch);
}

/// A drain's worth of sessions moves in one transaction.
pub async fn a_big_batch_is_one_transaction(store: &impl Store) {
    const SESSIONS: usize = 1000;
    let directory = store.open().await;
    let (_, from, _) = member(&directory, "a").await;
    let (b, to, to_epoch) = member(&directory, "b").await;
    let names: Vec<String> = (0..SESSIONS).map(|n| format!("session {n}")).collect();
    let births = names.iter().map(|name| place(name, from, NextEpoch::Fresh)).collect();
    let epoch = applied(&directory, names.iter().map(|name| is(name, None)).collect(), births).await;
    let mut compare: Vec<_> = names.iter().map(|name| is(name, Some((from, epoch)))).collect();
    compare.push(Compare::Group { group: to, owner: b, epoch: to_epoch });
    let moves: Vec<_> = names.iter().map(|name| place(name, to, NextEpoch::Fresh)).collect();
    let moved = applied(&directory, compare.clone(), moves.clone()).await;
    for name in &names {
        assert_eq!(read(&directory, name).await.key(), Some((to, moved)));
    }
    let found = refused(&directory, compare, moves).await;
    assert_eq!(found.key(), Some((to, moved)));
}

/// A transaction without fresh epochs tells the counter's present value.
pub async fn an_empty_transaction_tells_the_counter(store: &impl Store) {
    let directory = store.open().await;
    let (_, group, _) = member(&directory, "a").await;
    let epoch = born(&directory, "s", group).await;
    assert_eq!(applied(&directory, vec![], vec![]).await, epoch);
    assert_eq!(applied(&directory, vec![is("s", Some((group, epoch)))], vec![]).await, epoch);
}
