//! Runs an operation on a session: what it needs first, then the action; the actions on keys of any type are here.
//!
//! It never reads a clock (`now` is an argument) and never creates what an operation with an error would not. Called through
//! [`super::execute`].
//!
//! | action | needs |
//! |---|---|
//! | GET, SET … GET, APPEND, INCR, GETDEL, GETEX, GETSET, MGET | the whole strings |
//! | SET that is merged with what others have written | the whole string |
//! | HGET, HMGET, HINCRBY | those fields |
//! | HGETALL, HVALS | all fields |
//! | STRLEN, HSTRLEN | nothing: the manifest has sizes |
//! | everything else | nothing: the manifest has keys, types, names and expiries |
//!
//! Invariant: what is needed is looked for before anything is changed.

use super::action::{Action, ExpireIf, Set, TimeUnit};
use super::{Executed, Limits, Op, STRING_BYTES_MAX, Target, errors};
use crate::session::{Content, Key, Kind, Missing, Session, Variable, VariableId};
use crate::wire::resp::{Protocol, Reply};
use bytes::{Bytes, BytesMut};

/// One execution.
pub(super) struct Run<'a> {
    pub(super) session: &'a mut Session,
    pub(super) op: &'a Op,
    pub(super) now: u64,
    pub(super) limits: Limits,
    pub(super) reply: Reply<'a>,
    pub(super) wrote: bool,
}

pub(super) fn execute(
    limits: Limits,
    session: &mut Session,
    op: &Op,
    now: u64,
    protocol: Protocol,
    out: &mut BytesMut,
) -> Executed {
    if session.missing_count() > 0
        && let Some(missing) = missing(session, op, now)
    {
        return Executed::Missing(missing);
    }
    let mut run = Run { session, op, now, limits, reply: Reply::new(out, protocol), wrote: false };
    if op.is_write() {
        if !op.args.iter().all(|arg| run.fits(arg.len())) {
            return Executed::Done { wrote: false };
        }
        run.clear_expired();
    }
    run.action();
    Executed::Done { wrote: run.wrote }
}

/// What of the values that `op` reads is not here.
fn missing(session: &Session, op: &Op, now: u64) -> Option<Missing> {
    let mut fetch = Vec::new();
    for target in &op.targets {
        let Some(key) = session.key(&target.key, now) else { continue };
        let mut need = |name: &Bytes, variable: &Variable, size_is_enough: bool| match variable.content {
            Content::Elsewhere(_) if !size_is_enough => {
                fetch.push(VariableId { key: key.name.clone(), name: name.clone() });
                false
            }
            Content::Here(_) | Content::Elsewhere(_) => false,
            Content::Lost => true,
        };
        let lost = match (needs(op), key.kind) {
            (Needs::String, Kind::String) | (Needs::Fields, Kind::Hash) => key.variables().any(|(n, v)| need(n, v, false)),
            (Needs::StringSize, Kind::String) => key.variables().any(|(n, v)| need(n, v, true)),
            (Needs::Field(fields), Kind::Hash) => fields.iter().any(|f| key.variable(f).is_some_and(|v| need(f, v, false))),
            (Needs::FieldSize(field), Kind::Hash) => key.variable(field).is_some_and(|v| need(field, v, true)),
            _ => false,
        };
        if lost {
            // A write cures what is lost: with nothing to merge with, it replaces all.
            return op.merges_on().is_none().then_some(Missing::Lost);
        }
    }
    fetch.sort_unstable();
    fetch.dedup();
    if fetch.is_empty() { None } else { Some(Missing::Fetch(fetch)) }
}

enum Needs<'a> {
    Nothing,
    String,
    StringSize,
    Field(&'a [Bytes]),
    FieldSize(&'a Bytes),
    Fields,
}

fn needs(op: &Op) -> Needs<'_> {
    match &op.action {
        Action::Get | Action::GetMany | Action::GetSet | Action::GetDelete | Action::GetExpire { .. } => Needs::String,
        Action::Append | Action::IncrementBy(_) | Action::Set(Set { get: true, .. }) => Needs::String,
        Action::Set(_) if op.merges_on().is_some() => Needs::String,
        Action::Length => Needs::StringSize,
        Action::HashGetMany => Needs::Field(op.args.get(2..).unwrap_or_default()),
        Action::HashGet | Action::HashIncrementBy(_) => Needs::Field(op.args.get(2..3).unwrap_or_default()),
        Action::HashValueLength => Needs::FieldSize(op.arg(2)),
        Action::HashGetAll | Action::HashValues => Needs::Fields,
        Action::Count | Action::Delete | Action::Expire { .. } | Action::Persist | Action::TimeToLive(_) | Action::Type => {
            Needs::Nothing
        }
        Action::Set(_) | Action::SetIfNew | Action::HashDelete | Action::HashExists | Action::HashLength | Action::HashNames => {
            Needs::Nothing
        }
        Action::HashSet { .. } | Action::HashSetIfNew => Needs::Nothing,
    }
}

impl<'a> Run<'a> {
    /// The only key, or the first.
    pub(super) fn target(&self) -> &'a Target {
        static NONE: Target = Target { key: Bytes::new(), layout: crate::session::Layout::Opaque, label: Bytes::new() };
        self.op.targets.first().unwrap_or(&NONE)
    }

    /// The argument at `place`, beyond the life of this borrow.
    pub(super) fn arg(&self, place: usize) -> &'a Bytes {
        self.op.arg(place)
    }

    /// Whether a value may have so many bytes; answers the error if not.
    pub(super) fn fits(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.limits.value_bytes_max.min(STRING_BYTES_MAX);
        if !fits {
            let redis_too = bytes > STRING_BYTES_MAX;
            self.reply.error(if redis_too { errors::STRING_TOO_LONG } else { errors::VALUE_TOO_LONG });
        }
        fits
    }

    pub(super) fn key(&self) -> Option<&Key> {
        self.session.key(&self.target().key, self.now)
    }

    /// A write removes what has expired under its keys, so that nothing of a former life is compared or kept.
    fn clear_expired(&mut self) {
        for target in &self.op.targets {
            let expired = self.session.keys().iter().any(|k| k.name == target.key && k.is_expired(self.now));
            if expired {
                self.session.remove(&target.key, self.now);
                self.wrote = true;
            }
        }
    }

    fn action(&mut self) {
        match &self.op.action {
            Action::Append => self.append(),
            Action::Count => self.count(),
            Action::Delete => self.delete(),
            Action::Expire { amount, unit, condition } => self.expire(*amount, *unit, *condition),
            Action::Get => self.get(),
            Action::GetDelete => self.get_delete(),
            Action::GetExpire { expiry, persist } => self.get_expire(*expiry, *persist),
            Action::GetMany => self.get_many(),
            Action::GetSet => self.get_set(),
            Action::HashDelete => self.hash_delete(),
            Action::HashExists => self.hash_exists(),
            Action::HashGet => self.hash_get(),
            Action::HashGetAll => self.hash_get_all(),
            Action::HashGetMany => self.hash_get_many(),
            Action::HashIncrementBy(by) => self.hash_increment(*by),
            Action::HashLength => self.hash_length(),
            Action::HashNames => self.hash_names(),
            Action::HashSet { answers_ok } => self.hash_set(*answers_ok),
            Action::HashSetIfNew => self.hash_set_if_new(),
            Action::HashValueLength => self.hash_value_length(),
            Action::HashValues => self.hash_values(),
            Action::IncrementBy(by) => self.increment(*by),
            Action::Length => self.length(),
            Action::Persist => self.persist(),
            Action::Set(set) => self.set(*set),
            Action::SetIfNew => self.set_if_new(),
            Action::TimeToLive(unit) => self.time_to_live(*unit),
            Action::Type => self.kind(),
        }
    }

    fn count(&mut self) {
        let count = self.op.targets.iter().filter(|t| self.session.key(&t.key, self.now).is_some()).count();
        self.reply.count(count);
    }

    fn delete(&mut self) {
        let mut removed = 0;
        for target in &self.op.targets {
            removed += usize::from(self.session.remove(&target.key, self.now));
        }
        self.wrote |= removed > 0;
        self.reply.count(removed);
    }

    fn kind(&mut self) {
        let kind = match self.key().map(|k| k.kind) {
            None => "none",
            Some(Kind::String) => "string",
            Some(Kind::Hash) => "hash",
        };
        self.reply.simple(kind);
    }

    fn time_to_live(&mut self, unit: TimeUnit) {
        let shown = match self.key().map(|k| k.expires_at_ms) {
            None => -2,
            Some(None) => -1,
            Some(Some(at)) => unit.show(at, self.now),
        };
        self.reply.integer(shown);
    }

    fn persist(&mut self) {
        let key = self.session.key_mut(&self.target().key, self.now);
        let had = key.is_some_and(|k| k.expires_at_ms.take().is_some());
        self.wrote |= had;
        self.reply.integer(i64::from(had));
    }

    fn expire(&mut self, amount: i64, unit: TimeUnit, condition: ExpireIf) {
        let Some(at) = unit.at_ms(amount, self.now) else {
            return self.reply.error(errors::expire_time(self.op.name()));
        };
        let current = match self.key() {
            None => return self.reply.integer(0),
            Some(key) => key.expires_at_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
        };
        let allowed = (!condition.none || current.is_none())
            && (!condition.some || current.is_some())
            && (!condition.greater || current.is_some_and(|now| at > now))
            && (!condition.less || current.is_none_or(|now| at < now));
        if allowed {
            self.set_expiry(Some(u64::try_from(at).unwrap_or(0)));
        }
        self.reply.integer(i64::from(allowed));
    }

    /// Gives the key another expiry; one in the past ends it.
    pub(super) fn set_expiry(&mut self, at_ms: Option<u64>) {
        self.wrote = true;
        let target = self.target();
        if at_ms.is_some_and(|at| at <= self.now) {
            self.session.remove(&target.key, self.now);
        } else if let Some(key) = self.session.key_mut(&target.key, self.now) {
            key.expires_at_ms = at_ms;
        }
    }
}
