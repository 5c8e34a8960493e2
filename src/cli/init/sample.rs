//! Looks at a Redis: names of keys by SCAN, and of some of them type, expiry, size and first bytes.
//!
//! It never writes ([`super::client`] could not), never sends KEYS, and pauses between batches. Values are looked at and
//! forgotten: what stays is their look and size.
//! Bounds: keys looked at (`--samples`), names ([`NAMES_PER_SAMPLE`] each), bytes ([`BYTES_MAX`]), time (`--seconds`).
//! Invariant: whichever bound is hit, what was seen until then is there, and [`Seen::cut_short`] names the bound.

use super::client::{Client, Reply, command};
use super::sniff::{self, Look};
use crate::driver::clock;
use bytes::Bytes;
use std::collections::HashMap;
use std::time::Duration;

/// So many names are read for each key that is looked at.
const NAMES_PER_SAMPLE: usize = 100;
/// Names that SCAN is asked for at once, and keys that are looked at in one batch.
const BATCH: usize = 200;
/// The rest between two batches, so that the Redis serves its other clients in between.
const PAUSE: Duration = Duration::from_millis(2);
/// Most bytes that are read.
const BYTES_MAX: u64 = 64 << 20;
/// How much of a value is looked at.
const HEAD_BYTES: &[u8] = b"2047";
/// Keys that begin alike are looked at so often, as long as there are others.
const ALIKE_MAX: usize = 200;
/// Names of keys that are longer are no session's.
const NAME_BYTES_MAX: usize = 1024;
/// How often the progress is told.
const PROGRESS_US: u64 = 1_000_000;

/// A key that was looked at.
pub(super) struct Sample {
    pub database: u32,
    pub name: Bytes,
    pub look: Look,
    /// The size of its value; for what is no string, what Redis needs for it.
    pub bytes: u64,
    /// Hash fields or JSON members; 1 where that is not known.
    pub members: u64,
    pub expires: bool,
}

/// One database.
pub(super) struct Database {
    pub number: u32,
    /// How many keys it has.
    pub keys: u64,
    /// Those whose names were read.
    pub names: Vec<Bytes>,
}

/// All that was seen.
#[derive(Default)]
pub(super) struct Seen {
    pub databases: Vec<Database>,
    pub samples: Vec<Sample>,
    pub bytes: u64,
    /// Which bound ended it before every key was seen.
    pub cut_short: Option<&'static str>,
}

/// How much may be looked at.
pub(super) struct Bounds {
    pub samples: usize,
    pub time: Duration,
}

/// Looks at all databases.
pub(super) async fn look(client: &mut Client, bounds: &Bounds) -> Result<Seen, String> {
    let started_us = clock::now().boot_us;
    let end_us = started_us.saturating_add(u64::try_from(bounds.time.as_micros()).unwrap_or(u64::MAX));
    let databases = databases(client).await?;
    let total: u64 = databases.iter().map(|(_, keys)| *keys).sum();
    let mut seen = Seen::default();
    let mut told_us = started_us;
    for (number, keys) in databases {
        client_in(client, number).await?;
        // A share by size, but something of each.
        let share = usize::try_from(u128::from(keys) * bounds.samples as u128 / u128::from(total.max(1))).unwrap_or(usize::MAX);
        let mut budget = Budget { samples: share.max(bounds.samples / 10).max(1), names: 0, alike: HashMap::new() };
        let names_max = budget.samples.saturating_mul(NAMES_PER_SAMPLE);
        let mut names: Vec<Bytes> = Vec::new();
        let mut cursor = Bytes::from_static(b"0");
        loop {
            let count = BATCH.to_string();
            let (next, page) = page(client.one(command([b"SCAN", &cursor, b"COUNT", count.as_bytes()])).await?)?;
            let page: Vec<Bytes> = page.into_iter().filter(|name| name.len() <= NAME_BYTES_MAX).collect();
            let chosen: Vec<Bytes> = page.iter().filter(|name| budget.takes(name)).cloned().collect();
            for chosen in chosen.chunks(BATCH) {
                seen.samples.extend(samples(client, number, chosen).await?);
            }
            names.extend(page);
            cursor = next;
            let now_us = clock::now().boot_us;
            if now_us.saturating_sub(told_us) >= PROGRESS_US {
                told_us = now_us;
                complain!("database {number}: {} of {keys} names, {} keys looked at", names.len(), seen.samples.len());
            }
            let cut = match () {
                () if cursor.as_ref() == b"0" => break,
                () if names.len() >= names_max => "the number of samples",
                () if now_us >= end_us => "the time",
                () if client.bytes >= BYTES_MAX => "the bytes read",
                () => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            seen.cut_short = Some(cut);
            break;
        }
        seen.databases.push(Database { number, keys, names });
    }
    seen.bytes = client.bytes;
    Ok(seen)
}

async fn client_in(client: &mut Client, database: u32) -> Result<(), String> {
    match client.one(command([b"SELECT", database.to_string().as_bytes()])).await? {
        // A cluster has one database only, and says so.
        Reply::Error(text) if database != 0 => Err(format!("database {database} cannot be selected: {text}")),
        _ => Ok(()),
    }
}

/// Which databases have keys: number and count.
async fn databases(client: &mut Client) -> Result<Vec<(u32, u64)>, String> {
    let Reply::Text(info) = client.one(command([b"INFO", b"keyspace"])).await? else {
        // INFO may be forbidden: then only the first one is known of.
        let size = client.one(command([b"DBSIZE"])).await?.integer().unwrap_or(0);
        return Ok(vec![(0, u64::try_from(size).unwrap_or(0))]);
    };
    let line = |line: &str| {
        let (number, rest) = line.strip_prefix("db")?.split_once(":keys=")?;
        Some((number.parse().ok()?, rest.split(',').next()?.trim().parse().ok()?))
    };
    Ok(String::from_utf8_lossy(&info).lines().filter_map(line).collect())
}

fn page(reply: Reply) -> Result<(Bytes, Vec<Bytes>), String> {
    match reply {
        Reply::List(parts) => match parts.as_slice() {
            [Reply::Text(cursor), Reply::List(names)] => {
                Ok((cursor.clone(), names.iter().filter_map(Reply::text).cloned().collect()))
            }
            _ => Err("the reply to SCAN is not understood".to_owned()),
        },
        Reply::Error(text) => Err(format!("SCAN is refused: {text}")),
        _ => Err("the reply to SCAN is not understood".to_owned()),
    }
}

/// Which keys of a database are looked at.
struct Budget {
    samples: usize,
    names: usize,
    /// By the first bytes of the name, so that a great cache does not hide a few sessions.
    alike: HashMap<Bytes, usize>,
}

impl Budget {
    /// The first keys of each kind, until the number is reached.
    fn takes(&mut self, name: &Bytes) -> bool {
        if self.names >= self.samples {
            return false;
        }
        let kind = name.slice(..name.len().min(8));
        let count = self.alike.entry(kind).or_default();
        *count = count.saturating_add(1);
        let takes = *count <= ALIKE_MAX;
        self.names = self.names.saturating_add(usize::from(takes));
        takes
    }
}

/// Looks at some keys, in three batches of commands.
async fn samples(client: &mut Client, database: u32, names: &[Bytes]) -> Result<Vec<Sample>, String> {
    let two = |a: &'static [u8], name: &Bytes| vec![Bytes::from_static(a), name.clone()];
    let types: Vec<_> = names.iter().flat_map(|name| [two(b"TYPE", name), two(b"PTTL", name)]).collect();
    let types = client.all(&types).await?;
    let mut asked = Vec::with_capacity(names.len());
    let mut commands = Vec::new();
    for (name, replies) in names.iter().zip(types.chunks(2)) {
        let [Reply::Text(kind), Reply::Integer(ttl)] = replies else { continue };
        // Gone since SCAN.
        if kind.as_ref() == b"none" {
            continue;
        }
        commands.push(vec![Bytes::from_static(b"MEMORY"), Bytes::from_static(b"USAGE"), name.clone()]);
        match kind.as_ref() {
            b"string" => {
                commands.push(two(b"STRLEN", name));
                commands.push([two(b"GETRANGE", name), vec![Bytes::from_static(b"0"), Bytes::from_static(HEAD_BYTES)]].concat());
            }
            b"hash" => {
                commands.push(two(b"HLEN", name));
                commands.push([two(b"HRANDFIELD", name), vec![Bytes::from_static(b"12")]].concat());
            }
            _ => commands.extend([two(b"PTTL", name), two(b"PTTL", name)]),
        }
        asked.push((name, kind.clone(), *ttl));
    }
    let replies = client.all(&commands).await?;
    let sample = |((name, kind, ttl), replies): ((&Bytes, Bytes, i64), &[Reply])| {
        let [memory, size, head] = replies else { return None };
        let positive = |reply: &Reply| reply.integer().and_then(|n| u64::try_from(n).ok());
        let (look, bytes, members) = match kind.as_ref() {
            b"string" => {
                let head = head.text().cloned().unwrap_or_default();
                let whole = u64::try_from(head.len()).ok() == positive(size);
                let json =
                    whole.then(|| serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&head).ok()).flatten();
                (sniff::of_string(&head), positive(size).unwrap_or(0), json.map_or(1, |map| map.len() as u64))
            }
            b"hash" => {
                let fields = if let Reply::List(fields) = head { fields.as_slice() } else { &[] };
                let fields = fields.iter().filter_map(Reply::text).map(Bytes::as_ref);
                (sniff::of_hash(fields), positive(memory).unwrap_or(0), positive(size).unwrap_or(1))
            }
            _ => (Look::OtherType, positive(memory).unwrap_or(0), 1),
        };
        Some(Sample { database, name: name.clone(), look, bytes, members: members.max(1), expires: ttl >= 0 })
    };
    Ok(asked.into_iter().zip(replies.chunks(3)).filter_map(sample).collect())
}
