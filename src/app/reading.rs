//! What requests read of their sessions, joined with their routes: a sample of them is looked at, before and after.
//!
//! It costs an operation nothing: the store counts reads of each variable anyway, so what a request has read is what the counts have grown by
//! while it ran. It fetches nothing; `arrivals` asks it what a request will need.
//!
//! Not looked at: a request that takes longer than [`RUN_US_MAX`] (a WebSocket has no route but its own), a session of more than
//! [`VARIABLES_MAX`] variables, one that leaves meanwhile. Two requests of one session at a time count for each other's route; what only
//! few requests of a route read so is not taken for its need. A count that stands at its end does not grow; such a variable is carried
//! or fetched for being read often.

use crate::driver::clock;
use crate::routing::learned::{Route, Routes, Variable};
use crate::state_face::SessionKeys;
use crate::store::Store;
use crate::telemetry::names;
use bytes::Bytes;
use std::cell::OnceCell;
use std::sync::Arc;
use wayfarer_http_face::{Ended, Run};

/// A session with more variables is not looked at.
const VARIABLES_MAX: usize = 256;
/// A request that takes longer is not.
const RUN_US_MAX: u64 = 10_000_000;

/// See the head of this file.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) routes: Arc<Routes>,
    pub(super) keys: Arc<SessionKeys>,
    pub(super) store: Arc<Store>,
}

impl Reading {
    /// Whether a request needs a variable, by its key and name; `None`: its route is not known. It is looked up when first asked.
    pub(super) fn needs(&self, run: Run<'_>) -> impl Fn(&Bytes, &Bytes) -> Option<bool> {
        let known = OnceCell::new();
        move |key, name| {
            let needs = known.get_or_init(|| self.routes.needs(self.routes.route(run.method, run.path))).as_ref()?;
            Some(needs.contains(&self.variable(key, name)))
        }
    }

    /// A request begins to run. What is to be done at its end, if it is looked at.
    pub(super) fn begins(&self, session: &[u8], run: Run<'_>) -> Option<Ended> {
        let begun_us = clock::now().boot_us;
        if !self.routes.may_sample(begun_us) {
            return None;
        }
        let before = self.store.reads(session, VARIABLES_MAX)?;
        let (this, session, route) = (self.clone(), session.to_vec(), self.routes.route(run.method, run.path));
        Some(Box::new(move || this.ends(&session, route, &before, begun_us)))
    }

    fn ends(&self, session: &[u8], route: Route, before: &[(Bytes, Bytes, u16)], begun_us: u64) {
        let now_us = clock::now().boot_us;
        if now_us.saturating_sub(begun_us) > RUN_US_MAX {
            return;
        }
        let Some(after) = self.store.reads(session, VARIABLES_MAX) else { return };
        let had = |key: &Bytes, name: &Bytes| {
            let at = before.binary_search_by(|(k, n, _)| (k, n).cmp(&(key, name))).ok()?;
            before.get(at).map(|(_, _, reads)| *reads)
        };
        let grown = after.iter().filter(|(key, name, reads)| had(key, name).is_some_and(|before| *reads > before));
        let read: Vec<Variable> = grown.map(|(key, name, _)| self.variable(key, name)).collect();
        if !self.routes.learn(route, &read, now_us) {
            metrics::counter!(names::BOUNDS_HIT, "bound" => "routes").increment(1);
        }
    }

    fn variable(&self, key: &Bytes, name: &Bytes) -> Variable {
        self.routes.variable(self.keys.pattern_of(key), name)
    }
}
