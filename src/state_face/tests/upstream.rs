//! The state face before a real Redis: what is no session's goes there, in order, and nothing else fails with it.
//!
//! Uses the sockets and the plain store of its parent; starts a `redis-server` of its own for each test.

use super::*;

pub(super) fn with_upstream(redis: &RedisServer) -> State {
    State { upstream: Some(Upstream::parse(&format!("redis://127.0.0.1:{}/0", redis.port)).unwrap()), ..state() }
}

#[tokio::test]
async fn what_is_no_sessions_goes_upstream_in_order() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let world = start(with_upstream(&redis)).await;
    let mut client = world.client().await;
    send(&mut client, "SET other 1\nSET cart:1 a\nGET other\nGET cart:slow\nLPUSH list a b\nGET cart:1\nLRANGE list 0 -1\n")
        .await;
    world.wait_for_slow(1).await;
    world.sessions.gate.add_permits(1);
    expect(&mut client, "+OK\n+OK\n$1\n1\n$-1\n:2\n$1\na\n*2\n$1\nb\n$1\na\n").await;
    check(&mut client, "MGET other cart:1 none cart:2\nDEL other cart:1 none\n", "*4\n$1\n1\n$1\na\n$-1\n$-1\n:2\n").await;
    check(
        &mut client,
        "GEOADD cart:1 x\nEXISTS cart:1\n",
        "-ERR unknown command 'GEOADD', with args beginning with: 'cart:1' 'x' \n:0\n",
    )
    .await;
    // What Redis knows and this table does not is the upstream's to judge.
    check(&mut client, "SET other 1 NONSENSE\nGET other x\nNOSUCH x\n", "-ERR syntax error\n-ERR wrong number of arguments for 'get' command\n-ERR unknown command 'NOSUCH', with args beginning with: 'x' \n").await;
    check(&mut client, "SELECT 3\nSET other three\nSELECT 0\nGET other\n", "+OK\n+OK\n+OK\n$-1\n").await;
    send(&mut client, "HELLO 3\nGET none\n").await;
    expect(&mut client, "%7\n$6\nserver\n$5\nredis\n$7\nversion\n$6\n7.0.15\n$5\nproto\n:3\n$2\nid\n:1\n$4\nmode\n$10\nstandalone\n$4\nrole\n$6\nmaster\n$7\nmodules\n*0\n_\n").await;
    // Another connection is in database 3 before it first needs the upstream.
    check(&mut world.client().await, "SELECT 3\nGET other\n", "+OK\n$5\nthree\n").await;
}

#[tokio::test]
async fn a_blocking_command_of_the_upstream_stalls_only_replies() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let world = start(with_upstream(&redis)).await;
    let (mut client, mut other) = (world.client().await, world.client().await);
    send(&mut client, "BLPOP queue 0\nSET cart:1 a\n").await;
    let set = async {
        while world.sessions.sessions.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, set).await.unwrap();
    check(&mut other, "RPUSH queue x\n", ":1\n").await;
    expect(&mut client, "*2\n$5\nqueue\n$1\nx\n+OK\n").await;
}

/// Waits until a list of the upstream has no client that waits for an element.
async fn wait_for_blocked(redis: &RedisServer, count: usize) {
    let wanted = format!("blocked_clients:{count}\r\n");
    let reached = async {
        loop {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port)).await.unwrap();
            send(&mut client, "INFO clients\n").await;
            if oracle::replies(&mut client, 1).await[0].contains(&wanted.replace('\r', "")) {
                break;
            }
        }
    };
    timeout(PATIENCE, reached).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_while_it_blocks_takes_nothing_from_the_others() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let world = start(with_upstream(&redis)).await;
    let mut other = world.client().await;
    let commands = ["BLPOP queue 0\n", "XREAD BLOCK 0 STREAMS stream $\n", "GET other\nBLMOVE queue other LEFT LEFT 0\n"];
    for (n, command) in commands.into_iter().enumerate() {
        // One closes its connection, another its half of it, a third has sent more than is read.
        for way in 0..3 {
            let mut client = world.client().await;
            send(&mut client, command).await;
            wait_for_blocked(&redis, 1).await;
            if way == 2 {
                send(&mut client, &"GET other\n".repeat(100)).await;
            }
            if way == 1 {
                client.shutdown().await.unwrap();
            } else {
                drop(client);
            }
            wait_for_blocked(&redis, 0).await;
            check(&mut other, &format!("RPUSH queue job{n}\nRPOP queue\n"), &format!(":1\n$4\njob{n}\n")).await;
        }
    }
    // A command that is answered at once is answered, though its client sends no more.
    let mut last = world.client().await;
    send(&mut last, "RPUSH queue a\nMULTI\nBLPOP queue 0\nEXEC\nGET none\n").await;
    last.shutdown().await.unwrap();
    expect(&mut last, ":1\n+OK\n+QUEUED\n*1\n*2\n$5\nqueue\n$1\na\n$-1\n").await;
    expect_end(&mut last).await;
}

#[tokio::test]
async fn an_upstream_that_hangs_keeps_no_client_that_has_gone() {
    // It takes connections, as the system does for it, and answers nothing.
    let silent = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let upstream = Some(Upstream::parse(&format!("redis://127.0.0.1:{port}/0")).unwrap());
    let world = start(State { upstream, connections_max: 5, ..state() }).await;
    for commands in ["GET other\n".to_owned(), "GET other\nGET cart:1\n".repeat(100)] {
        for _ in 0..4 {
            let mut client = world.client().await;
            send(&mut client, &commands).await;
        }
        let served = async {
            loop {
                let mut all = Vec::new();
                for _ in 0..5 {
                    let mut client = world.client().await;
                    client.write_all(b"PING\r\n").await.ok();
                    let mut byte = [0];
                    if client.read_exact(&mut byte).await.is_ok() && byte == *b"+" {
                        all.push(client);
                    }
                }
                if all.len() == 5 {
                    break;
                }
            }
        };
        timeout(PATIENCE, served).await.expect("every place is free again");
    }
}

#[tokio::test]
async fn a_transaction_has_one_party() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let world = start(with_upstream(&redis)).await;
    let mut client = world.client().await;
    let refused = "-ERR wayfarer: a transaction has keys of one session, or of the upstream, and no others\n";
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\n";
    check(&mut client, "MULTI\nSET other 1\nPING\nEXEC\n", "+OK\n+QUEUED\n+QUEUED\n*2\n+OK\n+PONG\n").await;
    for (first, second) in [("SET other 2", "SET cart:1 a"), ("SET cart:1 a", "SET other 2"), ("SET cart:1 a", "SET cart:2 a")] {
        let commands = format!("MULTI\n{first}\n{second}\nEXEC\nGET other\nEXISTS cart:1 cart:2\n");
        check(&mut client, &commands, &format!("+OK\n+QUEUED\n{refused}{aborted}$1\n1\n:0\n")).await;
    }
    check(&mut client, "MULTI\nMGET cart:1 cart:2\nEXEC\n", &format!("+OK\n{refused}{aborted}")).await;
    let elsewhere = "-EXECABORT Transaction discarded because of: wayfarer: the watched keys are not of the same session as those of the transaction\n";
    for (watched, key) in [("other", "cart:1"), ("cart:1", "other"), ("cart:2", "cart:1")] {
        let commands = format!("WATCH {watched}\nMULTI\nSET {key} x\nEXEC\nGET other\nEXISTS cart:1\n");
        check(&mut client, &commands, &format!("+OK\n+OK\n+QUEUED\n{elsewhere}$1\n1\n:0\n")).await;
    }
    check(
        &mut client,
        "WATCH cart:1 other\n",
        "-ERR wayfarer: the keys of one WATCH must be of one session, or of the upstream\n",
    )
    .await;
    check(
        &mut client,
        "MULTI\nSET cart:1 a\nSUBSCRIBE x\nEXEC\nGET cart:1\n",
        &format!("+OK\n+QUEUED\n-ERR wayfarer: this command is not allowed inside a transaction\n{aborted}$-1\n"),
    )
    .await;
}

#[tokio::test]
async fn a_transaction_waits_with_its_session_and_stalls_no_other() {
    let world = start(state()).await;
    let mut client = world.client().await;
    // The stamps of WATCH take the slow way as well; EXEC waits for them, and PING's reply for EXEC's.
    send(&mut client, "WATCH cart:slow\nMULTI\nSET cart:slow 1\nECHO between\nGET cart:slow\nEXEC\nGET cart:2\n").await;
    world.wait_for_slow(1).await;
    world.sessions.gate.add_permits(1);
    expect(&mut client, "+OK\n+OK\n+QUEUED\n+QUEUED\n+QUEUED\n").await;
    world.wait_for_slow(2).await;
    check(&mut world.client().await, "SET cart:2 b\n", "+OK\n").await;
    world.sessions.gate.add_permits(1);
    expect(&mut client, "*3\n+OK\n$7\nbetween\n$1\n1\n$1\nb\n").await;
}

#[tokio::test]
async fn a_subscription_takes_its_connection() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let world = start(with_upstream(&redis)).await;
    let (mut subscriber, mut publisher) = (world.client().await, world.client().await);
    check(&mut subscriber, "PING\nSUBSCRIBE a b\n", "+PONG\n*3\n$9\nsubscribe\n$1\na\n:1\n*3\n$9\nsubscribe\n$1\nb\n:2\n").await;
    check(&mut publisher, "PUBLISH a hi\n", ":1\n").await;
    expect(&mut subscriber, "*3\n$7\nmessage\n$1\na\n$2\nhi\n").await;
    check(
        &mut subscriber,
        "GET cart:1\n",
        "-ERR wayfarer: this connection is subscribed at the upstream; use another one for other commands\n",
    )
    .await;
    check(&mut subscriber, "PING\n", "*2\n$4\npong\n$0\n\n").await;
}

#[tokio::test]
async fn a_subscription_begins_after_what_was_under_way_and_ends_with_the_last_channel() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let world = start(with_upstream(&redis)).await;
    let subscribed = |kind: &str, channel: &str, count: usize| {
        format!("*3\n${}\n{kind}\n${}\n{channel}\n:{count}\n", kind.len(), channel.len())
    };
    for before in ["UNWATCH\n", "SELECT 1\n", "MULTI\nDISCARD\n"] {
        let mut client = world.client().await;
        check(&mut client, "SET other 1\nWATCH other\n", "+OK\n+OK\n").await;
        let ok = "+OK\n".repeat(before.lines().count());
        let expected = subscribed("subscribe", "ch", 1);
        check(&mut client, &format!("{before}SUBSCRIBE ch\n"), &format!("{ok}{expected}")).await;
        let (twice, left) = (subscribed("psubscribe", "p*", 2), subscribed("unsubscribe", "ch", 1));
        check(&mut client, "PSUBSCRIBE p*\nUNSUBSCRIBE ch\n", &format!("{twice}{left}")).await;
        check(
            &mut client,
            "GET cart:1\n",
            "-ERR wayfarer: this connection is subscribed at the upstream; use another one for other commands\n",
        )
        .await;
        let none = subscribed("punsubscribe", "p*", 0);
        check(&mut client, "PUNSUBSCRIBE\nGET cart:1\nSELECT 0\nGET other\nPING\n", &format!("{none}$-1\n+OK\n$1\n1\n+PONG\n"))
            .await;
        check(&mut client, "UNSUBSCRIBE\nGET other\n", "*3\n$11\nunsubscribe\n$-1\n:0\n$1\n1\n").await;
        let again = subscribed("subscribe", "ch", 1);
        let last = subscribed("unsubscribe", "ch", 0);
        check(&mut client, "SUBSCRIBE ch\nUNSUBSCRIBE ch\nSUBSCRIBE ch\n", &format!("{again}{last}{again}")).await;
        check(&mut client, "RESET\nGET other\nGET cart:1\n", "+RESET\n$1\n1\n$-1\n").await;
        check(&mut client, "SUBSCRIBE\nGET other\n", "-ERR wrong number of arguments for 'subscribe' command\n$1\n1\n").await;
    }
    let mut client = world.client().await;
    send(&mut client, "HELLO 3\nSUBSCRIBE ch\n").await;
    assert!(oracle::replies(&mut client, 2).await[1].starts_with(">3\n"));
    check(&mut client, "PING x\nUNSUBSCRIBE ch\nGET cart:1\n", "$1\nx\n>3\n$11\nunsubscribe\n$2\nch\n:0\n_\n").await;
}

#[tokio::test]
async fn a_transaction_of_the_upstream_has_a_bound() {
    use wayfarer_engine::command::compound::TRANSACTION_COMMANDS_MAX;
    let Some(redis) = RedisServer::start(&[]) else { return };
    let world = start(with_upstream(&redis)).await;
    let (mut reader, mut writer) = world.client().await.into_split();
    let commands = format!("MULTI\r\n{}EXEC\r\nGET n\r\n", "INCR n\r\n".repeat(TRANSACTION_COMMANDS_MAX + 1));
    let writing = tokio::spawn(async move { writer.write_all(commands.as_bytes()).await.map(|()| writer) });
    let queued = "+QUEUED\r\n".repeat(TRANSACTION_COMMANDS_MAX);
    let expected = format!(
        "+OK\r\n{queued}-ERR wayfarer: the transaction is too long ([state] frame_bytes_max)\r\n-EXECABORT Transaction discarded because of previous errors.\r\n$-1\r\n"
    );
    let mut got = vec![0; expected.len()];
    timeout(PATIENCE, reader.read_exact(&mut got)).await.unwrap().unwrap();
    assert!(String::from_utf8(got).unwrap() == expected);
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dead_upstream_fails_only_its_own_commands_and_comes_back() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let world = start(with_upstream(&server)).await;
    let mut client = world.client().await;
    check(&mut client, "SET other 1\n", "+OK\n").await;
    let port = server.port;
    server.stop();
    let down = "-ERR wayfarer: the upstream Redis does not answer ([state] upstream)\n";
    check(&mut client, "GET other\nSET cart:1 a\nGET cart:1\nDEL cart:1 other\n", &format!("{down}+OK\n$1\na\n{down}")).await;
    let mut watching = world.client().await;
    drop(server);
    let Some(_server) = RedisServer::start_on(port, &[]) else { return };
    check(&mut client, "GET other\nSET other 2\nGET other\n", "$-1\n+OK\n$1\n2\n").await;
    check(&mut watching, "WATCH other\n", "+OK\n").await;
}

#[tokio::test]
async fn what_a_dead_upstream_has_forgotten_counts_as_failed() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let world = start(with_upstream(&server)).await;
    let (mut queueing, mut watching) = (world.client().await, world.client().await);
    check(&mut queueing, "MULTI\nSET other 1\n", "+OK\n+QUEUED\n").await;
    check(&mut watching, "WATCH other\n", "+OK\n").await;
    let port = server.port;
    server.stop();
    let gone = "-ERR wayfarer: the transaction has failed already: the upstream Redis does not answer ([state] upstream)\n";
    let down = "-ERR wayfarer: the upstream Redis does not answer ([state] upstream)\n";
    // A command of its own shows each connection that the upstream is gone, whichever comes first.
    let mut first = vec![0; 12];
    send(&mut queueing, "SET other 2\n").await;
    timeout(PATIENCE, queueing.read_exact(&mut first)).await.unwrap().unwrap();
    let rest = if String::from_utf8_lossy(&first).starts_with("-ERR wayfare") {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(timeout(PATIENCE, queueing.read_u8()).await.unwrap().unwrap());
        }
        format!("{}{}", String::from_utf8_lossy(&first), String::from_utf8_lossy(&line))
    } else {
        panic!("{:?}", String::from_utf8_lossy(&first))
    };
    assert!([gone, down].iter().any(|line| lines(line) == rest.as_bytes()), "{rest}");
    check(&mut queueing, "EXEC\nSET cart:1 a\n", "-EXECABORT Transaction discarded because of previous errors.\n+OK\n").await;
    check(&mut watching, "GET other\n", down).await;
    drop(server);
    let Some(_server) = RedisServer::start_on(port, &[]) else { return };
    check(&mut watching, "MULTI\nSET other 3\nEXEC\nMULTI\nSET other 3\nEXEC\n", "+OK\n+QUEUED\n*-1\n+OK\n+QUEUED\n*1\n+OK\n")
        .await;
}
