//! The state face over real sockets, with sessions in a plain map whose slow path the test holds back, and with a real
//! `redis-server` as upstream.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

mod merging;
mod oracle;
mod upstream;

use super::*;
use crate::redis_server::RedisServer;
use bytes::BytesMut;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wayfarer_engine::command;
use wayfarer_engine::ids::Version;
use wayfarer_engine::session::{Layout, Session};
use wayfarer_settings::{KeyMatcher, KeyPattern, Secret, Upstream};

const PATIENCE: Duration = Duration::from_secs(20);

/// Sessions in a map. Those whose id starts with `slow` always go the slow way, which waits for a permit of `gate`.
struct Plain {
    sessions: Mutex<HashMap<Vec<u8>, Session>>,
    gate: Semaphore,
    slow: AtomicUsize,
}

impl Plain {
    fn run(&self, session: &[u8], op: &Op, protocol: Protocol, out: &mut BytesMut) {
        let mut sessions = self.sessions.lock().unwrap();
        let session = sessions.entry(session.to_vec()).or_insert_with(|| Session::new(Version(0)));
        command::execute(session, op, 1_000_000, protocol, out);
    }
}

impl Sessions for Plain {
    fn execute(&self, session: &[u8], op: &Op, protocol: Protocol, out: Answer<'_>) -> bool {
        let fast = !session.starts_with(b"slow");
        if fast {
            self.run(session, op, protocol, out.bytes);
        }
        fast
    }

    async fn slow(self: Arc<Self>, session: SessionId, op: Op, protocol: Protocol) -> Bytes {
        self.slow.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        let mut out = BytesMut::new();
        self.run(&session.0, &op, protocol, &mut out);
        out.freeze()
    }

    async fn survey(self: Arc<Self>, _: Survey, _: Protocol) -> Bytes {
        // Two keys on this one member, at the first question of a scan.
        Bytes::from_static(b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n")
    }
}

struct World {
    address: SocketAddr,
    sessions: Arc<Plain>,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

fn state() -> State {
    let pattern = |text: &str, layout, variable| KeyPattern::parse(text, layout, variable).unwrap();
    State {
        enabled: true,
        listen: ListenAt::Tcp((Ipv4Addr::LOCALHOST, 0).into()),
        socket_mode: 0o600,
        upstream: None,
        password: None,
        index_keys: Vec::new(),
        listeners: Vec::new(),
        keys: KeyMatcher::new(vec![
            pattern("sess:{session}", Layout::Json, None),
            pattern("h:{session}", Layout::Hash, None),
            pattern("cart:{session}", Layout::Key, Some("cart")),
        ]),
        connections_max: 100,
        pipeline_depth_max: 64,
        frame_bytes_max: 1 << 20,
        value_bytes_max: 1 << 18,
        output_bytes_max: 1 << 20,
        output_total_bytes_max: 1 << 28,
        parked_operations_max: 1,
        park_ms_max: 1,
        fetch_ms_max: 1,
        operation_ms_max: 1,
        open: false,
        flush: false,
        merge_by: None,
        notify_keyspace_events: Classes::NONE,
        max_memory: None,
        script_ms_max: 1000,
        script_memory_bytes_max: 8 << 20,
    }
}

async fn start(state: State) -> World {
    start_with(state, |face| face).await
}

async fn start_with(state: State, change: impl FnOnce(StateFace<Plain>) -> StateFace<Plain>) -> World {
    let sessions = Arc::new(Plain { sessions: Mutex::default(), gate: Semaphore::new(0), slow: AtomicUsize::new(0) });
    let dialer = state.upstream.as_ref().map(|upstream| Dialer::new(upstream).unwrap());
    let face = StateFace::bind(state, dialer, sessions.clone()).await.unwrap().with_stall(Duration::from_millis(300));
    let face = change(face);
    let address = face.place().unwrap().tcp().unwrap();
    let (stop, stopped) = watch::channel(false);
    World { address, sessions, stop, running: tokio::spawn(face.run(stopped)) }
}

impl World {
    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Another node's client sets a value.
    fn run_elsewhere(&self, session: &[u8], key: &str, value: &str) {
        let args = ["SET", key, value].map(|arg| Bytes::copy_from_slice(arg.as_bytes())).to_vec();
        let command::Parsed::Keyed(mut op) = command::parse(args) else { panic!("no operation") };
        op.targets_mut().iter_mut().for_each(|target| target.layout = Layout::Json);
        self.sessions.run(session, &op, Protocol::Resp2, &mut BytesMut::new());
    }

    async fn wait_for_slow(&self, count: usize) {
        let reached = async {
            while self.sessions.slow.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap();
    }
}

/// Reads exactly what is expected; `\n` stands for a RESP line end.
#[track_caller]
fn lines(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

async fn expect(client: &mut TcpStream, expected: &str) {
    let expected = lines(expected);
    let mut got = vec![0; expected.len()];
    let mut read = 0;
    while read < expected.len() {
        match timeout(PATIENCE, client.read(&mut got[read..])).await {
            Ok(Ok(n)) if n > 0 => read += n,
            other => panic!(
                "{other:?} after {:?}, expected {:?}",
                String::from_utf8_lossy(&got[..read]),
                String::from_utf8_lossy(&expected)
            ),
        }
        assert!(
            expected.starts_with(&got[..read]),
            "{:?} instead of {:?}",
            String::from_utf8_lossy(&got[..read]),
            String::from_utf8_lossy(&expected)
        );
    }
}

async fn expect_end(client: &mut TcpStream) {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, client.read_to_end(&mut rest)).await.expect("the connection is closed");
    assert!(rest.is_empty() || read.is_err(), "{:?}", String::from_utf8_lossy(&rest));
}

async fn send(client: &mut TcpStream, text: &str) {
    client.write_all(&lines(text)).await.unwrap();
}

/// Sends inline commands, expects replies, in any piece size.
async fn check(client: &mut TcpStream, commands: &str, replies: &str) {
    send(client, commands).await;
    expect(client, replies).await;
}

#[tokio::test]
async fn commands_are_answered_in_both_protocols() {
    let world = start(state()).await;
    let mut client = world.client().await;
    check(
        &mut client,
        "PING\nSET sess:1 '{\"a\":1}'\nGET sess:1\nHSET h:1 f v\nHGETALL h:1\n",
        "+PONG\n+OK\n$7\n{\"a\":1}\n:1\n*2\n$1\nf\n$1\nv\n",
    )
    .await;
    check(&mut client, "hello 3\n", "%7\n$6\nserver\n$5\nredis\n$7\nversion\n$6\n7.0.15\n$5\nproto\n:3\n$2\nid\n:1\n$4\nmode\n$10\nstandalone\n$4\nrole\n$6\nmaster\n$7\nmodules\n*0\n").await;
    check(
        &mut client,
        "GET sess:none\nHGETALL h:1\nGET h:1\n",
        "_\n%1\n$1\nf\n$1\nv\n-WRONGTYPE Operation against a key holding the wrong kind of value\n",
    )
    .await;
    check(&mut client, "FOO bar\n", "-ERR unknown command 'FOO', with args beginning with: 'bar' \n").await;
    check(&mut client, "GEOADD sess:1 x\n", "-ERR unknown command 'GEOADD', with args beginning with: 'sess:1' 'x' \n").await;
    check(&mut client, "GET other\nRANDOMKEY\n", "-ERR wayfarer: this key belongs to no session and there is no upstream ([state] upstream)\n-ERR unknown command 'RANDOMKEY', with args beginning with: \n").await;
    check(&mut client, "GET\n", "-ERR wrong number of arguments for 'get' command\n").await;
    check(&mut client, "QUIT\nPING\n", "+OK\n").await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn half_frames_and_long_pipelines_are_answered() {
    let world = start(state()).await;
    let mut client = world.client().await;
    for byte in b"*3\r\n$3\r\nSET\r\n$6\r\ncart:1\r\n$5\r\n\r\n\r\n!\r\n*2\r\n$3\r\nGET\r\n$6\r\ncart:1\r\n" {
        client.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    expect(&mut client, "+OK\n$5\n\n\n!\n").await;
    let count = 5000;
    let (mut reader, mut writer) = client.into_split();
    let writing =
        tokio::spawn(async move { writer.write_all("INCR cart:2\r\n".repeat(count).as_bytes()).await.map(|()| writer) });
    let expected: String = (1..=count).map(|n| format!(":{n}\r\n")).collect();
    let mut got = vec![0; expected.len()];
    timeout(PATIENCE, reader.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), expected);
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_sent_before_the_end_of_input_is_answered() {
    let world = start(state()).await;
    let mut client = world.client().await;
    send(&mut client, "SET cart:1 a\nGET cart:slow\nGET cart:1\n").await;
    client.shutdown().await.unwrap();
    world.wait_for_slow(1).await;
    world.sessions.gate.add_permits(1);
    expect(&mut client, "+OK\n$-1\n$1\na\n").await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn garbage_and_huge_lengths_end_their_own_connection_only() {
    let world = start(state()).await;
    let mut healthy = world.client().await;
    for (bytes, error) in [
        ("*1\n$x\n", "-ERR Protocol error: invalid bulk length\n"),
        ("*1\n$99999999999\n", "-ERR Protocol error: invalid bulk length\n"),
        ("*99999999\n", "-ERR Protocol error: invalid multibulk length\n"),
        ("*1\n:5\n", "-ERR Protocol error: expected '$', got ':'\n"),
        ("SET a 'b\n", "-ERR Protocol error: unbalanced quotes in request\n"),
        ("PING\n*1\n$-1\n", "+PONG\n-ERR Protocol error: invalid bulk length\n"),
    ] {
        let mut client = world.client().await;
        check(&mut client, bytes, error).await;
        expect_end(&mut client).await;
        check(&mut healthy, "PING\n", "+PONG\n").await;
    }
    let long = "x".repeat((1 << 18) + 1);
    let text = format!("SET sess:1 {long}");
    let request = format!("*3\n$3\nSET\n$6\nsess:1\n${}\n{long}\n", long.len());
    assert!(text.len() < 1 << 20);
    check(&mut healthy, &request, "-ERR string exceeds maximum allowed size ([state] value_bytes_max)\n").await;
}

#[tokio::test]
async fn replies_keep_their_order_while_a_session_hangs() {
    let world = start(state()).await;
    let mut client = world.client().await;
    send(&mut client, "SET cart:1 a\nSET cart:slow1 x\nAPPEND cart:1 b\nGET cart:slow1\nGET cart:1\nGET cart:slow2\nPING\n")
        .await;
    // Only the first of slow1 and that of slow2 are under way: the second of slow1 waits in its lane.
    world.wait_for_slow(2).await;
    expect(&mut client, "+OK\n").await;
    let seen = || world.sessions.sessions.lock().unwrap().get(b"1".as_slice()).map(Session::size_bytes);
    assert_eq!(seen(), Some(6 + 4 + 2), "the other session went on");
    assert_eq!(world.sessions.slow.load(Ordering::SeqCst), 2);
    let mut other = world.client().await;
    check(&mut other, "GET cart:1\n", "$2\nab\n").await;
    world.sessions.gate.add_permits(3);
    expect(&mut client, "+OK\n:2\n$1\nx\n$2\nab\n$-1\n+PONG\n").await;
    assert_eq!(world.sessions.slow.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn commands_in_flight_are_bounded() {
    let world = start(state()).await;
    let mut client = world.client().await;
    let count = 1000;
    let (mut reader, mut writer) = client.split();
    writer.write_all("GET cart:slow\r\nSET cart:1 x\r\n".repeat(count).as_bytes()).await.unwrap();
    world.wait_for_slow(1).await;
    // 64 in flight: at most 32 of the writes can have been begun, and they have run once each at most.
    let writes = || {
        let sessions = world.sessions.sessions.lock().unwrap();
        sessions
            .get(b"1".as_slice())
            .map_or(0, |s| s.keys()[0].variables().map(|(_, v)| usize::from(v.access.writes)).sum::<usize>())
    };
    assert!(writes() <= 32, "{}", writes());
    world.sessions.gate.add_permits(count);
    let mut got = vec![0; "$-1\r\n+OK\r\n".len() * count];
    timeout(PATIENCE, reader.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), "$-1\r\n+OK\r\n".repeat(count));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let world = start(state()).await;
    let mut client = world.client().await;
    let value = "x".repeat(200_000);
    check(&mut client, &format!("*3\n$3\nSET\n$6\ncart:1\n$200000\n{value}\n"), "+OK\n").await;
    let flood = "GET cart:1\r\n".repeat(20_000);
    // 4 GB of replies: neither the sockets nor the bound can hold them.
    let let_go = async {
        while client.write_all(flood.as_bytes()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, let_go).await.expect("the client is let go");
    check(&mut world.client().await, "STRLEN cart:1\n", ":200000\n").await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let world = start(state()).await;
    let mut client = world.client().await;
    let value = "x".repeat(100_000);
    check(&mut client, &format!("*3\n$3\nSET\n$6\ncart:1\n$100000\n{value}\n"), "+OK\n").await;
    let count = 300;
    let (mut reader, mut writer) = client.into_split();
    let writing = tokio::spawn(async move { writer.write_all("GET cart:1\r\n".repeat(count).as_bytes()).await.map(|()| writer) });
    let mut left = count * ("$100000\r\n".len() + 100_000 + 2);
    let mut piece = vec![0; 256 * 1024];
    while left > 0 {
        let read = timeout(PATIENCE, reader.read(&mut piece)).await.unwrap().unwrap();
        assert!(read > 0 && read <= left, "{left} bytes are missing");
        left -= read;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn keys_of_several_sessions_are_split_and_joined() {
    let world = start(state()).await;
    let mut client = world.client().await;
    check(&mut client, "SET cart:1 a\nSET cart:2 b\nSET sess:1 c\n", "+OK\n+OK\n+OK\n").await;
    check(&mut client, "MGET cart:2 sess:1 cart:3 cart:1\n", "*4\n$1\nb\n$1\nc\n$-1\n$1\na\n").await;
    check(&mut client, "EXISTS cart:1 cart:1 cart:2 cart:9\n", ":3\n").await;
    send(&mut client, "MGET cart:1 cart:slow cart:2\nDEL cart:1 cart:2 cart:slow\nEXISTS cart:1 cart:2\n").await;
    world.wait_for_slow(1).await;
    world.sessions.gate.add_permits(2);
    expect(&mut client, "*3\n$1\na\n$-1\n$1\nb\n:2\n:0\n").await;
    check(
        &mut client,
        "DEL cart:1 other\n",
        "-ERR wayfarer: this key belongs to no session and there is no upstream ([state] upstream)\n",
    )
    .await;
}

#[tokio::test]
async fn many_connections_work_and_too_many_are_told() {
    let world = start(state()).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(world.client().await);
    }
    for (n, client) in clients.iter_mut().enumerate() {
        check(client, &format!("SET cart:{n} v{n}\nSTRLEN cart:{n}\n"), &format!("+OK\n:{}\n", format!("v{n}").len())).await;
    }
    let mut refused = world.client().await;
    expect(&mut refused, "-ERR max number of clients reached\n").await;
    expect_end(&mut refused).await;
    check(&mut clients[0], "QUIT\n", "+OK\n").await;
    expect_end(&mut clients[0]).await;
    // The place is free as soon as the connection's task has ended.
    let again = async {
        loop {
            let mut client = world.client().await;
            client.write_all(b"PING\r\n").await.ok();
            let mut byte = [0];
            if client.read_exact(&mut byte).await.is_ok() && byte == *b"+" {
                break;
            }
        }
    };
    timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn a_password_is_asked_for() {
    let world = start(State { password: Some(Secret::new("pw")), ..state() }).await;
    let mut client = world.client().await;
    check(
        &mut client,
        "GET sess:1\nAUTH no\nAUTH pw\nGET sess:1\n",
        "-NOAUTH Authentication required.\n-WRONGPASS invalid username-password pair or user is disabled.\n+OK\n$-1\n",
    )
    .await;
    let mut stranger = world.client().await;
    check(&mut stranger, "*1\n$20000\n", "-ERR Protocol error: unauthenticated bulk length\n").await;
    expect_end(&mut stranger).await;
}

#[tokio::test]
async fn shutdown_finishes_what_is_due() {
    let world = start(state()).await;
    let (mut busy, mut idle) = (world.client().await, world.client().await);
    check(&mut idle, "PING\n", "+PONG\n").await;
    send(&mut busy, "GET cart:slow\nPING\n").await;
    world.wait_for_slow(1).await;
    world.stop.send(true).unwrap();
    expect_end(&mut idle).await;
    world.sessions.gate.add_permits(1);
    expect(&mut busy, "$-1\n+PONG\n").await;
    expect_end(&mut busy).await;
    timeout(PATIENCE, world.running).await.unwrap().unwrap();
    assert!(TcpStream::connect(world.address).await.is_err());
}
