//! Clients: each has one operation at a time, several share a session, and any node may be asked.
//!
//! They never know where a session is. Their calls and answers go into the history.

use crate::host::Stimulus;
use crate::operation::{FIELDS, Kind, Operation, Reply};
use crate::world::{Event, World};

/// How old the view of a node may be.
const VIEW_US_MAX: u64 = 200_000;

impl World {
    /// A client sends its next operation.
    pub(crate) fn act(&mut self, client: usize) {
        if self.calm {
            return;
        }
        let host = self.random.below(self.hosts.len() as u64) as usize;
        // A node is ready once it has had a lease, and until it has drained.
        let ready = |p: &&crate::host::Process| !p.leaving && p.lease_until_us > 0;
        let Some(entry) = self.hosts[host].process.as_ref().filter(ready).map(|p| p.me) else {
            return self.after(10_000, Event::Act(client));
        };
        let session = self.random.below(self.sessions.len() as u64) as usize;
        let field = self.random.below(FIELDS.len() as u64) as usize;
        self.last_id += 1;
        let number = self.last_id;
        let kind = match self.random.below(100) {
            0..=44 => Kind::Read(field),
            45..=79 => Kind::Write(field, number),
            90..=93 if self.profile.renames => {
                let others = self.sessions.len() as u64 - 1;
                let to = (session + 1 + self.random.below(others) as usize) % self.sessions.len();
                let keys = self.profile.keys;
                Kind::Rename { place: self.random.below(keys as u64) as usize, keys, to }
            }
            80..=92 => Kind::Update(field, number),
            _ if self.profile.keys > 1 && self.random.chance(700) => {
                Kind::Drop(self.random.below(self.profile.keys as u64) as usize, self.profile.keys)
            }
            _ => Kind::Delete,
        };
        let operation = Operation { client, session, kind, entry, called_us: self.now_us, answered: false };
        self.history.called(number, session, kind, self.now_us);
        self.operations.insert(number, operation);
        self.stimulate(host, Stimulus::Begin(number));
    }

    /// A client gets the answer to its operation and will go on.
    pub(crate) fn answer(&mut self, number: u64, reply: Reply) {
        let Some(operation) = self.operations.get_mut(&number).filter(|o| !o.answered) else { return };
        operation.answered = true;
        let operation = operation.clone();
        self.trace.line(self.now_us, format_args!("client {} gets {reply:?} for {number}", operation.client));
        let count = match reply {
            Reply::Done(_) => &mut self.coverage.answered,
            Reply::Lost => &mut self.coverage.read_lost,
            Reply::Unknown if operation.kind.changes() => &mut self.coverage.unknown,
            Reply::Unknown | Reply::Failed | Reply::NotHere => &mut self.coverage.failed,
        };
        *count += 1;
        self.note_who_accepts();
        // A node sees a change of members a little later than the directory.
        let nobody = self.nobody_accepts_us.is_some_and(|at| at + VIEW_US_MAX >= operation.called_us);
        if self.profile.planned && !nobody && !matches!(reply, Reply::Done(_)) {
            let what = format!("client {} gets {reply:?} for operation {number} although nothing fails", operation.client);
            self.violate("planned moves lose nothing", what);
        }
        if let Reply::Done(saw) = reply {
            self.promise_acknowledged(operation.session, operation.kind, number);
            let (session, kind, called_us) = (operation.session, operation.kind, operation.called_us);
            if let Some(wrong) = self.history.answered(number, session, kind, saw, called_us, self.now_us) {
                self.violate(
                    "one owner",
                    format!("client {} {wrong} (operation {number} on session {session})", operation.client),
                );
            }
        }
        let pause_us = self.random.between(500, 12_000);
        self.after(pause_us, Event::Act(operation.client));
    }
}
