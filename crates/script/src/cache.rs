//! Texts of scripts by their digests, the oldest forgotten first when there are too many bytes.
//!
//! A client whose text was forgotten is told `NOSCRIPT` and sends it again, as after a restart of Redis.

use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

/// What a text costs beside itself: its digest twice, a place in the map and one in the order, allocations.
const ENTRY_BYTES: usize = 256;

pub(super) struct Cache {
    texts: HashMap<String, Bytes>,
    order: VecDeque<String>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Cache {
        Cache { texts: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(super) fn insert(&mut self, digest: String, text: &Bytes) {
        if cost(text) > self.bytes_max || self.texts.contains_key(&digest) {
            return;
        }
        self.bytes = self.bytes.saturating_add(cost(text));
        self.texts.insert(digest.clone(), Bytes::copy_from_slice(text));
        self.order.push_back(digest);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else { return };
            let gone = self.texts.remove(&oldest).map_or(0, |text| cost(&text));
            self.bytes = self.bytes.saturating_sub(gone);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn find(&self, digest: &str) -> Option<Bytes> {
        self.texts.get(digest).cloned()
    }

    pub(super) fn clear(&mut self) {
        *self = Cache::new(self.bytes_max);
    }
}

fn cost(text: &[u8]) -> usize {
    text.len().saturating_add(ENTRY_BYTES)
}
