//! A web service whose library was told its real Redis and nothing else, and whose clients come to its own port: rules of the kernel bring
//! both to a sidecar, then to another one, and then to nobody any more.
//!
//! The service listens on loopback alone, so what reaches it from the other network namespace has come through a sidecar.
//! Invariant: a session is read back with what was written last, wherever its requests go.

use crate::harness::network::Network;
use crate::harness::redis_server::RedisServer;
use crate::harness::{Cluster, Node, free_port, http, until, wayfarer};
use crate::services::Service;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// The user as whom the sidecars run; the service runs as who runs the test.
const SIDECAR: u32 = 10_001;

/// The service, by itself.
struct Alone(Child);

impl Alone {
    fn start(service: Service, port: u16, redis: SocketAddr) -> Alone {
        let command = service.command();
        let mut start = Command::new(&command[0]);
        start.args(&command[1..]).env("PORT", port.to_string()).env("REDIS_URL", format!("redis://{redis}"));
        Alone(start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        // It may have ended by itself; then there is nothing to end.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        drop(self.0.wait());
    }
}

/// What rules of a sidecar are made of: those of both lead the same service's connections.
fn redirect(node: &Node, set: &[String], order: &str) {
    let config = node.config.display().to_string();
    let mut words = vec!["redirect", "-c", &config, order];
    set.iter().for_each(|setting| words.extend(["--set", setting]));
    let done = wayfarer(&words);
    assert!(done.status.success(), "{done:?}");
}

fn taken(node: &Node, direction: &str) -> bool {
    let text = http::get(node.admin, "/metrics").unwrap().text();
    text.contains(&format!("wayfarer_redirect_connections_total{{direction=\"{direction}\",outcome=\"taken\"}}"))
}

/// See the head of this file.
pub fn is_served(service: Service) {
    if !service.is_installed() {
        return;
    }
    let Some(network) = Network::make() else { return };
    let port = free_port();
    let bound = ["--bind", "127.0.0.1", "10.99.0.1", "--protected-mode", "no"];
    let Some(redis) = network.in_world(|| RedisServer::start_on(free_port(), &bound)) else { return };
    let redis_at = SocketAddr::new(Network::REDIS, redis.port);
    let mut cluster = Cluster::new(service.keys).run_by(SIDECAR);
    cluster.codec = service.codec;
    let of_all = [
        format!("app.address=127.0.0.1:{port}"),
        format!("state.upstream=redis://{redis_at}"),
        format!("redirect.sidecar_user={SIDECAR}"),
        "redirect.outbound=true".to_owned(),
        "redirect.inbound=true".to_owned(),
        "drain.settle_ms=0".to_owned(),
    ];
    let start = |name: &str| {
        let own = [("outbound", free_port()), ("inbound", free_port())];
        let own = own.map(|(direction, port)| format!("redirect.{direction}_port={port}"));
        let set = [of_all.to_vec(), own.to_vec()].concat();
        let cluster = Cluster {
            set: set.clone(),
            folder: cluster.folder.clone(),
            keys: cluster.keys.clone(),
            more: String::new(),
            ..cluster
        };
        (cluster.start(name, &[]), set)
    };
    let ((mut a, set_a), (mut b, set_b)) = (start("a"), start("b"));
    redirect(&a, &set_a, "--apply");
    let alone = Alone::start(service, port, redis_at);
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    until("the service", || http::get(here, "/healthz").ok().filter(|answer| answer.status == 200));

    // Users come from elsewhere, to the port that they have always come to.
    let from_afar = SocketAddr::new(Network::POD, port);
    let ask = |method: &str, path: &str, cookie: &str| {
        let fields: &[(&str, &str)] = if cookie.is_empty() { &[] } else { &[("Cookie", cookie)] };
        network.in_world(|| http::request(from_afar, method, path, fields).unwrap())
    };
    let mut cookies = Vec::new();
    for n in 0..5 {
        let cookie = ask("POST", &format!("/login?user=user-{n}"), "").cookie().unwrap();
        assert_eq!(ask("POST", &format!("/write?name=cart&value=book-{n}"), &cookie).status, 200);
        cookies.push(cookie);
    }
    let read = |at: &str, answer: http::Answer, n: usize| {
        assert_eq!(answer.status, 200, "{at}: {}", answer.text());
        assert!(answer.text().contains(&format!("book-{n}")), "{at}: {}", answer.text());
    };
    assert_eq!(a.sessions(), 5);
    assert!(taken(&a, "outbound") && taken(&a, "inbound") && !taken(&b, "outbound"));

    // The other sidecar takes over, sessions and connections.
    redirect(&b, &set_b, "--apply");
    a.ask_drain();
    assert!(a.wait_exit().success(), "{}", a.log_text());
    for (n, cookie) in cookies.iter().enumerate() {
        read("b", ask("GET", "/read", cookie), n);
    }
    assert_eq!(b.sessions(), 5);
    assert!(taken(&b, "outbound") && taken(&b, "inbound"));

    // Plain Redis, as if there had never been a sidecar: now only this machine reaches the service.
    redirect(&b, &set_b, "--remove");
    b.ask_drain();
    assert!(b.wait_exit().success(), "{}", b.log_text());
    let plainly = |cookie: &str| http::request(here, "GET", "/read", &[("Cookie", cookie)]).unwrap();
    // Where its connection went is forgotten with the rules: it connects again, as after a restart of its Redis.
    until("the service to connect again", || (plainly(&cookies[0]).status == 200).then_some(()));
    for (n, cookie) in cookies.iter().enumerate() {
        read("alone", plainly(cookie), n);
    }
    assert!(network.in_world(|| http::get(from_afar, "/healthz").is_err()));
    drop(alone);
}
