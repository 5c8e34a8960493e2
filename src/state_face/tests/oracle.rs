//! The state face beside a real `redis-server`: the same bytes to both, the same bytes back.

use super::upstream::with_upstream;
use super::*;
use wayfarer_engine::wire::resp::FrameScanner;

/// The whole replies to so many commands.
pub(super) async fn replies(client: &mut TcpStream, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    let mut buffer = BytesMut::new();
    while got.len() < count {
        let mut scanner = FrameScanner::new(1 << 24, 1 << 20);
        let frame = loop {
            if let Some(frame) = scanner.scan(&buffer).unwrap() {
                break frame;
            }
            let read = timeout(PATIENCE, client.read_buf(&mut buffer)).await;
            assert!(matches!(read, Ok(Ok(n)) if n > 0), "{read:?} after {got:?}");
        };
        got.push(String::from_utf8_lossy(&buffer.split_to(frame.len)).replace("\r\n", "\n"));
    }
    assert!(buffer.is_empty(), "{got:?}, and {:?}", String::from_utf8_lossy(&buffer));
    got
}

/// Sends each line to both and compares the replies. Lines that start with `>` go to a second connection.
pub(super) async fn compare(face: SocketAddr, oracle: u16, script: &str) {
    for protocol in ["HELLO 2", "HELLO 3"] {
        let mut ours = [TcpStream::connect(face).await.unwrap(), TcpStream::connect(face).await.unwrap()];
        let oracle = (Ipv4Addr::LOCALHOST, oracle);
        let mut theirs = [TcpStream::connect(oracle).await.unwrap(), TcpStream::connect(oracle).await.unwrap()];
        for client in ours.iter_mut().chain(theirs.iter_mut()) {
            send(client, &format!("{protocol}\n")).await;
            replies(client, 1).await;
        }
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (at, command) = line.strip_prefix('>').map_or((0, line), |command| (1, command.trim()));
            // Commands divided by ` ; ` cross in one write.
            let count = command.split(" ; ").count();
            let bytes = format!("{}\n", command.replace(" ; ", "\n"));
            send(&mut ours[at], &bytes).await;
            send(&mut theirs[at], &bytes).await;
            let (our, their) = (replies(&mut ours[at], count).await, replies(&mut theirs[at], count).await);
            assert_eq!(our, their, "{protocol}: {command}");
        }
    }
}

/// The same lines for connections that are in another database than 0.
pub(super) fn in_database_1(script: &str) -> String {
    format!("SELECT 1\n> SELECT 1\n{script}")
}

/// A new world, and an oracle as empty as it is.
async fn start_beside(oracle: &RedisServer, state: State) -> World {
    let world = start(state).await;
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, oracle.port)).await.unwrap();
    check(&mut client, "FLUSHALL\nSCRIPT FLUSH\n", "+OK\n+OK\n").await;
    world
}

const TRANSACTIONS: &str = "
    DEL K1 K2 ; DEL H1
    EXEC
    DISCARD
    MULTI
    SET K1 a
    GET K1
    INCR K1
    PING
    PING hello
    ECHO x
    UNWATCH
    EXEC
    GET K1
    MULTI ; MULTI ; SET K1 b ; EXEC
    MULTI ; WATCH K1 ; EXEC
    MULTI x
    MULTI ; EXEC x ; SET K1 c ; EXEC
    MULTI ; DISCARD x ; EXEC
    WATCH
    MULTI ; SET K1 ; EXEC
    MULTI ; SET K1 a NX XX ; SET K1 zzz ; EXEC
    MULTI ; NOSUCHCOMMAND x ; EXEC
    MULTI ; SELECT ; EXEC
    MULTI ; PING a b ; EXEC
    GET K1
    MULTI ; SET K1 dropped ; DISCARD ; GET K1
    MULTI ; EXEC
    HSET H1 a 1 b 2 c 3
    MULTI ; PING ; HGETALL H1 ; EXEC
    DEL H1
    MULTI ; HSET H1 f v g w ; HGETALL H1 ; HGET K1 f ; TTL H1 ; DEL H1 ; HGETALL H1 ; EXEC
    MULTI ; SETEX K1 100 x ; TTL K1 ; PERSIST K1 ; DEL K1 K1 ; EXISTS K1 ; EXEC
    SET K1 1
    WATCH K1
    MULTI
    INCR K1
    EXEC
    WATCH K1
    > SET K1 5
    MULTI ; SET K1 mine ; EXEC
    GET K1
    MULTI ; SET K1 mine ; EXEC
    WATCH K1
    > SET K1 mine
    MULTI ; PING ; EXEC
    WATCH K1
    > EXPIRE K1 100
    MULTI ; GET K1 ; EXEC
    WATCH K1
    > GET K1
    MULTI ; GET K1 ; EXEC
    WATCH K2
    > SET K2 born
    MULTI ; SET K2 mine ; EXEC
    GET K2
    WATCH K2 K2
    > DEL K2
    MULTI ; SET K2 mine ; EXEC
    WATCH K2
    MULTI ; SET K2 mine ; EXEC
    WATCH K1
    > SET K1 other
    UNWATCH
    MULTI ; SET K1 mine ; EXEC
    WATCH K1
    > SET K1 other
    MULTI ; DISCARD
    MULTI ; SET K1 mine ; EXEC
    WATCH K1
    > SET K1 other
    EXEC
    MULTI ; GET K1 ; EXEC
    WATCH K1 ; MULTI ; GET K1 ; EXEC
    MULTI ; CLIENT SETNAME me ; CLIENT GETNAME ; GET K1 ; EXEC ; CLIENT GETNAME
    MULTI ; SELECT 99 ; SELECT x ; EXEC
    WATCH K1
    > DEL K1
    > SET K1 again
    MULTI ; GET K1 ; EXEC
";

#[tokio::test]
async fn transactions_are_as_in_redis_on_a_session_and_on_the_upstream() {
    let Some(oracle) = RedisServer::start(&[]) else { return };
    let Some(upstream) = RedisServer::start(&[]) else { return };
    for state in [state(), with_upstream(&upstream)] {
        let relays = state.upstream.is_some();
        let world = start_beside(&oracle, state).await;
        let script = TRANSACTIONS.replace("K1", "cart:s").replace("K2", "sess:s").replace("H1", "h:s");
        compare(world.address, oracle.port, &script).await;
        compare(world.address, oracle.port, &in_database_1(&script)).await;
        if relays {
            compare(world.address, oracle.port, &TRANSACTIONS.replace('K', "other").replace("H1", "otherhash")).await;
        }
    }
}

const HANDSHAKES: &str = "
    SELECT 0
    SELECT 15
    SELECT 16
    SELECT x
    SELECT
    SELECT -1
    select 3
    SELECT 0
    CLIENT SETNAME a
    CLIENT GETNAME
    CLIENT SETNAME 'a b'
    CLIENT SETNAME ''
    CLIENT GETNAME
    CLIENT NOSUCH
    CLIENT
    CLIENT SETNAME
    CONFIG GET save
    CONFIG GET notify-keyspace-events
    CONFIG GET databases
    CONFIG GET nosuch
    CONFIG GET
    CONFIG NOSUCH
    CONFIG NOSUCH x y
    CONFIG REWRITE
    CONFIG HELP x
    CONFIG
    CLIENT HELP x
    OBJECT
    OBJECT HELP
    object help
    OBJECT HELP x
    OBJECT NOSUCH
    OBJECT NOSUCH cart:s
    OBJECT ENCODING
    OBJECT ENCODING cart:s x
    OBJECT ENCODING cart:s
    OBJECT FREQ cart:s
    DEBUG
    DEBUG SLEEP 0
    DEBUG OBJECT cart:s
    MULTI ; OBJECT HELP ; CONFIG NOSUCH ; PING ; EXEC
    AUTH x
    AUTH default x
    AUTH other x
    AUTH a b c
    AUTH
    HELLO 4
    HELLO x
    HELLO 3 AUTH other x
    HELLO 3 SETNAME 'a b'
    HELLO 3 NOSUCH
    ECHO
    ECHO x
    PING
    PING x
    PING x y
    CLIENT MAINT_NOTIFICATIONS on
    QUIT
";

#[tokio::test]
async fn handshakes_are_as_in_redis() {
    let Some(oracle) = RedisServer::start(&[]) else { return };
    let world = start(state()).await;
    compare(world.address, oracle.port, HANDSHAKES).await;
}

/// Each block begins on a new connection, as one write; PING stands at the end of what is to be answered.
const SILENCES: &str = "
    SET K 1 ; CLIENT REPLY OFF ; GET K ; CLIENT REPLY SKIP ; NOSUCH ; MGET K K ; SELECT 99 ; CLIENT REPLY ON ; GET K ; PING end
    CLIENT REPLY SKIP ; GET K ; GET K ; CLIENT REPLY SKIP ; CLIENT REPLY SKIP ; GET K ; PING end
    CLIENT REPLY ; CLIENT REPLY NOSUCH ; CLIENT REPLY ON x ; CLIENT REPLY SKIP ; client reply on ; PING end
    MULTI ; SET K 2 ; CLIENT REPLY OFF ; GET K ; EXEC ; PING ; CLIENT REPLY ON ; PING end
    MULTI ; SET K 3 ; CLIENT REPLY SKIP ; GET K ; EXEC ; PING ; PING end
    CLIENT REPLY OFF ; MULTI ; SET K 4 ; CLIENT REPLY ON ; GET K ; EXEC ; PING end
    CLIENT REPLY OFF ; MULTI ; SET K 5 ; EXEC ; DEL K K ; CLIENT REPLY ON ; GET K ; PING end
    MULTI ; CLIENT REPLY OFF ; CLIENT REPLY ON ; GET K ; EXEC ; PING end
    CLIENT REPLY SKIP ; MULTI ; CLIENT REPLY SKIP ; EXEC ; PING ; PING end
    CLIENT REPLY SKIP ; MULTI ; SET K 6 ; SET K ; CLIENT REPLY SKIP ; EXEC ; PING ; PING end
    CLIENT REPLY OFF ; MULTI ; NOSUCH ; PING ; EXEC ; CLIENT REPLY ON ; PING end
    CLIENT REPLY OFF ; RESET ; PING end
    CLIENT REPLY SKIP ; HELLO 3 ; PING end
    CLIENT REPLY SKIP ; KEYS nosuch* ; CLIENT REPLY OFF ; DBSIZE ; CLIENT REPLY ON ; PING end
    CLIENT REPLY SKIP ; CONFIG GET notify-keyspace-events ; PING end
    CLIENT REPLY OFF ; UNSUBSCRIBE ; CLIENT REPLY ON ; PING end
";

/// What comes up to the answer to the last PING.
async fn until_end(client: &mut TcpStream, script: &str) -> String {
    send(client, script).await;
    let mut got = BytesMut::new();
    while !got.ends_with(b"\r\nend\r\n") {
        let read = timeout(PATIENCE, client.read_buf(&mut got)).await;
        assert!(matches!(read, Ok(Ok(n)) if n > 0), "{read:?} after {:?}", String::from_utf8_lossy(&got));
    }
    String::from_utf8_lossy(&got).into_owned()
}

#[tokio::test]
async fn a_client_is_answered_as_it_wishes() {
    let Some(oracle) = RedisServer::start(&[]) else { return };
    let Some(upstream) = RedisServer::start(&[]) else { return };
    for state in [state(), with_upstream(&upstream)] {
        let relays = state.upstream.is_some();
        let world = start_beside(&oracle, state).await;
        for key in if relays { vec!["cart:s", "other"] } else { vec!["cart:s"] } {
            for (line, protocol) in SILENCES.lines().flat_map(|line| ["2", "3"].map(|protocol| (line.trim(), protocol))) {
                if line.is_empty() {
                    continue;
                }
                let script = format!("HELLO {protocol} ; {line}\n").replace(" ; ", "\n").replace(" K", &format!(" {key}"));
                let mut ours = TcpStream::connect(world.address).await.unwrap();
                let mut theirs = TcpStream::connect((Ipv4Addr::LOCALHOST, oracle.port)).await.unwrap();
                let (our, their) = (until_end(&mut ours, &script).await, until_end(&mut theirs, &script).await);
                let without_id = |text: &str| text.split_once("mode").map(|(_, rest)| rest.replace("\r\n", "\n"));
                assert_eq!(without_id(&our), without_id(&their), "HELLO {protocol}: {line}");
            }
        }
        // What is told of channels comes all the same.
        let mut subscriber = world.client().await;
        let told = until_end(
            &mut subscriber,
            "HELLO 3\nCLIENT REPLY OFF\nSUBSCRIBE news\nPING\nCLIENT REPLY ON\nUNSUBSCRIBE\nPING end\n",
        )
        .await;
        let after = told.split_once("modules\r\n*0\r\n").map(|(_, rest)| rest.replace("\r\n", " "));
        let expected = ">3 $9 subscribe $4 news :1 +OK >3 $11 unsubscribe $4 news :0 $3 end ";
        assert_eq!(after.as_deref(), Some(expected), "upstream: {relays}");
    }
}

const DATABASES: &str = "
    DEL K ; SELECT 1 ; DEL K
    SET K one
    GET K
    SELECT 0 ; GET K ; EXISTS K
    SET K nought ; SELECT 1 ; GET K ; MGET K K ; SELECT 0 ; GET K
    MULTI ; SET K a ; SELECT 1 ; GET K ; EXEC ; GET K
    SELECT 0 ; GET K
    WATCH K
    > SELECT 1 ; SET K other
    MULTI ; GET K ; EXEC
    WATCH K
    > SELECT 0 ; SET K other
    MULTI ; GET K ; EXEC
    SELECT 1 ; WATCH K
    > SELECT 1 ; SET K more
    MULTI ; GET K ; EXEC
    DEL K ; SELECT 0 ; GET K
";

#[tokio::test]
async fn a_session_has_its_keys_in_each_database() {
    let Some(oracle) = RedisServer::start(&[]) else { return };
    let world = start(state()).await;
    compare(world.address, oracle.port, &DATABASES.replace(" K", " cart:s")).await;
    let sessions = world.sessions.sessions.lock().unwrap();
    assert_eq!(sessions.keys().collect::<Vec<_>>(), [b"s"], "one session, whatever the database");
}

#[cfg(feature = "lua")]
const SCRIPTS: &str = "
    DEL K1 ; DEL K2
    EVAL \"return 1\" 0
    EVAL \"return {KEYS[1],ARGV[1]}\" 1 K1 x
    EVAL \"return redis.call('set',KEYS[1],ARGV[1])\" 1 K1 v
    EVAL \"return redis.call('get',KEYS[1])\" 1 K1
    EVAL \"redis.call('set',KEYS[1],'a') redis.call('set',KEYS[2],'b') return redis.call('get',KEYS[1])\" 2 K1 K2
    GET K2
    EVAL \"if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end\" 1 K1 x
    EVAL \"if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end\" 1 K1 a
    EXISTS K1
    EVALSHA 0000000000000000000000000000000000000000 1 K1
    SCRIPT LOAD \"return redis.call('incr',KEYS[1])\"
    EVALSHA dde1bf6d3e3ffca1ff79fb45bb2e25f7a2fcbe05 1 K1
    SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0000000000000000000000000000000000000000
    SCRIPT LOAD \"return (\"
    SCRIPT LOAD
    EVAL \"return redis.call('hgetall',KEYS[1])\" 1 K2
    EVAL \"return nosuch\" 1 K1
    EVAL \"return 1\" 2 K1
    EVAL \"return 1\" -1 K1
    EVAL \"return 1\" x K1
    EVAL \"return 1\"
    MULTI ; EVAL \"return redis.call('set',KEYS[1],'in')\" 1 K1 ; GET K1 ; EXEC
    MULTI ; SET K1 5 ; EVALSHA dde1bf6d3e3ffca1ff79fb45bb2e25f7a2fcbe05 1 K1 ; GET K1 ; EXEC
    MULTI ; SET K1 a ; EVALSHA 0000000000000000000000000000000000000000 1 K1 ; GET K1 ; EXEC
    MULTI ; EVALSHA 0000000000000000000000000000000000000000 1 K1 ; EXEC
    GET K1
    EVAL \"redis.call('set',KEYS[1],0.1) return redis.call('get',KEYS[1])\" 1 K1
    EVAL \"return #redis.call('time')\" 1 K1
    SCRIPT FLUSH
    EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 K1
";

#[cfg(feature = "lua")]
#[tokio::test]
async fn scripts_are_as_in_redis_on_a_session_and_on_the_upstream() {
    let Some(oracle) = RedisServer::start(&[]) else { return };
    let Some(upstream) = RedisServer::start(&[]) else { return };
    for state in [state(), with_upstream(&upstream)] {
        let relays = state.upstream.is_some();
        let world = start_beside(&oracle, state).await;
        let digest = wayfarer_script::sha1hex(b"return redis.call('incr',KEYS[1])");
        let script = SCRIPTS.replace("dde1bf6d3e3ffca1ff79fb45bb2e25f7a2fcbe05", &digest);
        let on = |one: &str, two: &str| {
            let script = script.replace(" K1", &format!(" {one}")).replace(" K2", &format!(" {two}"));
            script.lines().filter(|line| !relays || !line.contains("SCRIPT LOAD \"return (")).collect::<Vec<_>>().join("\n")
        };
        for words in [on("cart:s", "sess:s"), on("other", "otherhash")].iter().take(if relays { 2 } else { 1 }) {
            compare(world.address, oracle.port, words).await;
            compare(world.address, oracle.port, &in_database_1(words)).await;
        }
    }
}

#[tokio::test]
async fn questions_about_all_keys_go_to_sessions_first_and_to_the_upstream_then() {
    let Some(upstream) = RedisServer::start(&[]) else { return };
    let world = start(with_upstream(&upstream)).await;
    let mut client = world.client().await;
    check(&mut client, "SET other 1\nSCAN 0\n", "+OK\n*2\n$19\n4611686018427387904\n*2\n$1\na\n$1\nb\n").await;
    check(&mut client, "SCAN 4611686018427387904 COUNT 100\n", "*2\n$1\n0\n*1\n$5\nother\n").await;
    check(&mut client, "SCAN x\nSCAN 0 COUNT 0\nSCAN 0 NOSUCH 1\nKEYS\nDBSIZE x\n", "-ERR invalid cursor\n-ERR syntax error\n-ERR syntax error\n-ERR wrong number of arguments for 'keys' command\n-ERR wrong number of arguments for 'dbsize' command\n").await;
    let refused = "-ERR wayfarer: this command would end all sessions of the service and empty the upstream; [state] flush = true allows it\n";
    check(&mut client, "FLUSHDB\nFLUSHALL ASYNC\nGET other\n", &format!("{refused}{refused}$1\n1\n")).await;
    check(&mut client, "MULTI\nFLUSHDB\nEXEC\nGET other\n", "+OK\n-ERR wayfarer: this command is not allowed inside a transaction\n-EXECABORT Transaction discarded because of previous errors.\n$1\n1\n").await;
}
