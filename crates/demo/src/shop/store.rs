//! The shop's sessions in Redis: one hash per session, over a few connections that all requests share.
//!
//! It retries nothing and caches nothing. Called by the shop's routes. Invariant: an `Ok` means that Redis acknowledged every
//! write; after an error the writes of the request may or may not have happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{RedisResult, Value};

use super::ShopSettings;
use super::accesses::{Accesses, Reads};
use crate::model::{COUNTER, VALUE_BYTES_MAX, Variable, all};
use crate::value;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// A variable up to this size in the model is read together with the others that a page needs.
const SMALL_BYTES_MAX: u32 = 1000;

/// The session store.
pub struct Store {
    connections: Vec<ConnectionManager>,
    next: AtomicUsize,
    ttl_seconds: u32,
}

impl Store {
    /// Opens the connections.
    pub async fn connect(settings: &ShopSettings) -> RedisResult<Self> {
        let client = redis::Client::open(settings.redis_url.as_str())?;
        let config = ConnectionManagerConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let mut connections = Vec::with_capacity(settings.connections);
        for _ in 0..settings.connections.max(1) {
            connections.push(client.get_connection_manager_with_config(config.clone()).await?);
        }
        Ok(Self { connections, next: AtomicUsize::new(0), ttl_seconds: settings.ttl_seconds })
    }

    /// Serves a page: reads, then writes. The answer has a line for each variable read.
    pub async fn page(&self, sid: &str, accesses: &Accesses) -> RedisResult<String> {
        let (mut connection, key) = (self.connection()?, key(sid));
        let mut answer = match &accesses.reads {
            Reads::All => read_all(&mut connection, &key).await?,
            Reads::Some(variables) => read_some(&mut connection, &key, variables).await?,
        };
        if accesses.writes.is_empty() && !accesses.counts {
            return Ok(answer);
        }
        let mut pipeline = redis::pipe();
        if !accesses.writes.is_empty() {
            let set = pipeline.cmd("HSET").arg(&key);
            for write in &accesses.writes {
                let name = write.variable.name();
                set.arg(&name).arg(value::encode(sid, &name, write.sequence, write.bytes.min(VALUE_BYTES_MAX)));
            }
            set.ignore();
        }
        if accesses.counts {
            pipeline.cmd("HINCRBY").arg(&key).arg(COUNTER).arg(1);
        }
        pipeline.cmd("EXPIRE").arg(&key).arg(self.ttl_seconds).ignore();
        let counts: Vec<i64> = pipeline.query_async(&mut connection).await?;
        for count in counts {
            push_line(&mut answer, format_args!("{COUNTER} {count}"));
        }
        Ok(answer)
    }

    /// Ends a session.
    pub async fn end(&self, sid: &str) -> RedisResult<String> {
        let removed: i64 = redis::cmd("DEL").arg(key(sid)).query_async(&mut self.connection()?).await?;
        Ok(format!("removed {removed}\n"))
    }

    fn connection(&self) -> RedisResult<ConnectionManager> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let at = turn.checked_rem(self.connections.len()).unwrap_or(0);
        let none = || redis::RedisError::from((redis::ErrorKind::Client, "no connection"));
        self.connections.get(at).cloned().ok_or_else(none)
    }
}

fn key(sid: &str) -> String {
    format!("shop:{sid}")
}

async fn read_some(connection: &mut ConnectionManager, key: &str, variables: &[Variable]) -> RedisResult<String> {
    let mut answer = String::new();
    let is_small = |variable: &Variable| variable.row().is_some_and(|row| row.bytes.1 <= SMALL_BYTES_MAX);
    let (small, large): (Vec<Variable>, Vec<Variable>) = variables.iter().partition(|variable| is_small(variable));
    if !small.is_empty() {
        let names: Vec<String> = small.iter().map(|variable| variable.name()).collect();
        let values: Vec<Option<Vec<u8>>> = redis::cmd("HMGET").arg(key).arg(&names).query_async(connection).await?;
        for (name, value) in names.iter().zip(&values) {
            push_value(&mut answer, name, value.as_deref());
        }
    }
    for variable in large {
        let name = variable.name();
        let value: Option<Vec<u8>> = redis::cmd("HGET").arg(key).arg(&name).query_async(connection).await?;
        push_value(&mut answer, &name, value.as_deref());
    }
    Ok(answer)
}

async fn read_all(connection: &mut ConnectionManager, key: &str) -> RedisResult<String> {
    let mut fields: BTreeMap<Vec<u8>, Vec<u8>> = redis::cmd("HGETALL").arg(key).query_async(connection).await?;
    let mut answer = String::new();
    for variable in all() {
        let name = variable.name();
        push_value(&mut answer, &name, fields.remove(name.as_bytes()).as_deref());
    }
    if let Some(count) = fields.remove(COUNTER.as_bytes()) {
        let count: i64 = redis::from_redis_value(Value::BulkString(count))?;
        push_line(&mut answer, format_args!("{COUNTER} {count}"));
    }
    push_line(&mut answer, format_args!("unknown {}", fields.len()));
    Ok(answer)
}

fn push_value(answer: &mut String, name: &str, value: Option<&[u8]>) {
    match value {
        Some(bytes) => {
            let sequence = value::sequence_of(name, bytes).map_or_else(|| "?".to_owned(), |sequence| sequence.to_string());
            push_line(answer, format_args!("{name} {sequence} {} {:016x}", bytes.len(), value::digest(bytes)));
        }
        None => push_line(answer, format_args!("{name} -")),
    }
}

fn push_line(answer: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(answer, "{line}");
}
