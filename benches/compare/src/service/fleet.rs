//! Three instances of a service and their Redis, with or without sidecars: processes on free ports of the loopback.
//!
//! It never sends requests. The service is the example shop of the product's own binary, which keeps its session as a hash through a
//! common Redis client library and knows nothing of sidecars.
//!
//! Invariant: every process ends, and the folder goes, when the [`Fleet`] is dropped, also after an error.

use super::relay;
use crate::clock::{now, pause};
use crate::servers::{Kind, cpu_s_of, free_port};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a process may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
const INSTANCES: usize = 3;

/// See the head of this file.
pub struct Fleet {
    pub kind: Kind,
    doors: Vec<u16>,
    children: Vec<Child>,
    folder: PathBuf,
    /// `[http] forward` of its sidecars.
    forward: &'static str,
}

impl Fleet {
    /// Starts a fleet, and waits until all of it answers. `forward`: `[http] forward` of its sidecars; `one_way`: what each way to
    /// Redis, and between nodes, takes longer.
    pub fn start(kind: Kind, binary: &str, forward: &'static str, one_way: Option<Duration>) -> Result<Fleet, String> {
        let redis = free_port()?;
        let folder = std::env::temp_dir().join(format!("wayfarer-service-{}-{redis}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut fleet = Fleet { kind, doors: Vec::new(), children: Vec::new(), folder, forward };
        let mut server = Command::new("redis-server");
        server.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &redis.to_string()]);
        fleet.spawn("redis", server)?;
        wait("redis-server", || answers(redis, b"PING\r\n", b"+PONG"), &fleet.folder)?;
        let longer = |port| one_way.map_or(Ok(port), |one_way| relay::start(port, one_way));
        let redis = longer(redis)?;
        for name in ["a", "b", "c"].into_iter().take(INSTANCES) {
            let door = if kind == Kind::Wayfarer {
                fleet.sidecar(name, binary, redis, longer)?
            } else {
                fleet.shop(name, binary, redis)?
            };
            fleet.doors.push(door);
        }
        for door in fleet.doors.clone() {
            wait("an instance", || answers(door, b"GET /readyz HTTP/1.1\r\nHost: shop\r\n\r\n", b"HTTP/1.1 200"), &fleet.folder)?;
        }
        Ok(fleet)
    }

    fn shop(&mut self, name: &str, binary: &str, redis: u16) -> Result<u16, String> {
        let port = free_port()?;
        let mut shop = Command::new(binary);
        shop.arg("shop").env("PORT", port.to_string()).env("REDIS_URL", format!("redis://127.0.0.1:{redis}/0"));
        self.spawn(name, shop)?;
        Ok(port)
    }

    fn sidecar(
        &mut self,
        name: &str,
        binary: &str,
        redis: u16,
        longer: impl Fn(u16) -> Result<u16, String>,
    ) -> Result<u16, String> {
        let (http, control, app, state) = (free_port()?, free_port()?, free_port()?, free_port()?);
        let text = format!(
            "[app]\naddress = \"127.0.0.1:{app}\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
             session = {{ cookie = \"sid\", codec = \"plain\" }}\nforward = \"{}\"\n[state]\nlisten = \"127.0.0.1:{state}\"\n\
             upstream = \"redis://127.0.0.1:{redis}/0\"\nkeys = [{{ pattern = \"shop:{{session}}\", layout = \"hash\" }}]\n\
             [cluster]\nnode = \"{name}\"\ncontrol = \"127.0.0.1:{control}\"\nadvertise = \"127.0.0.1:{}\"\n\
             directory = \"sqlite:{}\"\n[admin]\nenabled = false\n[runtime]\nworkers = 1\n[log]\nlevel = \"warn\"\n",
            self.forward,
            longer(control)?,
            self.folder.join("directory.db").display(),
        );
        let config = self.folder.join(format!("{name}.toml"));
        fs::write(&config, text).map_err(|e| format!("{}: {e}", config.display()))?;
        let mut sidecar = Command::new(binary);
        sidecar.args(["run", "-c"]).arg(config).args(["--", binary, "shop"]);
        self.spawn(name, sidecar)?;
        Ok(http)
    }

    fn spawn(&mut self, name: &str, mut command: Command) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("cannot start {name}: {e}");
        let log = File::create(self.folder.join(format!("{name}.log"))).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        let child = command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(failed)?;
        self.children.push(child);
        Ok(())
    }

    /// The ports that visitors come to.
    pub fn doors(&self) -> Vec<u16> {
        self.doors.clone()
    }

    /// CPU seconds of all processes so far, the instances that sidecars have started included.
    pub fn cpu_s(&self) -> Result<f64, String> {
        let mut pids: Vec<u32> = self.children.iter().map(Child::id).collect();
        let mut seconds = 0.0;
        while let Some(pid) = pids.pop() {
            seconds += cpu_s_of(pid)?;
            pids.extend(children_of(pid)?);
        }
        Ok(seconds)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Nothing of it is to be kept. A shop that its sidecar has started sees that it is gone, and ends by itself.
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Processes that it has started, by any of its threads. An error where the kernel does not list them: their CPU would be missing.
fn children_of(pid: u32) -> Result<Vec<u32>, String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| format!("a process of the fleet is gone: {e}"))?;
    // A thread may end meanwhile, and the first one stays.
    let texts: Vec<String> = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
    if texts.is_empty() {
        return Err("this kernel does not list the children of a process (CONFIG_PROC_CHILDREN)".to_owned());
    }
    Ok(texts.iter().flat_map(|text| text.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect())
}

/// Whether somebody at this port says what is expected.
fn answers(port: u16, ask: &[u8], expected: &[u8]) -> bool {
    let mut said = vec![0; expected.len()];
    let asked = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(ask)?;
        stream.read_exact(&mut said)
    });
    asked.is_ok() && said == expected
}

fn wait(who: &str, is_there: impl Fn() -> bool, folder: &Path) -> Result<(), String> {
    let end = now() + PATIENCE;
    while !is_there() {
        if now() > end {
            let logs = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
            let logs = logs.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
            let said: Vec<String> = logs.filter_map(|path| fs::read_to_string(path).ok()).collect();
            return Err(format!("{who} does not answer:\n{}", said.concat()));
        }
        pause(Duration::from_millis(50));
    }
    Ok(())
}
