//! The servers under measurement: started on free ports of the loopback, pinned, accounted for, and ended with their owner.
//!
//! It never sends load. `operations` and `sessions` start what they compare.
//!
//! | figure | from |
//! |---|---|
//! | CPU seconds | `/proc/PID/stat`: user and system time of all threads of the process, as the kernel counts them |
//! | bytes of RSS | `/proc/PID/statm` |
//!
//! Invariant: a server ends, and its folder goes, when its [`Server`] is dropped, also after an error.

use crate::clock::{now, pause};
use crate::wire::{Plain, encode};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// redis-server with its defaults.
    Redis,
    /// redis-server with `hash-max-listpack-value 128`: hashes of 100 B fields stay compact.
    RedisListpack,
    /// The release binary.
    Wayfarer,
}

pub const KINDS: [Kind; 3] = [Kind::Redis, Kind::RedisListpack, Kind::Wayfarer];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Redis => "redis",
            Kind::RedisListpack => "redis-listpack",
            Kind::Wayfarer => "wayfarer",
        }
    }
}

/// A running server.
pub struct Server {
    pub kind: Kind,
    pub port: u16,
    child: Child,
    folder: PathBuf,
}

/// A free port of the loopback; whoever asked for it binds it at once.
pub fn free_port() -> Result<u16, String> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(|e| format!("no free port: {e}"))?;
    Ok(address.port())
}

impl Server {
    /// Starts a server on these CPUs (`0` or `0,1`), with a worker on each, empty.
    pub fn start(kind: Kind, binary: &str, cpus: &str) -> Result<Server, String> {
        let port = free_port()?;
        let folder = std::env::temp_dir().join(format!("wayfarer-compare-{}-{port}", std::process::id()));
        let failed = |e: std::io::Error| format!("cannot start {}: {e}", kind.name());
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut command = Command::new("taskset");
        command.args(["-c", cpus]);
        match kind {
            Kind::Redis | Kind::RedisListpack => {
                command.args(["redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
                command.args(["--port", &port.to_string()]);
                if kind == Kind::RedisListpack {
                    command.args(["--hash-max-listpack-value", "128"]);
                }
            }
            Kind::Wayfarer => {
                let text = format!(
                    "[http]\nenabled = false\n[state]\nlisten = \"127.0.0.1:{port}\"\n\
                     keys = [{{ pattern = \"sess:{{session}}\", layout = \"opaque\" }}]\n\
                     [cluster]\nnode = \"a\"\ncontrol = \"127.0.0.1:{}\"\ndirectory = \"sqlite:{}\"\n[admin]\nenabled = false\n\
                     [runtime]\nworkers = {}\n[log]\nlevel = \"warn\"\n",
                    free_port()?,
                    folder.join("directory.db").display(),
                    cpus.split(',').count(),
                );
                let config = folder.join("wayfarer.toml");
                fs::write(&config, text).map_err(failed)?;
                command.args([binary, "run", "-c", &config.to_string_lossy()]);
            }
        }
        let log = File::create(folder.join("log")).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        let child = command.current_dir(&folder).stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(failed)?;
        let mut server = Server { kind, port, child, folder };
        server.wait_until_it_writes()?;
        Ok(server)
    }

    fn wait_until_it_writes(&mut self) -> Result<(), String> {
        let end = now() + PATIENCE;
        let probe = encode(&["SET", "sess:probe", "1"]);
        loop {
            if matches!(self.child.try_wait(), Ok(Some(_))) || now() > end {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("{} does not answer:\n{log}", self.kind.name()));
            }
            if Plain::connect(self.port).and_then(|mut client| client.ask(&probe)).is_ok_and(|reply| reply == b"+OK\r\n") {
                return Ok(());
            }
            pause(Duration::from_millis(50));
        }
    }

    /// CPU seconds that the process has used so far.
    pub fn cpu_s(&self) -> Result<f64, String> {
        let text = self.proc("stat")?;
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).ok_or("an unreadable /proc/PID/stat");
        Ok((ticks(11)? + ticks(12)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Bytes of its memory that are resident.
    pub fn rss_bytes(&self) -> Result<u64, String> {
        let text = self.proc("statm")?;
        let pages: u64 = text.split_whitespace().nth(1).and_then(|f| f.parse().ok()).ok_or("an unreadable /proc/PID/statm")?;
        Ok(pages * rustix::param::page_size() as u64)
    }

    fn proc(&self, file: &str) -> Result<String, String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).map_err(|e| format!("{} is gone: {e}", self.kind.name()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is to be kept, so it need not end in order; one that has ended already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}
