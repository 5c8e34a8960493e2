//! Logs and metrics of the sidecar.
//!
//! Never sees an id, a value or a token: callers log counts and keyed hashes. Set up once by the composition root.

pub mod names;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error. `level` is a level or a filter of `tracing`; a second call in one process does nothing.
pub fn start_log(level: &str, json: bool) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    // Without lines about lines that cannot be written: whoever has read standard error may be gone, and then they would end the node.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let started = if json { log.json().try_init() } else { log.try_init() };
    if started.is_err() {
        tracing::debug!("logging had been started before");
    }
}

/// Installs the recorder of metrics and gives the handle that renders them in the text format of Prometheus.
pub fn start_metrics() -> Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    PrometheusBuilder::new().install_recorder()
}
