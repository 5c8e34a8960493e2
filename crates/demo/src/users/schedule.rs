//! What a virtual user does and when: an endless list of visits, drawn from the seed alone.
//!
//! It sees no answer and no clock, so a slow shop gets the same requests at the same due times as a fast one (an open load).
//! Called by the users. A life: login, home, then items, some seen before, at times home or a checkout; after a while a logout
//! and a login with a new session. A visit is one page and one to three fragments of it, all due within two milliseconds, so
//! that several requests of one session are in flight at a time and, behind a round-robin balancer, at several instances.
//! Due times: the time between two visits is uniform in `[0.4, 1.6) · mean`; mean = requests per visit ÷ requests per second.
//! Invariant: no two requests of a visit write the same variable; the next visit starts after the last one has ended.

use crate::model::{BUCKETS, ROWS, Route, Variable, all};
use crate::random::Draws;

/// Mean time between two visits of a user, in microseconds.
pub const VISIT_MEAN_US: u64 = 2_000_000;
/// No request of a visit is due later than this after the visit, in microseconds.
pub const FRAGMENT_OFFSET_US_MAX: u64 = 2_000;
/// Requests in a visit at most.
pub const REQUESTS_MAX: usize = 4;
const LOGOUT: f64 = 0.04;
const CHECKOUT: f64 = 0.07;
const HOME: f64 = 0.12;
const REVISIT: f64 = 0.40;
const BUCKETS_AT_LOGIN: (u64, u64) = (3, 6);

/// One request of a visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Which page or action.
    pub route: Route,
    /// Due this long after its visit, in microseconds.
    pub offset_us: u64,
    /// Variables that it reads, before it writes.
    pub reads: Vec<Variable>,
    /// Variables that it writes.
    pub writes: Vec<Variable>,
    /// Whether it counts as a page.
    pub counts: bool,
}

/// What a user does at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Begins a session whose sizes are drawn from this number.
    Login(u64, Planned),
    /// Looks at pages.
    Look(Vec<Planned>),
    /// Ends the session.
    Logout,
}

/// An act and when it is due, in microseconds since the user's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// When.
    pub due_us: u64,
    /// What.
    pub act: Act,
}

/// The visits of one user, without end.
#[derive(Debug, Clone)]
pub struct Schedule {
    draws: Draws,
    due_us: u64,
    pages: Option<u64>,
    bucket: u8,
    favourites: Vec<u8>,
}

impl Schedule {
    /// The visits of this user under this seed.
    pub fn new(seed: u64, user: u64) -> Self {
        Self { draws: Draws::new(seed, &[0x5C4E_D01E, user]), due_us: 0, pages: None, bucket: 0, favourites: Vec::new() }
    }

    fn login(&mut self) -> Act {
        let (low, high) = BUCKETS_AT_LOGIN;
        let count = low + self.draws.below(high - low + 1);
        let mut buckets: Vec<u8> = (0..BUCKETS).collect();
        buckets.sort_by_cached_key(|_| self.draws.next_u64());
        self.favourites = buckets.into_iter().zip(0..count).map(|(bucket, _)| bucket).collect();
        let favourites = &self.favourites;
        let is_favourite = |variable: &Variable, name| favourites.iter().any(|at| Variable::named(name, *at) == Some(*variable));
        let writes = all()
            .filter(|variable| {
                !variable.row().is_some_and(|row| row.per_bucket)
                    || is_favourite(variable, "recs")
                    || is_favourite(variable, "filters")
            })
            .collect();
        self.pages = Some(0);
        Act::Login(self.draws.next_u64(), Planned { route: Route::Login, offset_us: 0, reads: Vec::new(), writes, counts: true })
    }

    fn look(&mut self, pages: u64) -> Act {
        let (route, column) = if pages == 0 || self.draws.chance(HOME) {
            (Route::Home, 0)
        } else if self.draws.chance(CHECKOUT) {
            (Route::Checkout, 3)
        } else if self.draws.chance(REVISIT) {
            (Route::ItemAgain, 2)
        } else {
            // Mostly something of a category that this client likes; else any, whose recommendations may not be there yet.
            let likes = self.draws.below(self.favourites.len() as u64);
            let any = self.draws.below(u64::from(BUCKETS)) as u8;
            let liked = usize::try_from(likes).ok().and_then(|at| self.favourites.get(at)).copied();
            self.bucket = if self.draws.chance(0.85) { liked.unwrap_or(any) } else { any };
            (Route::Item, 1)
        };
        let mut requests = vec![self.page(route, column)];
        let fragments = 1 + self.draws.below(REQUESTS_MAX as u64 - 1);
        for _ in 0..fragments {
            let fragment = self.fragment(&requests);
            requests.push(fragment);
        }
        self.pages = Some(pages + 1);
        Act::Look(requests)
    }

    fn page(&mut self, route: Route, column: usize) -> Planned {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for row in &ROWS {
            let (read, write) = (probability(&row.read, column), probability(&row.write, column));
            let (reads_it, writes_it) = (self.draws.chance(read), self.draws.chance(write));
            let Some(variable) = Variable::named(row.name, self.bucket) else { continue };
            if reads_it {
                reads.push(variable);
            }
            if writes_it {
                writes.push(variable);
            }
        }
        Planned { route, offset_us: 0, reads, writes, counts: true }
    }

    fn fragment(&mut self, before: &[Planned]) -> Planned {
        let offset_us = self.draws.below(FRAGMENT_OFFSET_US_MAX);
        let (reads, writes): (&[&str], &[&str]) = match self.draws.below(10) {
            0..=3 => (&["user", "cart"], &[]),
            4..=5 => (&["recs", "filters"], &[]),
            6 => (&["locale", "history"], &[]),
            7 => (&["user", "flags"], &[]),
            8 => (&["user", "cart"], &["cart"]),
            _ => (&["wishlist"], &["wishlist"]),
        };
        let variables = |names: &[&str]| names.iter().filter_map(|name| Variable::named(name, self.bucket)).collect::<Vec<_>>();
        let (reads, mut writes) = (variables(reads), variables(writes));
        writes.retain(|variable| !before.iter().any(|request| request.writes.contains(variable)));
        let route = if writes.is_empty() { Route::Read } else { Route::CartAdd };
        Planned { route, offset_us, reads, counts: !writes.is_empty(), writes }
    }
}

impl Iterator for Schedule {
    type Item = Visit;

    fn next(&mut self) -> Option<Visit> {
        let due_us = self.due_us;
        let act = match self.pages {
            None => self.login(),
            // A session lives for a few pages at least.
            Some(pages) if pages >= 3 && self.draws.chance(LOGOUT) => {
                self.pages = None;
                Act::Logout
            }
            Some(pages) => self.look(pages),
        };
        let wait = (VISIT_MEAN_US as f64 * (0.4 + 1.2 * self.draws.unit())) as u64;
        self.due_us = self.due_us.saturating_add(wait);
        Some(Visit { due_us, act })
    }
}

fn probability(of: &[f64; 4], column: usize) -> f64 {
    of.get(column).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_every_visit() {
        let take = |seed, user| Schedule::new(seed, user).take(200).collect::<Vec<_>>();
        assert_eq!(take(1, 1), take(1, 1));
        assert_ne!(take(1, 1), take(1, 2));
        assert_ne!(take(1, 1), take(2, 1));
    }

    #[test]
    fn visits_keep_the_rules_that_the_check_relies_on() {
        let mut routes = std::collections::BTreeMap::new();
        for user in 0..50 {
            let mut last = 0;
            for visit in Schedule::new(9, user).take(100) {
                assert!(visit.due_us >= last);
                last = visit.due_us;
                let Act::Look(requests) = visit.act else { continue };
                assert!((2..=REQUESTS_MAX).contains(&requests.len()));
                let mut written: Vec<Variable> = requests.iter().flat_map(|request| request.writes.clone()).collect();
                let count = written.len();
                written.sort();
                written.dedup();
                assert_eq!(written.len(), count, "a variable is written twice in one visit");
                for request in requests {
                    assert!(request.offset_us <= FRAGMENT_OFFSET_US_MAX);
                    *routes.entry(request.route.path()).or_insert(0) += 1;
                }
            }
        }
        for path in ["/home", "/item", "/item_again", "/cart_add", "/checkout", "/read"] {
            assert!(routes.get(path).is_some_and(|count| *count > 20), "{path}: {routes:?}");
        }
    }

    #[test]
    fn users_log_in_first_and_again_after_a_logout() {
        let mut inside = false;
        let mut logins = 0;
        for visit in Schedule::new(4, 4).take(400) {
            match visit.act {
                Act::Login(..) => {
                    assert!(!inside);
                    (inside, logins) = (true, logins + 1);
                }
                Act::Look(_) => assert!(inside),
                Act::Logout => inside = false,
            }
        }
        assert!(logins > 3);
    }
}
