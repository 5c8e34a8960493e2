//! What the end-to-end and the fault tests have in common: keys, clusters, values and commands.

use super::Cluster;
use super::resp::{Client, Reply};

/// The keys of all these tests: a hash and a blob belong to one session.
pub const KEYS: &str =
    r#"[{ pattern = "s:{session}", layout = "hash" }, { pattern = "k:{session}", layout = "key", variable = "blob" }]"#;

/// A cluster whose nodes do not wait before they close: no balancer watches them.
pub fn cluster() -> Cluster {
    Cluster::new(KEYS).set(&["drain.settle_ms=0"])
}

/// Bytes that are not the same anywhere, so that a mix-up shows: of this length, for this name.
pub fn filler(name: &str, length: usize) -> Vec<u8> {
    name.bytes().cycle().zip(0u32..).take(length).map(|(b, i)| b ^ u8::try_from((i * 31 + i / 7) % 251).unwrap()).collect()
}

pub fn hset(client: &mut Client, key: &str, field: &str, value: &[u8]) -> Reply {
    client.call(&[b"HSET".as_slice(), key.as_bytes(), field.as_bytes(), value])
}
