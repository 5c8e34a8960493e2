//! Whether replies wait until the other clients of the same thread that have sent something are read too.
//!
//! It never holds a reply back: whoever is told to wait lets the others have their turn once, and writes. Asked by
//! [`super::connection`] between the execution of what a client has sent and the writing of the replies.
//!
//! A load that comes over many connections is woken by the first reply that is written, for the price of an interrupt of another
//! CPU, and goes back to sleep when it has taken it. If all who are ready are read first and all replies are written then, as
//! Redis does, it is woken once for all of them and not once for each.
//!
//! | the last time that this client waited | next |
//! |---|---|
//! | another client had its turn meanwhile | it waits again |
//! | none had | it writes at once, [`ALONE_TURNS`] times, and then tries again |
//!
//! Invariant: a client that is alone pays for at most one turn of the scheduler in [`ALONE_TURNS`].

use std::cell::Cell;

/// So many times in a row a client that was alone writes at once.
const ALONE_TURNS: u8 = 32;

thread_local! {
    /// Counts the turns that clients had on this thread.
    static TURNS: Cell<u64> = const { Cell::new(0) };
}

/// What one client knows of the others.
#[derive(Default)]
pub(super) struct Together {
    /// It writes at once, so many times more.
    alone: u8,
}

impl Together {
    /// Lets the others have their turn, if there were others the last time.
    pub(super) async fn wait(&mut self) {
        let turn = TURNS.get().wrapping_add(1);
        TURNS.set(turn);
        if self.alone > 0 {
            self.alone -= 1;
            return;
        }
        // Comes back when all that is ready has been polled and the runtime has looked for more.
        tokio::task::yield_now().await;
        if TURNS.get() == turn {
            self.alone = ALONE_TURNS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// Whether it waits now; `others` have their turn meanwhile.
    fn waits(together: &mut Together, others: u64) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = pin!(together.wait());
        let waits = waiting.as_mut().poll(&mut context).is_pending();
        TURNS.set(TURNS.get() + others);
        assert!(!waits || waiting.as_mut().poll(&mut context) == Poll::Ready(()));
        waits
    }

    #[test]
    fn who_is_alone_tries_again_after_a_while() {
        let mut together = Together::default();
        assert!((0..100).all(|_| waits(&mut together, 1)), "there are others each time");
        assert!(waits(&mut together, 0), "it does not know yet");
        let all: Vec<bool> = (0..2 * (usize::from(ALONE_TURNS) + 1)).map(|_| waits(&mut together, 0)).collect();
        assert_eq!(all.iter().filter(|waited| **waited).count(), 2);
        assert!((0..ALONE_TURNS).all(|_| !waits(&mut together, 1)) || waits(&mut together, 1), "and finds the others again");
    }
}
