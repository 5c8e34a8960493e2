//! Requests that go once to the owner of their session: where they run, what the instance sees of the client, and who may send one.
//!
//! What happens when members leave, die or are another version's is in `forward_leave`.

use crate::harness::http::{self, Answer};
use crate::harness::instance::Instance;
use crate::harness::resp::Reply;
use crate::harness::{Cluster, Node, until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A node and its instance.
pub struct Stand {
    pub node: Node,
    pub instance: Instance,
}

/// A cluster whose members forward requests.
pub fn cluster() -> Cluster {
    crate::cluster().set(&["http.forward=owner", "cluster.lease_ms=4000"])
}

pub fn start(cluster: &Cluster, name: &str) -> Stand {
    let node = cluster.start(name, &[]);
    let instance = Instance::of(&node);
    Stand { node, instance }
}

/// Members that see each other.
pub fn start_all<const N: usize>(cluster: &Cluster, names: [&str; N]) -> [Stand; N] {
    let stands = names.map(|name| start(cluster, name));
    stands.iter().for_each(|stand| stand.node.wait_members(N));
    stands
}

/// A request with the cookie of session `sid`.
pub fn ask(to: SocketAddr, method: &str, path: &str, sid: &str) -> Answer {
    http::request(to, method, path, &[("Cookie", &format!("sid={sid}"))]).unwrap()
}

/// Counts one request of the session: which node's instance ran it, and its number.
pub fn count(to: SocketAddr, sid: &str) -> (String, i64) {
    let answer = ask(to, "POST", "/count", sid);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let (at, n) = text.split_once(' ').unwrap();
    (at.to_owned(), n.parse().unwrap())
}

/// Where members send requests to this node, as the directory has it.
fn member_place(cluster: &Cluster, name: &str) -> SocketAddr {
    let directory =
        wayfarer_directory::SqliteDirectory::open(cluster.folder.path().join("directory.db"), Default::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let view = runtime.block_on(wayfarer_engine::directory::Directory::view(&directory)).unwrap();
    view.members.values().find(|member| member.draft.name == name).unwrap().draft.requests.parse().unwrap()
}

#[test]
fn each_request_runs_at_the_owner_of_its_session() {
    let cluster = cluster();
    let stands = start_all(&cluster, ["a", "b", "c"]);
    let faces: Vec<SocketAddr> = stands.iter().map(|stand| stand.node.http).collect();
    for user in 0..6 {
        let sid = format!("user{user}");
        let (owner, first) = count(faces[user % 3], &sid);
        assert_eq!((owner.as_str(), first), (["a", "b", "c"][user % 3], 1), "born where the request came");
        for n in 2..=12 {
            // A balancer that knows nothing of sessions.
            let to = faces[(user + usize::try_from(n).unwrap()) % 3];
            assert_eq!(count(to, &sid), (owner.clone(), n), "user {user}");
        }
        assert!(stands[user % 3].node.owns(&sid), "and the session has stayed");
    }
    let moved: u64 = stands.iter().map(|stand| stand.node.number("/handovers/given")).sum();
    assert_eq!(moved, 0);
    let forwarded: f64 = stands.iter().map(|stand| stand.node.metric("wayfarer_http_forwarded_total")).sum();
    assert!(forwarded >= 36.0, "{forwarded} of 72");
    let crossed: f64 = stands.iter().map(|stand| stand.node.metric("wayfarer_operations_forwarded_total")).sum();
    assert_eq!(crossed, 0.0, "no operation has crossed");
}

#[test]
fn the_instance_sees_the_client_and_not_the_other_member() {
    let cluster = cluster();
    let [a, b] = start_all(&cluster, ["a", "b"]);
    count(b.node.http, "sid");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let fields = [
        ("Cookie", "sid=sid"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Request-Id", "mine-1"),
        ("Traceparent", trace),
        ("Wayfarer-Pass", "1.2.forged"),
    ];
    let seen = |to: SocketAddr| {
        let answer = http::request(to, "GET", "/echo?a=b", &fields).unwrap();
        assert_eq!((answer.status, answer.header("wayfarer-elsewhere")), (200, None));
        let text = answer.text();
        let (at, rest) = text.split_once('\n').unwrap();
        let mut lines: Vec<String> = rest.lines().filter(|line| !line.starts_with("host: ")).map(str::to_owned).collect();
        lines.retain(|line| !line.starts_with("x-forwarded-host: "));
        lines.sort_unstable();
        (at.to_owned(), lines)
    };
    let (direct, forwarded) = (seen(b.node.http), seen(a.node.http));
    assert_eq!((direct.0.as_str(), forwarded.0.as_str()), ("b", "b"));
    assert_eq!(direct.1, forwarded.1, "the same, whichever way it came");
    for line in [
        "x-forwarded-for: 192.0.2.7, 127.0.0.1",
        "x-forwarded-proto: https",
        "x-request-id: mine-1",
        &format!("traceparent: {trace}"),
    ] {
        assert!(forwarded.1.iter().any(|found| found == line), "{line} in {forwarded:?}");
    }
    assert!(!forwarded.1.iter().any(|line| line.contains("wayfarer")), "{forwarded:?}");
}

#[test]
fn bodies_stream_and_websockets_pass() {
    let cluster = cluster();
    let [a, b] = start_all(&cluster, ["a", "b"]);
    count(b.node.http, "sid");
    let head = |more: &str| format!("POST /echo HTTP/1.1\r\nHost: shop\r\nCookie: sid=sid\r\nConnection: close\r\n{more}\r\n");
    let whole = http::send(a.node.http, &(head("Content-Length: 3000000\r\n") + &"x".repeat(3_000_000))).unwrap();
    assert!(whole.text().starts_with("b\n") && whole.text().ends_with("body 3000000\n"), "{}", whole.text());
    let chunk = format!("10000\r\n{}\r\n", "y".repeat(0x10000));
    let chunked = http::send(a.node.http, &(head("Transfer-Encoding: chunked\r\n") + &chunk.repeat(20) + "0\r\n\r\n")).unwrap();
    assert!(
        chunked.text().starts_with("b\n") && chunked.text().ends_with(&format!("body {}\n", 20 * 0x10000)),
        "{}",
        chunked.text()
    );

    let mut socket = TcpStream::connect(a.node.http).unwrap();
    socket.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let upgrade = "GET /socket HTTP/1.1\r\nHost: shop\r\nCookie: sid=sid\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    for _ in 0..3 {
        let frame = [0x82, 0x83, 1, 2, 3, 4, 5, 6, 7];
        let mut back = [0; 9];
        socket.write_all(&frame).unwrap();
        socket.read_exact(&mut back).unwrap();
        assert_eq!(back, frame);
    }
    assert_eq!((a.instance.got().len(), b.instance.count_of("/socket")), (0, 1));
}

/// What a client writes into a request changes nothing, and what has not come through a member is not taken where members come.
#[test]
fn nobody_but_a_member_can_forward() {
    let cluster = cluster();
    let [a, b] = start_all(&cluster, ["a", "b"]);
    count(b.node.http, "sid");
    // A real pass, written by A for B and seen on its way: it is taken away at a client's face, and good for no other request at B's.
    for pass in ["", "1.1.x", "true"] {
        let answer = http::request(a.node.http, "POST", "/count", &[("Cookie", "sid=sid"), ("Wayfarer-Pass", pass)]).unwrap();
        assert!(answer.status == 200 && answer.text().starts_with("b "), "{pass:?}: {}", answer.text());
    }
    let inner = member_place(&cluster, "b");
    for fields in [&[("Cookie", "sid=sid")][..], &[("Cookie", "sid=sid"), ("Wayfarer-Pass", "1.1.x")]] {
        let answer = http::request(inner, "POST", "/count", fields).unwrap();
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
    assert_eq!(b.node.metric("wayfarer_http_passes_refused_total"), 2.0);
    assert_eq!(count(a.node.http, "sid"), ("b".to_owned(), 5), "and none of those has run");
}

/// Each of two members believes the session to be at the other one, which has it no more: it runs at the first that it comes to.
#[test]
fn a_request_is_forwarded_once_wherever_its_session_has_gone() {
    let cluster = cluster();
    let [a, b, c] = start_all(&cluster, ["a", "b", "c"]);
    assert_eq!(count(b.node.http, "sid").0, "b");
    // A and C learn that B has it.
    assert_eq!((count(a.node.http, "sid").0, count(c.node.http, "sid").0), ("b".to_owned(), "b".to_owned()));
    // The one session of the cluster goes to C, and A does not hear of it.
    b.node.ask_drain();
    until("the session to leave b", || (a.node.owns("sid") || c.node.owns("sid")).then_some(()));
    let sees_b = |stand: &Stand| {
        let members = stand.node.status()["members"].clone();
        members.as_array().unwrap().iter().any(|member| member["name"] == "b" && member["state"] == "accepting")
    };
    until("all to see that b leaves", || (!sees_b(&a) && !sees_b(&c)).then_some(()));
    let (owner, other) = if a.node.owns("sid") { (&a, &c) } else { (&c, &a) };
    assert_eq!(count(other.node.http, "sid"), (owner.node.name.clone(), 4), "b leaves, so its place is asked for");
    assert_eq!(count(owner.node.http, "sid"), (owner.node.name.clone(), 5));
}

#[test]
fn a_member_that_is_asked_in_vain_says_so_and_is_asked_no_more() {
    let cluster = cluster().set(&["handover.residence_ms_min=0"]);
    let [a, b] = start_all(&cluster, ["a", "b"]);
    for n in 0..4 {
        assert_eq!(count(b.node.http, &format!("s{n}")).0, "b");
        assert_eq!(count(a.node.http, &format!("s{n}")).0, "b");
    }
    let c = start(&cluster, "c");
    [&a, &b, &c].iter().for_each(|stand| stand.node.wait_members(3));
    b.node.rebalance();
    until("sessions at c", || (c.node.sessions() > 0).then_some(()));
    let gone: Vec<String> = (0..4).map(|n| format!("s{n}")).filter(|sid| c.node.owns(sid)).collect();
    for sid in &gone {
        // A believes it to be at B. B runs it, its operations forwarded, and says that it is not there; it is not sent on.
        assert_eq!(count(a.node.http, sid), ("b".to_owned(), 3));
        assert_eq!(count(a.node.http, sid), ("c".to_owned(), 4), "and then A asks again");
        assert_eq!(count(b.node.http, sid), ("c".to_owned(), 5));
    }
    assert!(gone.iter().all(|sid| c.node.owns(sid)), "it has not gone back");
}

#[test]
fn a_login_at_the_owner_is_found_there_by_the_next_request() {
    let cluster = cluster();
    let [a, b] = start_all(&cluster, ["a", "b"]);
    count(b.node.http, "guest");
    let fields = [("Cookie", "sid=guest"), ("X-Login", "member")];
    let answer = http::request(a.node.http, "POST", "/login", &fields).unwrap();
    assert_eq!((answer.text().as_str(), answer.cookie().as_deref()), ("b 1", Some("sid=member")));
    assert_eq!(count(a.node.http, "member"), ("b".to_owned(), 2));
    assert!(ask(a.node.http, "POST", "/logout", "member").text().starts_with("b Int(1)"));
    assert_eq!(count(a.node.http, "member"), ("a".to_owned(), 1), "it has ended, and is born where the request comes");
    assert_eq!(b.node.client().say("HGET s:member n"), Reply::text("1"));
}

#[test]
fn unless_said_requests_run_where_they_come() {
    let cluster = crate::cluster();
    let [a, b] = start_all(&cluster, ["a", "b"]);
    assert_eq!(count(b.node.http, "sid"), ("b".to_owned(), 1));
    assert_eq!(count(a.node.http, "sid"), ("a".to_owned(), 2));
    assert_eq!(a.node.metric("wayfarer_http_forwarded_total"), 0.0);
}
