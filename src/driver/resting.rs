//! What the node asks of the upstream, performed: a task each, whose answer comes back as an input.
//!
//! It never decides and never asks twice. The loop in [`super`] calls it for the effects that concern sessions at rest.
//!
//! | effect | input | where there is no upstream, or the task broke |
//! |---|---|---|
//! | `Look` | `Looked` | nobody knows |
//! | `Load` | `Loaded` | nobody knows |
//! | `Store` | `Stored` | nobody knows |
//! | `StoreBoth` | `StoredBoth` | nobody knows |
//!
//! Invariant: each effect brings exactly one input. Answers of the upstream have a deadline of their own.

use super::{Driver, Post};
use crate::rest::AtRest;
use std::future::Future;
use std::sync::Arc;
use wayfarer_engine::node::{Effect, Input};
use wayfarer_engine::rest::change::Loaded;

impl<P: Post> Driver<P> {
    /// Performs an effect that concerns sessions at rest.
    pub(super) fn at_rest(&mut self, effect: Effect) {
        match effect {
            Effect::Look { request, session } => {
                self.ask_upstream(Input::Looked { request, found: None }, move |rest| async move {
                    Input::Looked { request, found: rest.look(session).await }
                });
            }
            Effect::Load { request, session, epoch, keys, becomes_ours } => {
                self.ask_upstream(Input::Loaded { request, loaded: Loaded::Unknown }, move |rest| async move {
                    Input::Loaded { request, loaded: rest.load(session, epoch, keys, becomes_ours).await }
                });
            }
            Effect::Store { request, session, batch } => {
                self.ask_upstream(Input::Stored { request, stored: None }, move |rest| async move {
                    Input::Stored { request, stored: rest.store(session, batch).await }
                });
            }
            Effect::StoreBoth { request, swap } => {
                self.ask_upstream(Input::StoredBoth { request, stored: None }, move |rest| async move {
                    Input::StoredBoth { request, stored: rest.store_both(*swap).await }
                });
            }
            _ => {}
        }
    }

    /// Asks the upstream; `otherwise` where there is none.
    fn ask_upstream<F>(&mut self, otherwise: Input, ask: impl FnOnce(Arc<AtRest>) -> F)
    where
        F: Future<Output = Input> + Send + 'static,
    {
        let task = match &self.parts.rest {
            Some(rest) => self.under_way.spawn(ask(rest.clone())),
            None => {
                let otherwise = otherwise.clone();
                self.under_way.spawn(async move { otherwise })
            }
        };
        self.unknown.insert(task.id(), otherwise);
    }
}
