//! Two network namespaces joined by a cable, for tests of rules of the kernel: `pod`, where a service and its sidecars are, and `world`.
//!
//! It never touches the namespace that the test was started in: a thread goes into one of the two, and what it connects, listens at and
//! starts from then on is there. A namespace lives as long as a process that waits for the end of its input, which ends with the test,
//! however that ends; so nothing is left behind.
//!
//! | | addresses |
//! |---|---|
//! | `pod` | 10.99.0.10, fd99::10 |
//! | `world` | 10.99.0.1, 10.99.0.2, fd99::1 |
//!
//! Needs root, and the programs of [`PROGRAMS`]. Who is not root skips such a test with the reason.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

/// Each with an argument that only looks.
const PROGRAMS: [(&str, &str); 4] = [("ip", "-V"), ("nft", "-v"), ("iptables", "-V"), ("unshare", "-V")];

/// A namespace, by the process that holds it.
struct Namespace(Child);

impl Namespace {
    fn make() -> Namespace {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready", "no network namespace could be made");
        Namespace(holder)
    }

    fn enter(&self) {
        let file = File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends with its input.
        drop(self.0.wait());
    }
}

/// See the head of this file.
pub struct Network {
    pod: Namespace,
    world: Namespace,
}

impl Network {
    pub const POD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 10));
    pub const REDIS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 1));
    pub const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 2));
    pub const OVER_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1));

    /// Both, with this thread in the pod. `None`, with the reason said, if this user or machine cannot have any.
    pub fn make() -> Option<Network> {
        let may = rustix::process::geteuid().is_root()
            && Command::new("unshare")
                .args(["--net", "true"])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
        if !may {
            println!("skipped: network namespaces are for root (with CAP_SYS_ADMIN) to make");
            return None;
        }
        for (program, look) in PROGRAMS {
            let runs = Command::new(program).arg(look).stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !runs.is_ok_and(|status| status.success()) {
                assert!(std::env::var_os("CI").is_none(), "{program} does not run: scripts/prepare.sh test");
                println!("skipped: {program} does not run: scripts/prepare.sh test");
                return None;
            }
        }
        let network = Network { pod: Namespace::make(), world: Namespace::make() };
        network.enter_pod();
        let world = network.world.0.id().to_string();
        ip(&["link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", &world]);
        attach(&["10.99.0.10/24", "fd99::10/64"]);
        network.enter_world();
        attach(&["10.99.0.1/24", "10.99.0.2/24", "fd99::1/64"]);
        network.enter_pod();
        Some(network)
    }

    /// This thread, and what it starts from now on, is in the pod.
    pub fn enter_pod(&self) {
        self.pod.enter();
    }

    /// This thread, and what it starts from now on, is in the world.
    pub fn enter_world(&self) {
        self.world.enter();
    }

    /// Does something in the world, and comes back.
    pub fn in_world<T>(&self, work: impl FnOnce() -> T) -> T {
        self.enter_world();
        let done = work();
        self.enter_pod();
        done
    }
}

fn attach(addresses: &[&str]) {
    for address in addresses {
        // Addresses of IPv6 are usable at once, and not after a look whether somebody else has them.
        let more: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        ip(&[&["address", "add", address, "dev", "wire"], more].concat());
    }
    ip(&["link", "set", "wire", "up"]);
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().unwrap();
    assert!(done.status.success(), "ip {arguments:?}: {done:?}");
}

/// What a program of administrators prints.
pub fn printed(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}
