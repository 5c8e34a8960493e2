//! The signals that reach the sidecar: which of them tell it to leave, and which are its instance's.
//!
//! It decides nothing else: [`super::leave`] says what leaving is. Called by the composition root.

use super::child::Instance;
use rustix::process::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// The signals that mean something to the sidecar.
pub(super) struct Signals {
    term: Stream,
    int: Stream,
    quit: Stream,
    hup: Stream,
    usr1: Stream,
    usr2: Stream,
}

impl Signals {
    /// From now on they are received here, and end the process no more.
    pub(super) fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.term.recv() => Heard::Leave(Signal::TERM),
            _ = self.int.recv() => Heard::Leave(Signal::INT),
            _ = self.quit.recv() => Heard::Leave(Signal::QUIT),
            _ = self.hup.recv() => Heard::PassOn(Signal::HUP),
            _ = self.usr1.recv() => Heard::PassOn(Signal::USR1),
            _ = self.usr2.recv() => Heard::PassOn(Signal::USR2),
        }
    }

    /// Resolves when told to leave, with the signal that said so, and passes the other signals on until then.
    pub(super) async fn leave(&mut self, instance: Option<&Instance>) -> Signal {
        loop {
            match (self.next().await, instance) {
                (Heard::Leave(signal), _) => return signal,
                (Heard::PassOn(signal), Some(instance)) => instance.signal(signal),
                (Heard::PassOn(_), None) => {}
            }
        }
    }
}

/// What a signal means.
pub(super) enum Heard {
    /// To drain and end; the instance is ended by the same one when its sessions have left.
    Leave(Signal),
    /// The instance is told at once.
    PassOn(Signal),
}

/// Whether a signal has told this process to leave, and the next one.
pub(super) struct Told {
    pub(super) signals: Signals,
    /// By which one.
    pub(super) by: Option<Signal>,
}

impl Told {
    /// Does `work` to its end; `None` if told to leave a second time meanwhile: then it is left undone.
    pub(super) async fn unless_again<T>(&mut self, instance: Option<&Instance>, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                signal = self.signals.leave(instance) => {
                    if self.by.is_some() {
                        tracing::warn!("told to leave a second time: leaving at once");
                        return None;
                    }
                    // The drain was asked for by other means; a supervisor's first signal joins it.
                    self.by = Some(signal);
                    tracing::info!("told to leave: what is under way goes on");
                }
            }
        }
    }
}
