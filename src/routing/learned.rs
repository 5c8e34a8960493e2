//! What requests of each route read of their sessions: learned from a sample, so that it can be fetched before the instance asks.
//!
//! It never keeps a path, an id or a name of a variable: routes and variables are numbers of a hash whose key this process makes, so that
//! nothing of what is in paths can be read from it or shown. It is told what a request read, and asked what the next one of its route will.
//!
//! | a route | what is fetched ahead for it |
//! |---|---|
//! | of which fewer than [`RUNS_MIN`] requests were looked at | not known: what is read often |
//! | any other | what at least half of them read |
//!
//! Newer requests count more: at [`RUNS_MAX`] all counts are halved. Bound: [`ROUTES_MAX`] routes, [`VARIABLES_MAX`] variables of each,
//! [`SAMPLES_PER_S`] requests that are looked at. When there are too many routes, those that were seen a few times and not of late are
//! forgotten, once in [`SWEEP_US`]; if that does not help, new ones are not learned.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests of a route that must have been looked at.
const RUNS_MIN: u32 = 3;
/// And so many at most, before all counts are halved.
const RUNS_MAX: u32 = 64;
/// Routes that are remembered.
pub const ROUTES_MAX: usize = 1024;
/// Variables of one route.
const VARIABLES_MAX: usize = 64;
/// Requests that are looked at.
const SAMPLES_PER_S: u64 = 100;
/// A route that has not been seen for so long, and was not learned, may be forgotten; so often that is tried.
const SWEEP_US: u64 = 60_000_000;

/// A route, as a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Route(u64);

/// What a variable is in every session, as a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Variable(u64);

#[derive(Default)]
struct Learned {
    runs: u32,
    reads: HashMap<Variable, u32>,
    seen_us: u64,
}

/// What is known of one route, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Its number.
    pub route: u64,
    /// Requests that count.
    pub runs: u32,
    /// Variables that are fetched ahead for it; `None`: not known yet.
    pub variables: Option<usize>,
}

/// See the head of this file.
#[derive(Default)]
pub struct Routes {
    key: RandomState,
    routes: Mutex<HashMap<Route, Learned>>,
    swept_us: AtomicU64,
    /// The second of the last sample, and how many there were in it.
    sampled: Mutex<(u64, u64)>,
}

impl Routes {
    /// The number of a route.
    pub fn route(&self, method: &str, path: &str) -> Route {
        Route(self.key.hash_one(super::template::template(method, path)))
    }

    /// The number of the variable of this name in the keys of a pattern.
    pub fn variable(&self, pattern: Option<usize>, name: &[u8]) -> Variable {
        Variable(self.key.hash_one((pattern, name)))
    }

    /// Whether to look at a request that comes now.
    pub fn may_sample(&self, now_us: u64) -> bool {
        let mut sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        let second = now_us / 1_000_000;
        if sampled.0 != second {
            *sampled = (second, 0);
        }
        sampled.1 += 1;
        sampled.1 <= SAMPLES_PER_S
    }

    /// A request of this route has read these variables, each once here. False if the route is not learned, for there are too many.
    pub fn learn(&self, route: Route, read: &[Variable], now_us: u64) -> bool {
        let mut routes = self.lock();
        if routes.len() >= ROUTES_MAX && !routes.contains_key(&route) {
            let is_due = now_us.saturating_sub(self.swept_us.load(Ordering::Relaxed)) >= SWEEP_US;
            if is_due {
                self.swept_us.store(now_us, Ordering::Relaxed);
                routes.retain(|_, known| known.runs >= RUNS_MIN || now_us.saturating_sub(known.seen_us) < SWEEP_US);
            }
            if routes.len() >= ROUTES_MAX {
                return false;
            }
        }
        let known = routes.entry(route).or_default();
        known.seen_us = now_us;
        known.runs += 1;
        for variable in read {
            if known.reads.len() < VARIABLES_MAX || known.reads.contains_key(variable) {
                *known.reads.entry(*variable).or_default() += 1;
            }
        }
        if known.runs >= RUNS_MAX {
            known.runs /= 2;
            known.reads.values_mut().for_each(|reads| *reads /= 2);
            known.reads.retain(|_, reads| *reads > 0);
        }
        true
    }

    /// What a request of this route will read; `None`: not known.
    pub fn needs(&self, route: Route) -> Option<Vec<Variable>> {
        self.lock().get(&route)?.needs()
    }

    /// The routes that were looked at most often, so many at most; and how many are known in all.
    pub fn shown(&self, most: usize) -> (Vec<Shown>, usize) {
        let routes = self.lock();
        let mut all: Vec<Shown> = routes.iter().map(|(route, known)| known.shown(*route)).collect();
        all.sort_unstable_by_key(|shown| (u32::MAX - shown.runs, shown.route));
        all.truncate(most);
        (all, routes.len())
    }

    /// One of them.
    pub fn one(&self, route: Route) -> Shown {
        self.lock().get(&route).map_or(Shown { route: route.0, runs: 0, variables: None }, |known| known.shown(route))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Route, Learned>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Learned {
    fn needs(&self) -> Option<Vec<Variable>> {
        let often = |reads: &u32| reads.saturating_mul(2) >= self.runs;
        (self.runs >= RUNS_MIN)
            .then(|| self.reads.iter().filter(|(_, reads)| often(reads)).map(|(variable, _)| *variable).collect())
    }

    fn shown(&self, route: Route) -> Shown {
        Shown { route: route.0, runs: self.runs, variables: self.needs().map(|needs| needs.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(routes: &Routes, names: &[&str]) -> Vec<Variable> {
        names.iter().map(|name| routes.variable(Some(0), name.as_bytes())).collect()
    }

    fn needs(routes: &Routes, path: &str) -> Option<Vec<Variable>> {
        let mut found = routes.needs(routes.route("GET", path))?;
        found.sort_unstable();
        Some(found)
    }

    #[test]
    fn what_half_of_the_requests_read_is_needed() {
        let routes = Routes::default();
        let cart = routes.route("GET", "/cart/1");
        for (n, read) in [&["cart", "user"][..], &["cart", "promo"], &["cart", "user"], &["cart"]].into_iter().enumerate() {
            assert_eq!(needs(&routes, "/cart/2").is_some(), n >= 3, "after {n}");
            assert!(routes.learn(cart, &variables(&routes, read), 0));
        }
        let mut wanted = variables(&routes, &["cart", "user"]);
        wanted.sort_unstable();
        assert_eq!(needs(&routes, "/cart/77"), Some(wanted));
        assert_eq!(needs(&routes, "/orders"), None);
        assert_ne!(routes.variable(Some(0), b"cart"), routes.variable(Some(1), b"cart"), "of another key");
        assert_eq!(routes.one(cart), Shown { route: cart.0, runs: 4, variables: Some(2) });
    }

    #[test]
    fn what_is_read_no_more_is_forgotten() {
        let routes = Routes::default();
        let cart = routes.route("GET", "/cart");
        for (name, times) in [("old", 1000), ("new", 100)] {
            for _ in 0..times {
                routes.learn(cart, &variables(&routes, &[name]), 0);
            }
        }
        assert_eq!(needs(&routes, "/cart"), Some(variables(&routes, &["new"])));
        assert!(routes.one(cart).runs < RUNS_MAX);
    }

    #[test]
    fn it_is_bounded_and_what_was_seen_once_gives_way() {
        let routes = Routes::default();
        let known = routes.route("GET", "/known");
        for _ in 0..RUNS_MIN {
            routes.learn(known, &[], 0);
        }
        let path = |n: usize| format!("/{}{}", char::from(b'a' + u8::try_from(n % 26).unwrap_or(0)), "x".repeat(1 + n / 26));
        for n in 1..ROUTES_MAX {
            assert!(routes.learn(routes.route("GET", &path(n)), &[], 1), "{n}");
        }
        assert_eq!((routes.shown(5).0.len(), routes.shown(5).1), (5, ROUTES_MAX));
        let one_more = routes.route("GET", "/more");
        assert!(!routes.learn(one_more, &[], SWEEP_US), "they have just been seen");
        assert!(!routes.learn(one_more, &[], SWEEP_US + 1), "and are not looked through each time");
        assert!(routes.learn(one_more, &[], 2 * SWEEP_US + 1));
        assert_eq!(routes.shown(5).1, 2, "what is known stays");
        let many: Vec<Variable> = (0..2 * VARIABLES_MAX).map(|n| routes.variable(None, &n.to_be_bytes())).collect();
        for _ in 0..RUNS_MIN {
            routes.learn(one_more, &many, 3 * SWEEP_US);
        }
        assert!(routes.one(one_more).variables.is_some_and(|count| count <= VARIABLES_MAX));
    }

    #[test]
    fn a_second_has_so_many_samples() {
        let routes = Routes::default();
        let sampled = |from_us: u64| (0..1000).filter(|n| routes.may_sample(from_us + n)).count() as u64;
        assert_eq!([0, 500_000, 1_000_000].map(sampled), [SAMPLES_PER_S, 0, SAMPLES_PER_S]);
    }
}
