//! Whether an address is the upstream's.
//!
//! It never connects. Where the settings name a host, the system's resolver says which addresses it has; with sentinels the latest word
//! of them is the place. A gate asks it for each outbound connection.
//!
//! Service and sidecar resolve the name each for itself, and one that stands for many addresses may be answered with some of them at a
//! time. So an address counts for [`KEPT`] after it was last seen, and a name is asked for again only for one that does not.
//! Bounds: [`ADDRESSES_MAX`], [`NAMES_MS_MAX`].
//! Invariant: while the name cannot be resolved, nothing is taken for another server.

use crate::upstream::Dialer;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long the resolver may take, in milliseconds.
pub const NAMES_MS_MAX: u64 = 2000;
/// How long an address counts after it was last seen.
const KEPT: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 256;

/// What is known of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Is {
    Upstream,
    Another,
    Unknown,
}

/// See the head of this file.
pub struct Known {
    dialer: Arc<Dialer>,
    /// Of the host that is named first.
    seen: Mutex<(String, Vec<(IpAddr, Instant)>)>,
}

impl Known {
    /// The upstream that this reaches.
    pub fn new(dialer: Arc<Dialer>) -> Known {
        Known { dialer, seen: Mutex::default() }
    }

    pub(super) async fn what(&self, wanted: SocketAddr) -> Is {
        let Some(place) = self.dialer.place() else { return Is::Unknown };
        let ip = wanted.ip().to_canonical();
        if wanted.port() != place.port {
            return Is::Another;
        }
        if let Ok(own) = place.host.parse::<IpAddr>() {
            return if own.to_canonical() == ip { Is::Upstream } else { Is::Another };
        }
        if self.has_seen(&place.host, ip) {
            return Is::Upstream;
        }
        let found = tokio::net::lookup_host((place.host.as_str(), place.port));
        match timeout(Duration::from_millis(NAMES_MS_MAX), found).await {
            Ok(Ok(found)) => {
                let found: Vec<IpAddr> = found.map(|address| address.ip().to_canonical()).collect();
                self.remember(&place.host, &found);
                if found.contains(&ip) { Is::Upstream } else { Is::Another }
            }
            Ok(Err(_)) | Err(_) => Is::Unknown,
        }
    }

    fn has_seen(&self, host: &str, ip: IpAddr) -> bool {
        let (of, seen) = &*self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        of == host && seen.iter().any(|(known, at)| *known == ip && at.elapsed() < KEPT)
    }

    #[allow(clippy::disallowed_methods, reason = "an answer of the resolver has an age, which is asked for in this file alone")]
    fn remember(&self, host: &str, found: &[IpAddr]) {
        let now = Instant::now();
        let (of, seen) = &mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if of != host {
            (*of, *seen) = (host.to_owned(), Vec::new());
        }
        seen.retain(|(ip, at)| now.duration_since(*at) < KEPT && !found.contains(ip));
        seen.extend(found.iter().map(|ip| (*ip, now)));
        let surplus = seen.len().saturating_sub(ADDRESSES_MAX);
        seen.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use wayfarer_settings::Upstream;

    fn known(url: &str) -> Known {
        Known::new(Dialer::new(&Upstream::parse(url).unwrap()).unwrap())
    }

    async fn what(known: &Known, wanted: &str) -> Is {
        known.what(wanted.parse().unwrap()).await
    }

    #[tokio::test]
    async fn the_upstream_is_known_by_its_address_or_by_those_of_its_name() {
        for (url, wanted, is) in [
            ("redis://10.0.0.9", "10.0.0.9:6379", Is::Upstream),
            ("redis://10.0.0.9", "10.0.0.9:6380", Is::Another),
            ("redis://10.0.0.9", "10.0.0.8:6379", Is::Another),
            ("redis://[::ffff:10.0.0.9]", "10.0.0.9:6379", Is::Upstream),
            ("redis://[fd00::9]:7000", "[fd00::9]:7000", Is::Upstream),
            ("redis://localhost:7000", "127.0.0.1:7000", Is::Upstream),
            ("redis://localhost:7000", "10.0.0.8:7000", Is::Another),
            ("redis-sentinel://127.0.0.1/m", "127.0.0.1:6379", Is::Unknown),
        ] {
            assert_eq!(what(&known(url), wanted).await, is, "{url} {wanted}");
        }
    }

    #[tokio::test]
    async fn an_address_that_was_seen_counts_for_a_while_and_a_silent_resolver_makes_none_another_server() {
        tokio::time::pause();
        let known = known("redis://no-such-host.invalid");
        let old = "10.0.0.1".parse().unwrap();
        known.remember("no-such-host.invalid", &[old]);
        known.remember("no-such-host.invalid", &["10.0.0.2".parse().unwrap()]);
        assert!(known.has_seen("no-such-host.invalid", old) && !known.has_seen("another", old));
        assert_eq!(what(&known, "10.0.0.1:6379").await, Is::Upstream);
        assert_eq!(what(&known, "10.0.0.3:6379").await, Is::Unknown);
        tokio::time::advance(KEPT).await;
        assert!(!known.has_seen("no-such-host.invalid", old));
        let many: Vec<IpAddr> = (0..1000u32).map(|ip| IpAddr::V4(ip.into())).collect();
        known.remember("h", &many);
        assert!(known.has_seen("h", *many.last().unwrap()) && !known.has_seen("h", many[0]));
    }
}
