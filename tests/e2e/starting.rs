//! Starting: what makes it impossible is said clearly, with exit code 1, and harms nobody who runs already.

use crate::harness::resp::Reply;
use crate::harness::{Cluster, until, wayfarer};
use crate::{KEYS, cluster, hset};
use std::net::TcpListener;

/// Starts a node that cannot start; what it says.
fn refused(cluster: &Cluster, name: &str) -> String {
    let mut node = cluster.spawn(name, &[]);
    assert_eq!(node.wait_exit().code(), Some(1), "{}", node.log_text());
    node.log_text()
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for setting in ["state.listen", "http.listen", "cluster.control", "admin.listen", "probe.listen"] {
        let cluster = cluster().set(&[&format!("{setting}={address}")]);
        let said = refused(&cluster, "a");
        let section = setting.split('.').next().unwrap();
        assert!(said.contains(&format!("[{section}]")) && said.contains(&address.to_string()), "{setting}: {said}");
        assert!(said.contains("in use"), "{said}");
        // A start that failed leaves nothing behind: the same name can start at once.
        let mut next = Cluster::new(KEYS);
        next.folder = cluster.folder;
        next.start("a", &[]);
    }
}

#[test]
fn it_serves_with_as_many_threads_as_it_is_told() {
    let cluster = cluster().set(&["runtime.workers=3"]);
    let node = cluster.start("a", &[]);
    // A node answers that it is ready before it writes so.
    until("the node says with how many threads", || node.log_text().contains("workers=3").then_some(()));
}

#[test]
fn a_directory_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text.db"), "this is not a database, it is a letter to somebody".repeat(100)).unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for path in ["no/such/folder/directory.db", "file/directory.db", ".", "text.db"] {
        let path = folder.path().join(path);
        let cluster = cluster().set(&[&format!("cluster.directory=sqlite:{}", path.display())]);
        let said = refused(&cluster, "a");
        assert!(said.contains("[cluster] directory") && said.contains(&*path.to_string_lossy()), "{said}");
    }
}

#[test]
fn a_second_node_of_the_same_name_is_refused() {
    let cluster = cluster();
    let a = cluster.start("a", &[]);
    hset(&mut a.client(), "s:x", "f", b"v");
    let said = refused(&cluster, "a");
    assert!(said.contains("\"a\"") && said.contains("name"), "{said}");
    assert_eq!(a.client().say("HGET s:x f"), Reply::text("v"), "the first one is unharmed");
    assert_eq!(a.status()["members"].as_array().unwrap().len(), 1);
}

#[test]
fn usage_is_not_failure() {
    assert_eq!(wayfarer(&["run", "--set", "state.listen=nowhere"]).status.code(), Some(2));
    assert_eq!(wayfarer(&["run", "--app", "nowhere"]).status.code(), Some(2));
    assert_eq!(wayfarer(&["run", "-c", "/no/such/file.toml"]).status.code(), Some(2));
}

#[test]
fn a_second_listener_serves_the_same_sessions() {
    let port = crate::harness::free_port();
    let cluster = cluster().with(&format!("[[state.listener]]\nlisten = \"127.0.0.1:{port}\""));
    let a = cluster.start("a", &[]);
    let mut second = crate::harness::resp::Client::to(([127, 0, 0, 1], port).into());
    assert_eq!(a.client().say("SET k:one v"), Reply::ok());
    assert_eq!(second.say("GET k:one"), Reply::text("v"));
    assert_eq!(second.say("SUBSCRIBE news").texts(), ["subscribe", "news", "1"]);
    assert_eq!(a.client().say("PUBLISH news x"), Reply::Int(1), "one bus for all listeners");
    // A second node cannot have its port, and says so before it registers.
    assert!(refused(&cluster, "b").contains("[state.listener] cannot listen"));
}
