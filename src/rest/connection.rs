//! A few connections to the upstream, each for many scripts at once; opened when needed, dropped when they fail.
//!
//! It never sends a command twice but one that the upstream did not know (`NOSCRIPT`: nothing has run). Used by [`super`] alone.
//!
//! Bounds: the number of connections; one answer is waited for at most so long, and connecting too.
//! Invariant: what is sent over one connection is performed in the order in which it was sent.

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    ServerErrorKind, Value,
};
use std::time::Duration;
use tokio::sync::Mutex;
use wayfarer_settings::Upstream;

const FINGERPRINT: &str = include_str!("fingerprint.lua");
const LOAD: &str = include_str!("load.lua");
const STORE: &str = include_str!("store.lua");

/// Which script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Script {
    /// `load.lua`
    Load,
    /// `store.lua`
    Store,
}

/// A connection and the names that its server gave the scripts.
#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    load: String,
    store: String,
}

/// See the head of this file.
pub(super) struct Connections {
    client: Client,
    config: AsyncConnectionConfig,
    places: Vec<Mutex<Option<Open>>>,
}

impl Connections {
    /// None is open yet.
    pub(super) fn new(upstream: &Upstream, count: usize, patience: Duration) -> Result<Connections, RedisError> {
        let mut login = RedisConnectionInfo::default().set_db(i64::from(upstream.database)).set_skip_set_lib_name();
        if let Some(user) = &upstream.user {
            login = login.set_username(user);
        }
        if let Some(password) = &upstream.password {
            login = login.set_password(password.expose());
        }
        let address = ConnectionAddr::Tcp(upstream.host.clone(), upstream.port);
        let client = Client::open(address.into_connection_info()?.set_redis_settings(login))?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(Some(patience));
        Ok(Connections { client, config, places: (0..count.max(1)).map(|_| Mutex::new(None)).collect() })
    }

    fn place(&self, place: usize) -> Result<&Mutex<Option<Open>>, RedisError> {
        let at = place.checked_rem(self.places.len()).unwrap_or(0);
        self.places.get(at).ok_or_else(|| (ErrorKind::Client, "there is no connection").into())
    }

    async fn open(&self, place: usize) -> Result<Open, RedisError> {
        let mut slot = self.place(place)?.lock().await;
        if let Some(open) = slot.as_ref() {
            return Ok(open.clone());
        }
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&self.config).await?;
        let (load, store) = (name(&mut connection, LOAD).await?, name(&mut connection, STORE).await?);
        let open = Open { connection, load, store };
        *slot = Some(open.clone());
        Ok(open)
    }

    /// What brought no answer may be in any state: the next one opens another.
    async fn judge(&self, place: usize, error: &RedisError) {
        let broken = error.is_io_error() || error.is_timeout() || error.is_connection_dropped();
        if broken && let Ok(place) = self.place(place) {
            *place.lock().await = None;
        }
    }

    /// Sends one command.
    pub(super) async fn ask(&self, place: usize, command: &Cmd) -> Result<Value, RedisError> {
        let mut open = self.open(place).await?;
        let answer = command.query_async(&mut open.connection).await;
        if let Err(error) = &answer {
            self.judge(place, error).await;
        }
        answer
    }

    /// Runs a script on a key and its guard.
    pub(super) async fn run(
        &self,
        place: usize,
        script: Script,
        keys: [&Bytes; 2],
        arguments: &[Bytes],
    ) -> Result<Value, RedisError> {
        let open = self.open(place).await?;
        let (name, text) = match script {
            Script::Load => (&open.load, LOAD),
            Script::Store => (&open.store, STORE),
        };
        let command = |verb: &str, script: &str| {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(2);
            keys.iter().for_each(|key| {
                command.arg(key.as_ref());
            });
            arguments.iter().for_each(|argument| {
                command.arg(argument.as_ref());
            });
            command
        };
        match self.ask(place, &command("EVALSHA", name)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.ask(place, &command("EVAL", &whole(text))).await
            }
            answer => answer,
        }
    }
}

fn whole(script: &str) -> String {
    format!("{FINGERPRINT}{script}")
}

async fn name(connection: &mut MultiplexedConnection, script: &str) -> Result<String, RedisError> {
    redis::cmd("SCRIPT").arg("LOAD").arg(whole(script)).query_async(connection).await
}
