//! What the mode `own` would do, for the status in `observe`: local operations, memory, and what would move.
//!
//! It changes nothing, in the upstream neither: some of the sessions that were used here are read there, as they are. Figures are
//! estimates from samples; those of bytes are zero while nothing could be read.

use super::{Admin, view};
use crate::driver::clock;
use crate::operations::seen;
use std::sync::PoisonError;
use wayfarer_engine::mode::Goal;
use wayfarer_engine::plan::Plan;
use wayfarer_engine::session::Session;

/// Sessions that are read for their sizes.
const READ_MAX: usize = 32;
/// An estimate is shown again for so long: pages that are looked at often must not read the upstream as often.
const KEPT_US: u64 = 5_000_000;

/// A share in whole percents, to the nearest.
fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).saturating_add(whole / 2) / whole.max(1)
}

/// The mean of some sessions.
#[derive(Clone, Copy, Default)]
struct Mean {
    bytes: u64,
    carried_bytes: u64,
}

impl Admin {
    /// `None` where sessions have owners.
    pub(super) async fn outlook(&self) -> Option<view::Outlook> {
        let now_us = clock::now().boot_us;
        let members = {
            let standing = self.driver.standing();
            let view = standing.borrow().view.clone();
            if view.mode.phase.goal() != Goal::Observe {
                return None;
            }
            view.accepting().count() as u64
        };
        let kept = self.kept_outlook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, outlook)) = kept.filter(|(at_us, _)| now_us.saturating_sub(*at_us) < KEPT_US) {
            return Some(outlook);
        }
        let seen = seen::everywhere(&self.operations).await;
        let mean = self.mean().await;
        let moved = |sessions: u64| view::WouldMove {
            sessions,
            now_bytes: sessions.saturating_mul(mean.carried_bytes),
            late_bytes: sessions.saturating_mul(mean.bytes.saturating_sub(mean.carried_bytes)),
        };
        let outlook = view::Outlook {
            measured_s: seen.window_us / 1_000_000,
            operations_per_minute: seen.operations_per_minute,
            local_per_minute: seen.local_per_minute,
            local_percent: percent(seen.local_per_minute, seen.operations_per_minute),
            sessions: seen.sessions,
            sampled_sessions: seen.sampled,
            bytes: seen.sessions.saturating_mul(mean.bytes),
            join: moved(seen.sessions / members.saturating_add(1).max(1)),
            drain: moved(seen.sessions / members.max(1)),
        };
        *self.kept_outlook.lock().unwrap_or_else(PoisonError::into_inner) = Some((now_us, outlook.clone()));
        Some(outlook)
    }

    async fn mean(&self) -> Mean {
        let Some(rest) = self.operations.at_rest() else { return Mean::default() };
        let mut sessions: Vec<Session> = Vec::new();
        for id in self.operations.passage().some(READ_MAX) {
            match rest.peek(&id).await {
                Some(session) if !session.is_empty() => sessions.push(session),
                Some(_) => {}
                // It does not answer; what has been read must do.
                None => break,
            }
        }
        let plan = |session: &Session| Plan::of(session, self.operations.policy(), self.carried_bytes_max).carried_bytes;
        let count = (sessions.len() as u64).max(1);
        Mean {
            bytes: sessions.iter().map(Session::size_bytes).sum::<u64>() / count,
            carried_bytes: sessions.iter().map(plan).sum::<u64>() / count,
        }
    }
}
