//! Where clients come from: a listener and its connections, TCP or Unix.
//!
//! It never looks at what is said. [`super::StateFace`] binds and accepts, [`super::connection`] reads and writes.
//!
//! A Unix socket outlives its process as a file, so binding one is more than a call:
//!
//! | what stands at the path | binding |
//! |---|---|
//! | nothing | makes it, with its mode before anybody can connect |
//! | a socket on which nobody listens | takes its place |
//! | a socket on which somebody listens | fails: the address is in use |
//! | anything else | fails, and leaves it alone |
//!
//! Looking, removing and making are one step under the lock of the folder, so two sidecars that start at once cannot take a living
//! one's place. At the end the file is removed while it still listens, and only if it is the one that was made here.
//! Bounds: [`BACKLOG`]; [`LOCK_MAX`] for the lock.

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, Ready};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream, tcp, unix};
use tokio::sync::{Mutex, mpsc};
use wayfarer_settings::ListenAt;

/// Connections that wait to be accepted, as many as the standard library has for TCP.
const BACKLOG: u32 = 1024;
/// How long another process may hold the lock of the socket's folder.
const LOCK_MAX: Duration = Duration::from_secs(2);
/// Between two tries to lock it.
const LOCK_AGAIN: Duration = Duration::from_millis(5);

/// A bound listener.
pub(super) enum Listener {
    Tcp(TcpListener),
    /// Somebody else accepts, and hands connections over that were to go to this address.
    Handed(SocketAddr, Mutex<mpsc::Receiver<(TcpStream, SocketAddr)>>),
    Unix {
        /// First, so that the file goes before the listener does.
        file: SocketFile,
        listener: UnixListener,
    },
}

impl Listener {
    pub(super) async fn bind(at: &ListenAt, mode: u32) -> io::Result<Listener> {
        match at {
            ListenAt::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
            ListenAt::Unix(path) => bind(path, mode).await,
        }
    }

    /// Where it listens; never port 0.
    pub(super) fn place(&self) -> io::Result<ListenAt> {
        Ok(match self {
            Listener::Tcp(listener) => ListenAt::Tcp(listener.local_addr()?),
            Listener::Handed(address, _) => ListenAt::Tcp(*address),
            Listener::Unix { file, .. } => ListenAt::Unix(file.path.clone()),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Listener::Tcp(listener) => Socket::Tcp(listener.accept().await?.0),
            Listener::Handed(_, handed) => match handed.lock().await.recv().await {
                Some((stream, _)) => Socket::Tcp(stream),
                // Whoever accepts has ended; the face will be told to.
                None => std::future::pending().await,
            },
            Listener::Unix { listener, .. } => Socket::Unix(listener.accept().await?.0),
        })
    }
}

/// The file of a socket that was made here; it goes with this.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode. The number is not given to another file while the socket is open.
    is: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it and put another in its place.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.is)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the state face's socket is not removed");
        }
    }
}

/// Whether one could be bound there now. It changes nothing.
pub(super) async fn can_bind(at: &ListenAt) -> io::Result<()> {
    match at {
        ListenAt::Tcp(address) => TcpListener::bind(address).await.map(drop),
        ListenAt::Unix(path) => {
            let _folder = lock(path).await?;
            look(path).await.map(drop)
        }
    }
}

/// What may be replaced.
#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    Dead,
}

fn refused(kind: io::ErrorKind, why: &str) -> io::Error {
    io::Error::new(kind, why)
}

async fn bind(path: &Path, mode: u32) -> io::Result<Listener> {
    let _folder = lock(path).await?;
    if look(path).await? == Found::Dead {
        std::fs::remove_file(path)?;
        tracing::info!(path = %path.display(), "a socket on which nobody listens any more is replaced");
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let made = std::fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), is: (made.dev(), made.ino()) };
    // Nobody can connect before it listens, so nobody comes in by a mode that is too wide.
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(Listener::Unix { file, listener: socket.listen(BACKLOG)? })
}

/// What stands there; an error if it must stay.
async fn look(path: &Path) -> io::Result<Found> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            let why = "what stands there is no socket: remove it, or name another path";
            return Err(refused(io::ErrorKind::AlreadyExists, why));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Found::Dead),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        // A full queue is somebody's, too.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            let why = format!("a socket stands there, and whether somebody listens on it is not known: {error}");
            Err(refused(error.kind(), &why))
        }
        Ok(_) | Err(_) => Err(refused(io::ErrorKind::AddrInUse, "in use: another process listens on this socket")),
    }
}

/// The lock of the folder, held until the file is dropped.
async fn lock(path: &Path) -> io::Result<File> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let opened = File::open(folder).map_err(|error| {
        let why = format!("the folder {} cannot be opened: {error}", folder.display());
        refused(error.kind(), &why)
    })?;
    let locked = async {
        loop {
            match opened.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_AGAIN).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    };
    match tokio::time::timeout(LOCK_MAX, locked).await {
        Ok(locked) => locked.map(|()| opened),
        Err(_) => Err(refused(io::ErrorKind::TimedOut, "another process holds a lock on the socket's folder")),
    }
}

/// A client's connection.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The half of it that is read.
pub(super) enum Reader<'a> {
    Tcp(tcp::ReadHalf<'a>),
    Unix(unix::ReadHalf<'a>),
}

/// The half of it that is written.
pub(super) enum Writer<'a> {
    Tcp(tcp::WriteHalf<'a>),
    Unix(unix::WriteHalf<'a>),
}

impl Socket {
    /// Replies go out at once.
    pub(super) fn hurry(&self) {
        if let Socket::Tcp(stream) = self
            && let Err(error) = stream.set_nodelay(true)
        {
            tracing::debug!(%error, "a client's connection keeps Nagle's algorithm");
        }
    }

    pub(super) fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        match self {
            Socket::Tcp(stream) => {
                let (reader, writer) = stream.split();
                (Reader::Tcp(reader), Writer::Tcp(writer))
            }
            Socket::Unix(stream) => {
                let (reader, writer) = stream.split();
                (Reader::Unix(reader), Writer::Unix(writer))
            }
        }
    }

    /// Writes what the system takes without waiting.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(bytes),
            Socket::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// The same, of several pieces.
    pub(super) fn try_write_vectored(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write_vectored(pieces),
            Socket::Unix(stream) => stream.try_write_vectored(pieces),
        }
    }

    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Socket::Tcp(stream) => stream.ready(interest).await,
            Socket::Unix(stream) => stream.ready(interest).await,
        }
    }

    /// Sends what is left and says goodbye.
    pub(super) async fn close(self) {
        let closed = match self {
            Socket::Tcp(mut stream) => stream.shutdown().await,
            Socket::Unix(mut stream) => stream.shutdown().await,
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "a client was gone before its connection was closed");
        }
    }
}

impl AsyncRead for Reader<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Reader::Tcp(half) => Pin::new(half).poll_read(cx, into),
            Reader::Unix(half) => Pin::new(half).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Writer<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Writer::Tcp(half) => Pin::new(half).poll_write(cx, bytes),
            Writer::Unix(half) => Pin::new(half).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Writer::Tcp(half) => Pin::new(half).poll_write_vectored(cx, pieces),
            Writer::Unix(half) => Pin::new(half).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Writer::Tcp(half) => Pin::new(half).poll_flush(cx),
            Writer::Unix(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Writer::Tcp(half) => Pin::new(half).poll_shutdown(cx),
            Writer::Unix(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn why(refused: io::Result<Listener>) -> String {
        refused.map(|_| "it was bound".to_owned()).unwrap_or_else(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_socket_is_made_with_its_mode_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("face.sock");
        let at = ListenAt::Unix(path.clone());
        for mode in [0o600, 0o666, 0o770] {
            let listener = Listener::bind(&at, mode).await.unwrap();
            assert_eq!(std::fs::symlink_metadata(&path).unwrap().mode() & 0o7777, mode);
            assert_eq!(listener.place().unwrap(), at);
            drop(listener);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn only_a_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("face.sock");
        let at = ListenAt::Unix(path.clone());
        let living = Listener::bind(&at, 0o600).await.unwrap();
        assert!(why(Listener::bind(&at, 0o600).await).contains("in use"));
        assert!(can_bind(&at).await.is_err());
        UnixStream::connect(&path).await.unwrap();
        drop(living);

        // The standard library leaves the file behind, as a process that is killed does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        can_bind(&at).await.unwrap();
        assert!(path.exists(), "a look changes nothing");
        let next = Listener::bind(&at, 0o600).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
        drop(next);

        std::fs::write(&path, "a letter").unwrap();
        assert!(why(Listener::bind(&at, 0o600).await).contains("no socket"));
        assert_eq!(std::fs::read(&path).unwrap(), b"a letter");
        let nowhere = ListenAt::Unix(folder.path().join("no/face.sock"));
        assert!(why(Listener::bind(&nowhere, 0o600).await).contains("the folder"));
    }

    #[tokio::test]
    async fn what_another_put_in_its_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("face.sock");
        let listener = Listener::bind(&ListenAt::Unix(path.clone()), 0o600).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_that_begin_at_once_one_has_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("face.sock");
        for _ in 0..20 {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let at = ListenAt::Unix(path.clone());
                all.spawn(async move { Listener::bind(&at, 0o600).await });
            }
            let bound: Vec<Listener> = all.join_all().await.into_iter().flatten().collect();
            assert_eq!(bound.len(), 1);
            UnixStream::connect(&path).await.unwrap();
        }
    }
}
