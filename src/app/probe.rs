//! Whether the instance accepts connections, seen as a client would see it: by connecting, again and again.
//!
//! It sends nothing, so an instance that takes connections and answers none is not found out, and it decides nothing: an instance
//! that is silent is in the status, a metric and the log, and its sidecar goes on serving its sessions to the others. Run by the
//! composition root, whoever has started the instance.
//!
//! | before | it accepts | it does not |
//! |---|---|---|
//! | unwatched, accepting, silent | accepting | silent |
//! | starting (a child that is waited for) | accepting | starting |

use crate::admin::InstanceState;
use crate::telemetry::names;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use wayfarer_settings::ListenAt;

/// How often a child that has not accepted a connection yet is looked at.
const FIRST_LOOKS: Duration = Duration::from_millis(50);
/// How long one connection may take.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// Looks again and again, and says what it sees; without `period` only until a child has accepted a connection.
pub(super) async fn watch_instance(address: ListenAt, period: Option<Duration>, state: watch::Sender<InstanceState>) {
    loop {
        let accepts = matches!(tokio::time::timeout(LOOK_PATIENCE, connects(&address)).await, Ok(Ok(())));
        let before = *state.borrow();
        let now = after(before, accepts);
        if state.send_if_modified(|state| std::mem::replace(state, now) != now) {
            match (before, now) {
                (_, InstanceState::Silent) => tracing::warn!(%address, "the instance accepts no connections"),
                (InstanceState::Silent, _) => tracing::info!(%address, "the instance accepts connections again"),
                _ => {}
            }
        }
        metrics::gauge!(names::INSTANCE_ACCEPTING).set(f64::from(u8::from(accepts)));
        match (now, period) {
            (InstanceState::Starting, _) => tokio::time::sleep(FIRST_LOOKS).await,
            (_, Some(period)) => tokio::time::sleep(period).await,
            (_, None) => return,
        }
    }
}

fn after(before: InstanceState, accepts: bool) -> InstanceState {
    match (before, accepts) {
        (_, true) => InstanceState::Accepting,
        (InstanceState::Starting, false) => InstanceState::Starting,
        (_, false) => InstanceState::Silent,
    }
}

async fn connects(address: &ListenAt) -> std::io::Result<()> {
    match address {
        ListenAt::Tcp(address) => TcpStream::connect(address).await.map(drop),
        ListenAt::Unix(path) => UnixStream::connect(path).await.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::InstanceState::{Accepting, Silent, Starting, Unwatched};
    use super::after;

    #[test]
    fn the_table() {
        for (before, when_silent) in [(Unwatched, Silent), (Accepting, Silent), (Silent, Silent), (Starting, Starting)] {
            assert_eq!((after(before, true), after(before, false)), (Accepting, when_silent));
        }
    }
}
