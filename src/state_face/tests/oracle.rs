//! The state face beside a real `redis-server`: the same bytes to both, the same bytes back.

use super::upstream::{redis, with_upstream};
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
    let Some(oracle) = redis(None).await else { return };
    let Some(upstream) = redis(None).await else { return };
    for state in [state(), with_upstream(&upstream)] {
        let relays = state.upstream.is_some();
        let world = start(state).await;
        let script = TRANSACTIONS.replace("K1", "cart:s").replace("K2", "sess:s").replace("H1", "h:s");
        compare(world.address, oracle.port, &script).await;
        if relays {
            compare(world.address, oracle.port, &TRANSACTIONS.replace('K', "other").replace("H1", "otherhash")).await;
        }
    }
}
