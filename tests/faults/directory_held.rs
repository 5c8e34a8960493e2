//! The directory can be read and not written for a while, as when its disk is full: here another program holds its write lock.

use crate::harness::resp::Reply;
use crate::harness::{http, until};
use crate::{cluster, filler, hset, settled};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A program that holds the write lock of a SQLite file until it is dropped.
struct Holder(Child);

impl Holder {
    /// Returns when it has the lock.
    fn of(file: &Path) -> Holder {
        let text = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1],isolation_level=None,timeout=60)\n\
                    c.execute('BEGIN IMMEDIATE')\nprint('held',flush=True)\nsys.stdin.readline()\nc.execute('ROLLBACK')";
        let child = Command::new("python3").args(["-c", text]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        // Python knows SQLite; the client tests need it too.
        let mut child = child.expect("python3: scripts/prepare.sh test installs it");
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        Holder(child)
    }

    fn let_go(mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // One that has let go has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_rebalancing_says_so_and_nothing_is_lost() {
    let cluster = cluster().set(&["cluster.lease_ms=1000", "cluster.lease_margin_ms=100", "handover.at_once_max=1"]);
    let a = cluster.start("a", &[]);
    let mut client = a.client();
    for n in 0..200 {
        hset(&mut client, &format!("s:{n}"), "v", &filler(&n.to_string(), 2000));
    }
    let b = cluster.start("b", &[]);
    let holder = Holder::of(&cluster.folder.path().join("directory.db"));
    // While the lease lasts, handovers begin; none can be committed.
    let answer = http::post(a.admin, "/api/v1/rebalance").unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("cannot be written"), "{}", answer.text());
    assert!(client.say("HGET s:1 v").is_try_again(), "without a lease nobody answers");
    holder.let_go();
    let (moved, failed) = until("a rebalancing", || {
        let answer = http::post(a.admin, "/api/v1/rebalance").unwrap();
        let value: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
        Some((value["moved"].as_u64()?, value["failed"].as_u64()?)).filter(|_| answer.status == 200)
    });
    assert_eq!(failed, 0, "{moved} moved");
    for n in 0..200 {
        for node in [&a, &b] {
            let read = settled(&mut node.client(), &["HGET", &format!("s:{n}"), "v"]);
            assert_eq!(read, Reply::Bulk(filler(&n.to_string(), 2000)));
        }
    }
    assert!(b.sessions() > 0);
}
