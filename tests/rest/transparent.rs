//! Transparent mode: clients that know nothing but the address of the Redis are brought to the sidecar by rules of the kernel.
//!
//! Each test has two network namespaces of its own: its Redis is in the one, sidecars and clients are in the other, with the
//! rules, so nothing holds for the machine itself. Clients are this process, which is root; sidecars run as [`SIDECAR`].
//! Invariant of each: what a sidecar connects to by itself is never redirected, or it would count more connections than there were.

use crate::harness::network::{Network, printed};
use crate::harness::redis_server::RedisServer;
use crate::harness::{Cluster, Node, free_port, http, until, wayfarer};
use crate::redis::Redis;
use crate::{Client, KEYS, Reply, cluster_at, cluster_in, settled, wait_written};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

/// The user as whom sidecars run.
const SIDECAR: u32 = 10_001;
/// A user who is neither that nor root.
const OTHER: u32 = 10_002;

struct Scene {
    network: Network,
    redis: Redis,
}

impl Scene {
    /// `None`, with the reason said, if it cannot be played here.
    fn make() -> Option<Scene> {
        let network = Network::make()?;
        let at = ["--bind", "127.0.0.1", "10.99.0.1", "fd99::1", "--protected-mode", "no"];
        let redis = network.in_world(|| Redis::start_with(&at))?;
        Some(Scene { network, redis })
    }

    /// What the service has always been told.
    fn address(&self) -> SocketAddr {
        SocketAddr::new(Network::REDIS, self.redis.port())
    }

    fn client(&self) -> Client {
        Client::to(self.address())
    }

    /// Redis itself, from where no rule holds.
    fn plainly(&self, line: &str) -> Reply {
        self.network.in_world(|| self.client()).say(line)
    }

    fn cluster(&self) -> Cluster {
        cluster_at(&format!("redis://{}", self.address()), &KEYS.replace('\n', " ")).run_by(SIDECAR)
    }

    /// Another Redis, at the same port of another address.
    fn other_redis(&self) -> RedisServer {
        let at = SocketAddr::new(Network::OTHER, self.redis.port());
        let start = || RedisServer::start_on(self.redis.port(), &["--bind", "10.99.0.2", "--protected-mode", "no"]).unwrap();
        let other = self.network.in_world(start);
        until("the other Redis", || Client::try_to(at).ok());
        other
    }
}

/// A sidecar with the settings of its redirection.
struct Sidecar {
    node: Node,
    set: Vec<String>,
}

impl Sidecar {
    fn start(cluster: &Cluster, name: &str, more: &[&str]) -> Sidecar {
        let [outbound, inbound] = [free_port(), free_port()];
        let mut set = vec![
            format!("redirect.sidecar_user={SIDECAR}"),
            "redirect.outbound=true".to_owned(),
            format!("redirect.outbound_port={outbound}"),
            format!("redirect.inbound_port={inbound}"),
        ];
        set.extend(more.iter().map(|setting| (*setting).to_owned()));
        let mut cluster = cluster_in(cluster);
        cluster.set.extend(set.iter().cloned());
        let node = cluster.start(name, &[]);
        // What the nodes are told on their command line, rules are made of too.
        Sidecar { node, set: cluster.set }
    }

    fn arguments(&self, order: &[&str]) -> Vec<String> {
        let config = self.node.config.display().to_string();
        let mut arguments: Vec<String> = ["redirect", "-c", &config].map(str::to_owned).to_vec();
        arguments.extend(order.iter().map(|word| (*word).to_owned()));
        arguments.extend(self.set.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]));
        arguments
    }

    /// `wayfarer redirect`.
    fn redirect(&self, order: &[&str]) -> Output {
        wayfarer(&self.arguments(order).iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same, which must succeed; what it says.
    fn rules(&self, order: &[&str]) -> String {
        let done = self.redirect(order);
        assert!(done.status.success(), "{order:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    fn port(&self, setting: &str) -> u16 {
        self.set.iter().find_map(|set| set.strip_prefix(&format!("redirect.{setting}="))).unwrap().parse().unwrap()
    }

    /// Connections of its listeners, by direction and outcome.
    fn count(&self, direction: &str, outcome: &str) -> f64 {
        let text = http::get(self.node.admin, "/metrics").unwrap().text();
        let name = format!("wayfarer_redirect_connections_total{{direction=\"{direction}\",outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(name.as_str())).map_or(0.0, |count| count.parse().unwrap())
    }
}

fn word(reply: &Reply) -> &str {
    if let Reply::Bulk(bytes) = reply { std::str::from_utf8(bytes).unwrap() } else { "no text" }
}

#[test]
fn sessions_of_a_client_that_knows_only_its_redis_are_served_and_move() {
    let Some(scene) = Scene::make() else { return };
    let cluster = scene.cluster();
    let (a, b) = (Sidecar::start(&cluster, "a", &[]), Sidecar::start(&cluster, "b", &[]));
    let mut before = scene.client();
    assert_eq!(before.say("SET other:1 plain"), Reply::ok());
    let said: serde_json::Value = serde_json::from_str(&a.rules(&["--apply", "--json"])).unwrap();
    assert_eq!((said["replaced"].as_bool(), said["exempt_user"].as_u64()), (Some(false), Some(u64::from(SIDECAR))));
    let rules = printed("nft", &["-s", "list", "ruleset"]);
    assert!(a.rules(&["--apply"]).starts_with("replaced"));
    assert_eq!(printed("nft", &["-s", "list", "ruleset"]), rules, "twice is the same as once");

    let mut client = scene.client();
    for n in 0..20 {
        assert_eq!(settled(&mut client, &["HSET", &format!("s:{n}"), "cart", &format!("books-{n}")]), Reply::Int(1));
    }
    assert_eq!(client.say("GET other:1"), Reply::text("plain"), "what is no session's is the upstream's");
    assert_eq!((a.node.sessions(), a.count("outbound", "taken")), (20, 1.0));
    wait_written(&a.node);
    assert_eq!(scene.plainly("HGET s:7 cart"), Reply::text("books-7"), "at rest, by a connection that was not redirected");
    assert_eq!(before.say("GET other:1"), Reply::text("plain"), "a connection that was open stays where it is");

    // The same address leads to the other sidecar from now on, and the sessions go there.
    b.rules(&["--apply"]);
    assert_eq!(client.say("HGET s:7 cart"), Reply::text("books-7"), "a connection that was redirected stays where it went");
    assert_eq!((a.count("outbound", "taken"), b.count("outbound", "taken")), (1.0, 0.0));
    let mut client = scene.client();
    a.node.ask_drain();
    for n in 0..20 {
        let cart = settled(&mut client, &["HGET", &format!("s:{n}"), "cart"]);
        assert_eq!(word(&cart), format!("books-{n}"));
        assert_eq!(settled(&mut client, &["HSET", &format!("s:{n}"), "seen", "b"]), Reply::Int(1));
    }
    let mut a = a;
    assert!(a.node.wait_exit().success(), "{}", a.node.log_text());
    assert_eq!((b.node.sessions(), b.count("outbound", "taken")), (20, 1.0));

    // Back to plain Redis.
    b.node.ask_drain();
    let mut b = b;
    assert!(b.node.wait_exit().success(), "{}", b.node.log_text());
    assert!(Client::try_to(scene.address()).is_err(), "the rules are there still, and nobody listens behind them");
    assert!(b.rules(&["--remove"]).starts_with("removed"));
    assert_eq!(printed("nft", &["list", "ruleset"]), "");
    assert!(b.rules(&["--remove"]).starts_with("none"));
    let mut client = scene.client();
    for n in 0..20 {
        assert_eq!(client.say(&format!("HMGET s:{n} cart seen")).texts(), [format!("books-{n}"), "b".to_owned()]);
    }
}

#[test]
fn another_redis_on_the_port_is_passed_through() {
    let Some(scene) = Scene::make() else { return };
    let other = scene.other_redis();
    let a = Sidecar::start(&scene.cluster(), "a", &[]);
    a.rules(&["--apply"]);
    let mut client = Client::to(SocketAddr::new(Network::OTHER, scene.redis.port()));
    assert_eq!(client.say("HSET s:1 cart theirs"), Reply::Int(1));
    assert_eq!(client.say("HGET s:1 cart"), Reply::text("theirs"));
    let value = "x".repeat(3_000_000);
    assert_eq!(client.call(&["SET", "large", &value]), Reply::ok());
    assert_eq!(client.call(&["GET", "large"]), Reply::text(&value));
    assert_eq!((a.node.sessions(), a.count("outbound", "passed"), a.count("outbound", "taken")), (0, 1.0, 0.0));
    assert_eq!(a.node.metric("wayfarer_redirect_passed_connections"), 1.0);
    // The upstream's host has another address, which its URL does not name.
    let mut over_v6 = Client::to(SocketAddr::new(Network::OVER_V6, scene.redis.port()));
    assert_eq!(over_v6.say("SET s:2 six"), Reply::ok());
    assert_eq!((scene.plainly("GET s:2"), a.count("outbound", "passed")), (Reply::text("six"), 2.0));
    drop(over_v6);
    drop(client);
    until("both to end", || (a.node.metric("wayfarer_redirect_passed_connections") == 0.0).then_some(()));
    // Nobody listens there any more: a client hears of it.
    drop(other);
    let gone = Client::try_to(SocketAddr::new(Network::OTHER, scene.redis.port()));
    assert!(gone.and_then(|mut client| client.try_call(&["PING"])).is_err());
}

#[test]
fn over_ipv6_and_by_a_name() {
    let Some(scene) = Scene::make() else { return };
    let v6 = SocketAddr::new(Network::OVER_V6, scene.redis.port());
    let cluster = cluster_at(&format!("redis://{v6}"), &KEYS.replace('\n', " ")).run_by(SIDECAR);
    let a = Sidecar::start(&cluster, "a", &["redirect.upstream_networks=fd99::/64"]);
    a.rules(&["--apply"]);
    assert_eq!(settled(&mut Client::to(v6), &["HSET", "s:1", "cart", "six"]), Reply::Int(1));
    assert_eq!((a.node.sessions(), a.count("outbound", "taken")), (1, 1.0));
    // Of IPv4 no network is named.
    assert_eq!(scene.client().say("HSET s:2 cart four"), Reply::Int(1));
    assert_eq!((a.node.sessions(), scene.plainly("HGET s:2 cart")), (1, Reply::text("four")));

    // The machine's own Redis, by the name that every machine has.
    let own = RedisServer::start_on(free_port(), &[]).unwrap();
    let cluster = cluster_at(&format!("redis://localhost:{}", own.port), &KEYS.replace('\n', " ")).run_by(SIDECAR);
    let b = Sidecar::start(&cluster, "b", &["redirect.table=wayfarer_b"]);
    b.rules(&["--apply"]);
    assert_eq!(settled(&mut Client::to(own.address()), &["HSET", "s:1", "cart", "near"]), Reply::Int(1));
    assert_eq!((b.node.sessions(), b.count("outbound", "taken")), (1, 1.0));
    a.rules(&["--remove"]);
    let tables = printed("nft", &["list", "tables"]);
    assert_eq!(tables.trim(), "table inet wayfarer_b", "rules of another name stay");
}

#[test]
fn only_what_was_redirected_is_served() {
    let Some(scene) = Scene::make() else { return };
    let a = Sidecar::start(&scene.cluster(), "a", &["redirect.inbound=true", "http.enabled=true"]);
    a.rules(&["--apply"]);
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), "::1".parse().unwrap()] {
        let mut direct = Client::to(SocketAddr::new(ip, a.port("outbound_port")));
        let said = direct.say("PING");
        assert!(said.error().contains("only connections that were redirected"), "{said:?}");
        assert!(direct.is_closed());
        let said = http::get(SocketAddr::new(ip, a.port("inbound_port")), "/").unwrap();
        assert_eq!((said.status, said.text().contains("only")), (421, false), "{}", said.text());
        assert!(said.text().contains("Only connections that were redirected"), "{}", said.text());
    }
    // Other machines reach the one, which says the same, and not the other.
    scene.network.enter_world();
    let said = http::get(SocketAddr::new(Network::POD, a.port("inbound_port")), "/").unwrap();
    assert_eq!(said.status, 421);
    assert!(Client::try_to(SocketAddr::new(Network::POD, a.port("outbound_port"))).is_err());
    scene.network.enter_pod();
    assert_eq!((a.count("outbound", "direct"), a.count("inbound", "direct")), (2.0, 3.0));
    assert_eq!((a.node.sessions(), a.count("outbound", "taken")), (0, 0.0));
}

/// What a process of this user hears from the Redis.
fn as_user(user: u32, scene: &Scene, words: &[&str]) -> String {
    let (ip, port) = (scene.address().ip().to_string(), scene.redis.port().to_string());
    let mut command = Command::new("redis-cli");
    command.args(["-h", &ip, "-p", &port]).args(words).uid(user).current_dir("/").stdin(Stdio::null());
    let done = command.output().unwrap();
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

#[test]
fn connections_of_others_and_of_the_sidecars_user_are_left_alone() {
    let Some(scene) = Scene::make() else { return };
    let a = Sidecar::start(&scene.cluster(), "a", &[&format!("redirect.service_users={OTHER}")]);
    a.rules(&["--apply"]);
    assert_eq!(as_user(0, &scene, &["HSET", "s:1", "cart", "root"]), "1");
    assert_eq!(as_user(SIDECAR, &scene, &["HSET", "s:2", "cart", "sidecar"]), "1");
    assert_eq!((a.node.sessions(), a.count("outbound", "taken")), (0, 0.0));
    assert_eq!(as_user(OTHER, &scene, &["HSET", "s:3", "cart", "service"]), "1");
    assert_eq!((a.node.sessions(), a.count("outbound", "taken")), (1, 1.0));
    let set = ["redirect.service_users=app".to_owned()];
    let wrong = Sidecar { set: [a.set.clone(), set.to_vec()].concat(), ..a };
    let done = wrong.redirect(&["--apply"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("app is not in /etc/passwd: give the user's number"), "{done:?}");
}

#[test]
fn iptables_does_the_same_and_leaves_the_rules_of_others() {
    let Some(scene) = Scene::make() else { return };
    let theirs = ["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "9", "-j", "REDIRECT", "--to-ports", "10"];
    printed("iptables", &theirs);
    let listed = || [printed("iptables", &["-t", "nat", "-S"]), printed("ip6tables", &["-t", "nat", "-S"])];
    // The first look makes the table for IPv6, if the tool does so.
    let before = listed();
    let a = Sidecar::start(&scene.cluster(), "a", &["redirect.inbound=true", "http.enabled=true"]);
    let order = |what| [what, "--tool", "iptables"];
    assert!(a.rules(&order("--apply")).starts_with("applied"));
    let once = listed();
    assert!(a.rules(&order("--apply")).starts_with("replaced"));
    assert_eq!(listed(), once, "twice is the same as once");
    assert_eq!(settled(&mut scene.client(), &["HSET", "s:1", "cart", "books"]), Reply::Int(1));
    let mut over_v6 = Client::to(SocketAddr::new(Network::OVER_V6, scene.redis.port()));
    assert_eq!(over_v6.say("PING"), Reply::Simple("PONG".to_owned()));
    assert_eq!((a.node.sessions(), a.count("outbound", "taken"), a.count("outbound", "passed")), (1, 1.0, 1.0));
    // Nobody has started an instance: that is what the HTTP face answers, to this machine and to others.
    assert_eq!(http::get(a.node.app, "/").unwrap().status, 502);
    let from_afar = SocketAddr::new(Network::POD, a.node.app.port());
    assert_eq!(scene.network.in_world(|| http::get(from_afar, "/").unwrap().status), 502);
    assert_eq!(a.count("inbound", "taken"), 2.0);
    assert!(a.rules(&order("--remove")).starts_with("removed"));
    assert_eq!(listed(), before);
    assert!(a.rules(&order("--remove")).starts_with("none"));
    wait_written(&a.node);
    assert_eq!(scene.client().say("HGET s:1 cart"), Reply::text("books"));
    assert_eq!(a.count("outbound", "taken"), 1.0);
}

#[test]
fn what_is_not_allowed_says_what_to_do() {
    let Some(scene) = Scene::make() else { return };
    let mut cluster = scene.cluster();
    let a = Sidecar::start(&cluster, "a", &[]);
    let words = a.arguments(&["--apply"]);
    let mut command = Command::new(cluster.folder.path().join("wayfarer"));
    let done = command.args(&words).uid(SIDECAR).current_dir("/").output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("run it as root, or give it CAP_NET_ADMIN"), "{done:?}");
    let without = |program: &str, arguments: &[&str]| {
        let words = a.arguments(arguments);
        let done = Command::new(env!("CARGO_BIN_EXE_wayfarer")).args(&words).env("PATH", "/nowhere").output().unwrap();
        (program.to_owned(), done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    // Programs of administrators are found although no path names them.
    assert_eq!(without("nft", &["--apply"]).1, Some(0));
    assert!(a.rules(&["--print"]).contains(&format!("meta skuid {SIDECAR} return")));
    assert!(a.rules(&["--print", "--tool", "iptables"]).contains("# ip6tables-restore --noflush"));
    let nothing = wayfarer(&["redirect", "--apply"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("set redirect.outbound or redirect.inbound"), "{nothing:?}");
    assert_eq!(wayfarer(&["redirect"]).status.code(), Some(2));
    assert_eq!(wayfarer(&["redirect", "--apply", "--remove"]).status.code(), Some(2));

    // A sidecar that its own rules would catch does not start.
    cluster.user = None;
    cluster.set.extend([format!("redirect.sidecar_user={SIDECAR}"), "redirect.outbound=true".to_owned()]);
    let mut wrong = cluster.spawn("wrong", &[]);
    assert_eq!(wrong.wait_exit().code(), Some(1));
    let log = wrong.log_text();
    assert!(log.contains("this process runs as user 0 and not as 10001") && log.contains("setpriv --reuid 10001"), "{log}");
}
