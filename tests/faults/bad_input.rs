//! Anything at all at the state face, the control port and the admin port: a clear error, and everybody else goes on.

use crate::harness::resp::{Client, Reply, encode};
use crate::harness::{Node, http, until};
use crate::{cluster, filler, hset};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A node with one session that a well-behaved client uses all the time.
struct Victim {
    node: Node,
    good: Client,
    count: i64,
    _cluster: crate::harness::Cluster,
}

impl Victim {
    fn new(settings: &[&str]) -> Victim {
        let cluster = cluster().set(settings);
        let node = cluster.start("a", &[]);
        let mut good = node.client();
        hset(&mut good, "s:good", "v", b"value");
        Victim { node, good, count: 0, _cluster: cluster }
    }

    /// The process lives, and its other clients notice nothing.
    fn is_unharmed(&mut self, after: &str) {
        self.count += 1;
        assert_eq!(self.good.say("HINCRBY s:good count 1"), Reply::Int(self.count), "after {after}");
        assert_eq!(self.good.say("HGET s:good v"), Reply::text("value"), "after {after}");
    }

    /// Sends bytes on a connection of their own, and nothing after them; what comes back until it is closed.
    fn answers(&self, to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The other side may close while this is still writing: that is an answer, too.
        if stream.write_all(bytes).is_ok() {
            drop(stream.shutdown(Shutdown::Write));
        }
        let mut back = Vec::new();
        if let Err(error) = stream.read_to_end(&mut back) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection is not closed");
        }
        back
    }
}

/// Numbers that look random and are the same each time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    (0..length).map(|_| u8::try_from(next() >> 56).unwrap()).collect()
}

#[test]
fn what_is_no_resp_gets_a_protocol_error_and_is_disconnected() {
    let mut victim = Victim::new(&[]);
    let state = victim.node.state;
    let broken: [&[u8]; 11] = [
        b"*1\r\n$99999999999999999999\r\n",
        b"*1\r\n$-5\r\nPING\r\n",
        b"*99999999999\r\n",
        b"*2000000\r\n",
        b"*1\r\n$536870913\r\nx",
        b"*1\r\n+PING\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"*x\r\n",
        b"*1\r\n$4x\r\nPING\r\n",
        b"*3\r\n$3\r\nSET\r\n$6\r\nk:good\r\n$-1\r\n",
    ];
    for bytes in broken {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let back = victim.answers(state, bytes);
        assert!(back.starts_with(b"-ERR Protocol error"), "{shown:?} gave {:?}", String::from_utf8_lossy(&back));
        victim.is_unharmed(&shown);
    }
    // What came before the mistake is answered.
    let back = victim.answers(state, b"*2\r\n$3\r\nGET\r\n$6\r\nk:none\r\n*x\r\n");
    assert!(back.starts_with(b"$-1\r\n-ERR Protocol error"), "{:?}", String::from_utf8_lossy(&back));
    let deep = b"*1\r\n".repeat(200_000);
    assert!(victim.answers(state, &deep).starts_with(b"-ERR Protocol error"));
    let line = vec![b'a'; 1 << 20];
    assert!(victim.answers(state, &line).starts_with(b"-ERR Protocol error"), "a line without an end");
    victim.is_unharmed("deep nesting and long lines");
    assert!(victim.node.metric("wayfarer_state_protocol_errors_total") >= 13.0);
}

/// A browser of this machine can be made to send such a request, with commands as its body.
#[test]
fn a_request_of_a_web_page_executes_nothing() {
    let mut victim = Victim::new(&[]);
    let state = victim.node.state;
    let request = format!("POST / HTTP/1.1\r\nHost: {state}\r\nContent-Type: text/plain\r\n\r\nHSET s:good v stolen\r\n");
    assert_eq!(String::from_utf8_lossy(&victim.answers(state, request.as_bytes())), "");
    let late = format!("GET / HTTP/1.1\r\nhost: {state}\r\n\r\nHSET s:good v stolen\r\n");
    let answer = String::from_utf8_lossy(&victim.answers(state, late.as_bytes())).into_owned();
    assert!(answer.starts_with("-ERR wrong number of arguments") && answer.lines().count() == 1, "{answer}");
    victim.is_unharmed("a request of a web page");
    assert!(victim.node.log_text().contains("spoke HTTP"));
}

#[test]
fn half_frames_wait_and_cost_nobody_anything() {
    let mut victim = Victim::new(&[]);
    let whole = encode(&["HSET", "s:half", "field", "value"]);
    let mut open = Vec::new();
    for cut in 1..whole.len() {
        let mut client = Client::to(victim.node.state);
        client.send(&whole[..cut]).unwrap();
        open.push((client, cut));
    }
    victim.is_unharmed("half frames");
    assert_eq!(victim.good.say("EXISTS s:half"), Reply::Int(0), "a half command does nothing");
    // The half of them hang up; the others send the rest.
    for (n, (mut client, cut)) in open.into_iter().enumerate() {
        if n % 2 == 0 {
            client.send(&whole[cut..]).unwrap();
            let added = client.read().unwrap();
            assert!(added == Reply::Int(1) || added == Reply::Int(0), "{added:?}");
        }
    }
    victim.is_unharmed("the rest of them");
    // A bulk that announces much and sends little.
    let mut greedy: Vec<Client> = (0..50).map(|_| Client::to(victim.node.state)).collect();
    for client in &mut greedy {
        client.send(b"*3\r\n$3\r\nSET\r\n$6\r\nk:huge\r\n$8000000\r\nlittle").unwrap();
    }
    victim.is_unharmed("announcements");
    let status = std::fs::read_to_string(format!("/proc/{}/status", victim.node.pid())).unwrap();
    let resident_kib: u64 =
        status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    assert!(resident_kib < 200_000, "room is not given for what was only announced: {resident_kib} KiB");
}

#[test]
fn wrong_commands_get_the_errors_of_redis_and_stay_connected() {
    let mut victim = Victim::new(&["state.value_bytes_max=1000"]);
    let mut client = victim.node.client();
    let long = "x".repeat(1001);
    let wrong: [(&[&str], &str); 14] = [
        (&["NOSUCH", "s:good"], "ERR unknown command 'NOSUCH'"),
        (&["", ""], "ERR unknown command ''"),
        (&["GET"], "ERR wrong number of arguments for 'get' command"),
        (&["HSET", "s:good", "odd"], "ERR wrong number of arguments for 'hset' command"),
        (&["GET", "s:good"], "WRONGTYPE "),
        (&["INCR", "s:good"], "WRONGTYPE "),
        (&["HGET", "k:text", "f"], "WRONGTYPE "),
        (&["INCR", "k:text"], "ERR value is not an integer or out of range"),
        (&["HINCRBY", "s:good", "v", "1"], "ERR hash value is not an integer"),
        (&["HINCRBY", "s:good", "count", "99999999999999999999"], "ERR value is not an integer or out of range"),
        (&["SET", "k:text", "v", "EX", "-1"], "ERR invalid expire time in 'set' command"),
        (&["SET", "k:text", "v", "NX", "XX"], "ERR syntax error"),
        (&["GET", "other"], "ERR wayfarer: this key belongs to no session"),
        (&["SET", "k:text", &long], "ERR string exceeds maximum allowed size ([state] value_bytes_max)"),
    ];
    assert_eq!(client.say("SET k:text letters"), Reply::ok());
    for (command, error) in wrong {
        let said = client.call(command);
        assert!(said.error().starts_with(error), "{command:?} gave {said:?}");
        victim.is_unharmed(&command.join(" "));
    }
    assert!(client.say("GEOADD s:good 1 1 member").error().starts_with("ERR "), "a command that sessions do not have");
    assert!(client.call(&["EVAL", "return \"", "1", "s:good"]).error().starts_with("ERR "), "a script that does not compile");
    assert!(client.say("HELLO 9").error().starts_with("NOPROTO "));
    assert_eq!(client.say("GET k:text"), Reply::text("letters"), "the same connection goes on");
    assert_eq!(client.say("PING"), Reply::Simple("PONG".into()));
}

#[test]
fn random_bytes_harm_nobody() {
    let mut victim = Victim::new(&[]);
    let (state, control, admin) = (victim.node.state, victim.node.control, victim.node.admin);
    for seed in 0..6 {
        let mut bytes = noise(seed, 1 << 20);
        victim.answers(state, &bytes);
        // The same with a beginning that looks like a command.
        bytes.splice(0..0, *b"*3\r\n$3\r\nSET\r\n");
        victim.answers(state, &bytes);
        victim.is_unharmed("random bytes at the state face");
        victim.answers(control, &bytes[16..100_000]);
        // A length that is small, and one that is huge, before the noise.
        victim.answers(control, &[&[0, 0, 0, 40], &bytes[16..2000]].concat());
        victim.answers(control, &[&[40, 0, 0, 0], &bytes[16..2000]].concat());
        victim.answers(control, &[&[255, 255, 255, 255], &bytes[16..2000]].concat());
        victim.is_unharmed("random bytes at the control port");
        victim.answers(admin, &bytes[16..100_000]);
        victim.answers(admin, b"GET /\xff\xfe HTTP/1.1\r\n\r\n");
        victim.answers(admin, b"POST /drain HTTP/9.9\r\n\r\n");
        victim.is_unharmed("random bytes at the admin port");
    }
    assert_eq!(http::get(admin, "/readyz").unwrap().status, 200, "no drain came of it");
    // Every byte as a command of its own line, and every short command cut short.
    for byte in 0..=255u8 {
        victim.answers(state, &[byte, byte, b'\r', b'\n']);
    }
    victim.is_unharmed("every byte");
    assert_eq!(victim.node.sessions(), 1);
    // The cluster still forms: another node joins over the same control port.
    let b = victim._cluster.start("b", &[]);
    assert_eq!(b.client().say("HGET s:good v"), Reply::text("value"));
}

#[test]
fn a_client_that_does_not_read_is_bounded() {
    let mut victim =
        Victim::new(&["state.value_bytes_max=200000", "state.output_bytes_max=1000000", "state.pipeline_depth_max=64"]);
    let mut slow = victim.node.client();
    let value = filler("slow", 100_000);
    assert_eq!(slow.call(&[b"SET".as_slice(), b"k:slow", &value]), Reply::ok());
    // 200 MB of replies are asked for and not taken; the requests alone fill the sockets.
    let mut writer = slow.writer();
    writer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let asked = encode(&["GET", "k:slow"]).repeat(100);
    let mut sent = 0;
    while sent < 20 && writer.write_all(&asked).is_ok() {
        sent += 1;
    }
    for n in 0..20 {
        victim.is_unharmed(&format!("a slow client, {n}"));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", victim.node.pid())).unwrap();
    let resident_kib: u64 =
        status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    assert!(resident_kib < 200_000, "{resident_kib} KiB");
    // Byte by byte is slow, too, and right.
    let mut client = victim.node.client();
    for byte in encode(&["HGET", "s:good", "v"]) {
        client.send(&[byte]).unwrap();
    }
    assert_eq!(client.read().unwrap(), Reply::text("value"));
    until("the slow one is let go", || (victim.node.metric("wayfarer_state_clients_stalled_total") >= 1.0).then_some(()));
    victim.is_unharmed("the end of the slow one");
}

#[test]
fn too_many_clients_are_told_so() {
    let mut victim = Victim::new(&["state.connections_max=10"]);
    let mut clients: Vec<Client> = Vec::new();
    let refused = until("a refusal", || {
        let mut client = Client::to(victim.node.state);
        match client.try_call(&["PING"]) {
            Ok(Reply::Simple(_)) => clients.push(client),
            Ok(said) => return Some(said),
            // Closed before the question could be sent: the error is lost with it.
            Err(_) => {}
        }
        None
    });
    assert!(refused.error().starts_with("ERR max number of clients"), "{refused:?}");
    assert_eq!(clients.len(), 9, "and the good one");
    victim.is_unharmed("too many");
    drop(clients);
    until("room again", || {
        (Client::to(victim.node.state).try_call(&["PING"]).ok()? == Reply::Simple("PONG".into())).then_some(())
    });
}
