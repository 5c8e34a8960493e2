//! Questions to other nodes: a number joins the answer to the question, and nobody waits for ever.
//!
//! It never asks again and does not know what is asked: that is for its callers, the operations (forwarding) and the rebalancer.
//!
//! | what happens | the asker learns |
//! |---|---|
//! | it could not be queued | [`Unsent`], at once |
//! | the answer comes | it |
//! | the connection to the node breaks | [`NoAnswer::Broken`] |
//! | nothing comes in time | [`NoAnswer::Overdue`] |
//!
//! Invariant: whatever becomes of the asker, nothing of its question stays here; an answer counts only from whom was asked.

use dashmap::DashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use wayfarer_engine::ids::Incarnation;
use wayfarer_engine::wire::control::ControlMessage;

/// Why a message was not sent. Nothing of it will arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsent {
    /// No frame holds it.
    TooLong,
    /// Too much waits for that node already.
    Full,
    /// There is no connection to it.
    Unreachable,
}

/// Why there is no answer to what was sent. Whether the question arrived is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoAnswer {
    /// The connection broke.
    Broken,
    /// Patience ended.
    Overdue,
}

/// Queues one message for another node; never waits.
pub type SendTo = Box<dyn Fn(Incarnation, ControlMessage) -> Result<(), Unsent> + Send + Sync>;

/// See the head of this file. `A`: what an answer is.
pub struct Questions<A> {
    send: SendTo,
    last: AtomicU64,
    waiting: DashMap<u64, (Incarnation, oneshot::Sender<A>)>,
}

/// A question that was sent.
pub struct Pending<'a, A> {
    questions: &'a Questions<A>,
    id: u64,
    answer: oneshot::Receiver<A>,
}

impl<A> Questions<A> {
    /// None under way.
    pub fn new(send: SendTo) -> Questions<A> {
        Questions { send, last: AtomicU64::new(0), waiting: DashMap::new() }
    }

    /// Sends a question, made from its number.
    pub fn ask(&self, to: Incarnation, question: impl FnOnce(u64) -> ControlMessage) -> Result<Pending<'_, A>, Unsent> {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        // Before it is sent, so that no answer is faster. Whatever happens from here on, `pending` takes it out again.
        self.waiting.insert(id, (to, sender));
        let pending = Pending { questions: self, id, answer };
        (self.send)(to, question(id))?;
        Ok(pending)
    }

    /// Sends what needs no answer, or is one.
    pub fn tell(&self, to: Incarnation, message: ControlMessage) -> Result<(), Unsent> {
        (self.send)(to, message)
    }

    /// An answer has come. Whoever asked may have given up; then it is of no use.
    pub fn answered(&self, from: Incarnation, id: u64, answer: A) {
        if let Some((_, (_, sender))) = self.waiting.remove_if(&id, |_, (asked, _)| *asked == from) {
            drop(sender.send(answer));
        }
    }

    /// The connection to a node broke: what was sent to it will not be answered.
    pub fn unreachable(&self, peer: Incarnation) {
        self.waiting.retain(|_, (asked, _)| *asked != peer);
    }
}

impl<A> Pending<'_, A> {
    /// Waits for the answer.
    pub async fn answer(mut self, patience: Duration) -> Result<A, NoAnswer> {
        match tokio::time::timeout(patience, &mut self.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(NoAnswer::Broken),
            Err(_) => Err(NoAnswer::Overdue),
        }
    }
}

impl<A> Drop for Pending<'_, A> {
    fn drop(&mut self) {
        self.questions.waiting.remove(&self.id);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use wayfarer_engine::ids::Epoch;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn peer(number: u64) -> Incarnation {
        Incarnation(Epoch(number))
    }

    fn question(id: u64) -> ControlMessage {
        ControlMessage::LoadAsk { id }
    }

    #[tokio::test]
    async fn an_answer_counts_only_from_whom_was_asked() {
        let questions: Questions<u8> = Questions::new(Box::new(|_, _| Ok(())));
        let pending = questions.ask(peer(1), question).unwrap();
        questions.answered(peer(2), pending.id, 2);
        questions.answered(peer(1), pending.id, 1);
        assert_eq!(pending.answer(PATIENCE).await, Ok(1));
        assert!(questions.waiting.is_empty());
    }

    #[tokio::test]
    async fn nothing_stays_of_what_is_not_answered() {
        let questions: Questions<u8> =
            Questions::new(Box::new(|to, _| if to == peer(9) { Err(Unsent::TooLong) } else { Ok(()) }));
        assert_eq!(questions.ask(peer(9), question).err(), Some(Unsent::TooLong));
        let (broken, other) = (questions.ask(peer(1), question).unwrap(), questions.ask(peer(2), question).unwrap());
        questions.unreachable(peer(1));
        assert_eq!(broken.answer(PATIENCE).await, Err(NoAnswer::Broken));
        assert_eq!(other.answer(Duration::ZERO).await, Err(NoAnswer::Overdue));
        drop(questions.ask(peer(1), question));
        assert!(questions.waiting.is_empty());
    }
}
