//! What is wrong with the upstream: said when it begins and ever more seldom while it lasts, not for each session that meets it.
//!
//! It decides nothing and never sees a key. [`super::AtRest`] reports to it how each script ended, and asks what is wrong when a client
//! is to be told.
//!
//! Each script has a count of its own, which begins anew when that script is answered. A warning stands in the log when the count is a
//! power of two, and when it meets a trouble that it has not met since. What is said of an error is its code: its text might hold a name of a key.
//! Bound: one count a script.

use super::connection::{SCRIPTS, Script};
use redis::{ErrorKind, RedisError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It does not answer, or cannot be reached.
    Silent,
    /// It has no memory for more.
    Full,
    /// It is a replica.
    ReadOnly,
    /// It serves nobody for a while: it loads, is busy, or cannot write its files.
    Busy,
    /// It does not let this node in.
    Closed,
    /// Its user may not do what is needed.
    Forbidden,
    /// It does not know EVAL or EVALSHA.
    NoScripts,
    /// It answers with another error.
    Other,
}

impl Trouble {
    /// By the code of an error.
    pub(super) fn of(error: &RedisError) -> Trouble {
        // A password that is refused while signing in has no code.
        if error.kind() == ErrorKind::AuthenticationFailed {
            return Trouble::Closed;
        }
        match error.code() {
            None => Trouble::Silent,
            Some("OOM") => Trouble::Full,
            Some("READONLY") => Trouble::ReadOnly,
            Some("LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "MISCONF") => Trouble::Busy,
            Some("NOAUTH" | "WRONGPASS") => Trouble::Closed,
            Some("NOPERM") => Trouble::Forbidden,
            Some("ERR") if error.detail().is_some_and(|text| text.trim_start().starts_with("unknown command")) => {
                Trouble::NoScripts
            }
            Some("ERR") if error.detail().is_some_and(|text| text.starts_with("DB index is out of range")) => Trouble::Closed,
            Some(_) => Trouble::Other,
        }
    }

    /// For the log: what it means, and what helps.
    fn says(self) -> &'static str {
        match self {
            Trouble::Silent => "the upstream does not answer; sessions at rest wait for it",
            Trouble::Full => "the upstream has no memory for sessions at rest: raise its maxmemory",
            Trouble::ReadOnly => "the upstream is a replica: [state] upstream must name the primary, or its sentinels",
            Trouble::Busy => "the upstream serves nobody for now; sessions at rest wait for it",
            Trouble::Closed => "the upstream does not let this node in: look at user, password and database in [state] upstream",
            Trouble::Forbidden => "the upstream does not allow what sessions at rest need: EVAL, EVALSHA, and their keys",
            Trouble::NoScripts => {
                "the upstream does not know EVAL or EVALSHA, which sessions at rest need: they must not be renamed"
            }
            Trouble::Other => "the upstream refuses to keep sessions at rest",
        }
    }
}

/// What one script met last.
#[derive(Default)]
struct Met {
    last: Option<Trouble>,
    times: u64,
    /// What it has met since it was answered.
    known: Vec<Trouble>,
}

/// See the head of this file.
pub(super) struct Troubles {
    met: Mutex<[Met; SCRIPTS.len()]>,
    /// Whether there is anything in it, so that those who are answered need not lock it.
    any: AtomicBool,
    /// Whether it has ever answered: before, the way there may be the wrong one.
    answered: AtomicBool,
    is_plain: bool,
}

impl Troubles {
    /// None yet; `is_plain`: the upstream is spoken to without TLS.
    pub(super) fn new(is_plain: bool) -> Troubles {
        Troubles { met: Mutex::default(), any: AtomicBool::new(false), answered: AtomicBool::new(false), is_plain }
    }

    fn met(&self) -> MutexGuard<'_, [Met; SCRIPTS.len()]> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A script was answered.
    pub(super) fn is_answered(&self, script: Script) {
        self.answered.store(true, Ordering::Release);
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut all = self.met();
        let met = all.get_mut(script as usize).map(std::mem::take).unwrap_or_default();
        if all.iter().all(|met| met.last.is_none()) {
            self.any.store(false, Ordering::Release);
        }
        drop(all);
        if met.times > 1 {
            tracing::info!(times = met.times, "the upstream answers again");
        }
    }

    /// A script was not answered, or with an error.
    pub(super) fn report(&self, script: Script, error: &RedisError) {
        metrics::counter!(crate::telemetry::names::REST_ERRORS).increment(1);
        let trouble = Trouble::of(error);
        let code = error.code().map_or_else(|| format!("{:?}", error.kind()), str::to_owned);
        let (times, is_new) = {
            let mut all = self.met();
            let Some(met) = all.get_mut(script as usize) else { return };
            let is_new = !met.known.contains(&trouble);
            if is_new {
                met.known.push(trouble);
            }
            met.last = Some(trouble);
            met.times = met.times.saturating_add(1);
            self.any.store(true, Ordering::Release);
            (met.times, is_new)
        };
        if !is_new && !times.is_power_of_two() {
            return;
        }
        tracing::warn!(code, times, "{}", trouble.says());
        // Nobody listening, or nobody answering in time, is no sign of it.
        let closes = trouble == Trouble::Silent && !error.is_connection_refusal() && !error.is_timeout();
        if closes && self.is_plain && !self.answered.load(Ordering::Acquire) {
            tracing::warn!("it has never answered: if it expects TLS, [state] upstream must begin with rediss://");
        }
    }

    /// What is wrong with loads now, or with whatever else is.
    pub(super) fn now(&self) -> Option<Trouble> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let all = self.met();
        let of = |script: Script| all.get(script as usize).and_then(|met| met.last);
        of(Script::Load).or_else(|| SCRIPTS.into_iter().find_map(of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::{ErrorKind, ServerErrorKind};

    fn error(text: &str) -> RedisError {
        let line = format!("-{text}\r\n");
        redis::parse_redis_value(line.as_bytes())
            .and_then(redis::Value::extract_error)
            .err()
            .unwrap_or_else(|| RedisError::from((ErrorKind::Server(ServerErrorKind::ResponseError), "no error")))
    }

    #[test]
    fn what_the_upstream_answers_is_told_from_silence() {
        for (text, trouble) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", Trouble::Full),
            ("READONLY You can't write against a read only replica.", Trouble::ReadOnly),
            ("LOADING Redis is loading the dataset in memory", Trouble::Busy),
            ("NOPERM this user has no permissions to run the 'evalsha' command", Trouble::Forbidden),
            ("ERR unknown command 'EVALSHA', with args beginning with: 'x'", Trouble::NoScripts),
            ("WRONGPASS invalid username-password pair or user is disabled.", Trouble::Closed),
            ("NOAUTH Authentication required.", Trouble::Closed),
            ("ERR DB index is out of range", Trouble::Closed),
            ("ERR something else", Trouble::Other),
        ] {
            assert_eq!(Trouble::of(&error(text)), trouble, "{text}");
        }
        let silent = RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        assert_eq!(Trouble::of(&silent), Trouble::Silent);
        let signing_in = RedisError::from((ErrorKind::AuthenticationFailed, "Password authentication failed"));
        assert_eq!(Trouble::of(&signing_in), Trouble::Closed);
    }

    #[test]
    fn a_trouble_lasts_until_the_script_that_met_it_is_answered() {
        let (troubles, full) = (Troubles::new(true), error("OOM full"));
        assert_eq!(troubles.now(), None);
        (0..5).for_each(|_| troubles.report(Script::Load, &full));
        troubles.is_answered(Script::Look);
        assert_eq!(troubles.now(), Some(Trouble::Full), "looks need no memory");
        assert_eq!(troubles.met().iter().map(|met| met.times).sum::<u64>(), 5);
        troubles.report(Script::Load, &error("READONLY x"));
        assert_eq!((troubles.now(), troubles.met().iter().map(|met| met.times).sum::<u64>()), (Some(Trouble::ReadOnly), 6));
        troubles.is_answered(Script::Load);
        assert_eq!(troubles.now(), None);
    }
}
