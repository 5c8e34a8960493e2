//! Which server is the master by the latest word of its sentinels, and the end of connections to any other.
//!
//! It never asks a sentinel ([`super::sentinel`] does) and never waits. Sentinels count failovers: of two words the one with the
//! higher configuration epoch is right, and a sentinel that has not heard of a failover is found out by it.
//!
//! | a word, beside what is known | |
//! |---|---|
//! | nothing is known, or of a later epoch | is known from now on; connections to other servers end at once |
//! | the same epoch, the same server | agrees |
//! | of an earlier epoch, or of another server | does not agree: nobody connects there |
//!
//! Where most sentinels agree with each other against what is known, somebody has set them up anew, and they are right.
//! Invariant: a connection to a server ends before anything more is read of it, once another is known to be the master.

use std::future::Future;
use std::pin::Pin;
use tokio::sync::watch;
use wayfarer_settings::HostPort;

/// Ready when a connection is of no use any more.
pub(super) type Retired = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// What a sentinel says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word {
    /// Its configuration epoch of this master.
    pub(super) epoch: u64,
    /// Where the master is.
    pub(super) place: HostPort,
}

/// See the head of this file.
pub(super) struct Master(watch::Sender<Option<Word>>);

impl Master {
    /// Nothing is known.
    pub(super) fn unknown() -> Master {
        Master(watch::Sender::new(None))
    }

    /// Takes a word in; whether it agrees with what is known then.
    pub(super) fn hear(&self, word: &Word) -> bool {
        let mut agrees = true;
        self.0.send_if_modified(|known| {
            let is_new = known.as_ref().is_none_or(|known| word.epoch > known.epoch);
            agrees = is_new || known.as_ref() == Some(word);
            if is_new {
                report(known.as_ref(), word);
                *known = Some(word.clone());
            }
            is_new
        });
        agrees
    }

    /// Takes the word of most sentinels in, whatever was known.
    pub(super) fn believe(&self, word: &Word) {
        report(self.0.borrow().as_ref(), word);
        self.0.send_replace(Some(word.clone()));
    }

    /// The place of the latest word.
    pub(super) fn place(&self) -> Option<HostPort> {
        self.0.borrow().as_ref().map(|word| word.place.clone())
    }

    /// Ready when another server than this one is the master.
    pub(super) fn retires(&self, place: &HostPort) -> Retired {
        let (mut known, place) = (self.0.subscribe(), place.clone());
        Box::pin(async move {
            if known.wait_for(|known| known.as_ref().is_some_and(|known| known.place != place)).await.is_err() {
                // Nobody hears of it any more.
                std::future::pending().await
            }
        })
    }
}

/// Addresses are the operator's business: the epoch is enough to find the failover in the sentinels' logs.
fn report(known: Option<&Word>, word: &Word) {
    if known.is_some_and(|known| known.place != word.place) {
        tracing::info!(epoch = word.epoch, "the sentinels have another master: connections to the former one end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn word(epoch: u64, port: u16) -> Word {
        Word { epoch, place: HostPort { host: "h".to_owned(), port } }
    }

    fn is_retired(retired: &mut Retired) -> bool {
        retired.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn the_later_word_ends_connections_to_others() {
        let master = Master::unknown();
        assert!(master.hear(&word(1, 1)) && master.hear(&word(1, 1)));
        let [mut old, mut new] = [1, 2].map(|port| master.retires(&word(0, port).place));
        assert!(!is_retired(&mut old) && is_retired(&mut new));
        assert!(!master.hear(&word(1, 2)) && !master.hear(&word(0, 2)), "no later word");
        assert!(!is_retired(&mut old));
        new = master.retires(&word(0, 2).place);
        assert!(master.hear(&word(2, 2)));
        assert!(is_retired(&mut old) && !is_retired(&mut new));
        assert!(!master.hear(&word(1, 1)), "a sentinel that has not heard of it");
        let mut same = master.retires(&word(0, 2).place);
        assert!(master.hear(&word(3, 2)) && !is_retired(&mut same), "a later epoch of the same master");
        master.believe(&word(0, 1));
        assert!(is_retired(&mut same) && master.hear(&word(0, 1)));
    }

    #[test]
    fn a_connection_outlives_what_made_it() {
        let master = Master::unknown();
        let mut retired = master.retires(&word(0, 1).place);
        drop(master);
        assert!(!is_retired(&mut retired));
    }
}
