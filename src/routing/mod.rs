//! Which other members requests may be forwarded to, and which not, or not now; and (in `learned`) what the requests of a route need.
//!
//! It moves no request and asks nobody: it is shown the members as they were last seen, with the time, and remembers what those who
//! forward have met. Called by the composition root for each request whose session is elsewhere.
//!
//! | the member | a request for it |
//! |---|---|
//! | is gone, drains, or has said that it takes no more | asks again where its session is |
//! | takes no forwarded requests; has another application or version; does not listen on loopback | runs here |
//! | has refused a connection within [`REFUSED_US`]; its lease has stood still for as long as a lease lasts | runs here |
//! | any other | goes there |
//!
//! What runs here has its operations forwarded, so each of these is right, and only the last one is fast.
//! Bound: as many as a directory has members, and [`STALE_MAX`] that are gone.

pub mod learned;
pub mod template;

use dashmap::DashMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock};
use wayfarer_engine::directory::{MemberRecord, MemberState, View};
use wayfarer_engine::ids::Incarnation;

/// How long a member that had no connection to give is left alone: it ends, or has too many.
const REFUSED_US: u64 = 1_000_000;
/// Members that are gone and still remembered.
const STALE_MAX: usize = 256;

/// What may be done with a request whose session is at another member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// It can be sent there.
    Takes(SocketAddr),
    /// It runs here.
    TakesNone,
    /// It runs here, unless its session has gone on to another member.
    Leaves,
}

/// A member as requests have met it.
#[derive(Clone, Copy)]
struct Seen {
    renewals: u64,
    /// Since when that is so.
    since_us: u64,
    refused_us: Option<u64>,
}

impl Seen {
    /// Whether it has renewed its lease within the time of one.
    fn renews(&self, lease_us: u64, now_us: u64) -> bool {
        now_us.saturating_sub(self.since_us) < lease_us
    }

    /// Whether it has refused no connection of late.
    fn is_open(&self, now_us: u64) -> bool {
        self.refused_us.is_none_or(|at| now_us.saturating_sub(at) >= REFUSED_US)
    }
}

/// See the head of this file.
pub struct Neighbours {
    app_name: String,
    app_version: String,
    lease_us: u64,
    seen: DashMap<Incarnation, Seen>,
    /// Those that have said that they take no more requests; the oldest lives are forgotten.
    closed: RwLock<BTreeSet<Incarnation>>,
}

impl Neighbours {
    /// Those of a member with an instance of this application, where a lease lasts so long.
    pub fn new(app_name: String, app_version: String, lease_us: u64) -> Neighbours {
        Neighbours { app_name, app_version, lease_us, seen: DashMap::new(), closed: RwLock::default() }
    }

    /// Whether a request goes to `owner`, as the members are seen in `view`.
    pub fn find(&self, view: &View, owner: Incarnation, now_us: u64) -> Found {
        let lives = |member: &&MemberRecord| matches!(member.state, MemberState::Accepting | MemberState::Cordoned);
        let Some(member) = view.members.get(&owner).filter(lives).filter(|_| !self.is_closed(owner)) else {
            return Found::Leaves;
        };
        let draft = &member.draft;
        let is_alike = draft.app_name == self.app_name && draft.app_version == self.app_version;
        let address = draft.requests.parse::<SocketAddr>().ok().filter(|address| is_alike && address.ip().is_loopback());
        match address {
            Some(address) => {
                let seen = self.seen(view, member, now_us);
                if seen.is_open(now_us) && seen.renews(self.lease_us, now_us) { Found::Takes(address) } else { Found::TakesNone }
            }
            None => Found::TakesNone,
        }
    }

    /// There was no connection to be had to this member.
    pub fn refused(&self, member: Incarnation, now_us: u64) {
        if let Some(mut seen) = self.seen.get_mut(&member) {
            seen.refused_us = Some(now_us);
        }
    }

    /// This member takes no more requests.
    pub fn closes(&self, member: Incarnation) {
        let mut closed = self.closed.write().unwrap_or_else(PoisonError::into_inner);
        closed.insert(member);
        if closed.len() > STALE_MAX {
            closed.pop_first();
        }
    }

    fn is_closed(&self, member: Incarnation) -> bool {
        self.closed.read().unwrap_or_else(PoisonError::into_inner).contains(&member)
    }

    /// Whether this member stands still, or is gone: what it was sent may never be answered.
    pub fn is_silent(&self, view: &View, owner: Incarnation, now_us: u64) -> bool {
        let member = view.members.get(&owner).filter(|member| member.state != MemberState::Fenced);
        member.is_none_or(|member| !self.seen(view, member, now_us).renews(self.lease_us, now_us))
    }

    /// A member as it is seen now. Who is seen for the first time has just renewed its lease.
    fn seen(&self, view: &View, member: &MemberRecord, now_us: u64) -> Seen {
        if let Some(seen) = self.seen.get(&member.incarnation).filter(|seen| seen.renewals == member.renewals) {
            return *seen;
        }
        if self.seen.len() >= view.members.len().saturating_add(STALE_MAX) {
            self.seen.retain(|life, _| view.members.contains_key(life));
        }
        let fresh = Seen { renewals: member.renewals, since_us: now_us, refused_us: None };
        let mut seen = self.seen.entry(member.incarnation).or_insert(fresh);
        (seen.renewals, seen.since_us) = (member.renewals, now_us);
        *seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wayfarer_engine::directory::MemberDraft;
    use wayfarer_engine::ids::Epoch;

    const LEASE_US: u64 = 2_000_000;

    fn owner(n: u64) -> Incarnation {
        Incarnation(Epoch(n))
    }

    fn seen(change: impl FnOnce(&mut MemberRecord)) -> View {
        let text = |text: &str| text.to_owned();
        let (app_name, app_version, requests) = (text("shop"), text("2"), text("127.0.0.1:4001"));
        let draft = MemberDraft { app_name, app_version, requests, ..MemberDraft::default() };
        let mut member = MemberRecord { incarnation: owner(1), draft, state: MemberState::Accepting, renewals: 7, confirmed: 0 };
        change(&mut member);
        View { members: [(member.incarnation, member)].into(), ..View::default() }
    }

    fn neighbours() -> Neighbours {
        Neighbours::new("shop".to_owned(), "2".to_owned(), LEASE_US)
    }

    fn found(change: impl FnOnce(&mut MemberRecord)) -> Found {
        neighbours().find(&seen(change), owner(1), 0)
    }

    #[test]
    fn requests_go_to_members_with_the_same_application() {
        let takes = Found::Takes(([127, 0, 0, 1], 4001).into());
        assert_eq!(found(|_| {}), takes);
        assert_eq!(found(|b| b.state = MemberState::Cordoned), takes, "it has the session, and keeps it");
        assert_eq!(found(|b| b.draft.app_version = "3".to_owned()), Found::TakesNone);
        assert_eq!(found(|b| b.draft.app_name = "shop2".to_owned()), Found::TakesNone);
        for wrong in ["", "nowhere", "10.0.0.7:4001", "0.0.0.0:4001"] {
            assert_eq!(found(|b| b.draft.requests = wrong.to_owned()), Found::TakesNone, "{wrong:?}");
        }
        assert_eq!(found(|b| b.state = MemberState::Draining), Found::Leaves);
        assert_eq!(found(|b| b.state = MemberState::Fenced), Found::Leaves);
        assert_eq!(neighbours().find(&seen(|_| {}), owner(2), 0), Found::Leaves);
    }

    #[test]
    fn a_member_that_refuses_or_stands_still_is_left_alone_for_a_while() {
        let (members, takes) = (neighbours(), Found::Takes(([127, 0, 0, 1], 4001).into()));
        let view = seen(|_| {});
        assert_eq!(members.find(&view, owner(1), 5), takes);
        members.refused(owner(1), 10);
        assert_eq!(members.find(&view, owner(1), 9 + REFUSED_US), Found::TakesNone);
        assert_eq!(members.find(&seen(|b| b.renewals = 8), owner(1), 9 + REFUSED_US), Found::TakesNone, "although it renews");
        assert_eq!(members.find(&seen(|b| b.renewals = 8), owner(1), 10 + REFUSED_US), takes);
        let since = 9 + REFUSED_US;
        let view = seen(|b| b.renewals = 8);
        assert_eq!(members.find(&view, owner(1), since + LEASE_US - 1), takes);
        assert_eq!(members.find(&view, owner(1), since + LEASE_US), Found::TakesNone);
        assert_eq!(members.find(&seen(|b| b.renewals = 9), owner(1), since + LEASE_US), takes, "it has renewed");
        let leaves = seen(|b| (b.renewals, b.state) = (9, MemberState::Draining));
        assert!(!members.is_silent(&leaves, owner(1), since + LEASE_US), "it leaves, and answers");
        assert!(members.is_silent(&seen(|b| b.renewals = 9), owner(1), since + 2 * LEASE_US));
        assert!(members.is_silent(&View::default(), owner(1), since));
        members.closes(owner(1));
        assert_eq!(members.find(&seen(|b| b.renewals = 9), owner(1), since + LEASE_US), Found::Leaves);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let members = neighbours();
        for n in 0..3 * STALE_MAX as u64 {
            members.find(&seen(|b| b.incarnation = owner(n)), owner(n), n);
            members.closes(owner(n));
        }
        assert!(members.seen.len() <= STALE_MAX + 1, "{}", members.seen.len());
        assert_eq!(members.closed.read().map(|closed| closed.len()).ok(), Some(STALE_MAX));
    }
}
