//! The origin of a handover dies after the commit: what it had given is safe, what had to be fetched from it is lost and says so.

use crate::harness::resp::{Client, Reply};
use crate::harness::{Cluster, Node, until};
use crate::{cluster, filler, hset, settled};

const SESSIONS: usize = 12;
const SIZE: usize = 5000;

/// Sessions at a; the half of them moved to b, with `error*` and `absent*` left behind. The ids of those.
fn moved() -> (Cluster, Node, Node, Vec<String>) {
    let policy = "[[policy.variable]]\nname = \"error*\"\nclass = \"deferred\"\non_lost = \"error\"\n\
                  [[policy.variable]]\nname = \"absent*\"\nclass = \"deferred\"\non_lost = \"absent\"\n\
                  [[policy.variable]]\nname = \"*\"\nclass = \"carried\"\n";
    let cluster = cluster().with(policy).set(&["handover.trickle=false"]);
    let a = cluster.start("a", &[]);
    let mut client = a.client();
    for n in 0..SESSIONS {
        let key = format!("s:h{n}");
        for field in ["error1", "error2", "absent1", "absent2", "carried"] {
            assert_eq!(hset(&mut client, &key, field, &value(n, field)), Reply::Int(1));
        }
        assert_eq!(client.call(&[b"SET".as_slice(), format!("k:h{n}").as_bytes(), &value(n, "blob")]), Reply::ok());
    }
    let b = cluster.start("b", &[]);
    assert_eq!(a.rebalance(), (SESSIONS as u64 / 2, 0));
    let ids = (0..SESSIONS).map(|n| format!("h{n}")).filter(|id| b.owns(id)).collect();
    (cluster, a, b, ids)
}

fn value(n: usize, field: &str) -> Vec<u8> {
    filler(&format!("{field} of {n}"), SIZE)
}

fn number(id: &str) -> usize {
    id[1..].parse().unwrap()
}

fn check_carried(client: &mut Client, id: &str) {
    assert_eq!(client.call(&["HGET", &format!("s:{id}"), "carried"]), Reply::Bulk(value(number(id), "carried")));
    assert_eq!(client.call(&["GET", &format!("k:{id}")]), Reply::Bulk(value(number(id), "blob")));
    assert_eq!(client.call(&["HLEN", &format!("s:{id}")]), Reply::Int(5), "the manifest knows them all");
}

#[test]
fn what_was_not_fetched_is_a_clear_error_until_it_is_declared_lost() {
    let (_cluster, mut a, b, ids) = moved();
    let mut client = b.client();
    let key = |id: &str| format!("s:{id}");
    assert_eq!(client.call(&["HGET", &key(&ids[0]), "error1"]), Reply::Bulk(value(number(&ids[0]), "error1")), "fetched in time");

    // Frozen it is not dead: its variables may still come, so nobody may say anything about them.
    a.freeze();
    for field in ["error2", "absent2"] {
        let said = client.call(&["HGET", &key(&ids[0]), field]);
        assert!(said.is_try_again() && said.error().contains("does not answer"), "{said:?}");
    }
    for id in &ids {
        check_carried(&mut client, id);
        assert_eq!(client.call(&["HINCRBY", &key(id), "count", "1"]), Reply::Int(1));
        assert_eq!(client.call(&["HDEL", &key(id), "count"]), Reply::Int(1));
    }
    assert_eq!(b.number("/variables_lost"), 0);

    a.kill();
    let said = settled(&mut client, &["HGET", &key(&ids[0]), "error2"]);
    assert!(
        said.error().starts_with("ERR ") && said.error().contains("was lost") && said.error().contains("on_lost"),
        "{said:?}"
    );
    b.wait_members(1);
    assert_eq!(client.call(&["HGET", &key(&ids[0]), "error1"]), Reply::Bulk(value(number(&ids[0]), "error1")), "it was fetched");
    for id in &ids[1..] {
        check_carried(&mut client, id);
        assert!(settled(&mut client, &["HGET", &key(id), "error1"]).error().contains("was lost"));
        assert!(client.call(&["HINCRBY", &key(id), "error1", "1"]).error().contains("was lost"), "what needs the old value");
        assert!(client.call(&["HGETALL", &key(id)]).error().contains("was lost"), "never with members missing");
        assert_eq!(client.call(&["HGET", &key(id), "absent1"]), Reply::Nil, "policy: as if it had been deleted");
        assert_eq!(client.call(&["HEXISTS", &key(id), "absent1"]), Reply::Int(0));
    }
    // An overwrite cures it.
    let id = &ids[1];
    assert_eq!(client.call(&["HSET", &key(id), "error1", "new"]), Reply::Int(0));
    assert_eq!(client.call(&["HGET", &key(id), "error1"]), Reply::text("new"));
    assert_eq!(client.call(&["HDEL", &key(id), "error2"]), Reply::Int(1));
    assert_eq!(client.call(&["HGET", &key(id), "error2"]), Reply::Nil);
    assert_eq!(client.call(&["HMGET", &key(id), "error1", "absent2"]), Reply::Array(vec![Reply::text("new"), Reply::Nil]));
    assert!(b.number("/variables_lost") > 0);
    assert_eq!(b.metric("wayfarer_variables_lost_total") as u64, b.number("/variables_lost"));
}

#[test]
fn what_was_carried_is_safe_when_the_origin_is_killed() {
    let (cluster, mut a, b, ids) = moved();
    let stayed: Vec<String> = (0..SESSIONS).map(|n| format!("h{n}")).filter(|id| !ids.contains(id)).collect();
    a.kill();
    let c = cluster.start("c", &[]);
    let (mut at_b, mut at_c) = (b.client(), c.client());
    for id in &ids {
        check_carried(&mut at_b, id);
        assert_eq!(settled(&mut at_c, &["HGET", &format!("s:{id}"), "carried"]), Reply::Bulk(value(number(id), "carried")));
    }
    // Those that a owned are lost with it: absent everywhere, and can be born again.
    for id in &stayed {
        assert_eq!(settled(&mut at_b, &["EXISTS", &format!("s:{id}"), &format!("k:{id}")]), Reply::Int(0));
        assert_eq!(settled(&mut at_c, &["HSET", &format!("s:{id}"), "again", "1"]), Reply::Int(1));
        assert_eq!(at_b.call(&["HGETALL", &format!("s:{id}")]), Reply::Array(vec![Reply::text("again"), Reply::text("1")]));
    }
}

#[test]
fn the_origin_is_killed_the_moment_that_something_has_committed() {
    for round in 0..3 {
        let mut cluster = cluster();
        cluster.set.push("policy.class=carried".into());
        let mut a = cluster.start("a", &[]);
        let mut client = a.client();
        for n in 0..60 {
            hset(&mut client, &format!("s:r{n}"), "v", &filler(&format!("{round} {n}"), 3000));
        }
        let b = cluster.start("b", &[]);
        a.wait_members(2);
        let admin = a.admin;
        let order = std::thread::Builder::new();
        #[allow(clippy::disallowed_methods, reason = "the order is given while the test watches")]
        let order = order.spawn(move || drop(crate::harness::http::post(admin, "/api/v1/rebalance"))).unwrap();
        until("the first commits", || (b.number("/handovers/taken") > round * 8).then_some(()));
        a.kill();
        order.join().unwrap();
        // What b has is whole; the others went with a. Nothing is between.
        let mut client = b.client();
        let mut found = 0;
        for n in 0..60 {
            match settled(&mut client, &["HGETALL", &format!("s:r{n}")]) {
                Reply::Array(all) if all.is_empty() => {}
                all => {
                    assert_eq!(all, Reply::Array(vec![Reply::text("v"), Reply::Bulk(filler(&format!("{round} {n}"), 3000))]));
                    found += 1;
                }
            }
        }
        assert_eq!(b.sessions(), found);
        assert_eq!(b.number("/handovers/taken"), found);
        assert_eq!(b.number("/variables_lost"), 0);
    }
}
