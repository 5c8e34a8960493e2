//! Three instances behind a real HAProxy, nginx or Envoy that takes the sidecars' hint where a session is: log in, a third instance
//! joins and takes its share, the first one drains, and requests come to the owners at once.
//!
//! It never tells a balancer anything while it runs: each knows the three addresses from its configuration, and finds out by itself who
//! takes requests. What a user must read back is the number of his own requests. Invariants: every request is answered with 200
//! and the right number; after the one request that brings the new hint, each comes to the owner.

use crate::harness::{Cluster, Node, free_port, until};
use crate::http_client::{Answer, HttpClient};
use crate::services::{Service, installed, program_runs, skip};
use crate::stage::shown;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::runtime::Runtime;

const USERS: u64 = 12;
/// After the request that brings the hint, so many of each user must come to the owner.
const REQUESTS: u64 = 5;
/// As the balancers and the sidecars know it.
const COOKIE: &str = "node";

/// Which balancer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Balancer {
    HaProxy,
    Nginx,
    Envoy,
}

/// Where a node takes requests, and where it says whether it does.
#[derive(Clone, Copy)]
struct Place {
    name: &'static str,
    http: u16,
    admin: u16,
}

/// A balancer that runs.
struct Running {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already. Each of them ends its own processes at SIGTERM.
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok());
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!(
                "--- log of the balancer ---\n{}",
                std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
        }
    }
}

impl Balancer {
    fn program(self) -> std::path::PathBuf {
        match self {
            Balancer::HaProxy => "/usr/sbin/haproxy".into(),
            Balancer::Nginx => "/usr/sbin/nginx".into(),
            Balancer::Envoy => installed().join("venv/bin/envoy"),
        }
    }

    fn is_installed(self) -> bool {
        let version = if self == Balancer::Envoy { "--version" } else { "-v" };
        program_runs(&self.program(), version)
            || skip(&format!("{self:?}"), "it does not run: scripts/prepare.sh test, scripts/clients.sh")
    }

    /// What the sidecars are told: nginx and HAProxy know nodes by name, Envoy by address.
    fn encoding(self) -> &'static str {
        if self == Balancer::Envoy { "envoy" } else { "plain" }
    }

    fn start(self, nodes: &[Place]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let (port, config) = (free_port(), folder.path().join("balancer.conf"));
        let text = match self {
            Balancer::HaProxy => haproxy(port, nodes),
            Balancer::Nginx => nginx(port, nodes, folder.path()),
            Balancer::Envoy => envoy(port, nodes),
        };
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(self.program());
        match self {
            Balancer::HaProxy => command.arg("-db").arg("-f").arg(&config),
            Balancer::Nginx => command.arg("-p").arg(folder.path()).arg("-e").arg("stderr").arg("-c").arg(&config),
            // One thread, no files of shared memory beside other tests'.
            Balancer::Envoy => command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning", "-c"]).arg(&config),
        };
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut running = Running { child, address: SocketAddr::from(([127, 0, 0, 1], port)), folder };
        until("the balancer listens", || {
            assert!(running.child.try_wait().unwrap().is_none(), "{self:?} has ended");
            std::net::TcpStream::connect(running.address).ok()
        });
        running
    }
}

fn haproxy(port: u16, nodes: &[Place]) -> String {
    let server =
        |node: &Place| format!("    server {0} 127.0.0.1:{1} cookie {0} check port {2}\n", node.name, node.http, node.admin);
    let servers: String = nodes.iter().map(server).collect();
    format!(
        "global\n    maxconn 500\ndefaults\n    mode http\n    timeout connect 2s\n    timeout client 30s\n    timeout server 30s\n\
         frontend in\n    bind 127.0.0.1:{port}\n    default_backend nodes\n\
         backend nodes\n    balance roundrobin\n    cookie {COOKIE}\n    option redispatch\n    option httpchk\n    \
         http-check send meth GET uri /readyz\n    default-server inter 50ms fall 1 rise 1\n{servers}"
    )
}

fn nginx(port: u16, nodes: &[Place], folder: &Path) -> String {
    let server = |node: &Place, more: &str| format!("        server 127.0.0.1:{} fail_timeout=1s{more};\n", node.http);
    let all: String = nodes.iter().map(|node| server(node, "")).collect();
    let names: String = nodes.iter().map(|node| format!("        {0} node_{0};\n", node.name)).collect();
    let first = |node: &Place| {
        let others = nodes.iter().filter(|other| other.name != node.name).map(|other| server(other, " backup"));
        format!("    upstream node_{} {{\n{}{}    }}\n", node.name, server(node, ""), others.collect::<String>())
    };
    let each: String = nodes.iter().map(first).collect();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("    {what}_temp_path {}/{what};\n", folder.display()))
        .concat();
    format!(
        "daemon off;\npid {}/pid;\nerror_log stderr;\nworker_processes 1;\nevents {{ worker_connections 500; }}\nhttp {{\n    \
         access_log off;\n{temporary}    map $cookie_{COOKIE} $nodes {{\n        default all;\n{names}    }}\n    \
         upstream all {{\n{all}    }}\n{each}    server {{\n        listen 127.0.0.1:{port};\n        location / {{\n            \
         proxy_pass http://$nodes;\n            proxy_http_version 1.1;\n            proxy_set_header Connection \"\";\n        }}\n    }}\n}}\n",
        folder.display()
    )
}

fn envoy(port: u16, nodes: &[Place]) -> String {
    let address = |port: u16| serde_json::json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let endpoint = |node: &Place| serde_json::json!({ "endpoint": { "address": address(node.http), "health_check_config": { "port_value": node.admin } } });
    let typed = |name: &str, kind: &str, more: serde_json::Value| {
        let mut config = more;
        config["@type"] = format!("type.googleapis.com/envoy.extensions.{kind}").into();
        serde_json::json!({ "name": name, "typed_config": config })
    };
    let cookie = serde_json::json!({ "cookie": { "name": COOKIE, "path": "/" } });
    let cookie = typed("envoy.http.stateful_session.cookie", "http.stateful_session.cookie.v3.CookieBasedSessionState", cookie);
    let stateful = serde_json::json!({ "session_state": cookie });
    let filters = [
        typed("envoy.filters.http.stateful_session", "filters.http.stateful_session.v3.StatefulSession", stateful),
        typed("envoy.filters.http.router", "filters.http.router.v3.Router", serde_json::json!({})),
    ];
    let retry = serde_json::json!({ "retry_on": "connect-failure", "num_retries": 3 });
    let route = serde_json::json!({ "match": { "prefix": "/" }, "route": { "cluster": "nodes", "retry_policy": retry } });
    let hosts = serde_json::json!([{ "name": "all", "domains": ["*"], "routes": [route] }]);
    let manager = serde_json::json!({ "stat_prefix": "in", "route_config": { "virtual_hosts": hosts }, "http_filters": filters });
    let manager = typed("manager", "filters.network.http_connection_manager.v3.HttpConnectionManager", manager);
    let check = serde_json::json!({
        "timeout": "1s", "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_interval": "0.05s",
        "unhealthy_threshold": 1, "healthy_threshold": 1, "http_health_check": { "path": "/readyz", "host": "localhost" }
    });
    let endpoints: Vec<_> = nodes.iter().map(endpoint).collect();
    serde_json::json!({ "static_resources": {
        "listeners": [{ "address": address(port), "filter_chains": [{ "filters": [manager] }] }],
        "clusters": [{
            "name": "nodes", "type": "STATIC", "connect_timeout": "1s", "health_checks": [check],
            "common_lb_config": { "healthy_panic_threshold": { "value": 0 } },
            "load_assignment": { "cluster_name": "nodes", "endpoints": [{ "lb_endpoints": endpoints }] }
        }]
    } })
    .to_string()
}

/// One user with a browser.
struct User {
    cookies: BTreeMap<String, String>,
    counted: u64,
}

impl User {
    fn jar(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn keep(&mut self, answer: &Answer) {
        for (name, value) in answer.cookies.iter().filter_map(|cookie| cookie.split_once('=')) {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }

    /// One request that counts; the instance that answered.
    async fn count(&mut self, http: &HttpClient, to: SocketAddr) -> String {
        let answer = http.post(to, "/incr?name=hits", &self.jar(), Bytes::new()).await.and_then(Answer::ok).unwrap();
        self.keep(&answer);
        self.counted += 1;
        assert_eq!(answer.json["number"].as_u64(), Some(self.counted), "{answer:?}");
        answer.json["instance"].as_str().unwrap().to_owned()
    }

    fn session(&self, service: Service) -> String {
        shown(&service.session_id(&format!("sid={}", self.cookies["sid"])))
    }
}

/// A node at a place that the balancer knows already.
fn start(cluster: &mut Cluster, place: Place, command: &[&str]) -> Node {
    let set = cluster.set.clone();
    cluster.set.extend([format!("http.listen=127.0.0.1:{}", place.http), format!("admin.listen=127.0.0.1:{}", place.admin)]);
    let mut node = cluster.spawn(place.name, command);
    node.http.set_port(place.http);
    node.admin.set_port(place.admin);
    cluster.set = set;
    node.wait_ready();
    node
}

/// Each user sends a request that brings the hint if it has changed, and then others that must come to the owner.
fn all_come_to_their_owners(
    runtime: &Runtime,
    http: &HttpClient,
    to: SocketAddr,
    users: &mut [User],
    nodes: &[&Node],
    service: Service,
) {
    let owned: Vec<_> = nodes.iter().map(|node| (node.name.clone(), node.owned())).collect();
    for user in users {
        runtime.block_on(user.count(http, to));
        let session = user.session(service);
        let (owner, _) = owned.iter().find(|(_, sessions)| sessions.contains(&session)).expect("somebody owns it");
        let came: Vec<String> = (0..REQUESTS).map(|_| runtime.block_on(user.count(http, to))).collect();
        assert!(came.iter().all(|at| at == owner), "the owner is {owner}, requests came to {came:?}");
    }
    let now: Vec<_> = nodes.iter().map(|node| (node.name.clone(), node.owned())).collect();
    assert_eq!(now, owned, "sessions have stayed where they were");
}

/// The whole story, see the head of this file.
pub fn requests_come_to_the_owner(balancer: Balancer) {
    let service = Service::NODE_REDIS;
    if !service.is_installed() || !balancer.is_installed() {
        return;
    }
    let hint = [format!("http.hint_cookie={COOKIE}"), format!("http.hint_encoding={}", balancer.encoding())];
    let mut cluster = Cluster::new(service.keys).set(&[&hint[0], &hint[1]]);
    cluster.codec = service.codec;
    let places = ["a", "b", "c"].map(|name| Place { name, http: free_port(), admin: free_port() });
    let command = service.command();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut a = start(&mut cluster, places[0], &command);
    let b = start(&mut cluster, places[1], &command);
    let running = balancer.start(&places);
    let (runtime, http, to) = (Runtime::new().unwrap(), HttpClient::default(), running.address);
    // A request of nobody, until it is answered by an instance, if possible by this one.
    let finds = |name: Option<&str>| {
        let answer = runtime.block_on(http.get(to, "/whoami", "")).ok().filter(|answer| answer.status == 200)?;
        name.is_none_or(|name| answer.json["instance"] == name).then_some(())
    };
    until("the balancer finds instances", || finds(None));

    let mut users: Vec<User> = (0..USERS)
        .map(|n| {
            let answer =
                runtime.block_on(http.post(to, &format!("/login?user=u{n}"), "", Bytes::new())).and_then(Answer::ok).unwrap();
            let mut user = User { cookies: BTreeMap::new(), counted: 0 };
            user.keep(&answer);
            assert!(user.cookies.contains_key(COOKIE), "the answer to a login says where the session is: {:?}", answer.cookies);
            user
        })
        .collect();
    assert!([&a, &b].iter().all(|node| node.sessions() > 0), "both have sessions");
    all_come_to_their_owners(&runtime, &http, to, &mut users, &[&a, &b], service);

    let c = start(&mut cluster, places[2], &command);
    until("the balancer finds c", || finds(Some("c")));
    a.wait_members(3);
    let (moved, failed) = a.rebalance();
    assert!(moved > 0 && failed == 0 && c.sessions() == moved, "{moved} moved, {failed} did not");
    all_come_to_their_owners(&runtime, &http, to, &mut users, &[&a, &b, &c], service);

    a.signal(rustix::process::Signal::TERM);
    let mut ended = None;
    // Users go on while it leaves.
    while ended.is_none() {
        users.iter_mut().for_each(|user| drop(runtime.block_on(user.count(&http, to))));
        ended = a.try_exit();
    }
    assert!(ended.is_some_and(|status| status.success()), "a has given everything away");
    all_come_to_their_owners(&runtime, &http, to, &mut users, &[&b, &c], service);
}
