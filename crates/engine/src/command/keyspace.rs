//! Actions on keys of any type: whether there is one, its type and time, its end, another name.
//!
//! They need no value, but for `RENAME` and `COPY`: a value that is elsewhere is found there under its key's old name, so it is
//! fetched first. Called by `execute`.
//!
//! Invariant: a key whose time has come is gone, whatever its time is set to.

use super::action::{Action, ExpireIf, TimeUnit};
use super::errors;
use super::events::Classes;
use super::execute::Run;
use crate::session::{Content, Key, Kind};
use crate::wire::resp::parse_integer;
use bytes::Bytes;

/// What `OBJECT` is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    Encoding,
    Frequency,
    IdleTime,
    References,
}

/// `OBJECT ENCODING|FREQ|IDLETIME|REFCOUNT key`
pub(super) fn object(args: &[Bytes]) -> Result<Action, Bytes> {
    const SUBCOMMANDS: [(&str, Ask); 4] =
        [("encoding", Ask::Encoding), ("freq", Ask::Frequency), ("idletime", Ask::IdleTime), ("refcount", Ask::References)];
    let subcommand = args.get(1).map(|text| text.as_ref()).unwrap_or_default();
    let Some((name, ask)) = SUBCOMMANDS.iter().find(|(name, _)| subcommand.eq_ignore_ascii_case(name.as_bytes())) else {
        // Without a key it is about no key, and answered elsewhere.
        let is_help = subcommand.eq_ignore_ascii_case(b"help");
        return Err(if is_help { errors::arity("object|help") } else { errors::unknown_subcommand(subcommand, "OBJECT") });
    };
    if args.len() == 3 { Ok(Action::Object(*ask)) } else { Err(errors::arity(&format!("object|{name}"))) }
}

/// `COPY from to [DB n] [REPLACE]`
pub(super) fn copy(args: &[Bytes]) -> Result<Action, Bytes> {
    let mut replace = false;
    let mut rest = args.get(3..).unwrap_or_default();
    while let [option, behind @ ..] = rest {
        rest = match behind {
            _ if option.eq_ignore_ascii_case(b"replace") => {
                replace = true;
                behind
            }
            [db, _behind @ ..] if option.eq_ignore_ascii_case(b"db") => {
                return Err(if parse_integer(db).is_some() { errors::OTHER_DATABASE } else { errors::NOT_AN_INTEGER }.into());
            }
            _ => return Err(errors::SYNTAX.into()),
        };
    }
    Ok(Action::Copy { replace })
}

/// What Redis with its default settings would say of a key that came to be at once.
fn encoding(key: &Key) -> &'static str {
    const SMALL_ENTRIES_MAX: usize = 128;
    const SMALL_BYTES_MAX: u64 = 64;
    const INTEGERS_MAX: usize = 512;
    const EMBEDDED_BYTES_MAX: u64 = 44;
    let is_small = || {
        let fits = |name: &Bytes, value: u64| name.len() as u64 <= SMALL_BYTES_MAX && value <= SMALL_BYTES_MAX;
        key.len() <= SMALL_ENTRIES_MAX && key.variables().all(|(name, v)| fits(name, v.content.size_bytes()))
    };
    match key.kind {
        Kind::Hash if is_small() => "listpack",
        Kind::Hash => "hashtable",
        Kind::List => "quicklist",
        Kind::Set if key.len() <= INTEGERS_MAX && key.variables().all(|(name, _)| parse_integer(name).is_some()) => "intset",
        Kind::Set => "hashtable",
        Kind::SortedSet if is_small() => "listpack",
        Kind::SortedSet => "skiplist",
        Kind::String => {
            let whole = key.variables().next().filter(|_| key.len() == 1).map(|(_, variable)| &variable.content);
            match whole {
                Some(Content::Here(value)) if parse_integer(value).is_some() => "int",
                _ if key.variables().map(|(_, v)| v.content.size_bytes()).sum::<u64>() <= EMBEDDED_BYTES_MAX => "embstr",
                _ => "raw",
            }
        }
    }
}

impl Run<'_> {
    pub(super) fn count(&mut self) {
        let count = self.op.targets.iter().filter(|t| self.session.key(&t.key, self.now).is_some()).count();
        self.reply.count(count);
    }

    pub(super) fn delete(&mut self) {
        let mut removed = 0;
        for target in &self.op.targets {
            if self.session.remove(&target.key, self.now) {
                removed += 1;
                self.note(Classes::GENERIC, "del", &target.key);
            }
        }
        self.wrote |= removed > 0;
        self.reply.count(removed);
    }

    pub(super) fn kind(&mut self) {
        let kind = self.key().map_or("none", |k| k.kind.name());
        self.reply.simple(kind);
    }

    pub(super) fn time_to_live(&mut self, unit: TimeUnit) {
        let shown = match self.key().map(|k| k.expires_at_ms) {
            None => -2,
            Some(None) => -1,
            Some(Some(at)) => unit.show(at, self.now),
        };
        self.reply.integer(shown);
    }

    pub(super) fn persist(&mut self) {
        let key = self.session.key_mut(&self.target().key, self.now);
        let had = key.is_some_and(|k| k.expires_at_ms.take().is_some());
        self.wrote |= had;
        if had {
            self.note(Classes::GENERIC, "persist", &self.target().key);
        }
        self.reply.integer(i64::from(had));
    }

    pub(super) fn expire(&mut self, amount: i64, unit: TimeUnit, condition: ExpireIf) {
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
            self.set_expiry_noting(u64::try_from(at).unwrap_or(0));
        }
        self.reply.integer(i64::from(allowed));
    }

    /// The same as [`Run::set_expiry`], told as `EXPIRE` is.
    pub(super) fn set_expiry_noting(&mut self, at_ms: u64) {
        self.set_expiry(Some(at_ms));
        let event = if at_ms <= self.now { "del" } else { "expire" };
        self.note(Classes::GENERIC, event, &self.target().key);
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

    /// Answers how many elements a key has.
    pub(super) fn size(&mut self, kind: Kind) {
        if self.of_kind(kind).is_some() {
            let length = self.key().map_or(0, |k| k.len());
            self.reply.count(length);
        }
    }

    /// Whether the key holds what the action is for; answers the error if it holds something else.
    pub(super) fn of_kind(&mut self, kind: Kind) -> Option<bool> {
        match self.key().map(|k| k.kind) {
            None => Some(false),
            Some(found) if found == kind => Some(true),
            Some(_) => {
                self.reply.error(errors::WRONG_TYPE);
                None
            }
        }
    }

    /// Gives the first key, or a copy of it, to the second, whose layout and label it takes.
    fn transfer(&mut self, keep: bool) {
        let (from, to) = (self.target(), self.second_target());
        self.wrote |= self.session.transfer(&from.key, (&to.key, to.layout, &to.label), keep, self.now);
    }

    pub(super) fn rename(&mut self, if_none: bool) {
        let (from, to) = (&self.target().key, &self.second_target().key);
        if self.key().is_none() {
            return self.reply.error(errors::NO_SUCH_KEY);
        }
        let taken = self.session.key(to, self.now).is_some();
        if from != to && !(if_none && taken) {
            self.transfer(false);
            self.note(Classes::GENERIC, "rename_from", from);
            self.note(Classes::GENERIC, "rename_to", to);
        }
        if if_none { self.reply.integer(i64::from(!taken)) } else { self.reply.simple("OK") }
    }

    pub(super) fn copy(&mut self, replace: bool) {
        let (from, to) = (&self.target().key, &self.second_target().key);
        if from == to {
            return self.reply.error(errors::SAME_OBJECT);
        }
        let taken = self.session.key(to, self.now).is_some();
        let copies = self.key().is_some() && (replace || !taken);
        if copies {
            self.transfer(true);
            self.note(Classes::GENERIC, "copy_to", to);
        }
        self.reply.integer(i64::from(copies));
    }

    pub(super) fn object(&mut self, ask: Ask) {
        let Some(key) = self.key() else { return self.reply.null() };
        let encoding = encoding(key);
        match ask {
            Ask::Encoding => self.reply.bulk(encoding.as_bytes()),
            // Redis has no idle time of what a command has just looked at, nor is one kept here.
            Ask::IdleTime => self.reply.integer(0),
            Ask::References => self.reply.integer(1),
            Ask::Frequency => self.reply.error(errors::NO_FREQUENCY),
        }
    }
}
