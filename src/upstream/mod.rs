//! How the upstream is reached: by its address, by the sentinels that know it, or as the cluster that it is; under TLS if the URL says so.
//!
//! It never sends a command of a client, but for [`cluster`], which passes them on, and keeps no connection. The state face dials one for each client that needs it,
//! [`crate::passage::direct`] and [`crate::rest`] a few for themselves.
//!
//! ```text
//!  address, or a sentinel's answer ─► TCP ─► TLS ─► (after a sentinel: AUTH, ROLE: is it the master?) ─► AUTH, HELLO, SELECT
//! ```
//! | file | |
//! |---|---|
//! | `wire` | a connection: with or without TLS, the same to who uses it |
//! | `tls` | certificates, and which servers are believed |
//! | `handshake` | what is said before the first command |
//! | `sentinel` | where the master is, and news of failovers |
//! | `cluster` | a Redis Cluster behind a connection that looks like one to a single server |
//! | `tunnel` | what is subscribed on a connection |
//! | `master` | which server is the master by the latest word; the end of connections to others |
//!
//! Bounds: [`CONNECT`] for all of it together; the bytes of the replies of a handshake.
//! Invariant: under TLS no byte goes to a server whose certificate was not accepted, the password least of all.

mod cluster;
mod handshake;
mod master;
mod sentinel;
mod tls;
mod tunnel;
mod wire;

pub use cluster::{hash_tag, is_blocking, slot_of, tag_of_slot};
pub use handshake::{auth, hello, select};
pub use tls::Unfit;
pub use tunnel::{Heard, Tunnel};
pub use wire::Wire;

use cluster::Cluster;
use handshake::{REFUSED, handshake, perform};
use master::Master;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tls::Tls;
use tokio::net::TcpStream;
use wayfarer_engine::wire::resp::Protocol;
use wayfarer_settings::{HostPort, Upstream, UpstreamPlace};

/// The upstream must have taken the connection and answered the handshake within this time.
const CONNECT: Duration = Duration::from_secs(2);
/// A reply may have this many elements.
pub const ELEMENTS_MAX: usize = 16 * 1024 * 1024;

/// See the head of this file.
pub struct Dialer {
    upstream: Upstream,
    tls: Option<Tls>,
    /// The number of the sentinel that knew the master last.
    sentinel: AtomicUsize,
    /// Which server is the master, where sentinels know it.
    master: Master,
    /// Which nodes serve which slots, where it is a cluster.
    cluster: Option<Arc<Cluster>>,
    /// Why the last connection failed before a command could be sent, so that a log has each reason once.
    refused: Mutex<Option<String>>,
}

impl Dialer {
    /// Reads certificates, if there is TLS. The error names the setting that is wrong.
    pub fn new(upstream: &Upstream) -> Result<Arc<Dialer>, Unfit> {
        let tls = upstream.tls.as_ref().map(Tls::new).transpose()?;
        let (sentinel, master, refused) = (AtomicUsize::new(0), Master::unknown(), Mutex::default());
        let cluster = match &upstream.place {
            UpstreamPlace::Cluster(seeds) => Some(Arc::new(Cluster::new(seeds))),
            _ => None,
        };
        Ok(Arc::new(Dialer { upstream: upstream.clone(), tls, sentinel, master, cluster, refused }))
    }

    /// What the settings say of it.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Where the one server is to which commands go now, as far as that is known without asking anybody.
    pub fn place(&self) -> Option<HostPort> {
        match &self.upstream.place {
            UpstreamPlace::Server(at) => Some(at.clone()),
            UpstreamPlace::Sentinels(_) => self.master.place(),
            UpstreamPlace::Cluster(_) => None,
        }
    }

    /// Connects; nothing of Redis has been said.
    pub async fn connect(self: &Arc<Self>) -> io::Result<Wire> {
        self.in_time(self.reach()).await
    }

    /// Connects and signs in. Database 0 is the one that the upstream's URL names.
    pub fn dial(self: &Arc<Self>, protocol: Protocol, database: u8) -> impl Future<Output = io::Result<Wire>> + Send + use<> {
        let dialer = self.clone();
        async move {
            let dialling = async {
                let mut wire = dialer.reach().await?;
                perform(&mut wire, &handshake(&dialer.upstream, protocol, database), REFUSED).await?;
                Ok(wire)
            };
            dialer.in_time(dialling).await
        }
    }

    async fn in_time(&self, connecting: impl Future<Output = io::Result<Wire>>) -> io::Result<Wire> {
        let connected = tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.note(&connected);
        connected
    }

    async fn reach(self: &Arc<Self>) -> io::Result<Wire> {
        match (&self.upstream.place, &self.cluster) {
            (_, Some(cluster)) => cluster::reach(self, cluster).await,
            (UpstreamPlace::Server(at), _) => self.to(at).await,
            (UpstreamPlace::Sentinels(sentinels), _) => sentinel::reach(self, sentinels).await,
            (UpstreamPlace::Cluster(_), None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Ends connections to a server that is no master any more, as soon as a sentinel says so, for as long as it is polled. Without
    /// sentinels there is nothing to do.
    pub async fn follow_master(self: Arc<Self>) {
        if let UpstreamPlace::Sentinels(sentinels) = &self.upstream.place {
            sentinel::listen(&self, sentinels).await;
        }
    }

    async fn to(&self, at: &HostPort) -> io::Result<Wire> {
        let stream = TcpStream::connect((at.host.as_str(), at.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Wire::plain(stream)),
            Some(tls) => tls.over(stream, &at.host).await,
        }
    }

    /// What an operator can mend is said once, until it has changed. Addresses are not named: they are the operator's business.
    fn note(&self, outcome: &io::Result<Wire>) {
        let reason = match outcome {
            Ok(_) => None,
            Err(error) => match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData => Some(error.to_string()),
                // Whether it is reachable is seen by others, and often.
                _ => return,
            },
        };
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = reason.as_ref().filter(|reason| refused.as_ref() != Some(*reason)) {
            tracing::warn!("the upstream cannot be used: {reason}");
        }
        *refused = reason;
    }
}
