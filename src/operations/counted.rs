//! What counts operations for as long as they are under way, however they end.
//!
//! It decides nothing: [`super::Operations`] compares with its bounds. Each counts down when it is dropped.

use super::Operations;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts one operation of another node for as long as it lives.
pub struct Foreign(pub(super) Arc<Operations>);

impl Drop for Foreign {
    fn drop(&mut self) {
        self.0.foreign.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// Counts one waiting operation for as long as it lives.
pub(super) struct Waiting<'a>(pub(super) &'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
