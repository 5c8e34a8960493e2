//! Other listeners of the state face: Unix sockets, and one on which every key is a session.

use crate::harness::resp::{Client, Reply};
use crate::harness::{Cluster, free_port, until, wayfarer};
use crate::{cluster, hset};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A socket in the cluster's folder.
fn socket(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.folder.path().join(format!("{name}.sock"))
}

/// The cluster, whose next node also listens there.
fn and_at(mut cluster: Cluster, path: &Path) -> Cluster {
    cluster.set.push(format!("state.listener=[{{ listen = \"unix:{}\" }}]", path.display()));
    cluster
}

#[test]
fn a_unix_socket_serves_what_the_port_serves() {
    let cluster = cluster();
    let path = socket(&cluster, "a");
    let cluster = and_at(cluster, &path);
    let mut a = cluster.start("a", &[]);
    let mut client = Client::at(&path).unwrap();
    assert_eq!(client.say("HSET s:one cart apples"), Reply::Int(1));
    assert_eq!(a.client().say("HGET s:one cart"), Reply::text("apples"));
    let Reply::Bulk(info) = client.say("INFO server") else { panic!("no text") };
    assert!(String::from_utf8(info).unwrap().contains("tcp_port:0\r\n"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "for nobody else");
    // Many commands at once, and one whose value does not fit into the socket's buffer.
    let large = vec![b'x'; 1 << 20];
    assert_eq!(client.call(&[b"HSET".as_slice(), b"s:one", b"large", &large]), Reply::Int(1));
    let ask = crate::harness::resp::encode(&["HGET", "s:one", "large"]).repeat(8);
    client.send(&ask).unwrap();
    for _ in 0..8 {
        assert_eq!(client.read().unwrap(), Reply::Bulk(large.clone()));
    }
    a.ask_drain();
    assert!(client.is_closed());
    a.wait_exit();
    assert!(!path.exists(), "the socket goes with the sidecar");
}

#[test]
fn the_first_listener_may_be_a_unix_socket_with_a_password() {
    let cluster = cluster();
    let path = socket(&cluster, "a");
    let told = cluster.folder.path().join("told");
    let listen = format!("state.listen=unix:{}", path.display());
    let cluster = cluster.set(&[&listen, "state.password=secret", "state.socket_mode=0660"]);
    let script = format!("echo \"$REDIS_URL\" > {0}.part; mv {0}.part {0}; while :; do sleep 0.05; done", told.display());
    let _a = cluster.set(&["http.enabled=false"]).start("a", &["sh", "-c", &script]);
    let url = until("the URL of the state face", || std::fs::read_to_string(&told).ok());
    assert_eq!(url.trim(), format!("unix://:secret@{}", path.display()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut client = Client::at(&path).unwrap();
    assert!(client.say("GET s:one").error().starts_with("NOAUTH"));
    assert_eq!(client.say("AUTH secret"), Reply::ok());
    assert_eq!(client.say("HGET s:one cart"), Reply::Nil);
}

#[test]
fn only_the_socket_of_a_dead_process_is_replaced() {
    let first = cluster();
    let path = socket(&first, "face");
    let mut cluster = and_at(first, &path);
    let refused = |cluster: &Cluster| {
        let mut node = cluster.spawn("b", &[]);
        assert_eq!(node.wait_exit().code(), Some(1), "{}", node.log_text());
        node.log_text()
    };
    let mut a = cluster.start("a", &[]);
    let said = refused(&cluster);
    assert!(said.contains("[state.listener] cannot listen on unix:") && said.contains("in use"), "{said}");
    assert_eq!(Client::at(&path).unwrap().say("PING"), Reply::Simple("PONG".to_owned()), "the first one is unharmed");
    assert_eq!(a.status()["members"].as_array().unwrap().len(), 1, "nothing was registered");
    a.kill();
    assert!(path.exists(), "who is killed removes nothing");
    let mut b = cluster.start("b", &[]);
    assert_eq!(Client::at(&path).unwrap().say("PING"), Reply::Simple("PONG".to_owned()));
    b.kill();
    std::fs::remove_file(&path).unwrap();

    std::fs::write(&path, "a letter").unwrap();
    let said = refused(&cluster);
    assert!(said.contains("no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a letter");
    std::fs::remove_file(&path).unwrap();
    // Somebody else's, who is no sidecar.
    let _other = UnixListener::bind(&path).unwrap();
    assert!(refused(&cluster).contains("in use"));
    cluster.set = vec![format!("state.listen=unix:{}/no/face.sock", cluster.folder.path().display())];
    let said = refused(&cluster);
    assert!(said.contains("[state] cannot listen on unix:") && said.contains("the folder"), "{said}");
}

#[test]
fn check_names_a_socket_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter");
    std::fs::write(&path, "a letter").unwrap();
    let config = folder.path().join("wayfarer.toml");
    let check = |listen: &str| {
        std::fs::write(&config, format!("[state]\nlisten = \"{listen}\"\n")).unwrap();
        let directory = format!("cluster.directory=sqlite:{}/directory.db", folder.path().display());
        let done = wayfarer(&["check", "-c", config.to_str().unwrap(), "--set", &directory]);
        (done.status.code(), String::from_utf8(done.stdout).unwrap())
    };
    let (code, said) = check(&format!("unix:{}", path.display()));
    assert!(code == Some(2) && said.contains("is no socket"), "{said}");
    let (code, said) = check("unix:/no/such/folder/face.sock");
    assert!(code == Some(2) && said.contains("the folder /no/such/folder does not exist"), "{said}");
    let (code, said) = check("unix:face.sock");
    assert!(code == Some(2) && said.contains("wayfarer.toml:2: state.listen:") && said.contains("absolute"), "{said}");
    let (code, said) = check(&format!("unix:{}/face.sock", folder.path().display()));
    assert!(code == Some(0), "{said}");
}

/// Two nodes, each with a listener on which every key is a session.
fn all() -> (Cluster, Vec<(crate::harness::Node, Client)>) {
    let mut cluster = cluster();
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        let port = free_port();
        cluster.set.truncate(1);
        cluster.set.push(format!("state.listener=[{{ listen = \"127.0.0.1:{port}\", sessions = \"all\" }}]"));
        let node = cluster.start(name, &[]);
        nodes.push((node, Client::to(([127, 0, 0, 1], port).into())));
    }
    for (node, _) in &nodes {
        node.wait_members(2);
    }
    (cluster, nodes)
}

#[test]
fn where_every_key_is_a_session_each_is_served_by_its_owner() {
    let (_cluster, mut nodes) = all();
    let [(a, to_a), (_, to_b)] = nodes.as_mut_slice() else { panic!("two nodes") };
    assert_eq!(to_a.say("SET 0b8e1cfa v"), Reply::ok());
    assert_eq!(to_a.say("HSET {any}thing f 1"), Reply::Int(1));
    assert_eq!(a.sessions(), 2);
    // Forwarded to its owner, in every form that an operation has.
    assert_eq!(to_b.say("GET 0b8e1cfa"), Reply::text("v"));
    assert_eq!(to_b.say("HINCRBY {any}thing f 2"), Reply::Int(3));
    assert_eq!(to_b.say("MGET 0b8e1cfa none"), Reply::Array(vec![Reply::text("v"), Reply::Nil]));
    assert_eq!(to_b.call(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "0b8e1cfa"]), Reply::text("v"));
    assert_eq!(to_b.say("MULTI"), Reply::ok());
    assert_eq!(to_b.say("APPEND 0b8e1cfa w").texts(), [""; 0]);
    assert_eq!(to_b.say("EXEC"), Reply::Array(vec![Reply::Int(2)]));
    assert_eq!(to_b.say("SELECT 3"), Reply::ok());
    assert_eq!(to_b.say("GET 0b8e1cfa"), Reply::Nil, "another database");
    assert_eq!(to_b.say("SET 0b8e1cfa three EX 100"), Reply::ok());
    assert_eq!(to_b.say("SELECT 0"), Reply::ok());
    assert_eq!(to_b.say("DBSIZE"), Reply::Int(2));
    // At the other listeners the same keys are no session's.
    assert!(a.client().say("GET 0b8e1cfa").error().contains("upstream"));
    assert_eq!(to_a.say("GET 0b8e1cfa"), Reply::text("vw"));
}

#[test]
fn a_key_of_a_pattern_is_one_session_through_every_listener() {
    let (_cluster, mut nodes) = all();
    let [(a, to_a), (b, to_b)] = nodes.as_mut_slice() else { panic!("two nodes") };
    hset(&mut a.client(), "s:one", "f", b"v");
    assert_eq!(to_b.say("HGET s:one f"), Reply::text("v"));
    assert_eq!(to_a.say("SET one by-its-name"), Reply::ok());
    assert_eq!(a.sessions(), 1, "the id is the same");
    assert_eq!(a.rebalance().1, 0);
    // Whoever has it now, both of its keys are there; a drain takes both along.
    a.ask_drain();
    a.wait_exit();
    assert_eq!((to_b.say("HGET s:one f"), to_b.say("GET one")), (Reply::text("v"), Reply::text("by-its-name")));
    assert_eq!(b.sessions(), 1);
}
