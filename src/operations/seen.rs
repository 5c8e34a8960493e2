//! What the members have seen of sessions while nobody owns them: asked of each other, and put together.
//!
//! It never crosses with an id of a session: hashes and counts do. A question crosses as an operation on no session named [`NAME`];
//! a member of an older version answers with an error, and is left out.
//!
//! | answer | |
//! |---|---|
//! | integers | the window in microseconds, operations, then hash (as two halves) and count of each sampled session |

use super::Operations;
use crate::driver::clock;
use bytes::{Bytes, BytesMut};
use wayfarer_engine::command::Op;
use wayfarer_engine::profile::{Outlook, SAMPLE_MAX, Seen, outlook};
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::{Protocol, Reply, parse_integer};

/// The name of the question between members.
pub const NAME: &[u8] = b"wayfarer:seen";
/// Numbers before those of the sessions.
const HEAD: usize = 2;
/// Numbers of one session.
const EACH: usize = 3;

/// This member's answer.
pub fn here(operations: &Operations) -> Bytes {
    let seen = operations.passage().seen(clock::now().boot_us);
    let mut out = BytesMut::new();
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    reply.array(HEAD + EACH * seen.sessions.len());
    let mut number = |n: u64| reply.integer(i64::try_from(n).unwrap_or(i64::MAX));
    number(seen.window_us);
    number(seen.operations);
    for (hash, count) in &seen.sessions {
        number(hash >> 32);
        number(hash & u64::from(u32::MAX));
        number(*count);
    }
    out.freeze()
}

fn read(answer: &Bytes) -> Option<Seen> {
    let all = elements(answer, HEAD + EACH * SAMPLE_MAX)?;
    let numbers: Option<Vec<u64>> = all
        .into_iter()
        .map(|element| u64::try_from(parse_integer(element.strip_prefix(b":")?.strip_suffix(b"\r\n")?)?).ok())
        .collect();
    let numbers = numbers?;
    let (head, sessions) = numbers.split_at_checked(HEAD)?;
    let [window_us, operations] = <[u64; HEAD]>::try_from(head).ok()?;
    let one = |three: &[u64]| {
        let [high, low, count] = <[u64; EACH]>::try_from(three).ok()?;
        Some((u64::from(u32::try_from(high).ok()?) << 32 | u64::from(u32::try_from(low).ok()?), count))
    };
    let sessions = sessions.chunks(EACH).map(one).collect::<Option<_>>()?;
    Some(Seen { window_us, operations, sessions })
}

/// What all members have seen, put together; those that do not answer are left out.
pub async fn everywhere(operations: &Operations) -> Outlook {
    let me = operations.driver().me();
    let others: Vec<_> = {
        let standing = operations.driver().standing();
        let view = standing.borrow().view.clone();
        view.others(me).map(|member| member.incarnation).collect()
    };
    let mut all: Vec<Seen> = read(&here(operations)).into_iter().collect();
    let question = Op::question(vec![Bytes::from_static(NAME)]);
    for member in others {
        let answer = operations.ask(member, &question).await;
        all.extend(answer.as_ref().and_then(read));
    }
    outlook(&all)
}
