//! A `redis-server` of a test: started on a free port of the loopback, ended when it is dropped.
//!
//! It never keeps data and never asks anything: each test has a client of its own. The tests of several crates take this one file in.

#![allow(dead_code, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports by panicking")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to listen, on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    pub port: u16,
}

impl RedisServer {
    /// One on a free port, with these arguments more; `None`, with the reason said, if there is no `redis-server` in the path.
    pub fn start(more: &[&str]) -> Option<RedisServer> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        RedisServer::start_on(port, more)
    }

    /// The same on this port.
    pub fn start_on(port: u16, more: &[&str]) -> Option<RedisServer> {
        let settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"];
        let mut command = Command::new("redis-server");
        command.arg("--port").arg(port.to_string()).args(settings).args(more);
        RedisServer::begin(port, command)
    }

    /// A sentinel on this port, with its configuration, which it rewrites.
    pub fn start_sentinel(port: u16, file: &Path) -> Option<RedisServer> {
        let mut command = Command::new("redis-server");
        command.arg(file).arg("--sentinel").arg("--port").arg(port.to_string()).args(["--bind", "127.0.0.1"]);
        RedisServer::begin(port, command)
    }

    #[allow(clippy::disallowed_methods, reason = "a test waits on the real clock until the server listens")]
    fn begin(port: u16, mut command: Command) -> Option<RedisServer> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = child else {
            assert!(std::env::var_os("CI").is_none(), "there is no redis-server in the path");
            println!("skipped: there is no redis-server in the path");
            return None;
        };
        let mut server = RedisServer { child, port };
        let end = Instant::now() + START_MAX;
        while TcpStream::connect(server.address()).is_err() {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("redis-server ended: {status}");
            }
            assert!(Instant::now() < end, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it now.
    pub fn stop(&mut self) {
        // An error means that it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}
