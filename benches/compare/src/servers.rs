//! The servers under measurement: started on free ports of the loopback, pinned, accounted for, and ended with their owner.
//!
//! It never sends load. `operations`, `sessions` and `http` start what they compare.
//!
//! | figure | from |
//! |---|---|
//! | CPU seconds | `/proc/PID/stat`: user and system time of all threads of the process, as the kernel counts them |
//! | bytes of RSS | `/proc/PID/statm` |
//!
//! Invariant: a server ends, and its folder goes, when its [`Process`] is dropped, also after an error.

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

/// A running program with a folder of its own.
pub struct Process {
    name: &'static str,
    child: Child,
    folder: PathBuf,
}

/// A running server of RESP.
pub struct Server {
    pub kind: Kind,
    pub port: u16,
    process: Process,
}

/// A free port of the loopback; whoever asked for it binds it at once.
pub fn free_port() -> Result<u16, String> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(|e| format!("no free port: {e}"))?;
    Ok(address.port())
}

/// CPU seconds that all threads of a process have used so far.
pub fn cpu_s_of(pid: u32) -> Result<f64, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| format!("a process is gone: {e}"))?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).ok_or("an unreadable /proc/PID/stat");
    Ok((ticks(11)? + ticks(12)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A new folder for a server at this port.
pub fn folder_of(port: u16) -> Result<PathBuf, String> {
    let folder = std::env::temp_dir().join(format!("wayfarer-compare-{}-{port}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|e| format!("no folder for a server: {e}"))?;
    Ok(folder)
}

impl Process {
    /// Starts a program on these CPUs (`0` or `0,1`) in its folder, and waits until it answers as it should.
    pub fn start(
        name: &'static str,
        words: &[&str],
        cpus: &str,
        folder: PathBuf,
        answers: impl Fn() -> bool,
    ) -> Result<Process, String> {
        let failed = |e: std::io::Error| format!("cannot start {name}: {e}");
        let log = File::create(folder.join("log")).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        let mut command = Command::new("taskset");
        command.args(["-c", cpus]).args(words).current_dir(&folder);
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(failed)?;
        let mut process = Process { name, child, folder };
        let end = now() + PATIENCE;
        while !answers() {
            if matches!(process.child.try_wait(), Ok(Some(_))) || now() > end {
                let log = fs::read_to_string(process.folder.join("log")).unwrap_or_default();
                return Err(format!("{name} does not answer:\n{log}"));
            }
            pause(Duration::from_millis(50));
        }
        Ok(process)
    }

    /// CPU seconds that it has used so far.
    pub fn cpu_s(&self) -> Result<f64, String> {
        cpu_s_of(self.child.id()).map_err(|error| format!("{}: {error}", self.name))
    }

    /// Bytes of its memory that are resident.
    pub fn rss_bytes(&self) -> Result<u64, String> {
        let file = format!("/proc/{}/statm", self.child.id());
        let text = fs::read_to_string(file).map_err(|e| format!("{} is gone: {e}", self.name))?;
        let pages: u64 = text.split_whitespace().nth(1).and_then(|f| f.parse().ok()).ok_or("an unreadable /proc/PID/statm")?;
        Ok(pages * rustix::param::page_size() as u64)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing of it is to be kept, so it need not end in order; one that has ended already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Server {
    /// Starts a server on these CPUs (`0` or `0,1`), with a worker on each, empty.
    pub fn start(kind: Kind, binary: &str, cpus: &str) -> Result<Server, String> {
        let port = free_port()?;
        let folder = folder_of(port)?;
        let port_word = port.to_string();
        let redis = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port_word];
        let config = folder.join("wayfarer.toml").to_string_lossy().into_owned();
        let words = match kind {
            Kind::Redis => redis.to_vec(),
            Kind::RedisListpack => [redis.as_slice(), &["--hash-max-listpack-value", "128"]].concat(),
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
                fs::write(&config, text).map_err(|e| format!("cannot configure {}: {e}", kind.name()))?;
                vec![binary, "run", "-c", &config]
            }
        };
        let process = Process::start(kind.name(), &words, cpus, folder, || writes(port))?;
        Ok(Server { kind, port, process })
    }

    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Whether the server at this port takes writes to sessions.
pub fn writes(port: u16) -> bool {
    let probe = encode(&["SET", "sess:probe", "1"]);
    Plain::connect(port).and_then(|mut client| client.ask(&probe)).is_ok_and(|reply| reply == b"+OK\r\n")
}
