//! A `redis-server` of a test, as the upstream: started on a free port, ended with the test.
//!
//! It is asked by a plain client: what that sees is what the library would see without Wayfarer.

use crate::harness::resp::Client;
use crate::harness::{free_port, until};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

pub struct Redis {
    child: Child,
    pub port: u16,
}

impl Redis {
    /// `None`, with the reason said, if there is no `redis-server`.
    pub fn start() -> Option<Redis> {
        let port = free_port();
        let settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"];
        let mut command = Command::new("redis-server");
        command.arg("--port").arg(port.to_string()).args(settings).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            println!("skipped: there is no redis-server in the path");
            return None;
        };
        let redis = Redis { child, port };
        until("redis-server to listen", || Client::try_to(redis.address()).ok());
        Some(redis)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn client(&self) -> Client {
        Client::to(self.address())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
