//! An upstream whose master its sentinels know: real ones with a replica, and failovers while commands go on, ordered and not.
//!
//! A sentinel that was not scheduled for two seconds does nothing for thirty (its mode TILT); then it takes no replica whose link to
//! the master has been down for ten times `down-after-milliseconds`. So where a master dies those are four seconds: a machine that
//! pauses just then delays the failover, and does not prevent it.

use crate::harness::redis_server::RedisServer;
use crate::harness::resp::{Client, Reply};
use crate::harness::{Cluster, free_port, until};
use crate::{cluster_of_url, settled};

/// A master, its replica and their sentinels.
struct Watched {
    master: RedisServer,
    replica: RedisServer,
    sentinels: Vec<RedisServer>,
    _folder: tempfile::TempDir,
}

impl Watched {
    /// One sentinel is enough where nothing dies.
    fn start() -> Option<Watched> {
        Watched::with(1, 1000, &[])
    }

    fn with(sentinels: usize, down_after_ms: u32, of_master: &[&str]) -> Option<Watched> {
        let at_once = ["--repl-diskless-sync-delay", "0"];
        let master = RedisServer::start_on(free_port(), &[&at_once, of_master].concat())?;
        let of = master.port.to_string();
        let replica = RedisServer::start_on(free_port(), &["--replicaof", &format!("127.0.0.1 {of}")])?;
        let folder = tempfile::tempdir().unwrap();
        let quorum = sentinels / 2 + 1;
        let text = format!(
            "sentinel monitor shop 127.0.0.1 {of} {quorum}\nsentinel down-after-milliseconds shop {down_after_ms}\n\
             sentinel failover-timeout shop 10000\nrequirepass watcher\nsentinel sentinel-pass watcher\n"
        );
        let start = |number: usize| {
            let file = folder.path().join(format!("sentinel-{number}.conf"));
            std::fs::write(&file, &text).unwrap();
            RedisServer::start_sentinel(free_port(), &file)
        };
        let all = (0..sentinels).map(start).collect::<Option<Vec<_>>>()?;
        let watched = Watched { master, replica, sentinels: all, _folder: folder };
        for sentinel in &watched.sentinels {
            let mut asks = Watched::ask(sentinel);
            until("the replica is in step, and sentinels know it and each other", || {
                let facts = asks.say("SENTINEL MASTER shop").texts();
                let fact = |name: &str| facts.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
                let others = (sentinels - 1).to_string();
                let known = fact("num-slaves") == Some("1".into()) && fact("num-other-sentinels") == Some(others);
                let in_step = Client::to(watched.replica.address()).say("ROLE").texts().get(3).is_some_and(|s| s == "connected");
                (known && in_step).then_some(())
            });
        }
        Some(watched)
    }

    fn ask(sentinel: &RedisServer) -> Client {
        let mut client = Client::to(sentinel.address());
        assert_eq!(client.say("AUTH watcher"), Reply::ok());
        client
    }

    /// The first sentinel.
    fn first(&self) -> Client {
        Watched::ask(&self.sentinels[0])
    }

    /// Whether the first sentinel says that the replica is the master.
    fn names_replica(&self) -> bool {
        let place = self.first().say("SENTINEL get-master-addr-by-name shop").texts();
        place.last().is_some_and(|port| *port == self.replica.port.to_string())
    }

    fn cluster(&self) -> Cluster {
        // One that nobody answers for stands first.
        let all: Vec<u16> = [free_port()].into_iter().chain(self.sentinels.iter().map(|s| s.port)).collect();
        let all: Vec<String> = all.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        cluster_of_url(&format!("redis-sentinel://{}/shop/0", all.join(","))).set(&["state.sentinel_password=watcher"])
    }

    fn is_master(server: &RedisServer) -> bool {
        // Whose role changes ends the connections of its clients.
        let role = Client::try_to(server.address()).and_then(|mut client| client.try_call(&["ROLE"]));
        role.is_ok_and(|role| role.texts().first().is_some_and(|role| role == "master"))
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

    until("a failover begins", || (watched.first().say("SENTINEL FAILOVER shop") == Reply::ok()).then_some(()));
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

/// The old master is not told that it is none, as where the network has parted it from its sentinels, and goes on to take writes.
#[test]
fn an_old_master_that_does_not_know_it_gets_nothing_more() {
    let deaf = ["--rename-command", "SLAVEOF", "not-served", "--rename-command", "REPLICAOF", "nor-this"];
    let Some(watched) = Watched::with(1, 1000, &deaf) else { return };
    let a = watched.cluster().start("a", &[]);
    let mut client = a.client();
    assert_eq!(client.say("SET other 0"), Reply::ok());
    assert_eq!(settled(&mut client, &["HSET", "s:one", "critical", "v"]), Reply::Int(1));
    assert_eq!(Client::to(watched.master.address()).say("WAIT 1 20000"), Reply::Int(1));

    until("a failover begins", || (watched.first().say("SENTINEL FAILOVER shop") == Reply::ok()).then_some(()));
    until("the sentinel names the new master", || watched.names_replica().then_some(()));
    let (mut old, mut new) = (Client::to(watched.master.address()), Client::to(watched.replica.address()));
    until("the new master gets commands", || {
        let said = client.say("SET other 1") == Reply::ok();
        (said && new.say("GET other") == Reply::text("1")).then_some(())
    });
    until("it gets those on sessions", || {
        settled(&mut client, &["HSET", "s:one", "critical", "w"]);
        (new.say("HGET s:one critical") == Reply::text("w")).then_some(())
    });
    let had = [old.say("GET other"), old.say("HGET s:one critical")];
    for number in 2..20 {
        assert_eq!(client.say(&format!("SET other {number}")), Reply::ok());
        let value = number.to_string();
        assert_eq!(settled(&mut client, &["HSET", "s:one", "critical", &value]), Reply::Int(0));
        assert_eq!((new.say("GET other"), new.say("HGET s:one critical")), (Reply::text(&value), Reply::text(&value)));
    }
    assert_eq!([old.say("GET other"), old.say("HGET s:one critical")], had);
    assert!(Watched::is_master(&watched.master), "the old master was told: this shows nothing");
}

#[test]
fn a_master_that_dies_is_replaced_and_nothing_that_was_passed_on_is_lost() {
    let Some(mut watched) = Watched::with(3, 4000, &[]) else { return };
    let a = watched.cluster().start("a", &[]);
    let mut client = a.client();
    assert_eq!(client.say("SET other 1"), Reply::ok());
    assert_eq!(settled(&mut client, &["HSET", "s:one", "critical", "v"]), Reply::Int(1));
    assert_eq!(Client::to(watched.master.address()).say("WAIT 1 20000"), Reply::Int(1));

    watched.master.stop();
    // Without a master sessions go on, but for what must be in it first.
    assert_eq!(client.say("HSET s:one other w"), Reply::Int(1));
    assert_eq!(client.say("HGET s:one critical"), Reply::text("v"));
    assert!(client.say("SET other 2").error().contains("upstream"));
    until("the replica is the master", || Watched::is_master(&watched.replica).then_some(()));
    until("the new master gets commands", || (client.say("SET other 3") == Reply::ok()).then_some(()));
    assert_eq!(settled(&mut client, &["HSET", "s:one", "critical", "x"]), Reply::Int(0));
    let mut new = Client::to(watched.replica.address());
    assert_eq!((new.say("GET other"), new.say("HGET s:one critical")), (Reply::text("3"), Reply::text("x")));
    until("what was written meanwhile", || (new.say("HGET s:one other") == Reply::text("w")).then_some(()));
}

#[test]
fn sentinels_that_do_not_help_are_named() {
    let Some(watched) = Watched::start() else { return };
    for (cluster, said) in [
        (watched.cluster().set(&["state.sentinel_password=wrong"]), "look at state.sentinel_password"),
        (
            watched.cluster().set(&[&format!("state.upstream=redis-sentinel://127.0.0.1:{}/other", watched.sentinels[0].port)]),
            "know no master",
        ),
    ] {
        let a = cluster.start("a", &[]);
        assert!(a.client().say("GET other").error().contains("upstream"));
        until("the reason in the log", || a.log_text().contains(said).then_some(()));
    }
}
