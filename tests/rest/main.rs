//! Sessions at rest: what is in the upstream, when, and what a restart, an outage or a stranger does to it.
//!
//! Each test has a `redis-server` and a cluster of its own, and asks both only from outside: Redis commands on either side,
//! signals, exit codes, the admin interface. Without `redis-server` in the path the tests say so and are skipped.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test reports by panicking"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod check_in;
mod crash;
mod databases;
mod events;
mod gate;
mod listeners;
mod lives;
mod modes;
mod outage;
mod redis;
mod redis_cluster;
mod refusals;
mod rename;
mod scripts;
mod sentinel;
mod stranger;
mod tls;
mod traces;
mod transparent;

use harness::resp::{Client, Reply};
use harness::{Cluster, Node, until};
use redis::Redis;

/// A hash, a JSON text, and keys by variable: three patterns of one session.
const KEYS: &str = r#"[{ pattern = "s:{session}", layout = "hash" }, { pattern = "j:{session}", layout = "json" },
    { pattern = "lock:{session}", layout = "key", variable = "lock" }]"#;

/// Variables whose impact is the beginning of their names; others are `high`.
const POLICY: &str = r#"
[[policy.variable]]
name = "critical*"
impact = "critical"
[[policy.variable]]
name = "medium*"
impact = "medium"
[[policy.variable]]
name = "low*"
impact = "low"
"#;

/// A cluster whose sessions are at rest in `redis`.
fn cluster(redis: &Redis) -> Cluster {
    cluster_of(redis, &KEYS.replace('\n', " "))
}

/// The same with these keys.
fn cluster_of(redis: &Redis, keys: &str) -> Cluster {
    cluster_at(&format!("redis://127.0.0.1:{}/0", redis.port()), keys)
}

/// The same with an upstream by its URL.
fn cluster_of_url(url: &str) -> Cluster {
    cluster_at(url, &KEYS.replace('\n', " "))
}

fn cluster_at(url: &str, keys: &str) -> Cluster {
    let upstream = format!("state.upstream={url}");
    let fast = ["drain.settle_ms=0", "cluster.lease_ms=1000", "cluster.lease_margin_ms=100", "http.enabled=false"];
    Cluster::new(keys).with(POLICY).set(&[&upstream]).set(&fast)
}

/// Settings for other nodes of the same cluster.
fn cluster_in(cluster: &Cluster) -> Cluster {
    Cluster {
        folder: cluster.folder.clone(),
        keys: cluster.keys.clone(),
        more: cluster.more.clone(),
        set: cluster.set.clone(),
        codec: cluster.codec,
        user: cluster.user,
    }
}

/// Asks until the answer is no `TRYAGAIN`.
fn settled(client: &mut Client, words: &[&str]) -> Reply {
    until(&format!("an answer to {}", words[0]), || {
        let reply = client.call(words);
        (!reply.is_try_again()).then_some(reply)
    })
}

/// Waits until the upstream lacks nothing.
fn wait_written(node: &Node) {
    until("the upstream to have everything", || (node.metric("wayfarer_staleness_seconds") == 0.0).then_some(()));
}

fn pairs(reply: Reply) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    let Reply::Array(items) = reply else { panic!("no array: {reply:?}") };
    let bytes = |reply: &Reply| if let Reply::Bulk(bytes) = reply { bytes.clone() } else { panic!("no bulk: {reply:?}") };
    items.chunks(2).map(|pair| (bytes(&pair[0]), bytes(&pair[1]))).collect()
}
