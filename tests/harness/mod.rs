//! Real sidecars as processes, for tests: started on free ports in a folder of their own, ended with the test.
//!
//! It never sleeps for "long enough": [`until`] polls a condition with a deadline and says what it waited for. Every process is
//! ended by its id when its owner is dropped, also after a failure.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

pub mod http;
pub mod instance;
pub mod network;
pub mod redis_cluster;
pub mod redis_server;
pub mod resp;
pub mod scene;

use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long anything may take before a test fails: generous, because two cores run many tests at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `look` gives something; fails the test after [`PATIENCE`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < end, "waited {} s in vain: {what}", PATIENCE.as_secs());
        pause();
    }
}

#[allow(clippy::disallowed_methods, reason = "tests wait on the real clock")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Ports below those that the kernel gives to outgoing connections, so that none of the many that tests open takes one first.
const PORTS: std::ops::Range<u64> = 12_000..32_000;

/// A free port of the loopback. It is free when this returns; whoever binds it next should do so soon.
pub fn free_port() -> u16 {
    use std::hash::BuildHasher;
    static GIVEN: std::sync::Mutex<std::collections::BTreeSet<u16>> = std::sync::Mutex::new(std::collections::BTreeSet::new());
    until("a free port", || {
        let random = std::hash::RandomState::new().hash_one(std::process::id());
        let port = u16::try_from(PORTS.start + random % (PORTS.end - PORTS.start)).unwrap();
        let free = GIVEN.lock().unwrap().insert(port) && TcpListener::bind(("127.0.0.1", port)).is_ok();
        free.then_some(port)
    })
}

/// Runs the binary with these arguments to its end.
pub fn wayfarer(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_wayfarer")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A folder with a directory file: the nodes that are started in it are one cluster.
pub struct Cluster {
    pub folder: Arc<tempfile::TempDir>,
    /// The `[state] keys` of all nodes.
    pub keys: String,
    /// More configuration for all nodes: whole sections.
    pub more: String,
    /// Single settings for the nodes that start from now on, over everything else: `section.key=value`.
    pub set: Vec<String>,
    /// How the session's cookie is written: `plain` or `express`.
    pub codec: &'static str,
    /// The user as whom the nodes run that start from now on; `None`: who runs the test.
    pub user: Option<u32>,
}

impl Cluster {
    pub fn new(keys: &str) -> Cluster {
        Cluster {
            folder: Arc::new(tempfile::tempdir().unwrap()),
            keys: keys.to_owned(),
            more: String::new(),
            set: Vec::new(),
            codec: "plain",
            user: None,
        }
    }

    pub fn with(mut self, more: &str) -> Cluster {
        self.more = more.to_owned();
        self
    }

    /// Changes single settings: `section.key=value`.
    pub fn set(mut self, settings: &[&str]) -> Cluster {
        self.set.extend(settings.iter().map(|s| (*s).to_owned()));
        self
    }

    /// Its nodes run as this user, who may write to its folder and run the program from there, wherever that was built.
    pub fn run_by(mut self, user: u32) -> Cluster {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(self.folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let (built, here) = (env!("CARGO_BIN_EXE_wayfarer"), self.program());
        if std::fs::hard_link(built, &here).is_err() {
            std::fs::copy(built, &here).unwrap();
        }
        self.user = Some(user);
        self
    }

    /// Where the program is for who may not go where it was built.
    fn program(&self) -> PathBuf {
        self.folder.path().join("wayfarer")
    }

    /// Writes the configuration of a node and starts it, with an instance if there is a command. Returns when it is ready.
    pub fn start(&self, name: &str, command: &[&str]) -> Node {
        let mut node = self.spawn(name, command);
        node.wait_ready();
        node
    }

    /// The same, without waiting.
    pub fn spawn(&self, name: &str, command: &[&str]) -> Node {
        let [app, http, state, control, admin] = std::array::from_fn(|_| free_port());
        let text = format!(
            "[app]\nname = \"test\"\nversion = \"1\"\naddress = \"127.0.0.1:{app}\"\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\nsession = {{ cookie = \"sid\", codec = \"{codec}\" }}\n\
             [state]\nlisten = \"127.0.0.1:{state}\"\nkeys = {keys}\n\
             [cluster]\nname = \"test\"\nnode = \"{name}\"\ncontrol = \"127.0.0.1:{control}\"\ndirectory = \"sqlite:{directory}\"\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\nid_key = \"000102030405060708090a0b0c0d0e0f\"\n\
             {more}\n",
            keys = self.keys,
            directory = self.folder.path().join("directory.db").display(),
            more = self.more,
            codec = self.codec,
        );
        let config = self.folder.path().join(format!("{name}-{admin}.toml"));
        std::fs::write(&config, text).unwrap();
        let log = config.with_extension("log");
        let mut start = match self.user {
            None => Command::new(env!("CARGO_BIN_EXE_wayfarer")),
            Some(user) => {
                let mut start = Command::new(self.program());
                std::os::unix::process::CommandExt::uid(&mut start, user);
                start
            }
        };
        start.arg("run").arg("-c").arg(&config);
        for setting in &self.set {
            start.arg("--set").arg(setting);
        }
        if !command.is_empty() {
            start.arg("--").args(command).env("INSTANCE", name);
        }
        let out = config.with_extension("out");
        start.stdin(Stdio::null()).stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&log).unwrap());
        let child = start.spawn().unwrap();
        let of = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let [app, http, state, control, admin] = [app, http, state, control, admin].map(of);
        let folder = self.folder.clone();
        Node { name: name.to_owned(), child: Some(child), folder, config, log, out, app, http, state, control, admin }
    }
}

/// One sidecar process.
pub struct Node {
    pub name: String,
    child: Option<Child>,
    /// Stays as long as somebody needs it, the directory above all.
    #[allow(dead_code, reason = "it is only held")]
    folder: Arc<tempfile::TempDir>,
    pub config: PathBuf,
    pub log: PathBuf,
    pub out: PathBuf,
    pub app: SocketAddr,
    pub http: SocketAddr,
    pub state: SocketAddr,
    pub control: SocketAddr,
    pub admin: SocketAddr,
}

impl Node {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    /// A connection to its state face.
    pub fn client(&self) -> resp::Client {
        resp::Client::to(self.state)
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn wait_ready(&mut self) {
        let admin = self.admin;
        let end = now() + PATIENCE;
        while !http::get(admin, "/readyz").is_ok_and(|r| r.status == 200) {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("node {} ended with {status}:\n{}", self.name, self.log_text());
            }
            assert!(now() < end, "node {} is not ready:\n{}", self.name, self.log_text());
            pause();
        }
    }

    fn json(&self, path: &str) -> Value {
        let answer = http::get(self.admin, path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_str(&answer.text()).unwrap()
    }

    /// `GET /api/v1/status`.
    pub fn status(&self) -> Value {
        self.json("/api/v1/status")
    }

    pub fn sessions(&self) -> u64 {
        self.status()["sessions"].as_u64().unwrap()
    }

    /// `GET /api/v1/moves`.
    pub fn moves(&self) -> Value {
        self.json("/api/v1/moves")
    }

    /// Rebalances the cluster through this node; moved and failed.
    pub fn rebalance(&self) -> (u64, u64) {
        let answer = http::post(self.admin, "/api/v1/rebalance").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let value: Value = serde_json::from_str(&answer.text()).unwrap();
        (value["moved"].as_u64().unwrap(), value["failed"].as_u64().unwrap())
    }

    pub fn ask_drain(&self) {
        assert_eq!(http::post(self.admin, "/drain").unwrap().status, 202);
    }

    /// The value of a metric, summed over its labels; 0 if it has not been counted yet.
    pub fn metric(&self, name: &str) -> f64 {
        let text = http::get(self.admin, "/metrics").unwrap().text();
        let of = |line: &str| {
            line.strip_prefix(name).filter(|r| r.starts_with([' ', '{'])).and_then(|r| r.rsplit(' ').next()?.parse().ok())
        };
        text.lines().filter_map(of).fold(0.0, |sum, n: f64| sum + n)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// SIGSTOP, and waits until it has reached every thread: until then some of them still answer.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid());
        let is_stopped = |task: std::fs::DirEntry| {
            // The state stands behind the name, which is in parentheses. A thread that has just ended is stopped enough.
            let text = std::fs::read_to_string(task.path().join("stat"));
            text.map_or(true, |text| text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
        };
        until("every thread to stop", || std::fs::read_dir(&tasks).unwrap().flatten().all(is_stopped).then_some(()));
    }

    /// The processes that it has started: its instance. The kernel leaves them behind when a sidecar is killed.
    fn instances(&self) -> Vec<rustix::process::Pid> {
        let Some(child) = &self.child else { return Vec::new() };
        let mut found = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|p| rustix::process::Pid::from_raw(p.parse().ok()?)));
        }
        found
    }

    /// kill -9 of the sidecar and its instance, as when their machine goes; waits for the sidecar's end.
    pub fn kill(&mut self) {
        let instances = self.instances();
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        for instance in instances {
            // It may have ended by itself meanwhile.
            let _ = rustix::process::kill_process(instance, rustix::process::Signal::KILL);
        }
    }

    /// How it has ended, if it has.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().unwrap().try_wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        until("the end of a node", || child.try_wait().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of node {} ---\n{}", self.name, self.log_text());
        }
    }
}

/// Which key shows sessions in all nodes that tests start: `admin.id_key` of [`Cluster::spawn`].
const ID_KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

impl Node {
    /// The keyed hashes of the sessions that it owns.
    pub fn owned(&self) -> std::collections::BTreeSet<String> {
        let listed = self.json("/api/v1/sessions?limit=10000");
        let shown = |s: &Value| s["session"].as_str().unwrap().to_owned();
        listed["sessions"].as_array().unwrap().iter().map(shown).collect()
    }

    /// Whether it owns the session with this id.
    pub fn owns(&self, id: &str) -> bool {
        self.owned().contains(&wayfarer_engine::ids::IdKey(ID_KEY).show(id.as_bytes()))
    }

    /// Waits until a number of its status, by JSON pointer, is as wanted.
    pub fn wait_status(&self, pointer: &str, wanted: u64) {
        until(&format!("{pointer} = {wanted} at {}", self.name), || (self.number(pointer) == wanted).then_some(()));
    }

    /// Waits until it sees so many members that are alive.
    pub fn wait_members(&self, alive: usize) {
        let count = || {
            let status = self.status();
            status["members"].as_array().unwrap().iter().filter(|m| m["state"] != "fenced").count()
        };
        until(&format!("{alive} members at {}", self.name), || (count() == alive).then_some(()));
    }

    /// A number of its status, by JSON pointer: `/bytes/late`.
    pub fn number(&self, pointer: &str) -> u64 {
        self.status().pointer(pointer).unwrap().as_u64().unwrap()
    }
}
