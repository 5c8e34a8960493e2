//! Members that take other keys for those of sessions than this node does (`[state] keys`).
//!
//! It refuses nobody: a deploy that changes the patterns rolls through the cluster. It names them, once in the log and as long as
//! they live in the status, for a session that such a member owns may have keys that it does not know. Told by [`super::hello`].
//!
//! Invariant: it holds living members alone.

use super::peers::Peers;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wayfarer_engine::ids::Incarnation;

#[derive(Default)]
pub(super) struct Strangers(Mutex<BTreeSet<Incarnation>>);

impl Strangers {
    /// A member has said what it takes for keys of sessions. An older version does not say it.
    pub fn heard(&self, peers: &Peers, from: Incarnation, member: &str, theirs: Option<[u8; 32]>, ours: [u8; 32]) {
        let Some(theirs) = theirs else { return };
        let mut strangers = self.lock();
        strangers.retain(|stranger| !peers.is_gone(*stranger));
        if theirs != ours && strangers.insert(from) {
            tracing::warn!(
                member,
                incarnation = from.0.0,
                "this member takes other keys for those of sessions than this node: sessions that move between the two may have keys \
                 that their owner does not know; give both the same [state] keys"
            );
        }
    }

    pub fn has(&self, member: Incarnation) -> bool {
        self.lock().contains(&member)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Incarnation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
