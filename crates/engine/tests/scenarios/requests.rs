//! What the nodes ask of the directory and the upstream, and how a script lets it end.
//!
//! It never carries anything out by itself: [`World::apply`] does, at that instant; [`World::answer`] tells whoever asked;
//! [`World::lose`] tells them that nobody knows (it may still be applied after that).

use crate::upstream::Question;
use crate::world::World;
use std::collections::BTreeMap;
use wayfarer_engine::directory::{Compare, NextEpoch, Outcome, Placement, Transaction, Write};
use wayfarer_engine::ids::{Incarnation, RequestId, SessionId};
use wayfarer_engine::node::Input;

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    Read,
    Birth,
    Commit,
    /// A new epoch for a record that is the asker's own: an origin's fence, or a birth over an earlier one.
    Again,
    Settle,
    End,
    Renew,
    /// Declares a member dead.
    Death,
    State,
    Leave,
    /// The last three are asked of the upstream.
    Look,
    Load,
    Store,
}

/// Names a request.
pub type Request = (Incarnation, RequestId);

#[derive(Clone, Debug)]
enum What {
    Transact(Transaction),
    Read(SessionId),
    Upstream(Question),
}

#[derive(Clone, Debug)]
enum Done {
    Heard(Input),
    Outcome(Outcome),
    Placement(Placement),
}

struct Asked {
    ask: Ask,
    what: What,
    done: Option<Done>,
    told: bool,
}

/// All requests of all nodes, also of the dead.
#[derive(Default)]
pub struct Requests(BTreeMap<Request, Asked>);

impl Requests {
    /// What was asked of the upstream.
    pub fn question(&self, request: Request) -> Option<&Question> {
        match &self.0[&request].what {
            What::Upstream(question) => Some(question),
            What::Transact(_) | What::Read(_) => None,
        }
    }

    /// It counts as answered from now on.
    pub fn tell(&mut self, request: Request) {
        let asked = self.0.get_mut(&request).unwrap();
        assert!(!std::mem::replace(&mut asked.told, true), "answered twice");
    }
}

impl World {
    pub fn ask_upstream(&mut self, request: Request, question: Question) {
        let ask = question.ask();
        self.requests.0.insert(request, Asked { ask, what: What::Upstream(question), done: None, told: false });
    }

    pub fn ask_transaction(&mut self, request: Request, transaction: Transaction) {
        let ask = ask_of(&transaction);
        self.requests.0.insert(request, Asked { ask, what: What::Transact(transaction), done: None, told: false });
        if ask == Ask::Renew && !self.renew_by_hand {
            self.answer(request);
        }
    }

    pub fn ask_read(&mut self, request: Request, session: SessionId) {
        self.requests.0.insert(request, Asked { ask: Ask::Read, what: What::Read(session), done: None, told: false });
    }

    /// The newest request of this kind that has not been answered.
    pub fn asked(&self, who: Incarnation, ask: Ask) -> Request {
        self.open_request(who, ask).unwrap_or_else(|| panic!("{who:?} does not ask for {ask:?}"))
    }

    pub fn open_request(&self, who: Incarnation, ask: Ask) -> Option<Request> {
        self.requests.0.iter().rev().find(|(request, a)| request.0 == who && a.ask == ask && !a.told).map(|(request, _)| *request)
    }

    /// The directory carries a request out. True unless a comparison failed.
    pub fn apply(&mut self, request: Request) -> bool {
        let asked = self.requests.0.get_mut(&request).unwrap();
        assert!(asked.done.is_none(), "applied twice");
        let done = match &asked.what {
            What::Transact(transaction) => Done::Outcome(self.book.transact(transaction)),
            What::Read(session) => Done::Placement(self.book.read(session)),
            What::Upstream(question) => Done::Heard(self.upstream.apply(question, request.1)),
        };
        let refused = matches!(done, Done::Outcome(Outcome::Refused { .. }));
        asked.done = Some(done);
        self.judge();
        !refused
    }

    /// Whoever asked gets the answer; the request is carried out now if it was not before. True unless it was refused.
    pub fn answer(&mut self, request: Request) -> bool {
        if self.requests.0[&request].done.is_none() {
            self.apply(request);
        }
        let asked = self.requests.0.get_mut(&request).unwrap();
        assert!(!std::mem::replace(&mut asked.told, true), "answered twice");
        let done = asked.done.clone().unwrap();
        let refused = matches!(done, Done::Outcome(Outcome::Refused { .. }));
        let (who, request) = request;
        self.feed(
            who,
            match done {
                Done::Outcome(outcome) => Input::Outcome { request, outcome: Some(outcome) },
                Done::Placement(placement) => Input::Placement { request, placement: Some(placement) },
                Done::Heard(input) => input,
            },
        );
        !refused
    }

    /// Whoever asked is told that nobody knows how it ended.
    pub fn lose(&mut self, request: Request) {
        self.requests.tell(request);
        let (who, id) = request;
        let input = match &self.requests.0[&request].what {
            What::Read(_) => Input::Placement { request: id, placement: None },
            What::Transact(_) => Input::Outcome { request: id, outcome: None },
            What::Upstream(question) => question.unanswered(id),
        };
        self.feed(who, input);
    }
    /// `witness` gets proof of the death of `dead`, fences it, and all see it.
    pub fn bury(&mut self, witness: Incarnation, dead: Incarnation) {
        self.feed(witness, Input::Probed { incarnation: dead, dead: true });
        let death = self.asked(witness, Ask::Death);
        self.answer(death);
        self.show_all();
    }
}

fn ask_of(transaction: &Transaction) -> Ask {
    let is =
        transaction.compare.iter().find_map(|c| if let Compare::Location { is, .. } = c { Some(*is) } else { None }).flatten();
    match &transaction.write[..] {
        [Write::Place { epoch: NextEpoch::Keep(_), .. }] if transaction.compare.len() == 1 => Ask::Settle,
        [Write::Place { last: Some(_), group, .. }] if is.is_some_and(|(g, _)| g != *group) => Ask::Commit,
        [Write::Place { .. }] if is.is_none() => Ask::Birth,
        [Write::Place { .. }] => Ask::Again,
        [Write::Forget { .. }] => Ask::End,
        [Write::Renew { .. }] => Ask::Renew,
        [Write::Fence { .. }] => Ask::Death,
        [Write::State { .. }] => Ask::State,
        [Write::Leave { .. }] => Ask::Leave,
        _ => panic!("a transaction of no known kind"),
    }
}
