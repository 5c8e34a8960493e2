//! An upstream that is reached under TLS: certificates of a test's own, made with `openssl`.

use crate::harness::redis_cluster::RedisCluster;
use crate::harness::redis_server::RedisServer;
use crate::harness::resp::{Client, Reply, encode};
use crate::harness::{free_port, until, wayfarer};
use crate::{Cluster, KEYS, cluster, redis::Redis, settled};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const CONFIGURATION: &str = "
[req]
distinguished_name = dn
prompt = no
[dn]
O = a test
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = keyCertSign
[leaf]
basicConstraints = CA:FALSE
subjectAltName = IP:127.0.0.1,DNS:redis.test
";

/// Two authorities, and certificates of the first for a server and a client.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn make() -> Certificates {
        let made = Certificates(tempfile::tempdir().unwrap());
        std::fs::write(made.path("openssl.cnf"), CONFIGURATION).unwrap();
        made.one("ca", &["-extensions", "authority"]);
        made.one("other", &["-extensions", "authority"]);
        for name in ["server", "client"] {
            made.one(name, &["-extensions", "leaf", "-CA", &made.text("ca.pem"), "-CAkey", &made.text("ca.key")]);
        }
        made
    }

    fn one(&self, name: &str, more: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
        command.arg("-config").arg(self.path("openssl.cnf")).arg("-subj").arg(format!("/CN={name}"));
        command.arg("-keyout").arg(self.path(&format!("{name}.key"))).arg("-out").arg(self.path(&format!("{name}.pem")));
        let made = command.args(more).stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A server that also listens under TLS, there; it wants to see client certificates.
    fn server(&self) -> Option<(Redis, u16)> {
        self.server_with(&[])
    }

    /// The same with these arguments more.
    fn server_with(&self, more: &[&str]) -> Option<(Redis, u16)> {
        let port = free_port();
        let [server, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| self.text(name));
        let port_text = port.to_string();
        let own = ["--tls-port", &port_text, "--tls-cert-file", &server, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
        let redis = Redis::start_with(&[&own[..], &["--tls-auth-clients", "yes"], more].concat())?;
        Some((redis, port))
    }

    /// The settings of a cluster before it; later ones win.
    fn cluster(&self, redis: &Redis, port: u16) -> Cluster {
        let file = |setting: &str, name: &str| format!("state.upstream_{setting}_file={}", self.text(name));
        let url = format!("state.upstream=rediss://127.0.0.1:{port}/0");
        cluster(redis).set(&[&url, &file("ca", "ca.pem"), &file("cert", "client.pem"), &file("key", "client.key")])
    }
}

#[test]
fn an_upstream_under_tls_does_what_any_does() {
    let certificates = Certificates::make();
    let Some((redis, port)) = certificates.server() else { return };
    let cluster = certificates.cluster(&redis, port);
    let mut a = cluster.start("a", &[]);
    let mut client = a.client();
    // No session's: large values both ways, many at once, behind each other.
    let large = vec![b'x'; 3 << 20];
    assert_eq!(client.call(&[b"SET".as_slice(), b"other", &large]), Reply::ok());
    client.send(&encode(&["GET", "other"]).repeat(6)).unwrap();
    for _ in 0..6 {
        assert_eq!(client.read().unwrap(), Reply::Bulk(large.clone()));
    }
    assert_eq!(redis.client().call(&["STRLEN", "other"]), Reply::Int(3 << 20));
    let mut listens = a.client();
    assert_eq!(listens.say("SUBSCRIBE news").texts(), ["subscribe", "news", "1"]);
    assert_eq!(client.say("PUBLISH news x"), Reply::Int(1));
    assert_eq!(listens.read().unwrap().texts(), ["message", "news", "x"]);
    // A session: written behind, at rest, and found again.
    assert_eq!(settled(&mut client, &["HSET", "s:one", "critical", "v"]), Reply::Int(1));
    assert_eq!(redis.client().say("HGET s:one critical"), Reply::text("v"));
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(0), "{}", a.log_text());
    let a = cluster.start("a", &[]);
    assert_eq!(settled(&mut a.client(), &["HGET", "s:one", "critical"]), Reply::text("v"));
    // By another name of the certificate.
    drop(a);
    let named = cluster.set(&["state.upstream_server_name=redis.test"]);
    let a = named.start("a", &[]);
    assert_eq!(a.client().say("STRLEN other"), Reply::Int(3 << 20));
}

/// A node that the upstream does not get along with, and a word of what it says of that.
fn is_refused(cluster: &Cluster, said: &str) {
    let node = cluster.start("a", &[]);
    let mut client: Client = node.client();
    let reply = client.say("GET other");
    assert!(reply.error().contains("upstream"), "{reply:?}");
    assert!(client.say("HSET s:one f v").is_try_again());
    assert_eq!(client.say("PING"), Reply::Simple("PONG".to_owned()), "the rest goes on");
    until("the reason in the log", || {
        let log = node.log_text();
        (log.contains("the upstream cannot be used") && log.contains(said)).then_some(())
    });
    assert_eq!(node.log_text().matches("the upstream cannot be used").count(), 1, "each reason once");
}

#[test]
fn a_server_that_cannot_prove_itself_gets_nothing() {
    let certificates = Certificates::make();
    let Some((redis, port)) = certificates.server() else { return };
    let cluster = || certificates.cluster(&redis, port);
    is_refused(&cluster().set(&[&format!("state.upstream_ca_file={}", certificates.text("other.pem"))]), "UnknownIssuer");
    is_refused(&cluster().set(&["state.upstream_server_name=another.test"]), "certificate");
    let reply = redis.client().say("INFO commandstats");
    let Reply::Bulk(stats) = reply else { panic!("{reply:?}") };
    assert!(!String::from_utf8_lossy(&stats).contains("cmdstat_hset"), "nothing was written");
}

#[test]
fn who_forgets_tls_is_told() {
    let certificates = Certificates::make();
    let Some((redis, port)) = certificates.server() else { return };
    let node = cluster(&redis).set(&[&format!("state.upstream=redis://127.0.0.1:{port}/0")]).start("a", &[]);
    until("the hint", || node.log_text().contains("must begin with rediss://").then_some(()));
    assert!(node.client().say("HSET s:one f v").is_try_again());
}

#[test]
fn check_names_what_is_wrong_with_certificates() {
    let certificates = Certificates::make();
    let config = certificates.path("wayfarer.toml");
    std::fs::write(certificates.path("letter"), "no certificate").unwrap();
    let check = |lines: &str| {
        let upstream = if lines.starts_with("upstream =") { "" } else { "upstream = \"rediss://127.0.0.1:1\"\n" };
        let keys = KEYS.replace('\n', " ");
        std::fs::write(&config, format!("[state]\nkeys = {keys}\n{upstream}{lines}\n")).unwrap();
        let directory = format!("cluster.directory=sqlite:{}", certificates.text("directory.db"));
        let done = wayfarer(&["check", "-c", path(&config), "--set", &directory]);
        let said = String::from_utf8(done.stdout).unwrap();
        (done.status.code(), said)
    };
    let file = |setting: &str, name: &str| format!("upstream_{setting}_file = \"{}\"\n", certificates.text(name));
    let right = [file("ca", "ca.pem"), file("cert", "client.pem"), file("key", "client.key")].concat();
    assert_eq!(check(&right).0, Some(0), "{}", check(&right).1);
    for (lines, expected) in [
        (file("ca", "nowhere.pem"), "wayfarer.toml:4: state.upstream_ca_file: cannot read"),
        (file("ca", "letter"), "there is no certificate in it; name a PEM file with the authority's certificates"),
        (file("cert", "client.pem"), "wayfarer.toml:4: state.upstream_cert_file: state.upstream_key_file is not set"),
        (
            [file("cert", "client.pem"), file("key", "server.key")].concat(),
            "state.upstream_key_file: the private key is not that of",
        ),
        ([file("cert", "client.pem"), file("key", "client.pem")].concat(), "client.pem holds a certificate and no private key"),
        (format!("upstream = \"redis://h\"\n{}", file("ca", "ca.pem")), "state.upstream_ca_file: has no meaning without TLS"),
    ] {
        let (code, said) = check(&lines);
        assert!(code == Some(2) && said.contains(expected), "{lines}: {said}");
        let run = wayfarer(&["run", "-c", path(&config)]);
        let said = String::from_utf8(run.stderr).unwrap();
        assert!(run.status.code() == Some(2) && said.contains(expected), "run says the same: {lines}: {said}");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Master, replica and sentinel speak to each other under TLS, and so does the sidecar to all of them.
#[test]
fn sentinels_are_asked_under_tls_too() {
    let certificates = Certificates::make();
    let among = ["--tls-replication", "yes", "--repl-diskless-sync-delay", "0"];
    let Some((master, master_port)) = certificates.server_with(&among) else { return };
    let of = format!("127.0.0.1 {master_port}");
    let Some((replica, replica_port)) = certificates.server_with(&[&among[..], &["--replicaof", &of]].concat()) else { return };
    let (sentinel_port, plain) = (free_port(), free_port());
    let [server, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| certificates.text(name));
    let file = certificates.path("sentinel.conf");
    let text = format!(
        "tls-port {sentinel_port}\ntls-cert-file {server}\ntls-key-file {key}\ntls-ca-cert-file {ca}\ntls-replication yes\n\
         sentinel monitor shop {of} 1\nsentinel down-after-milliseconds shop 4000\nsentinel failover-timeout shop 10000\n"
    );
    std::fs::write(&file, text).unwrap();
    let Some(sentinel) = RedisServer::start_sentinel(plain, &file) else { return };
    let mut asks = Client::to(sentinel.address());
    until("the replica is in step and known", || {
        let facts = asks.say("SENTINEL MASTER shop").texts();
        let known = facts.chunks(2).any(|pair| pair[0] == "num-slaves" && pair[1] == "1");
        let in_step = replica.client().say("ROLE").texts().get(3).is_some_and(|state| state == "connected");
        (known && in_step).then_some(())
    });
    let url = format!("state.upstream=rediss-sentinel://127.0.0.1:{sentinel_port}/shop/0");
    let a = certificates.cluster(&master, master_port).set(&[&url]).start("a", &[]);
    let mut client = a.client();
    assert_eq!(client.say("SET other 1"), Reply::ok());
    assert_eq!(settled(&mut client, &["HSET", "s:one", "critical", "v"]), Reply::Int(1));
    assert_eq!(master.client().say("GET other"), Reply::text("1"));
    assert_eq!(master.client().say("WAIT 1 20000"), Reply::Int(1));

    until("a failover begins", || (asks.say("SENTINEL FAILOVER shop") == Reply::ok()).then_some(()));
    until("the sentinel names the replica", || {
        let place = asks.say("SENTINEL get-master-addr-by-name shop").texts();
        (place.last() == Some(&replica_port.to_string())).then_some(())
    });
    until("the new master gets commands", || {
        let said = client.say("SET other 2") == Reply::ok();
        (said && replica.client().say("GET other") == Reply::text("2")).then_some(())
    });
    assert_eq!(settled(&mut client, &["HSET", "s:one", "critical", "w"]), Reply::Int(0));
    assert_eq!(replica.client().say("HGET s:one critical"), Reply::text("w"));
    // Nobody who cannot prove itself is believed, a sentinel neither.
    let other = format!("state.upstream_ca_file={}", certificates.text("other.pem"));
    is_refused(&certificates.cluster(&master, master_port).set(&[&url, &other]), "UnknownIssuer");
}

#[test]
fn a_cluster_is_reached_under_tls() {
    let certificates = Certificates::make();
    let [server, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| certificates.text(name));
    let files = ["--tls-cert-file", &server, "--tls-key-file", &key, "--tls-ca-cert-file", &ca, "--tls-cluster", "yes"];
    let Some(redis) = RedisCluster::start(3, 0, &files) else { return };
    let file = |setting: &str, name: &str| format!("state.upstream_{setting}_file={}", certificates.text(name));
    let url = format!("state.upstream={}", redis.url_under_tls());
    let settings = [&url, &file("ca", "ca.pem"), &file("cert", "client.pem"), &file("key", "client.key")];
    let settings: Vec<&str> = settings.iter().map(|setting| setting.as_str()).collect();
    let a = crate::cluster_of_url("redis://127.0.0.1:1").set(&settings).start("a", &[]);
    let mut client = a.client();
    for number in 0..20 {
        assert_eq!(client.say(&format!("SET other-{number} x")), Reply::ok());
        assert_eq!(settled(&mut client, &["HSET", &format!("s:{number}"), "critical", "v"]), Reply::Int(1));
    }
    for master in 0..3 {
        assert!(matches!(redis.client(master).say("DBSIZE"), Reply::Int(1..)));
    }
}
