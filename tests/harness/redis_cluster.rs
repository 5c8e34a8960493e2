//! A Redis Cluster of a test: masters with their replicas on free ports of the loopback, ended when it is dropped.
//!
//! It never keeps data. It is put together with the commands of Redis itself, without `redis-cli`.

use super::redis_server::RedisServer;
use super::resp::{Client, Reply};
use super::{free_port, until};

/// A running cluster.
pub struct RedisCluster {
    pub masters: Vec<RedisServer>,
    /// One of each of the first masters.
    pub replicas: Vec<RedisServer>,
    /// What each server was told more.
    more: Vec<String>,
    /// The ports of the masters under TLS, if they have such.
    secured: Vec<u16>,
    folder: tempfile::TempDir,
}

const SLOTS: usize = 16_384;

impl RedisCluster {
    /// So many masters, and replicas of the first of them; `None`, with the reason said, if there is no `redis-server` in the path.
    pub fn start(masters: usize, replicas: usize, more: &[&str]) -> Option<RedisCluster> {
        let mut cluster = RedisCluster {
            masters: Vec::new(),
            replicas: Vec::new(),
            more: more.iter().map(|word| (*word).to_owned()).collect(),
            secured: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        if more.contains(&"--tls-cert-file") {
            cluster.secured = (0..masters).map(|_| free_port()).collect();
        }
        let ports: Vec<Option<u16>> = (0..masters).map(|number| cluster.secured.get(number).copied()).collect();
        cluster.masters = ports.into_iter().map(|port| cluster.server_with(port)).collect::<Option<_>>()?;
        cluster.replicas = (0..replicas).map(|_| cluster.server()).collect::<Option<_>>()?;
        let share = SLOTS.div_ceil(masters);
        for (number, server) in cluster.masters.iter().enumerate() {
            let mut client = cluster.to(server);
            let (first, last) = (number * share, ((number + 1) * share).min(SLOTS) - 1);
            assert_eq!(client.say(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1)), Reply::ok());
            assert_eq!(client.say(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")), Reply::ok());
        }
        let mut first = cluster.to(&cluster.masters[0]);
        for (number, server) in cluster.all().enumerate().skip(1) {
            // Under TLS nodes know each other by those ports.
            let port = cluster.secured.get(number).copied().unwrap_or(server.port);
            let bus = RedisCluster::bus_of(&mut cluster.to(server));
            assert_eq!(first.say(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}")), Reply::ok());
        }
        let all = masters + replicas;
        until("everybody knows everybody", || {
            cluster
                .all()
                .all(|server| RedisCluster::fact(&mut cluster.to(server), "cluster_known_nodes") == all.to_string())
                .then_some(())
        });
        for (replica, master) in cluster.replicas.iter().zip(&cluster.masters) {
            let id = RedisCluster::id_of(&mut cluster.to(master));
            let mut client = cluster.to(replica);
            until("a replica begins", || (client.say(&format!("CLUSTER REPLICATE {id}")) == Reply::ok()).then_some(()));
        }
        until("the cluster is well", || {
            cluster.all().all(|server| RedisCluster::fact(&mut cluster.to(server), "cluster_state") == "ok").then_some(())
        });
        for replica in &cluster.replicas {
            let mut client = cluster.to(replica);
            until("a replica is in step", || {
                client.say("ROLE").texts().get(3).is_some_and(|state| state == "connected").then_some(())
            });
        }
        for server in cluster.all() {
            let mut client = cluster.to(server);
            until("the map has all", || (RedisCluster::map_of(&mut client) == (masters, replicas)).then_some(()));
        }
        Some(cluster)
    }

    fn server(&self) -> Option<RedisServer> {
        self.server_with(None)
    }

    fn server_with(&self, secured: Option<u16>) -> Option<RedisServer> {
        let (port, bus) = (free_port(), free_port().to_string());
        let file = format!("nodes-{port}.conf");
        let own = ["--cluster-enabled", "yes", "--cluster-config-file", &file, "--cluster-port", &bus];
        let fast = ["--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0", "--cluster-require-full-coverage", "no"];
        let dir = self.folder.path().display().to_string();
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        let secured = secured.map(|port| port.to_string());
        let secured: Vec<&str> = secured.iter().flat_map(|port| ["--tls-port", port]).collect();
        RedisServer::start_on(port, &[&own[..], &fast[..], &["--dir", &dir], &more[..], &secured[..]].concat())
    }

    fn all(&self) -> impl Iterator<Item = &RedisServer> {
        self.masters.iter().chain(&self.replicas)
    }

    fn to(&self, server: &RedisServer) -> Client {
        Client::to(server.address())
    }

    /// A client of the master with this number.
    pub fn client(&self, master: usize) -> Client {
        self.to(&self.masters[master])
    }

    /// A client of the first master that has the slot of a key, by that master itself.
    pub fn client_of(&self, key: &str) -> Client {
        let slot = RedisCluster::slot_of(&mut self.client(0), key);
        self.client(slot / SLOTS.div_ceil(3))
    }

    pub fn slot_of(client: &mut Client, key: &str) -> usize {
        let Reply::Int(slot) = client.call(&["CLUSTER", "KEYSLOT", key]) else { panic!("no slot") };
        usize::try_from(slot).unwrap()
    }

    pub fn id_of(client: &mut Client) -> String {
        let Reply::Bulk(id) = client.say("CLUSTER MYID") else { panic!("no id") };
        String::from_utf8(id).unwrap()
    }

    fn bus_of(client: &mut Client) -> String {
        client.say("CONFIG GET cluster-port").texts()[1].clone()
    }

    fn fact(client: &mut Client, name: &str) -> String {
        let Reply::Bulk(info) = client.say("CLUSTER INFO") else { return String::new() };
        let info = String::from_utf8(info).unwrap();
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().to_owned()
    }

    /// Masters and replicas in a node's map.
    fn map_of(client: &mut Client) -> (usize, usize) {
        let Reply::Array(ranges) = client.say("CLUSTER SLOTS") else { return (0, 0) };
        let nodes = |range: &Reply| if let Reply::Array(parts) = range { parts.len() - 2 } else { 0 };
        (ranges.len(), ranges.iter().map(nodes).sum::<usize>() - ranges.len())
    }

    /// Moves a slot with all its keys from one master to another; `between` is called after each of its keys, and before the first.
    pub fn move_slot(&self, slot: usize, from: usize, to: usize, mut between: impl FnMut()) {
        let (mut source, mut target) = (self.client(from), self.client(to));
        let (source_id, target_id) = (RedisCluster::id_of(&mut source), RedisCluster::id_of(&mut target));
        assert_eq!(target.say(&format!("CLUSTER SETSLOT {slot} IMPORTING {source_id}")), Reply::ok());
        assert_eq!(source.say(&format!("CLUSTER SETSLOT {slot} MIGRATING {target_id}")), Reply::ok());
        between();
        loop {
            let keys = source.say(&format!("CLUSTER GETKEYSINSLOT {slot} 1")).texts();
            let Some(key) = keys.first() else { break };
            let port = self.masters[to].port.to_string();
            let moved = source.call(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
            assert!(moved == Reply::ok() || moved == Reply::Simple("NOKEY".into()), "{moved:?}");
            between();
        }
        for client in [&mut target, &mut source] {
            assert_eq!(client.say(&format!("CLUSTER SETSLOT {slot} NODE {target_id}")), Reply::ok());
        }
    }

    /// The URL of the settings, of ports under TLS.
    pub fn url_under_tls(&self) -> String {
        let at: Vec<String> = self.secured.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("rediss+cluster://{}", at.join(","))
    }

    /// The URL of the settings.
    pub fn url(&self) -> String {
        let at: Vec<String> = self.masters.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis+cluster://{}", at.join(","))
    }
}
