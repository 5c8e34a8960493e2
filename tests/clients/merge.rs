//! Two slow requests of one session at a time that write different variables: one is lost, as with any store; with
//! `merge = "members"` both survive.
//!
//! By request the two go to two instances, as behind a balancer; by connection to the processes of one. The service is the same
//! in both halves. Invariant: where writes are merged, each variable that was acknowledged is read back, at every instance.

use crate::harness::{Cluster, Node, http, until};
use crate::http_client::HttpClient;
use crate::services::Service;
use bytes::Bytes;
use std::net::SocketAddr;

/// Between a request's read of the session and its write.
const HOLD_MS: u64 = 400;
/// Without merging a loss is waited for; on a machine that pauses, the requests may miss each other a few times.
const TRIALS_MAX: usize = 20;
/// Rounds with merging.
const ROUNDS: usize = 4;

/// See the head of this file. `keys` is `[state] keys` with merging.
pub fn both_survive(service: Service, keys: &str, by: &str) {
    if !service.is_installed() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut cluster = Cluster::new(service.keys);
    cluster.codec = service.codec;
    let nodes = start(&cluster, service, by);
    let lost = (0..TRIALS_MAX).any(|round| !runtime.block_on(two_writers(&nodes, round)).unwrap());
    assert!(lost, "without merging nothing is lost: this shows nothing");
    drop(nodes);

    let mut cluster = Cluster::new(keys).set(&[&format!("state.merge_by={by}")]);
    cluster.codec = service.codec;
    let nodes = start(&cluster, service, by);
    for round in 0..ROUNDS {
        assert!(runtime.block_on(two_writers(&nodes, round)).unwrap(), "one of two writes is lost in round {round}");
    }
    let based: f64 = nodes.iter().map(|node| node.metric("wayfarer_state_merge_writes_total{outcome=\"based\"}")).sum();
    assert!(based >= 2.0 * ROUNDS as f64, "only {based} writes were known to rest on a read");
}

fn start(cluster: &Cluster, service: Service, by: &str) -> Vec<Node> {
    let names: &[&str] = if by == "request" { &["a", "b"] } else { &["a"] };
    let command = service.command();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let start = |name: &&str| {
        let node = cluster.start(name, &command);
        until("the instance", || http::get(node.http, "/healthz").ok().filter(|answer| answer.status == 200));
        node
    };
    names.iter().map(start).collect()
}

/// A new session, two requests at a time; whether both have left what they wrote.
async fn two_writers(nodes: &[Node], round: usize) -> Result<bool, String> {
    let client = HttpClient::default();
    let (first, last) = (nodes.first().unwrap().http, nodes.last().unwrap().http);
    let login = client.post(first, &format!("/login?user=user-{round}"), "", Bytes::new()).await?.ok()?;
    let cookie = login.cookie.ok_or("no cookie at login")?;
    let write = |to: SocketAddr, name: &str| {
        let (client, cookie) = (client.clone(), cookie.clone());
        let path = format!("/write?name={name}&value={name}-{round}&hold_ms={HOLD_MS}");
        async move { client.post(to, &path, &cookie, Bytes::new()).await?.ok() }
    };
    let (left, right) = tokio::join!(write(first, "left"), write(last, "right"));
    left?;
    right?;
    let mut both = true;
    for node in nodes {
        let seen = client.get(node.http, "/read", &cookie).await?.ok()?.json["variables"].clone();
        let has = |name: &str| seen[name]["text"] == format!("{name}-{round}");
        both &= has("left") && has("right");
    }
    Ok(both)
}
