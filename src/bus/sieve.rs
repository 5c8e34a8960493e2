//! Which of the upstream's events of session keys are news for subscribers: those of sessions that are at rest, and were not made
//! by Wayfarer itself.
//!
//! It never changes anything. The state face asks it for each message of the upstream about a session's key, in their order.
//!
//! | the session | what the key in the upstream holds | the event |
//! |---|---|---|
//! | is owned by a living member | an older copy | withheld: the owner tells what happens |
//! | is at rest | what Wayfarer left there (a flush, a check-in, the flush of a deletion) | withheld: it was told when it happened |
//! | is at rest | something else: it expired there, or somebody else wrote | passed on |
//! | any, in the mode `observe` | what clients left there | passed on |
//! | nobody knows (the directory or the upstream does not answer) | | withheld, and counted |
//!
//! An expiry that its owner has told before the session ended is no news either (`told`).
//! Invariant: no subscriber is told that an owned session expired or was deleted because its copy did.

use crate::driver::Standing;
use crate::rest::AtRest;
use crate::store::Store;
use crate::telemetry::names;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wayfarer_engine::directory::Directory;
use wayfarer_engine::ids::{Incarnation, SessionId};
use wayfarer_engine::mode::Phase;

/// How long the directory and the upstream may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the head of this file.
pub struct Sieve {
    /// The sessions of this node.
    pub store: Arc<Store>,
    /// Who owns the others.
    pub directory: Arc<dyn Directory>,
    /// Who is alive.
    pub standing: watch::Receiver<Standing>,
    /// Where sessions are at rest; `None`: nowhere.
    pub rest: Option<Arc<AtRest>>,
}

impl Sieve {
    /// Whether an event of a key, by its name within its session, is to be passed on.
    pub async fn passes(&self, session: SessionId, key: Bytes) -> bool {
        let withheld = tokio::time::timeout(PATIENCE, self.withheld(session, key)).await.unwrap_or(Some("unknown"));
        if let Some(reason) = withheld {
            metrics::counter!(names::EVENTS_WITHHELD, "reason" => reason).increment(1);
        }
        withheld.is_none()
    }

    async fn withheld(&self, session: SessionId, key: Bytes) -> Option<&'static str> {
        if self.store.has(&session.0) {
            return Some("owned");
        }
        if self.standing.borrow().view.mode.phase == Phase::Observe {
            return None;
        }
        let Ok(placement) = self.directory.read(session).await else { return Some("unknown") };
        if placement.owner().is_some_and(|owner| self.is_alive(owner)) {
            return Some("owned");
        }
        match &self.rest {
            None => None,
            Some(rest) => match rest.is_as_left(&key).await {
                Some(true) => Some("flushed"),
                Some(false) => None,
                None => Some("unknown"),
            },
        }
    }

    fn is_alive(&self, owner: Incarnation) -> bool {
        !self.standing.borrow().view.is_dead(owner)
    }
}
