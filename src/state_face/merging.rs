//! Writes that are merged with what others have written since their writer read: which value each rests on.
//!
//! It never merges (the owner does, [`wayfarer_engine::session::layout::merge`]) and never guesses: a write whose read is not known
//! replaces all, as it does without this. Called by [`super::dispatch`] for keys with `merge = "members"`.
//!
//! | what a client does to such a key | what it is taken to know after that |
//! |---|---|
//! | GET, GETEX | the value of the reply |
//! | SET, SETEX, PSETEX (not NX) that succeeds | the value that it wrote; one that fails: what it knew before |
//! | looks at keys, or sets an expiry | the same as before |
//! | anything else: MGET, APPEND, DEL, transactions, scripts, anything in `observe` | nothing |
//!
//! Who knows it is, by `[state] merge_by`, the connection, or the request that [`super::flights`] finds alone. A connection over which
//! a command comes before the last reply has gone serves several requests at once: from then on it knows nothing.
//!
//! Invariant: a write is merged on nothing but what its own request, or connection, was last told or wrote.

use super::Sessions;
use super::connection::Client;
use super::flights::Reads;
use crate::driver::clock;
use crate::telemetry::names;
use bytes::Bytes;
use wayfarer_engine::command::{Op, Parsed};
use wayfarer_settings::MergeBy;

/// What one connection knows.
#[derive(Default)]
pub(super) struct Known {
    reads: Reads,
    /// It has served several requests at once.
    shared: bool,
}

/// What an operation will have taught when its reply comes.
pub(super) struct Lesson {
    session: Bytes,
    key: Bytes,
    /// The number of the request, if requests know.
    request: Option<u64>,
    what: What,
}

enum What {
    Read,
    Write { before: Option<Bytes>, written: Bytes },
}

impl Lesson {
    /// Keeps nothing of a receive buffer. For operations that wait.
    pub(super) fn detach(&mut self) {
        for bytes in [&mut self.session, &mut self.key] {
            *bytes = Bytes::copy_from_slice(bytes);
        }
        if let What::Write { written, .. } = &mut self.what {
            *written = Bytes::copy_from_slice(written);
        }
    }

    /// The value that its client knows after this reply, if any.
    fn taught<'a>(&'a self, reply: &'a [u8]) -> Option<&'a [u8]> {
        match &self.what {
            What::Read => bulk(reply),
            What::Write { written, .. } if reply == b"+OK\r\n" => Some(written.as_ref()),
            // It may have run or not: what the writer knew holds for its next try.
            What::Write { before, .. } if reply.first() == Some(&b'-') => before.as_deref(),
            What::Write { .. } => None,
        }
    }
}

/// The content of a byte string in RESP.
fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let rest = reply.strip_prefix(b"$")?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    rest.get(end.checked_add(1)?..)?.strip_suffix(b"\r\n")
}

impl<S: Sessions> Client<S> {
    /// Has a write merged if it is known what it rests on; what is to be learned from the reply.
    pub(super) fn lesson(&mut self, session: &Bytes, op: &mut Op) -> Option<Lesson> {
        let flights = self.face.merging.clone()?;
        let key = op.targets().first().filter(|target| self.face.understanding.keys.merges(&target.key))?.key.clone();
        if op.leaves_values() {
            return None;
        }
        let request = match flights.by() {
            MergeBy::Request => Some(flights.alone(session, clock::now().boot_us)),
            MergeBy::Connection => {
                self.notice_sharing();
                None
            }
        };
        let knows = match request {
            Some(alone) => alone.is_some(),
            None => !self.known.shared,
        };
        let mut lesson = Lesson { session: session.clone(), key, request: request.flatten(), what: What::Read };
        if op.reads_string() {
            return knows.then_some(lesson);
        }
        let Some(written) = op.replaces_string().cloned() else {
            self.forget(session);
            return None;
        };
        let before = if knows { self.known_of(&lesson) } else { None };
        let outcome = if before.is_some() { "based" } else { "not_based" };
        metrics::counter!(names::STATE_MERGE_WRITES, "outcome" => outcome).increment(1);
        before.iter().for_each(|read| op.merge_on(read.clone()));
        lesson.what = What::Write { before, written };
        knows.then_some(lesson)
    }

    fn known_of(&mut self, lesson: &Lesson) -> Option<Bytes> {
        match (lesson.request, &self.face.merging) {
            (Some(number), Some(flights)) => flights.with(&lesson.session, number, |reads| reads.of(&lesson.key)),
            _ => self.known.reads.of(&lesson.key),
        }
    }

    /// Whoever waits for the reply of one command before the next has one thing to do at a time.
    fn notice_sharing(&mut self) {
        let waits = self.replies.slots() > 0 || !self.replies.out.is_empty();
        if waits && !self.known.shared {
            self.known.shared = true;
            self.known.reads.clear();
            tracing::warn!(
                "a connection sends commands before it has its replies: it may serve several requests at a time, so its writes are \
                 not merged ([state] merge_by)"
            );
        }
    }

    /// The reply of an operation that teaches something.
    pub(super) fn learn(&mut self, lesson: &Lesson, reply: &[u8]) {
        let Some(flights) = &self.face.merging else { return };
        let keep = |reads: &mut Reads| match lesson.taught(reply) {
            Some(value) => flights.keep(reads, &lesson.key, value),
            None => reads.forget(&lesson.key),
        };
        match lesson.request {
            Some(number) => flights.with(&lesson.session, number, keep),
            None if self.known.shared => {}
            None => keep(&mut self.known.reads),
        }
    }

    fn forget(&mut self, session: &[u8]) {
        self.known.reads.clear();
        self.face.merging.iter().for_each(|flights| flights.forget(session));
    }

    /// A command on sessions that is no single operation on one: what was read is not what its client knows.
    pub(super) fn forget_named(&mut self, command: &Parsed) {
        if self.face.merging.is_none() {
            return;
        }
        let named: Vec<&Bytes> = match command {
            Parsed::Connection(_) | Parsed::Refused(_) => return,
            Parsed::Keyed(op) => op.targets().iter().map(|target| &target.key).collect(),
            Parsed::Foreign(foreign) => foreign.keys.iter().collect(),
        };
        let database = self.connection.db;
        let face = self.face.clone();
        for session in named.into_iter().filter_map(|key| face.understanding.keys.session_of(database, key)) {
            self.forget(session);
        }
    }
}
