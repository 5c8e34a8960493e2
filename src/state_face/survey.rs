//! Questions about all keys: `SCAN`, `KEYS`, `DBSIZE`, `FLUSHDB`, `FLUSHALL`; and `SWAPDB`, which would move them.
//!
//! It never looks at a session itself: [`super::Sessions::survey`] asks this node and the others. Called by [`super::dispatch`].
//!
//! | command | sessions | upstream |
//! |---|---|---|
//! | DBSIZE | keys of all members | added; with sessions at rest it is asked by those who ask the members |
//! | KEYS | of all members, up to a bound | appended |
//! | SCAN | member after member | after them: its cursor with [`UPSTREAM`] set |
//! | FLUSHDB, FLUSHALL | refused, unless `[state] flush = true` | the same |
//! | SWAPDB | refused, where they are at rest | |
//!
//! With sessions at rest the members show those keys that the upstream lacks, and the names of guards are left out of what it shows.
//! Invariant: nobody's data goes by a command that a library may send without thinking.

use super::connection::Client;
use super::transaction::Then;
use super::{Sessions, Survey};
use crate::replies::{Whole, is_hidden};
use bytes::Bytes;
use wayfarer_engine::command::{Foreign, errors};
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::wire::resp::frame::elements;
use wayfarer_engine::wire::resp::{Reply, parse_integer};

/// Set in a cursor that is the upstream's. Redis's own cursors have no more bits than its table has slots.
pub(super) const UPSTREAM: u64 = 1 << 62;
const REFUSED: &str =
    "ERR wayfarer: this command would end all sessions of the service and empty the upstream; [state] flush = true allows it";
const SWAPS: &str = "ERR wayfarer: sessions are at rest in the upstream's databases, and would not be found in another one";
const INVALID_CURSOR: &str = "ERR invalid cursor";

impl<S: Sessions> Client<S> {
    /// Whether the command is one of these.
    pub(super) fn is_survey(&self, command: &Foreign) -> bool {
        match command.name {
            Some("scan" | "keys" | "dbsize" | "flushdb" | "flushall") => true,
            Some("swapdb") => self.face.hidden.is_some(),
            _ => false,
        }
    }

    /// One of them.
    pub(super) fn survey(&mut self, command: &Foreign) {
        let database = self.face.understanding.keys.canonical(self.connection.db);
        let asked = match (command.name.unwrap_or_default(), command.args.as_slice()) {
            ("dbsize", [_]) => Ok(Survey::Size { database }),
            ("keys", [_, pattern]) => Ok(Survey::Keys { database, pattern: Bytes::copy_from_slice(pattern) }),
            ("scan", [_, cursor, options @ ..]) => scan(database, cursor, options),
            ("flushdb" | "flushall", [_, mode @ ..]) => self.flush(command.name == Some("flushall"), mode),
            ("swapdb", _) => Err(Bytes::from_static(SWAPS.as_bytes())),
            (name, _) => Err(errors::arity(name)),
        };
        match asked {
            Err(error) => self.error(error),
            Ok(Survey::Scan { cursor, .. }) if cursor & UPSTREAM != 0 => self.scan_upstream(cursor & !UPSTREAM, &command.args),
            Ok(survey @ Survey::Scan { .. }) => {
                let unit = self.replies.due();
                if self.has_upstream() {
                    self.changes.insert(unit, Then::GoOnUpstream);
                }
                self.ask_sessions(survey, unit);
            }
            Ok(survey @ Survey::Size { .. }) if self.face.hidden.is_some() => {
                // Only who knows what the upstream lacks can count both at one moment.
                let units = self.replies.due_parts(Whole::Last, vec![vec![0], vec![0]]);
                let [upstream, sessions] = units.as_slice() else { return };
                self.changes.insert(*upstream, Then::AskSessions(survey, *sessions));
                self.barrier = Some(*sessions);
                self.send(&command.args, *upstream);
            }
            Ok(survey) if self.has_upstream() => {
                let whole = match &survey {
                    Survey::Size { .. } => Whole::Sum,
                    Survey::Keys { .. } => Whole::Concat(self.face.hidden),
                    _ => Whole::Last,
                };
                let units = self.replies.due_parts(whole, vec![vec![0], vec![0]]);
                let [sessions, upstream] = units.as_slice() else { return };
                self.changes.insert(*sessions, Then::AskUpstream(command.args.to_vec(), *upstream));
                // What the client says next must not be seen by it.
                self.barrier = Some(*sessions);
                self.ask_sessions(survey, *sessions);
            }
            Ok(survey) => {
                let unit = self.replies.due();
                self.ask_sessions(survey, unit);
            }
        }
    }

    fn flush(&self, all: bool, mode: &[Bytes]) -> Result<Survey, Bytes> {
        match mode {
            [] => {}
            [mode] if mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async") => {}
            _ => return Err(Bytes::from_static(b"ERR syntax error")),
        }
        if !self.face.state.flush {
            return Err(Bytes::from_static(REFUSED.as_bytes()));
        }
        Ok(Survey::Flush { database: (!all).then(|| self.face.understanding.keys.canonical(self.connection.db)) })
    }

    pub(super) fn ask_sessions(&mut self, survey: Survey, unit: crate::replies::Unit) {
        self.face.metrics.slow.increment(1);
        let (sessions, protocol) = (self.face.sessions.clone(), self.connection.protocol);
        // No session has this id, so no lane waits for it.
        self.slow.spawn(async move { (SessionId(Bytes::new()), unit, sessions.survey(survey, protocol).await) });
    }

    fn scan_upstream(&mut self, cursor: u64, args: &[Bytes]) {
        let mut args = args.to_vec();
        if let Some(place) = args.get_mut(1) {
            *place = Bytes::from(cursor.to_string());
        }
        let unit = self.replies.due();
        self.changes.insert(unit, Then::MarkUpstream);
        self.send(&args, unit);
    }

    /// The reply of a scan with another cursor: sessions are at their end and the upstream follows, or the cursor is the upstream's.
    pub(super) fn with_cursor(&self, reply: &Bytes, goes_on: bool) -> Bytes {
        let Some([cursor, keys]) = elements(reply, usize::MAX).and_then(|both| <[&[u8]; 2]>::try_from(both).ok()) else {
            return reply.clone();
        };
        let line = cursor.split(|b| *b == b'\n').nth(1).and_then(|line| line.strip_suffix(b"\r"));
        let Some(now) = line.and_then(number) else { return reply.clone() };
        let next = match (goes_on, now) {
            (true, 0) => UPSTREAM,
            (true, now) => now,
            (false, 0) => 0,
            (false, now) => now | UPSTREAM,
        };
        let mut out = bytes::BytesMut::new();
        let mut writer = Reply::new(&mut out, self.connection.protocol);
        writer.array(2);
        writer.bulk(next.to_string().as_bytes());
        match elements(keys, usize::MAX) {
            Some(names) if self.face.hidden.is_some() => {
                let shown: Vec<&[u8]> = names.into_iter().filter(|name| !is_hidden(name, self.face.hidden)).collect();
                writer.array(shown.len());
                shown.iter().for_each(|name| writer.raw(name));
            }
            _ => writer.raw(keys),
        }
        out.freeze()
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `SCAN cursor [MATCH pattern] [COUNT n] [TYPE type]`
fn scan(database: u8, cursor: &[u8], options: &[Bytes]) -> Result<Survey, Bytes> {
    let cursor = number(cursor).ok_or(Bytes::from_static(INVALID_CURSOR.as_bytes()))?;
    let (mut count, mut pattern, mut kind) = (10, None, None);
    let mut options = options;
    while let [option, rest @ ..] = options {
        let [value, rest @ ..] = rest else { return Err(Bytes::from_static(b"ERR syntax error")) };
        if option.eq_ignore_ascii_case(b"count") {
            let number = parse_integer(value).ok_or(Bytes::from_static(b"ERR value is not an integer or out of range"))?;
            count = usize::try_from(number).ok().filter(|n| *n > 0).ok_or(Bytes::from_static(b"ERR syntax error"))?;
        } else if option.eq_ignore_ascii_case(b"match") {
            pattern = Some(Bytes::copy_from_slice(value));
        } else if option.eq_ignore_ascii_case(b"type") {
            kind = Some(Bytes::copy_from_slice(value));
        } else {
            return Err(Bytes::from_static(b"ERR syntax error"));
        }
        options = rest;
    }
    Ok(Survey::Scan { database, cursor, count, pattern, kind })
}
