//! Variables that went with the node that held them: what policy gives a reader.
//!
//! It never invents a value and removes only what policy calls absent. Called by the ways of operations when a value is lost.
//!
//! | `on_lost` | the reader gets |
//! |---|---|
//! | `error` | an error, until an overwrite cures it |
//! | `absent` | what there is without it |
//!
//! Invariant: *never wrong data*.

use super::{Next, Operations, failed, replies};
use crate::driver::clock;
use wayfarer_engine::command::Op;
use wayfarer_engine::ids::SessionId;
use wayfarer_engine::plan::OnLost;
use wayfarer_engine::residence::Table;
use wayfarer_engine::session::{Content, Kind};

impl Operations {
    /// Variables that the operation needs are lost for good: policy says what a reader gets.
    pub(super) fn lost(&self, session: &SessionId, op: &Op) -> Next {
        let now = clock::now();
        let removed = self.store.with(session, |slot| {
            let Some(resident) = slot.as_mut() else { return true };
            let mut gone = Vec::new();
            for key in resident.session.keys().iter().filter(|k| op.targets().iter().any(|t| t.key == k.name)) {
                for (name, _) in key.variables().filter(|(_, v)| v.content == Content::Lost) {
                    if self.policy.of_variable(key, name).on_lost == OnLost::Absent {
                        gone.push((key.name.clone(), (key.kind == Kind::Hash).then(|| name.clone())));
                    }
                }
            }
            for (key, field) in &gone {
                match field {
                    Some(field) => resident.session.remove_field(key, field, now.unix_ms),
                    None => resident.session.remove(key, now.unix_ms),
                };
            }
            !gone.is_empty()
        });
        if removed { Next::Again } else { Next::End(failed(replies::LOST)) }
    }
}
