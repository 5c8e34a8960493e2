//! A few connections to the upstream, each for many scripts at once; opened when needed, dropped when they fail.
//!
//! It never sends a command twice but one that the upstream did not know (`NOSCRIPT`: nothing has run). Used by [`super`] alone.
//!
//! Bounds: the number of connections; one answer is waited for at most so long, and connecting too.
//! Invariant: what is sent over one connection is performed in the order in which it was sent.

use crate::upstream::Dialer;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind, Value};
use sha1::{Digest, Sha1};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet};

/// The script function that tells equal contents by a few bytes.
pub const FINGERPRINT: &str = include_str!("fingerprint.lua");
/// The script function that reads a key of any type within bounds.
const CONTENTS: &str = include_str!("contents.lua");
const LOOK: &str = include_str!("look.lua");
const COUNT: &str = include_str!("count.lua");
const PLAIN: &str = "return redis.call(ARGV[1])";
const PEEK: &str = include_str!("peek.lua");
const LOAD: &str = include_str!("load.lua");
/// The script function that changes a key under its guard.
const GUARDED: &str = include_str!("guarded.lua");
const STORE: &str = include_str!("store.lua");
const BOTH: &str = include_str!("both.lua");
const LEFT: &str = include_str!("left.lua");

/// Which script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Script {
    /// `look.lua`
    Look,
    /// `count.lua`
    Count,
    /// The command that is its argument.
    Plain,
    /// `peek.lua`
    Peek,
    /// `load.lua`
    Load,
    /// `store.lua`
    Store,
    /// `both.lua`
    Both,
    /// `left.lua`
    Left,
}

pub(super) const SCRIPTS: [Script; 8] =
    [Script::Look, Script::Count, Script::Plain, Script::Peek, Script::Load, Script::Store, Script::Both, Script::Left];

impl Script {
    /// Its text for keys of a database; 0 is that of the connection.
    fn text(self, database: u8) -> String {
        let before = if database == 0 { String::new() } else { format!("redis.call('SELECT', {database})\n") };
        let parts: &[&str] = match self {
            Script::Look => &[LOOK],
            Script::Count => &[COUNT],
            Script::Plain => &[PLAIN],
            Script::Peek => &[CONTENTS, PEEK],
            Script::Load => &[FINGERPRINT, CONTENTS, LOAD],
            Script::Store => &[FINGERPRINT, GUARDED, STORE],
            Script::Both => &[FINGERPRINT, GUARDED, BOTH],
            Script::Left => &[FINGERPRINT, LEFT],
        };
        before + &parts.concat()
    }
}

/// The name that a server gives a script: the SHA-1 of its text, in hex.
fn name(text: &str) -> String {
    Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One connection, or since when there is none.
#[derive(Default)]
struct Place {
    open: Option<Open>,
    /// Counts connections, so that what an earlier one did says nothing about a later one.
    opened: u64,
    /// What moves the bytes of connections.
    drivers: JoinSet<()>,
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    number: u64,
    _driven: Arc<Driven>,
}

/// Ends with the last of those who use the connection.
struct Driven(AbortHandle);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// See the head of this file.
pub(super) struct Connections {
    dialer: Arc<Dialer>,
    login: RedisConnectionInfo,
    config: AsyncConnectionConfig,
    patience: Duration,
    places: Vec<Mutex<Place>>,
    /// Tries to connect that were in vain.
    vain: AtomicU64,
    /// Names of the scripts for database 0.
    names: [String; SCRIPTS.len()],
}

impl Connections {
    /// None is open yet.
    pub(super) fn new(dialer: Arc<Dialer>, count: usize, patience: Duration) -> Connections {
        let upstream = dialer.upstream();
        let mut login = RedisConnectionInfo::default().set_db(i64::from(upstream.database)).set_skip_set_lib_name();
        if let Some(user) = &upstream.user {
            login = login.set_username(user);
        }
        if let Some(password) = &upstream.password {
            login = login.set_password(password.expose());
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(patience));
        let names = SCRIPTS.map(|script| name(&script.text(0)));
        let places = (0..count.max(1)).map(|_| Mutex::default()).collect();
        Connections { dialer, login, config, patience, places, vain: AtomicU64::new(0), names }
    }

    async fn connect(&self, drivers: &mut JoinSet<()>) -> Result<(MultiplexedConnection, Driven), RedisError> {
        let connecting = async {
            let wire = self.dialer.connect().await?;
            MultiplexedConnection::new_with_config(&self.login, wire, self.config.clone()).await
        };
        let connected = tokio::time::timeout(self.patience, connecting).await;
        let (connection, driver) = connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))?;
        // Those of earlier connections have ended, or will with their last user.
        while drivers.try_join_next().is_some() {}
        Ok((connection, Driven(drivers.spawn(driver))))
    }

    fn place(&self, place: usize) -> Result<&Mutex<Place>, RedisError> {
        let at = place.checked_rem(self.places.len()).unwrap_or(0);
        self.places.get(at).ok_or_else(|| (ErrorKind::Client, "there is no connection").into())
    }

    /// Those who waited while somebody tried to connect in vain fail with that one, and do not try one behind the other.
    async fn open(&self, place: usize) -> Result<Open, RedisError> {
        let vain = self.vain.load(Ordering::Acquire);
        let mut place = self.place(place)?.lock().await;
        if let Some(open) = &place.open {
            return Ok(open.clone());
        }
        if self.vain.load(Ordering::Acquire) != vain {
            return Err((ErrorKind::Io, "the upstream cannot be reached").into());
        }
        let (connection, driven) = match self.connect(&mut place.drivers).await {
            Ok(connected) => connected,
            Err(error) => {
                self.vain.fetch_add(1, Ordering::AcqRel);
                return Err(error);
            }
        };
        place.opened += 1;
        let open = Open { connection, number: place.opened, _driven: Arc::new(driven) };
        place.open = Some(open.clone());
        Ok(open)
    }

    /// What brought no answer may be in any state: the next one opens another.
    async fn judge(&self, place: usize, number: u64, error: &RedisError) {
        // A server that only reads is no master any more: the next connection may find that one.
        let broken =
            error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.code() == Some("READONLY");
        if broken && let Ok(place) = self.place(place) {
            let mut place = place.lock().await;
            if place.open.as_ref().is_some_and(|open| open.number == number) {
                place.open = None;
            }
        }
    }

    async fn ask(&self, place: usize, command: &Cmd) -> Result<Value, RedisError> {
        let mut open = self.open(place).await?;
        let answer = command.query_async(&mut open.connection).await;
        if let Err(error) = &answer {
            self.judge(place, open.number, error).await;
        }
        answer
    }

    /// Sends a command.
    pub(super) async fn plain(&self, place: usize, words: &[Bytes]) -> Result<Value, RedisError> {
        let mut command = Cmd::new();
        words.iter().for_each(|word| {
            command.arg(word.as_ref());
        });
        self.ask(place, &command).await
    }

    /// Runs a script on keys of a database.
    pub(super) async fn run(
        &self,
        place: usize,
        database: u8,
        script: Script,
        keys: &[Bytes],
        arguments: &[Bytes],
    ) -> Result<Value, RedisError> {
        let command = |verb: &str, script: &str| {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(keys.len());
            keys.iter().chain(arguments).for_each(|argument| {
                command.arg(argument.as_ref());
            });
            command
        };
        let known = self.names.get(script as usize).filter(|_| database == 0);
        let named = match known {
            Some(known) => command("EVALSHA", known),
            None => command("EVALSHA", &name(&script.text(database))),
        };
        match self.ask(place, &named).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.ask(place, &command("EVAL", &script.text(database))).await
            }
            answer => answer,
        }
    }
}
