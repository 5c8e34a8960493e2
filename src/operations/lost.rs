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
use wayfarer_engine::session::{Absent, Key};

impl Operations {
    /// Variables that the operation needs are lost for good: policy says what a reader gets.
    pub(super) async fn lost(&self, session: &SessionId, op: &Op) -> Next {
        let now = clock::now();
        let (mut gone, mut needs) = (false, Vec::new());
        self.store.with(session, |slot| {
            // One that has left, or is about to, is asked for anew.
            let Some(resident) = slot.as_mut().filter(|resident| resident.is_open()) else {
                gone = true;
                return;
            };
            for target in op.targets() {
                let is_absent = |key: &Key, name: &[u8]| self.policy.of_variable(key, name).on_lost == OnLost::Absent;
                match resident.session.remove_lost(&target.key, is_absent, now.unix_ms) {
                    Absent::Gone => gone = true,
                    Absent::Needs(variables) => needs.extend(variables),
                    Absent::Stays => {}
                }
            }
        });
        if !needs.is_empty() {
            return self.after_asking(self.driver.need(session.clone(), needs).await);
        }
        if gone { Next::Again } else { Next::End(failed(replies::LOST)) }
    }
}
