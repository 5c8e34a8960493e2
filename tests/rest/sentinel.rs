//! An upstream whose master its sentinels know: a real one with a replica, and a failover while commands go on.

use crate::harness::redis_server::RedisServer;
use crate::harness::resp::{Client, Reply};
use crate::harness::{Cluster, free_port, until};
use crate::{cluster_of_url, settled};

/// A master, its replica and one sentinel, which is enough where all are on one machine.
struct Watched {
    master: RedisServer,
    replica: RedisServer,
    sentinel: RedisServer,
    _folder: tempfile::TempDir,
}

impl Watched {
    fn start() -> Option<Watched> {
        let master = RedisServer::start_on(free_port(), &["--repl-diskless-sync-delay", "0"])?;
        let of = master.port.to_string();
        let replica = RedisServer::start_on(free_port(), &["--replicaof", &format!("127.0.0.1 {of}")])?;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "sentinel monitor shop 127.0.0.1 {of} 1\nsentinel down-after-milliseconds shop 1000\n\
             sentinel failover-timeout shop 10000\nrequirepass watcher\n"
        );
        std::fs::write(&file, text).unwrap();
        let sentinel = RedisServer::start_sentinel(free_port(), &file)?;
        let watched = Watched { master, replica, sentinel, _folder: folder };
        let mut asks = watched.ask();
        until("the replica is in step and known", || {
            let knows = asks.say("SENTINEL REPLICAS shop");
            let known = matches!(&knows, Reply::Array(list) if list.len() == 1);
            let in_step = Client::to(watched.replica.address()).say("ROLE").texts().get(3).is_some_and(|s| s == "connected");
            (known && in_step).then_some(())
        });
        Some(watched)
    }

    fn ask(&self) -> Client {
        let mut client = Client::to(self.sentinel.address());
        assert_eq!(client.say("AUTH watcher"), Reply::ok());
        client
    }

    fn cluster(&self) -> Cluster {
        // One that nobody answers for stands first.
        let url = format!("redis-sentinel://127.0.0.1:{},127.0.0.1:{}/shop/0", free_port(), self.sentinel.port);
        cluster_of_url(&url).set(&["state.sentinel_password=watcher"])
    }

    fn is_master(server: &RedisServer) -> bool {
        Client::to(server.address()).say("ROLE").texts().first().is_some_and(|role| role == "master")
    }
}

#[test]
fn after_a_failover_everything_goes_to_the_new_master() {
    let Some(watched) = Watched::start() else { return };
    let cluster = watched.cluster();
    let mut a = cluster.start("a", &[]);
    let mut client = a.client();
    assert_eq!(client.say("SET other 1"), Reply::ok());
    assert_eq!(settled(&mut client, &["HSET", "s:one", "critical", "v"]), Reply::Int(1));
    assert_eq!(Client::to(watched.master.address()).say("GET other"), Reply::text("1"));
    assert_eq!(Client::to(watched.master.address()).say("WAIT 1 20000"), Reply::Int(1));

    until("a failover begins", || (watched.ask().say("SENTINEL FAILOVER shop") == Reply::ok()).then_some(()));
    until("the replica is the master", || Watched::is_master(&watched.replica).then_some(()));
    until("the old master is its replica", || (!Watched::is_master(&watched.master)).then_some(()));
    // The same client: what was in flight may have failed, what comes later does not.
    until("the new master answers", || (client.say("SET other 2") == Reply::ok()).then_some(()));
    assert_eq!(Client::to(watched.replica.address()).say("GET other"), Reply::text("2"));
    // A session goes on as if nothing had been, and its writes go where the master is.
    assert_eq!(client.say("HGET s:one critical"), Reply::text("v"));
    assert_eq!(settled(&mut client, &["HSET", "s:one", "critical", "w"]), Reply::Int(0));
    assert_eq!(Client::to(watched.replica.address()).say("HGET s:one critical"), Reply::text("w"));
    assert_eq!(settled(&mut client, &["HSET", "s:two", "critical", "x"]), Reply::Int(1));
    a.ask_drain();
    assert_eq!(a.wait_exit().code(), Some(0), "{}", a.log_text());
    assert_eq!(Client::to(watched.replica.address()).say("HGET s:two critical"), Reply::text("x"));
}

#[test]
fn sentinels_that_do_not_help_are_named() {
    let Some(watched) = Watched::start() else { return };
    for (cluster, said) in [
        (watched.cluster().set(&["state.sentinel_password=wrong"]), "look at state.sentinel_password"),
        (
            watched.cluster().set(&[&format!("state.upstream=redis-sentinel://127.0.0.1:{}/other", watched.sentinel.port)]),
            "know no master",
        ),
    ] {
        let a = cluster.start("a", &[]);
        assert!(a.client().say("GET other").error().contains("upstream"));
        until("the reason in the log", || a.log_text().contains(said).then_some(()));
    }
}
