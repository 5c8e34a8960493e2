//! What a sidecar does from time to time so that nothing grows: metrics are summed up, the directory is swept, old
//! requests are forgotten.
//!
//! It decides nothing, and ends with the tasks of the composition root, which alone starts it.

use crate::driver::clock;
use crate::state_face::Flights;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use wayfarer_directory::SqliteDirectory;

/// Between that each observation of a histogram is kept as it came.
const SUM_UP: Duration = Duration::from_secs(5);
/// A sweep removes a limited number of records, so that it holds nobody up.
const SWEEP: Duration = Duration::from_secs(60);

/// Runs until it is dropped.
pub(super) async fn keep_small(metrics: PrometheusHandle, directory: Arc<SqliteDirectory>, flights: Option<Arc<Flights>>) {
    let (mut sum_up, mut sweep) = (interval(SUM_UP), interval(SWEEP));
    sum_up.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A registration has just swept, and there is nothing to sum up yet.
    sum_up.reset();
    sweep.reset();
    loop {
        tokio::select! {
            _ = sum_up.tick() => metrics.run_upkeep(),
            _ = sweep.tick() => {
                flights.iter().for_each(|flights| flights.forget_abandoned(clock::now().boot_us));
                if let Err(error) = directory.sweep().await {
                    tracing::warn!(%error, "the directory was not swept; it will be tried again");
                }
            }
        }
    }
}
