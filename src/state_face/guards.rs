//! Keys of the upstream that are Wayfarer's own: no client may use them by this face.
//!
//! A guard says which owner's write its session's key may take. Whoever removed or changed one would make that session one that can
//! never be written again, so commands that name one are refused, those that read included. It never looks at the upstream: the name
//! tells. Called by [`super::dispatch`]. Without sessions at rest there are no guards, and nothing is refused.

use super::Sessions;
use super::connection::Client;
use bytes::Bytes;
use wayfarer_engine::command::Parsed;

const GUARD: &str = "ERR wayfarer: this key guards a session at rest; it is Wayfarer's own, and clients may not use it";

impl<S: Sessions> Client<S> {
    /// Whether a command names a guard.
    pub(super) fn names_guard(&self, command: &Parsed) -> bool {
        let Some(prefix) = self.face.hidden else { return false };
        let is_guard = |key: &Bytes| key.starts_with(prefix);
        match command {
            Parsed::Keyed(op) => op.targets().iter().any(|target| is_guard(&target.key)),
            Parsed::Foreign(foreign) => foreign.keys.iter().any(is_guard),
            Parsed::Refused(refused) => refused.keys.iter().any(is_guard),
            Parsed::Connection(_) => false,
        }
    }

    /// Says so; a transaction that was to hold the command fails.
    pub(super) fn refuse_guard(&mut self) {
        self.refuse(GUARD);
    }
}
