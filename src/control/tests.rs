//! Nodes that talk over real sockets on loopback: order, lives, refusals, bad bytes, limits, the end.

#![allow(clippy::disallowed_methods, reason = "each node of a test runs in a task of its own, and deadlines need a clock")]

use super::*;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wayfarer_engine::directory::{MemberDraft, MemberRecord, MemberState};
use wayfarer_engine::ids::{Epoch, HandoverId, RequestId, SessionId};
use wayfarer_engine::node::message::Message;
use wayfarer_engine::wire::control::{self as wire, Forwarded};

const DEADLINE: Duration = Duration::from_secs(20);

struct Inbox {
    arrived: mpsc::Sender<(Incarnation, ControlMessage)>,
    unreachable: Mutex<Vec<Incarnation>>,
}

impl Inbound for Inbox {
    async fn received(&self, from: Incarnation, message: ControlMessage) {
        // A test that has ended takes nothing more.
        let _ = self.arrived.send((from, message)).await;
    }

    fn unreachable(&self, peer: Incarnation) {
        self.unreachable.lock().unwrap().push(peer);
    }
}

struct Node {
    me: Incarnation,
    control: Arc<Control>,
    inbox: Arc<Inbox>,
    arrived: mpsc::Receiver<(Incarnation, ControlMessage)>,
    stop: watch::Sender<bool>,
    life: JoinHandle<Result<(), AlreadyRunning>>,
}

impl Node {
    async fn new(me: u64) -> Node {
        Node::with(me, settings(), 1000, 0).await
    }

    async fn with(me: u64, settings: ControlSettings, inbox_len: usize, port: u16) -> Node {
        let control = Control::bind(SocketAddr::from(([127, 0, 0, 1], port)), settings).await.unwrap();
        Node::live(Arc::new(control), me, inbox_len)
    }

    fn live(control: Arc<Control>, me: u64, inbox_len: usize) -> Node {
        let me = life(me);
        let (sender, arrived) = mpsc::channel(inbox_len);
        let inbox = Arc::new(Inbox { arrived: sender, unreachable: Mutex::default() });
        let (stop, stopped) = watch::channel(false);
        let running = (Arc::clone(&control), Arc::clone(&inbox));
        let life = tokio::spawn(async move { running.0.run(me, running.1, stopped).await });
        Node { me, control, inbox, arrived, stop, life }
    }

    async fn next(&mut self) -> (Incarnation, ControlMessage) {
        tokio::time::timeout(DEADLINE, self.arrived.recv()).await.expect("nothing arrived").unwrap()
    }

    /// Whose lane for questions fell, in order.
    fn unreachable(&self) -> Vec<Incarnation> {
        self.inbox.unreachable.lock().unwrap().clone()
    }

    /// Sends as soon as the life has begun and the peer is not down.
    async fn send(&self, to: &Node, message: ControlMessage) {
        until(|| match self.control.send(to.me, message.clone()) {
            Ok(()) => true,
            Err(NotSent::NotRunning | NotSent::Unreachable) => false,
            Err(error) => panic!("{error}"),
        })
        .await;
    }

    /// Ends the life; all of its connections are closed when this returns.
    async fn end(self) -> Arc<Control> {
        self.stop.send_replace(true);
        tokio::time::timeout(DEADLINE, self.life).await.expect("the life does not end").unwrap().unwrap();
        self.control
    }
}

fn settings() -> ControlSettings {
    ControlSettings { redial_ms_min: 5, redial_ms_max: 50, ..ControlSettings::new("shop", "node") }
}

fn life(number: u64) -> Incarnation {
    Incarnation(Epoch(number))
}

fn load(id: u64) -> ControlMessage {
    ControlMessage::LoadAsk { id }
}

fn member(me: Incarnation, address: SocketAddr, state: MemberState) -> (Incarnation, MemberRecord) {
    let draft = MemberDraft { name: format!("node-{}", me.0.0), control: address.to_string(), ..MemberDraft::default() };
    (me, MemberRecord { incarnation: me, draft, state, renewals: 0, confirmed: 0 })
}

fn view(nodes: &[&Node]) -> View {
    let members = nodes.iter().map(|n| member(n.me, n.control.local_addr(), MemberState::Accepting));
    View { members: members.collect(), ..View::default() }
}

fn introduce(nodes: &[&Node]) {
    nodes.iter().for_each(|n| n.control.members(&view(nodes)));
}

async fn until(mut condition: impl FnMut() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waited).await.expect("the condition never held");
}

#[tokio::test]
async fn two_nodes_talk_in_order_and_count_bytes() {
    let (a, mut b) = (Node::new(1).await, Node::new(2).await);
    introduce(&[&a, &b]);
    a.send(&b, load(0)).await;
    for id in 1..1000 {
        a.control.send(b.me, load(id)).unwrap();
    }
    for id in 0..1000 {
        assert_eq!(b.next().await, (a.me, load(id)));
    }
    let handover = HandoverId { origin: life(2), serial: 1 };
    let fetch = ControlMessage::Node(Message::Fetch { request: RequestId(1), handover, variables: Vec::new() });
    let confirm = ControlMessage::Node(Message::Committed { handover });
    for message in [&fetch, &confirm] {
        a.control.send(b.me, message.clone()).unwrap();
        assert_eq!(b.next().await.1, *message);
    }
    let size = |message: &ControlMessage| wire::encode(message, &mut BytesMut::new(), 1000).unwrap() as u64;
    let of_loads = (0..1000).map(|id| size(&load(id))).sum();
    let expected = BytesSent { eager: size(&confirm), late: size(&fetch), other: of_loads };
    until(|| a.control.bytes() == expected).await;
    assert_eq!(b.control.bytes(), BytesSent::default());
    assert!(a.unreachable().is_empty() && b.unreachable().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_talk_both_ways_and_in_both_lanes() {
    let mut nodes = [Node::new(1).await, Node::new(2).await, Node::new(3).await];
    introduce(&nodes.each_ref());
    let large = |n| {
        ControlMessage::Node(Message::Fetched { request: RequestId(n), values: vec![Some(Bytes::from(vec![b'v'; 500_000]))] })
    };
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.me != from.me) {
            for n in 0..5 {
                from.send(to, large(n)).await;
                from.send(to, load(n)).await;
            }
        }
    }
    let all = nodes.each_ref().map(|n| n.me);
    for node in &mut nodes {
        let mut seen: BTreeMap<(Incarnation, bool), Vec<ControlMessage>> = BTreeMap::new();
        for _ in 0..20 {
            let (from, message) = node.next().await;
            seen.entry((from, wire::lane(&message) == Lane::Bulk)).or_default().push(message);
        }
        for from in all.into_iter().filter(|from| *from != node.me) {
            assert!(seen[&(from, false)] == (0..5).map(load).collect::<Vec<_>>());
            assert!(seen[&(from, true)] == (0..5).map(large).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_peer_that_ends_is_told_once_and_its_next_life_is_another_one() {
    let (a, mut b) = (Node::new(1).await, Node::new(2).await);
    introduce(&[&a, &b]);
    a.send(&b, load(1)).await;
    b.next().await;
    let port = b.control.local_addr().port();
    drop(b.end().await);
    until(|| a.unreachable() == [life(2)]).await;
    assert_eq!(a.control.send(life(2), load(2)), Err(NotSent::Unreachable));

    // The same address, another life: whoever means the old one is not let in.
    let mut b = Node::with(3, settings(), 100, port).await;
    b.control.members(&view(&[&a, &b]));
    assert_eq!(a.control.send(b.me, load(3)), Err(NotSent::Unknown), "a does not know it yet");
    let refused = raw_hello(b.control.local_addr(), "shop", 9, 2).await;
    assert!(matches!(refused, Some(ControlMessage::Unwelcome { reason }) if reason.contains("life 3, not in 2")));
    assert_eq!(a.control.send(life(2), load(4)), Err(NotSent::Unreachable));

    a.control.members(&view(&[&a, &b]));
    assert_eq!(a.control.send(life(2), load(5)), Err(NotSent::Unknown));
    a.send(&b, load(6)).await;
    assert_eq!(b.next().await, (a.me, load(6)));
    b.send(&a, load(7)).await;
    assert_eq!(a.unreachable(), [life(2)], "once");
}

#[tokio::test]
async fn one_that_has_just_joined_is_let_in_when_the_view_shows_it() {
    let (mut a, b) = (Node::new(1).await, Node::new(2).await);
    a.control.members(&view(&[&a]));
    b.control.members(&view(&[&a, &b]));
    b.send(&a, load(1)).await;
    assert_eq!(a.control.send(b.me, load(2)), Err(NotSent::Unknown));
    a.control.members(&view(&[&a, &b]));
    assert_eq!(a.next().await, (b.me, load(1)), "it waited and was not lost");
    assert_eq!(a.control.send(b.me, load(2)), Ok(()), "and whoever hears it can answer");
    assert!(b.unreachable().is_empty());
}

#[tokio::test]
async fn a_connection_that_breaks_is_dialled_again() {
    let (a, mut b) = (Node::new(1).await, Node::new(2).await);
    introduce(&[&a, &b]);
    a.send(&b, load(1)).await;
    b.next().await;
    // The same life goes on after a break, as after a fault of the network.
    let control = b.end().await;
    until(|| a.unreachable() == [life(2)]).await;
    let mut b = Node::live(control, 2, 100);
    a.send(&b, load(2)).await;
    assert_eq!(b.next().await, (a.me, load(2)));
    drop(b.end().await);
    until(|| a.unreachable() == [life(2), life(2)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_node_is_cut_off_and_lives_again_as_another() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    introduce(&[&a, &b]);
    a.send(&b, load(1)).await;
    b.send(&a, load(2)).await;
    b.next().await;
    a.next().await;
    let mut fenced = view(&[&a, &b]);
    fenced.members.get_mut(&b.me).unwrap().state = MemberState::Fenced;
    a.control.members(&fenced);
    assert_eq!(a.control.send(b.me, load(3)), Err(NotSent::Unknown));
    until(|| a.unreachable() == [b.me]).await;
    until(|| b.unreachable() == [a.me]).await;
    let refused = raw_hello(a.control.local_addr(), "shop", 2, 1).await;
    assert!(matches!(refused, Some(ControlMessage::Unwelcome { reason }) if reason.contains("fenced")));

    // The same listener, another life.
    let mut b = Node::live(b.end().await, 3, 100);
    introduce(&[&a, &b]);
    a.send(&b, load(4)).await;
    assert_eq!(b.next().await, (a.me, load(4)));
    b.send(&a, load(5)).await;
    assert_eq!(a.next().await, (life(3), load(5)));
}

#[tokio::test]
async fn a_peer_that_was_never_there_is_unreachable_once() {
    let (a, b) = (Node::new(1).await, Node::new(2).await);
    introduce(&[&a, &b]);
    drop(b.end().await);
    until(|| a.control.send(life(2), load(1)) != Err(NotSent::NotRunning)).await;
    until(|| a.unreachable() == [life(2)]).await;
    let bulk = ControlMessage::Node(Message::Fetched { request: RequestId(1), values: Vec::new() });
    assert_eq!(a.control.send(life(2), bulk.clone()), Ok(()), "its lane has not been tried yet");
    until(|| a.control.send(life(2), bulk.clone()) == Err(NotSent::Unreachable)).await;
    // The end waits for the lanes, so that a second call would have been made.
    let inbox = Arc::clone(&a.inbox);
    assert_eq!(a.control.send(life(2), load(2)), Err(NotSent::Unreachable));
    assert_eq!(a.unreachable(), [life(2)], "not for the other lane too");
    assert_eq!(a.control.send(life(7), load(3)), Err(NotSent::Unknown));
    assert_eq!(a.control.send(a.me, load(3)), Err(NotSent::Unknown));
    drop(a.end().await);
    assert_eq!(*inbox.unreachable.lock().unwrap(), [life(2)]);
}

#[tokio::test]
async fn a_message_that_no_frame_holds_is_refused_and_the_next_one_goes() {
    let (a, mut b) = (Node::with(1, ControlSettings { frame_bytes_max: 1000, ..settings() }, 10, 0).await, Node::new(2).await);
    introduce(&[&a, &b]);
    a.send(&b, load(1)).await;
    let long = ControlMessage::OperationReply { id: 1, outcome: Forwarded::Reply(Bytes::from(vec![0; 1000])) };
    assert!(matches!(a.control.send(b.me, long), Err(NotSent::TooLong(_))));
    a.control.send(b.me, load(2)).unwrap();
    assert_eq!(b.next().await.1, load(1));
    assert_eq!(b.next().await.1, load(2));
}

#[tokio::test]
async fn a_slow_peer_fills_its_queue_and_no_other() {
    let few = ControlSettings { queue_len_max: 50, queue_bytes_max: 1 << 20, ..settings() };
    let (a, mut slow, mut b) = (Node::with(1, few, 10, 0).await, Node::with(2, settings(), 1, 0).await, Node::new(3).await);
    introduce(&[&a, &slow, &b]);
    let large = |n| {
        let session = SessionId::copy_of(b"s");
        ControlMessage::Operation { id: n, session, arguments: vec![Bytes::from(vec![0; 100_000])], resp3: false, create: false }
    };
    let mut sent = 0;
    until(|| {
        loop {
            match a.control.send(slow.me, large(sent)) {
                Ok(()) => sent += 1,
                // More than the queue holds: the connection has taken some, and takes no more.
                Err(NotSent::Full) => return sent > 15,
                Err(NotSent::NotRunning) => return false,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    a.send(&b, load(1)).await;
    assert_eq!(b.next().await.1, load(1));
    for n in 0..sent {
        assert!(slow.next().await.1 == large(n), "nothing is lost and nothing overtakes");
    }
    a.send(&slow, load(2)).await;
    assert_eq!(slow.next().await.1, load(2));
}

#[tokio::test]
async fn a_peer_that_stands_still_is_given_up() {
    let (a, stuck) =
        (Node::with(1, ControlSettings { write_ms_max: 100, ..settings() }, 10, 0).await, Node::with(2, settings(), 1, 0).await);
    introduce(&[&a, &stuck]);
    let large = ControlMessage::OperationReply { id: 1, outcome: Forwarded::Reply(Bytes::from(vec![0; 1 << 20])) };
    until(|| a.control.send(stuck.me, large.clone()) != Err(NotSent::NotRunning) && !a.unreachable().is_empty()).await;
    assert_eq!(a.unreachable()[0], stuck.me);
}

/// Says hello by hand and returns the answer; `None`: closed without one.
async fn raw_hello(address: SocketAddr, cluster: &str, me: u64, to: u64) -> Option<ControlMessage> {
    raw(address, &hello_bytes(cluster, me, to)).await
}

fn hello_bytes(cluster: &str, me: u64, to: u64) -> BytesMut {
    let (protocol_min, protocol_max) = (wire::PROTOCOL_MIN, wire::PROTOCOL_MAX);
    let (cluster, member) = (cluster.to_owned(), "raw".to_owned());
    let hello = ControlMessage::Hello {
        protocol_min,
        protocol_max,
        cluster,
        member,
        incarnation: life(me),
        to: life(to),
        lane: Lane::Control,
        keys: None,
    };
    let mut bytes = BytesMut::new();
    wire::encode(&hello, &mut bytes, 1000).unwrap();
    bytes
}

/// Writes bytes, then reads to the end of the connection or the first frame.
async fn raw(address: SocketAddr, bytes: &[u8]) -> Option<ControlMessage> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The other end may have closed it already.
        let _ = stream.write_all(bytes).await;
        let mut input = BytesMut::new();
        loop {
            if let Some(message) = wire::decode(&mut input, 10_000).unwrap() {
                return Some(message);
            }
            if matches!(stream.read_buf(&mut input).await, Ok(0) | Err(_)) {
                return None;
            }
        }
    };
    tokio::time::timeout(DEADLINE, talk).await.expect("the connection stays open")
}

#[tokio::test]
async fn bad_bytes_close_their_connection_and_no_other() {
    let brief = ControlSettings { connect_ms_max: 500, ..settings() };
    let (a, mut b) = (Node::new(1).await, Node::with(2, brief, 100, 0).await);
    introduce(&[&a, &b]);
    a.send(&b, load(1)).await;
    b.next().await;
    let address = b.control.local_addr();
    assert!(raw(address, b"GET / HTTP/1.1\r\n\r\n").await.is_none(), "another protocol");
    assert!(raw(address, &[255; 64]).await.is_none(), "a huge frame");
    assert!(raw(address, &[0xff, 0x1f, 0, 0]).await.is_none(), "a hello that never ends is overdue");
    assert!(raw(address, &[]).await.is_none(), "silence is overdue");
    assert!(raw(address, &[3, 0, 0, 0, 18, 1, 0]).await.is_none(), "a message before the handshake");
    let other = raw_hello(address, "warehouse", 9, 2).await;
    assert!(matches!(other, Some(ControlMessage::Unwelcome { reason }) if reason.contains("\"shop\", not of \"warehouse\"")));
    let own = raw_hello(address, "shop", 2, 2).await;
    assert!(matches!(own, Some(ControlMessage::Unwelcome { .. })), "its own life");

    let unknown = raw_hello(address, "shop", 9, 2).await;
    assert!(unknown.is_none(), "one whom the view does not show within the time of the handshake");
    let ninth = Node::new(9).await;
    b.control.members(&view(&[&a, &b, &ninth]));
    // Past the handshake: a claim of 4 GiB, garbage, a second hello.
    for bad in [&[255; 4][..], &[2, 0, 0, 0, 99, 0], &hello_bytes("shop", 9, 2)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello_bytes("shop", 9, 2)).await.unwrap();
        let mut answer = [0; 64];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        stream.write_all(bad).await.unwrap();
        let end = tokio::time::timeout(DEADLINE, stream.read(&mut answer)).await.expect("it stays open");
        assert!(matches!(end, Ok(0) | Err(_)));
    }
    a.control.send(b.me, load(2)).unwrap();
    assert_eq!(b.next().await, (a.me, load(2)));
    assert!(a.unreachable().is_empty());
}

#[tokio::test]
async fn connections_are_bounded_and_a_second_one_ends_the_first() {
    let node = Node::with(2, ControlSettings { connections_max: 2, ..settings() }, 10, 0).await;
    let ninth = Node::new(9).await;
    node.control.members(&view(&[&node, &ninth]));
    let address = node.control.local_addr();
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(&hello_bytes("shop", 9, 2)).await.unwrap();
    let mut answer = [0; 64];
    assert!(first.read(&mut answer).await.unwrap() > 0);
    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(raw(address, &[]).await.is_none(), "a third one is closed at once");
    second.write_all(&hello_bytes("shop", 9, 2)).await.unwrap();
    assert!(second.read(&mut answer).await.unwrap() > 0);
    let end = tokio::time::timeout(DEADLINE, first.read(&mut answer)).await.expect("it stays open");
    assert!(matches!(end, Ok(0) | Err(_)));
}

#[tokio::test]
async fn the_end_closes_everything() {
    let (a, mut b) = (Node::new(1).await, Node::new(2).await);
    introduce(&[&a, &b]);
    a.send(&b, load(1)).await;
    b.next().await;
    let inbox = Arc::downgrade(&a.inbox);
    assert_eq!(a.control.run(life(9), Arc::clone(&a.inbox), watch::channel(false).1).await, Err(AlreadyRunning));
    let (stop, kept) = (a.stop.clone(), a.end().await);
    assert_eq!(kept.send(life(2), load(2)), Err(NotSent::NotRunning));
    assert!(inbox.upgrade().is_none(), "no task of that life is left");
    drop(stop);
    let error = Control::bind(SocketAddr::from(([0, 0, 0, 0], 0)), settings()).await.err().unwrap();
    assert!(error.to_string().contains("loopback"));
}
