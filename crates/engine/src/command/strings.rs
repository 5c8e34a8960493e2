//! Actions on strings.
//!
//! They never look for what is missing (`execute` has) and never keep a slice of a receive buffer: what is stored is copied.
//! Called by `execute`.
//!
//! Invariant: a command that answers an error has changed nothing.

use super::action::{Expiry, Set, SetIf};
use super::errors;
use super::events::Classes;
use super::execute::Run;
use crate::session::layout::merge::merge;
use crate::session::{Key, Kind, Shown};
use crate::wire::resp::{Reply, parse_integer};
use bytes::{Bytes, BytesMut};

/// Cannot happen, because `execute` looks first; if it did, an error is better than an old or empty value.
pub(super) const NOT_HERE: &str = "TRYAGAIN wayfarer: a part of the value is on another node";

/// Answers a value; one that is large and by itself is not copied.
pub(super) fn show(reply: &mut Reply<'_>, value: Shown<'_>) {
    match value {
        Shown::Part(value) => reply.bulk(value),
        Shown::Whole(value) => reply.shared(value),
    }
}

impl Run<'_> {
    /// The string under `key`, or the error text if there is something else.
    pub(super) fn string(&mut self, key: &[u8]) -> Result<Option<Bytes>, &'static str> {
        match self.session.key(key, self.now).map(|k| k.kind) {
            None => Ok(None),
            Some(Kind::String) => self.session.read_string(key, self.now).map(Some).ok_or(NOT_HERE),
            Some(_) => Err(errors::WRONG_TYPE),
        }
    }

    /// Stores a string under the target's key. The value must own its bytes.
    pub(super) fn store(&mut self, value: Bytes, expires_at_ms: Option<u64>, event: &'static str) {
        let target = self.target();
        self.session.write_string(&target.key, target.layout, &target.label, value);
        self.set_expiry(expires_at_ms);
        self.note(Classes::STRING, event, &target.key);
    }

    pub(super) fn expiry(&self) -> Option<u64> {
        self.key().and_then(|k| k.expires_at_ms)
    }

    pub(super) fn get(&mut self) {
        let (key, reply) = (&self.op.targets().first().map(|t| t.key.as_ref()).unwrap_or_default(), &mut self.reply);
        match self.session.key(key, self.now).map(|k| k.kind) {
            None => reply.null(),
            Some(Kind::String) => {
                if self.session.show_string(key, self.now, |value| show(reply, value)).is_none() {
                    reply.error(NOT_HERE);
                }
            }
            Some(_) => reply.error(errors::WRONG_TYPE),
        }
    }

    pub(super) fn get_many(&mut self) {
        let (targets, now) = (self.op.targets(), self.now);
        let size = Key::sizes;
        if self.is_too_long(targets.len(), |s| targets.iter().filter_map(|t| s.key(&t.key, now)).map(size).sum()) {
            return;
        }
        self.reply.array(targets.len());
        for target in targets {
            match self.string(&target.key) {
                Ok(value) => self.reply.bulk_or_null(value),
                Err(NOT_HERE) => self.reply.error(NOT_HERE),
                // Redis answers null for what is no string.
                Err(_) => self.reply.null(),
            }
        }
    }

    pub(super) fn length(&mut self) {
        let length = match self.key() {
            None => 0,
            Some(key) if key.kind != Kind::String => return self.reply.error(errors::WRONG_TYPE),
            Some(key) => key.sizes(),
        };
        self.reply.integer(i64::try_from(length).unwrap_or(i64::MAX));
    }

    pub(super) fn set(&mut self, set: Set) {
        let expiry = match set.expiry.map(|e| e.resolve(&self.op.args, self.now, self.op.name())).transpose() {
            Ok(expiry) => expiry,
            Err(error) => return self.reply.error(error),
        };
        let before = if set.get { self.string(&self.target().key) } else { Ok(None) };
        let before = match before {
            Ok(before) => before,
            Err(error) => return self.reply.error(error),
        };
        let exists = self.key().is_some();
        let allowed = match set.condition {
            SetIf::Always => true,
            SetIf::New => !exists,
            SetIf::Exists => exists,
        };
        if allowed {
            let expires_at_ms = if set.keep_ttl { self.expiry() } else { expiry };
            let written = Bytes::copy_from_slice(self.arg(set.value));
            let value = self.merged(&written).unwrap_or(written);
            self.store(value, expires_at_ms, "set");
            if let Some(at_ms) = expiry.filter(|_| !set.keep_ttl) {
                let key = &self.target().key;
                self.note(Classes::GENERIC, "expire", key);
                if at_ms <= self.now {
                    self.note(Classes::EXPIRED, "expired", key);
                }
            }
        }
        match (set.get, allowed) {
            (true, _) => self.reply.bulk_or_null(before),
            (false, true) => self.reply.simple("OK"),
            (false, false) => self.reply.null(),
        }
    }

    /// The written value with what others have written since its writer read; `None`: it replaces all.
    fn merged(&mut self, written: &Bytes) -> Option<Bytes> {
        let read = self.op.merges_on()?;
        let target = self.target();
        let present = self.string(&target.key).ok().flatten()?;
        merge(target.layout, read, written, &present).filter(|merged| merged.len() <= self.limits.value_bytes_max)
    }

    pub(super) fn set_if_new(&mut self) {
        let new = self.key().is_none();
        if new {
            self.store(Bytes::copy_from_slice(self.arg(2)), None, "set");
        }
        self.reply.integer(i64::from(new));
    }

    pub(super) fn get_set(&mut self) {
        match self.string(&self.target().key) {
            Ok(before) => {
                self.store(Bytes::copy_from_slice(self.arg(2)), None, "set");
                self.reply.bulk_or_null(before);
            }
            Err(error) => self.reply.error(error),
        }
    }

    pub(super) fn get_delete(&mut self) {
        let target = self.target();
        match self.string(&target.key) {
            Ok(value) => {
                if self.session.remove(&target.key, self.now) {
                    self.wrote = true;
                    self.note(Classes::GENERIC, "del", &target.key);
                }
                self.reply.bulk_or_null(value);
            }
            Err(error) => self.reply.error(error),
        }
    }

    pub(super) fn get_expire(&mut self, expiry: Option<Expiry>, persist: bool) {
        let value = match self.string(&self.target().key) {
            Ok(Some(value)) => value,
            Ok(None) => return self.reply.null(),
            Err(error) => return self.reply.error(error),
        };
        match expiry.map(|e| e.resolve(&self.op.args, self.now, self.op.name())).transpose() {
            Err(error) => return self.reply.error(error),
            Ok(Some(at)) => self.set_expiry_noting(at),
            Ok(None) if persist && self.expiry().is_some() => {
                self.set_expiry(None);
                self.note(Classes::GENERIC, "persist", &self.target().key);
            }
            Ok(None) => {}
        }
        self.reply.bulk(&value);
    }

    pub(super) fn append(&mut self) {
        let before = match self.string(&self.target().key) {
            Ok(before) => before.unwrap_or_default(),
            Err(error) => return self.reply.error(error),
        };
        let added = self.arg(2);
        let length = before.len().saturating_add(added.len());
        if !self.fits(length) {
            return;
        }
        if !added.is_empty() || self.key().is_none() {
            let mut joined = BytesMut::with_capacity(length);
            joined.extend_from_slice(&before);
            joined.extend_from_slice(added);
            let expires_at_ms = self.expiry();
            self.store(joined.freeze(), expires_at_ms, "append");
        } else {
            self.note(Classes::STRING, "append", &self.target().key);
        }
        self.reply.count(length);
    }

    pub(super) fn increment(&mut self, by: i64) {
        let before = match self.string(&self.target().key) {
            Ok(before) => before,
            Err(error) => return self.reply.error(error),
        };
        let Some(before) = before.map_or(Some(0), |text| parse_integer(&text)) else {
            return self.reply.error(errors::NOT_AN_INTEGER);
        };
        let Some(after) = before.checked_add(by) else { return self.reply.error(errors::OVERFLOW) };
        let mut digits = itoa::Buffer::new();
        let text = digits.format(after).as_bytes();
        if self.fits(text.len()) {
            let expires_at_ms = self.expiry();
            self.store(Bytes::copy_from_slice(text), expires_at_ms, "incrby");
            self.reply.integer(after);
        }
    }
}
