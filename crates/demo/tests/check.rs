//! The users' check against stores without Wayfarer: it stays silent over a correct one and names every fault of a faulty one.
//!
//! Each test runs two shops behind the balancer, on loopback and on free ports, for a few seconds.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::sync::Arc;

use support::{Fault, FaultyStore, Redis, until};
use tokio::net::TcpListener;
use wayfarer_demo::balancer::Balancer;
use wayfarer_demo::shop::{self, ShopSettings};
use wayfarer_demo::users::ledger::{Ledger, Phase};
use wayfarer_demo::users::{Crowd, Users};
use wayfarer_demo::world::{Background, Clock};

/// Lets `users` virtual users work on two shops over this Redis for 6 seconds, and until `enough`.
async fn drive(redis_url: &str, users: u32, enough: impl FnMut() -> bool) -> Arc<Ledger> {
    let balancer = Balancer::start().await.unwrap();
    let mut shops = Vec::new();
    for name in ["a", "b"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = ShopSettings::new(redis_url);
        shops.push(Background::start(async move { shop::serve(listener, settings).await.unwrap() }));
        balancer.add(name, address, address);
    }
    until("both shops are ready", || balancer.ready().len() == 2).await;
    let (clock, ledger) = (Clock::start(), Arc::new(Ledger::default()));
    let crowd = Crowd { users, seed: 11, variable_bytes_max: u32::MAX };
    let crowd = Users::start(crowd, balancer.address, clock, Arc::clone(&ledger));
    ledger.enter(Phase::Before);
    clock.sleep_until_us(6_000_000).await;
    until("what the test is about", enough).await;
    ledger.enter(Phase::ReadBack);
    crowd.finish().await.unwrap();
    ledger
}

async fn drive_faulty(fault: Fault) -> Arc<Ledger> {
    let store = FaultyStore::start(fault).await;
    drive(&store.url, 40, || fault == Fault::None || store.has_struck()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_real_redis_nothing_is_wrong() {
    let redis = Redis::start().await;
    let ledger = drive(&redis.url, 200, || true).await;

    let counts = ledger.counts();
    let found = (counts.errors, counts.stale_reads, counts.lost_writes, counts.wrong_values, counts.undispatched);
    assert_eq!(found, (0, 0, 0, 0, 0), "{:?} {:?}", counts.reasons, counts.samples);
    assert!(counts.sessions.len() >= 200 && counts.records.len() > 1500, "{} requests", counts.records.len());
    let mut latencies: Vec<i64> = counts.records.iter().map(|record| record.done_us - record.due_us).collect();
    latencies.sort_unstable();
    println!(
        "{} requests, p50 {} us, p99 {} us, {} late",
        latencies.len(),
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100],
        counts.late
    );
    assert!(concurrent_within_a_session(&counts.records) > 100, "requests of one session overlap");
}

fn concurrent_within_a_session(records: &[wayfarer_demo::users::ledger::Record]) -> usize {
    let mut sorted = records.to_vec();
    sorted.sort_by_key(|record| (record.session, record.sent_us));
    sorted.windows(2).filter(|pair| pair[0].session == pair[1].session && pair[1].sent_us < pair[0].done_us).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_faults_raises_no_alarm() {
    let ledger = drive_faulty(Fault::None).await;
    let counts = ledger.counts();
    assert_eq!(
        (counts.errors, counts.stale_reads, counts.lost_writes, counts.wrong_values),
        (0, 0, 0, 0),
        "{:?}",
        counts.samples
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_write_is_lost_or_stale() {
    let ledger = drive_faulty(Fault::DropWrite).await;
    let counts = ledger.counts();
    assert!(counts.lost_writes + counts.stale_reads > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_old_value_is_one_stale_read() {
    let ledger = drive_faulty(Fault::OldValue).await;
    let counts = ledger.counts();
    assert_eq!((counts.stale_reads, counts.lost_writes, counts.wrong_values), (1, 0, 0), "{:?}", counts.samples);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_changed_byte_is_one_wrong_value() {
    let ledger = drive_faulty(Fault::FlipByte).await;
    let counts = ledger.counts();
    assert_eq!((counts.stale_reads, counts.lost_writes, counts.wrong_values), (0, 0, 1), "{:?}", counts.samples);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_increment_is_found() {
    let ledger = drive_faulty(Fault::LoseCount).await;
    let counts = ledger.counts();
    assert!(counts.stale_reads + counts.lost_writes > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_after_a_logout_is_found() {
    let ledger = drive_faulty(Fault::KeepDeleted).await;
    let counts = ledger.counts();
    assert!(counts.stale_reads > 0 && counts.lost_writes == 0, "{:?}", counts.samples);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refused_operation_is_one_error() {
    let ledger = drive_faulty(Fault::TryAgain).await;
    let counts = ledger.counts();
    assert_eq!((counts.errors, counts.stale_reads, counts.lost_writes), (1, 0, 0), "{:?}", counts.samples);
    assert!(counts.reasons.keys().all(|reason| reason.contains("503") && reason.contains("TRYAGAIN")), "{:?}", counts.reasons);
}
