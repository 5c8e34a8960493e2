//! TLS to clients: the handshake, the HTTP version that it agrees on, and certificates that are loaded anew when their files change.
//!
//! It never looks at what is sent inside, and never shows a byte of a key. The face makes it and runs [`Follower`]; a connection
//! asks it for one handshake. TLS 1.2 and 1.3, with the cipher suites of rustls.
//!
//! | the files | what clients are shown |
//! |---|---|
//! | as they were | what they were shown |
//! | changed, and still so one look later | the new pair, in handshakes from now on; connections go on |
//! | changed, and cannot be used | the pair before; said once for each change |
//!
//! Invariant: from the bind on there is always a pair to show.

use crate::names;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wayfarer_certificates::{Fault, Files, Stamp};

/// The names of the protocols that a client may choose from, the better one first.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// Between two looks at the files. Certificate and key are written one after the other: a change counts when it has stood
/// still for so long.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// The pair that clients are shown.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Takes handshakes; cloned to each connection.
#[derive(Clone)]
pub(crate) struct Tls(TlsAcceptor);

/// Looks at the files from time to time.
pub(crate) struct Follower {
    files: Arc<Files>,
    shown: Arc<Shown>,
    /// The files as they were when they were last loaded, or tried.
    dealt_with: Stamp,
}

/// Loads `files`; with `http2`, clients may choose HTTP/2.
pub(crate) fn of(files: &Files, http2: bool) -> Result<(Tls, Follower), io::Error> {
    // Before the reading: what changes in between is seen at the next look.
    let dealt_with = files.stamp();
    let shown = Arc::new(Shown(RwLock::new(Arc::new(files.read().map_err(io::Error::other)?))));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = [HTTP2, HTTP1].into_iter().filter(|name| http2 || *name != HTTP2).map(<[u8]>::to_vec).collect();
    let follower = Follower { files: Arc::new(files.clone()), shown, dealt_with };
    Ok((Tls(TlsAcceptor::from(Arc::new(config))), follower))
}

impl Tls {
    /// The handshake, and whether HTTP/2 follows.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, bool)> {
        let stream = self.0.accept(stream).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
        Ok((stream, is_http2))
    }
}

impl Follower {
    /// Follows the files until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut seen = self.dealt_with;
        loop {
            sleep(LOOK_PERIOD).await;
            // A look that failed (the runtime ends) has seen nothing.
            let Some((now, read)) = look(&self.files, (seen != self.dealt_with).then_some(seen)).await else { return };
            seen = now;
            let Some(read) = read else { continue };
            self.dealt_with = now;
            self.take(read);
        }
    }

    fn take(&self, read: Result<CertifiedKey, Fault>) {
        match read {
            Ok(pair) => {
                *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                metrics::counter!(names::CERTIFICATES_LOADED, "outcome" => "loaded").increment(1);
                tracing::info!("the certificate's files have changed: new connections get the new one");
            }
            Err(fault) => {
                metrics::counter!(names::CERTIFICATES_LOADED, "outcome" => "refused").increment(1);
                tracing::warn!(%fault, "the certificate's files have changed and cannot be used; the one before is kept");
            }
        }
    }
}

/// How the files look; they are read if that is `changed`, the new look that the last time has found.
#[allow(clippy::disallowed_methods, reason = "a disk that stalls must stall no client; one look at a time is under way")]
async fn look(files: &Arc<Files>, changed: Option<Stamp>) -> Option<(Stamp, Option<Result<CertifiedKey, Fault>>)> {
    let files = Arc::clone(files);
    let looking = tokio::task::spawn_blocking(move || {
        let now = files.stamp();
        (now, (changed == Some(now)).then(|| files.read()))
    });
    looking.await.ok()
}
