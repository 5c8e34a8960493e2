//! A survey of the whole cluster: every member is asked, and asked again if sessions changed their owners meanwhile.
//!
//! It looks at no session itself. A member that leaves while it is asked is no error: what it had is with the others, who are asked
//! once more. One that stays and does not answer is one. Called by the survey.
//!
//! Each member counts the handovers that it gave or took. If nobody's count differs before and after all have answered, the
//! answers are those of one moment (a double collect: Afek and others, Atomic Snapshots of Shared Memory, 1993). A session that is
//! about to change its owner may be at both, at none never. After [`TRIES_MAX`] collections with moves in each, they are taken
//! together: what one has missed another has.
//!
//! Bounds: [`PATIENCE_US`] for the whole, [`TRIES_MAX`].

use super::words::{Question, op_of};
use super::{KEYS_MAX, PARTS, TOO_MANY, here};
use crate::driver::clock;
use crate::operations::Operations;
use crate::rest::AtRest;
use crate::state_face::Survey;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use wayfarer_engine::ids::{Epoch, Incarnation};
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::{Protocol, Reply, parse_integer};

/// How long members that do not answer are asked again.
const PATIENCE_US: u64 = 4_000_000;
/// Between two questions to one that did not answer.
const PAUSE: Duration = Duration::from_millis(20);
/// Collections, as long as sessions move during each.
const TRIES_MAX: usize = 6;
/// An upstream with more keys than this is counted once, and what is written meanwhile counts or not.
const RECOUNTED_MAX: i64 = 100_000;
const SILENT: &[u8] = b"-TRYAGAIN wayfarer: a member of the cluster does not answer\r\n";
const UPSTREAM: &[u8] = b"-TRYAGAIN wayfarer: the upstream does not answer, or has too many keys to count\r\n";
const UNFIT: &[u8] = b"-ERR wayfarer: the answers of the members do not fit together\r\n";

/// The answer of the whole cluster.
pub(in crate::app) async fn everywhere(operations: Arc<Operations>, asked: Survey, protocol: Protocol) -> Bytes {
    let asking = Asking { until_us: clock::now().boot_us + PATIENCE_US, operations };
    asking.answer(asked, protocol).await.unwrap_or_else(|line| line)
}

/// The answers of members, in order of incarnation.
type Answers = Vec<(Incarnation, Bytes)>;

/// What members say of their handovers.
#[derive(PartialEq, Eq)]
struct Moves {
    /// How many are over, by member.
    over: Vec<(Incarnation, i64)>,
    /// How many are under way.
    under_way: i64,
}

struct Asking {
    operations: Arc<Operations>,
    until_us: u64,
}

impl Asking {
    async fn answer(&self, asked: Survey, protocol: Protocol) -> Result<Bytes, Bytes> {
        let mut out = BytesMut::new();
        let mut reply = Reply::new(&mut out, protocol);
        match asked {
            Survey::Size { database } => reply.integer(self.size(database).await?),
            Survey::Keys { database, pattern } => {
                let names = self.names(database, pattern).await?;
                reply.array(names.len());
                names.iter().for_each(|name| reply.raw(name));
            }
            Survey::Flush { database } => {
                // With sessions at rest, what a member has checked out after it was asked was at rest until then.
                self.collect(&Question::Survey(asked.clone())).await?;
                if let Some(rest) = self.operations.at_rest() {
                    if !rest.flush(database).await {
                        return Err(Bytes::from_static(UPSTREAM));
                    }
                    self.collect(&Question::Survey(asked)).await?;
                }
                reply.simple("OK");
            }
            Survey::Scan { database, cursor, count, pattern, kind } => {
                let survey = |part| Survey::Scan { database, cursor: part, count, pattern: pattern.clone(), kind: kind.clone() };
                return self.scan(cursor, survey).await;
            }
        }
        Ok(out.freeze())
    }

    /// Those who are there now, this one too.
    fn members(&self) -> Vec<Incarnation> {
        let me = self.operations.driver().me();
        let view = self.operations.driver().standing().borrow().view.clone();
        let mut members: Vec<Incarnation> = view.others(me).map(|member| member.incarnation).chain([me]).collect();
        members.sort_unstable();
        members
    }

    /// The answer of one member; `None`: it is no member any more.
    async fn ask(&self, member: Incarnation, question: &Question) -> Result<Option<Bytes>, Bytes> {
        loop {
            let answer = if member == self.operations.driver().me() {
                Some(here(self.operations.clone(), question.clone()).await)
            } else {
                self.operations.ask(member, &op_of(question)).await
            };
            match answer {
                // One that is about to end says so, or nothing.
                Some(line) if line.starts_with(b"-TRYAGAIN") => {}
                Some(line) if line.starts_with(b"-") => return Err(line),
                Some(answer) => return Ok(Some(answer)),
                None => {}
            }
            if !self.members().contains(&member) {
                return Ok(None);
            }
            if clock::now().boot_us >= self.until_us {
                return Err(Bytes::from_static(SILENT));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The answers of all, one after the other; of those who are there when the last one answers.
    async fn ask_all(&self, question: &Question) -> Result<Answers, Bytes> {
        loop {
            let members = self.members();
            let mut answers = Vec::with_capacity(members.len());
            for member in &members {
                match self.ask(*member, question).await? {
                    Some(answer) => answers.push((*member, answer)),
                    None => break,
                }
            }
            if answers.len() == members.len() {
                return Ok(answers);
            }
            if clock::now().boot_us >= self.until_us {
                return Err(Bytes::from_static(SILENT));
            }
        }
    }

    async fn moves(&self) -> Result<Moves, Bytes> {
        let mut moves = Moves { over: Vec::new(), under_way: 0 };
        for (member, answer) in self.ask_all(&Question::Moves).await? {
            let both = elements(&answer, 2).and_then(|both| <[&[u8]; 2]>::try_from(both).ok());
            let Some([Some(over), Some(under_way)]) = both.map(|both| both.map(integer)) else {
                return Err(Bytes::from_static(UNFIT));
            };
            moves.over.push((member, over));
            moves.under_way = moves.under_way.saturating_add(under_way);
        }
        Ok(moves)
    }

    /// The answers of all members of one moment; if sessions keep moving, those of all collections.
    async fn collect(&self, question: &Question) -> Result<Answers, Bytes> {
        let (mut before, mut taken) = (self.moves().await?.over, Vec::new());
        for _ in 0..TRIES_MAX {
            let answers = self.ask_all(question).await?;
            let after = self.moves().await?.over;
            if before == after {
                return Ok(answers);
            }
            taken.extend(answers);
            before = after;
        }
        Ok(taken)
    }

    /// The names of all keys that members show, as bulk strings, each once.
    async fn names(&self, database: u8, pattern: Bytes) -> Result<BTreeSet<Bytes>, Bytes> {
        let answers = self.collect(&Question::Survey(Survey::Keys { database, pattern })).await?;
        let mut names = BTreeSet::new();
        for (_, answer) in &answers {
            let keys = elements(answer, KEYS_MAX).ok_or(Bytes::from_static(UNFIT))?;
            names.extend(keys.into_iter().map(|key| answer.slice_ref(key)));
        }
        Ok(names)
    }

    /// How many keys there are: the members' alone, or with sessions at rest also those of the upstream.
    async fn size(&self, database: u8) -> Result<i64, Bytes> {
        let every = Bytes::from_static(b"*");
        if let Some(rest) = self.operations.at_rest() {
            let mut before = rest.size(database).await;
            for _ in 1..TRIES_MAX {
                let size = self.size_with(rest, database, before).await?;
                let after = rest.size(database).await;
                // Whatever is written or deleted meanwhile, a guard or a key, is counted by one of the questions alone.
                if before == after || before.is_some_and(|before| before > RECOUNTED_MAX) {
                    return Ok(size);
                }
                before = after;
            }
            return self.size_with(rest, database, before).await;
        }
        let mut sum = 0;
        for _ in 0..TRIES_MAX {
            let before = self.moves().await?;
            let answers = self.ask_all(&Question::Survey(Survey::Size { database })).await?;
            sum = answers.iter().map(|(_, answer)| integer(answer)).sum::<Option<i64>>().ok_or(Bytes::from_static(UNFIT))?;
            if before.under_way == 0 && self.moves().await? == before {
                return Ok(sum);
            }
        }
        match self.names(database, every).await {
            Ok(names) => Ok(count(&names)),
            Err(line) if line == TOO_MANY => Ok(sum),
            Err(line) => Err(line),
        }
    }

    /// With the upstream's own count, from which guards go off, and those of its keys that members name.
    async fn size_with(&self, rest: &AtRest, database: u8, upstream: Option<i64>) -> Result<i64, Bytes> {
        let names = self.names(database, Bytes::from_static(b"*")).await?;
        let texts: Option<Vec<Bytes>> = names.iter().map(text_of).collect();
        let there = rest.count_there(database, &texts.ok_or(Bytes::from_static(UNFIT))?).await;
        let guards = rest.count_guards(database).await.and_then(|guards| i64::try_from(guards).ok());
        let (Some(upstream), Some(there), Some(guards)) = (upstream, there, guards) else {
            return Err(Bytes::from_static(UPSTREAM));
        };
        Ok(upstream.saturating_sub(guards).saturating_sub(there).saturating_add(count(&names)))
    }

    /// One part of a scan, at the member that the cursor names or the next one that is there.
    async fn scan(&self, cursor: u64, survey: impl Fn(u64) -> Survey) -> Result<Bytes, Bytes> {
        let from = Incarnation(Epoch(cursor / PARTS));
        let mut later = self.members().into_iter().filter(|member| *member >= from);
        let (member, answer) = loop {
            let Some(member) = later.next() else { return Ok(Bytes::from_static(b"*2\r\n$1\r\n0\r\n*0\r\n")) };
            let part = if member == from { cursor % PARTS } else { 0 };
            if let Some(answer) = self.ask(member, &Question::Survey(survey(part))).await? {
                break (member, answer);
            }
        };
        let both = elements(&answer, usize::MAX).and_then(|both| <[&[u8]; 2]>::try_from(both).ok());
        let Some([next, keys]) = both else { return Err(Bytes::from_static(UNFIT)) };
        let next = next.split(|b| *b == b'\n').nth(1).and_then(|line| parse_integer(line.strip_suffix(b"\r")?));
        let next = match (next.and_then(|next| u64::try_from(next).ok()), later.next()) {
            (None, _) => return Err(Bytes::from_static(UNFIT)),
            (Some(0), None) => 0,
            (Some(0), Some(after)) => after.0.0.saturating_mul(PARTS),
            (Some(part), _) => member.0.0.saturating_mul(PARTS).saturating_add(part),
        };
        let mut out = BytesMut::new();
        let mut reply = Reply::new(&mut out, Protocol::Resp2);
        reply.array(2);
        reply.bulk(next.to_string().as_bytes());
        reply.raw(keys);
        Ok(out.freeze())
    }
}

/// `:7\r\n` → 7
fn integer(reply: &(impl AsRef<[u8]> + ?Sized)) -> Option<i64> {
    parse_integer(reply.as_ref().strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

fn count(names: &BTreeSet<Bytes>) -> i64 {
    i64::try_from(names.len()).unwrap_or(i64::MAX)
}

/// `$3\r\nkey\r\n` → `key`
fn text_of(bulk: &Bytes) -> Option<Bytes> {
    let begin = bulk.iter().position(|byte| *byte == b'\n')? + 1;
    let text = bulk.get(begin..)?.strip_suffix(b"\r\n")?;
    Some(bulk.slice_ref(text))
}
