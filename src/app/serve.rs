//! Serving, until something ends it: a signal, an order, the end of the instance, or a part of the sidecar that breaks off.
//!
//! It decides only why it is over; [`super::leave`] says what is done then.

use super::Running;
use super::child::{Instance, code_of};
use super::signals::{Heard, Told};
use std::process::ExitStatus;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Why serving is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Told to leave, or asked for a drain.
    Told,
    /// The instance ended by itself, with this exit code.
    Instance(u8),
    /// A part of the sidecar broke off. To serve on without it would only look like life: without the driver no operation is
    /// answered when the lease has ended, while health checks still succeed.
    Broken,
}

/// Serves until something ends it; `broken` resolves with the part that has broken off.
pub(super) async fn serve(
    told: &mut Told,
    drain_asked: &mut watch::Receiver<bool>,
    instance: &mut Option<Instance>,
    broken: impl Future<Output = String>,
) -> Over {
    let mut broken = std::pin::pin!(broken);
    loop {
        tokio::select! {
            signal = told.signals.next() => match (signal, &instance) {
                (Heard::Leave(signal), _) => {
                    told.by = Some(signal);
                    return Over::Told;
                }
                (Heard::PassOn(signal), Some(instance)) => instance.signal(signal),
                (Heard::PassOn(_), None) => {}
            },
            _ = drain_asked.wait_for(|asked| *asked) => return Over::Told,
            done = ended(instance) => {
                *instance = None;
                return Over::Instance(match done {
                    Ok(done) => {
                        tracing::error!(status = %done, "the instance has ended; its sessions leave");
                        code_of(done)
                    }
                    Err(error) => {
                        tracing::error!(%error, "the instance cannot be waited for");
                        0
                    }
                });
            }
            part = &mut broken => {
                tracing::error!("{part} broke off, by a fault of Wayfarer: what can still leave does, then this node ends with 1");
                return Over::Broken;
            }
        }
    }
}

/// Resolves when a part of the sidecar has broken off, with its name. One connection, one request or one operation of another node is
/// no such part: it harms itself alone.
pub(super) async fn broken(running: &mut Running) -> String {
    let Running { tasks, http_tasks, state_tasks, driver, directory, .. } = running;
    tokio::select! {
        error = panicked(tasks) => error,
        error = panicked(http_tasks) => format!("the HTTP face: {error}"),
        error = panicked(state_tasks) => format!("the state face: {error}"),
        () = driver.gone() => "the driver".to_owned(),
        () = directory.broken() => "a thread of the directory".to_owned(),
    }
}

/// Resolves when one of the tasks has panicked. Some of them end by themselves, which is no fault.
async fn panicked(tasks: &mut JoinSet<()>) -> String {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            return format!("a task ({error})");
        }
    }
    std::future::pending().await
}

async fn ended(instance: &mut Option<Instance>) -> std::io::Result<ExitStatus> {
    match instance {
        Some(instance) => instance.ended().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use super::*;
    use crate::app::signals::Signals;
    use std::future::{pending, ready};

    async fn served(broken: impl Future<Output = String>, asked: bool) -> Over {
        let mut told = Told { signals: Signals::new().unwrap(), by: None };
        let (_orders, mut drain_asked) = watch::channel(asked);
        serve(&mut told, &mut drain_asked, &mut None, broken).await
    }

    #[tokio::test]
    async fn a_part_that_breaks_off_ends_it() {
        assert_eq!(served(ready("the driver".to_owned()), false).await, Over::Broken);
        assert_eq!(served(pending(), true).await, Over::Told);
    }

    #[tokio::test]
    async fn a_task_that_ends_is_no_fault_and_one_that_panics_is() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        tasks.spawn(async { panic!("as this test wants it") });
        assert!(panicked(&mut tasks).await.contains("panicked"));
    }
}
