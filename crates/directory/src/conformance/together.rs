//! Cases with several instances and tasks at once: the counter, linearizability, atomic batches, the watch.
//!
//! Each public function is one case, called by `conformance_suite!` with an empty store. Histories are recorded here and judged
//! by `history`.

use super::history::{Answered, Operation, Recorder, check};
use super::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

/// Epochs, incarnations and groups come from one counter: through any instance, at any time, no number comes twice, and a
/// later epoch is a larger one.
pub async fn numbers_are_never_given_out_twice(store: &impl Store) {
    let instances = [Arc::new(store.open().await), Arc::new(store.open().await)];
    let mut tasks = JoinSet::new();
    for (n, directory) in instances.iter().cycle().take(8).enumerate() {
        let directory = directory.clone();
        tasks.spawn(async move {
            let mut numbers = Vec::new();
            for round in 0..5 {
                let Registration { incarnation, groups } =
                    directory.register(draft(&format!("{n}/{round}")), 2).await.expect("the name is free");
                assert!(numbers.iter().all(|n| *n < incarnation.0.0), "incarnations grow");
                numbers.push(incarnation.0.0);
                numbers.extend(groups.iter().map(|(group, _)| group.0));
                for turn in 0..10 {
                    let epoch = born(&*directory, &format!("{n}/{round}/{turn}"), groups[0].0).await;
                    assert!(numbers.iter().all(|n| *n < epoch.0), "epochs grow");
                    numbers.push(epoch.0);
                }
            }
            numbers
        });
    }
    let numbers = tasks.join_all().await.concat();
    let distinct: BTreeSet<_> = numbers.iter().copied().collect();
    assert_eq!(distinct.len(), numbers.len(), "a number was given out twice");
}

/// When all instances are gone, the next one goes on where they were.
pub async fn a_reopened_store_continues_the_counter(store: &impl Store) {
    let first = store.open().await;
    let (a, group, since) = member(&first, "a").await;
    let epoch = born(&first, "s", group).await;
    let seen = view(&first).await;
    drop(first);
    let second = store.open().await;
    assert_eq!(view(&second).await, seen);
    assert_eq!(read(&second, "s").await.key(), Some((group, epoch)));
    applied(&second, vec![Compare::Group { group, owner: a, epoch: since }], vec![]).await;
    assert!(born(&second, "t", group).await > epoch);
    let (b, group_b, _) = member(&second, "b").await;
    assert!(b.0 > epoch && group_b.0 > epoch.0);
}

/// What an instance was told is applied, every instance reads from then on.
pub async fn writes_are_read_at_once(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (a, group, _) = member(&here, "a").await;
    for n in 0..100u64 {
        let (writer, other) = if n % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let epoch = applied(writer, vec![], vec![place("s", group, NextEpoch::Fresh), Write::Renew { incarnation: a }]).await;
        assert_eq!(read(writer, "s").await.key(), Some((group, epoch)));
        assert_eq!(read(other, "s").await.key(), Some((group, epoch)));
        assert_eq!(view(other).await.members.get(&a).map(|m| m.renewals), Some(n + 1));
    }
}

/// Many tasks renew one member through two instances: none of the renewals that were told is lost.
pub async fn concurrent_counters_lose_nothing(store: &impl Store) {
    const TASKS: u64 = 16;
    const EACH: u64 = 25;
    let instances = [Arc::new(store.open().await), Arc::new(store.open().await)];
    let (a, ..) = member(&*instances[0], "a").await;
    let mut tasks = JoinSet::new();
    for n in 0..TASKS {
        let directory = instances[usize::try_from(n % 2).unwrap()].clone();
        tasks.spawn(async move {
            for _ in 0..EACH {
                applied(&*directory, vec![], vec![Write::Renew { incarnation: a }]).await;
            }
        });
    }
    tasks.join_all().await;
    for directory in &instances {
        assert_eq!(view(&**directory).await.members.get(&a).map(|m| m.renewals), Some(TASKS * EACH));
    }
}

/// Reads and compare-and-sets of one location, from many tasks through two instances, have an order that explains them all.
pub async fn a_history_is_linearizable(store: &impl Store) {
    const TASKS: usize = 8;
    const EACH: usize = 60;
    const SETS_MIN: usize = 10;
    let instances = [Arc::new(store.open().await), Arc::new(store.open().await)];
    let (_, group, _) = member(&*instances[0], "a").await;
    let recorder = Arc::new(Recorder::default());
    let mut tasks = JoinSet::new();
    for n in 0..TASKS {
        let (directory, recorder) = (instances[n % 2].clone(), recorder.clone());
        tasks.spawn(async move {
            let mut history = Vec::new();
            let mut known = None;
            for turn in 0..EACH {
                let started = recorder.tick();
                let answered = if (turn + n) % 3 == 0 {
                    Answered::Read(read(&*directory, "s").await.key().map(|(_, epoch)| epoch))
                } else {
                    let key = known.map(|epoch| (group, epoch));
                    match transact(&*directory, vec![is("s", key)], vec![place("s", group, NextEpoch::Fresh)]).await {
                        Outcome::Applied { epoch } => Answered::Set { from: known, to: epoch },
                        Outcome::Refused { found } => {
                            Answered::NotSet { from: known, found: found.key().map(|(_, epoch)| epoch) }
                        }
                    }
                };
                known = answered.left();
                history.push(Operation { started, ended: recorder.tick(), answered });
            }
            history
        });
    }
    let history = tasks.join_all().await.concat();
    assert_eq!(history.len(), TASKS * EACH);
    let sets = check(&history).unwrap_or_else(|why| panic!("no order explains the history: {why}"));
    assert!(sets >= SETS_MIN, "only {sets} compare-and-sets succeeded, so the history says little");
}

/// Transactions over several sessions at once never leave half of themselves behind.
pub async fn batches_overlap_without_tearing(store: &impl Store) {
    const SESSIONS: usize = 8;
    let instances = [Arc::new(store.open().await), Arc::new(store.open().await)];
    let (_, group, _) = member(&*instances[0], "a").await;
    let all = || (0..SESSIONS).map(|n| format!("s{n}"));
    let first = applied(&*instances[0], vec![], all().map(|s| place(&s, group, NextEpoch::Fresh)).collect()).await;
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let directory = instances[n % 2].clone();
        tasks.spawn(async move {
            let (mut known, mut won) = (first, 0);
            for _ in 0..30 {
                // Each task names the sessions in an order of its own.
                let names: Vec<String> = (0..SESSIONS).map(|i| format!("s{}", (i + n) % SESSIONS)).collect();
                let compare = names.iter().map(|s| is(s, Some((group, known)))).collect();
                let write = names.iter().map(|s| place(s, group, NextEpoch::Fresh)).collect();
                match transact(&*directory, compare, write).await {
                    Outcome::Applied { epoch } => (known, won) = (epoch, won + 1),
                    Outcome::Refused { found } => known = found.location.expect("nobody forgets it").epoch,
                }
            }
            won
        });
    }
    let won: usize = tasks.join_all().await.into_iter().sum();
    assert!(won > 0, "no transaction was applied");
    let mut epochs = BTreeSet::new();
    for name in all() {
        epochs.insert(read(&*instances[1], &name).await.location.expect("nobody forgets it").epoch);
    }
    assert_eq!(epochs.len(), 1, "half a transaction: {epochs:?}");
}

/// A watcher is told of each kind of change that another instance makes, and of its own.
pub async fn a_watch_sees_other_instances(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let mut views = watch(&here);
    let (a, group, _) = member(&there, "a").await;
    seen(&mut views, "a registration", |v| v.groups.get(&group).is_some_and(|g| g.owner == Some(a))).await;
    for n in 1..=3 {
        applied(&there, vec![], vec![Write::Renew { incarnation: a }]).await;
        seen(&mut views, "a renewal", |v| v.members.get(&a).is_some_and(|m| m.renewals >= n)).await;
    }
    let state = wayfarer_engine::directory::MemberState::Draining;
    applied(&there, vec![], vec![Write::State { incarnation: a, state }]).await;
    seen(&mut views, "a state", |v| v.members.get(&a).is_some_and(|m| m.state == state)).await;
    let (b, ..) = member(&here, "b").await;
    seen(&mut views, "an own registration", |v| !v.is_dead(b)).await;
    applied(&there, vec![], vec![Write::Fence { incarnation: a }]).await;
    seen(&mut views, "a fence", |v| v.is_dead(a) && v.groups.get(&group).is_none_or(|g| g.owner.is_none())).await;
    applied(&there, vec![], vec![Write::Leave { incarnation: b }]).await;
    seen(&mut views, "a leave", |v| !v.members.contains_key(&b)).await;
}

/// A watcher that comes late is told what there is, though nothing changes.
pub async fn a_watch_begins_with_the_present(store: &impl Store) {
    let (here, there) = (store.open().await, store.open().await);
    let (a, group, _) = member(&there, "a").await;
    let mut views = watch(&here);
    seen(&mut views, "the present", |v| !v.is_dead(a) && v.groups.contains_key(&group)).await;
}

/// The channel has no bound, but the case makes a handful of changes.
fn watch(directory: &impl Directory) -> UnboundedReceiver<View> {
    let (tell, views) = unbounded_channel();
    directory.watch(Box::new(move |view| drop(tell.send(view))));
    views
}

async fn seen(views: &mut UnboundedReceiver<View>, what: &str, is_it: impl Fn(&View) -> bool) {
    let wait = async { while !is_it(&views.recv().await.expect("the watch goes on")) {} };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("the watcher was not told of {what}"));
}
