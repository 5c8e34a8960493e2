//! What requests of a route read is learned, and fetched for the next one before its instance asks.

use crate::forward::{Stand, ask, start};
use crate::harness::{http, until};
use crate::{filler, hset};
use serde_json::Value;

const SIZE: usize = 20_000;

fn routes(stand: &Stand, asked: &str) -> Value {
    let answer = http::get(stand.node.admin, &format!("/api/v1/routes{asked}")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

fn read(stand: &Stand, name: &str, sid: &str) {
    let answer = ask(stand.node.http, "GET", &format!("/read/{name}?page=1"), sid);
    assert_eq!((answer.status, answer.text()), (200, format!("{} {SIZE}", stand.node.name)));
}

#[test]
fn what_a_route_needs_is_fetched_before_the_instance_asks() {
    let policy = "[[policy.variable]]\nname = \"late*\"\nclass = \"deferred\"\n";
    let cluster = crate::cluster().with(policy).set(&["handover.trickle=false"]);
    let (a, b) = (start(&cluster, "a"), start(&cluster, "b"));
    [&a, &b].iter().for_each(|stand| stand.node.wait_members(2));
    // Sessions of b teach it what its routes read.
    let mut at_b = b.node.client();
    for sid in ["t1", "t2", "t3", "t4"] {
        for name in ["late1", "late2"] {
            hset(&mut at_b, &format!("s:{sid}"), name, &filler(name, SIZE));
        }
        for name in ["late1", "late2"] {
            read(&b, name, sid);
        }
    }
    let known = routes(&b, "?path=/read/late1");
    assert_eq!((&known["asked"]["template"], &known["asked"]["variables"]), (&"GET /read/late1".into(), &1.into()), "{known}");
    assert_eq!(routes(&b, "?method=POST&path=/read/late1")["asked"]["variables"], Value::Null);

    // Sessions of a, in which everybody reads `late2`: some of them come to b without their late variables.
    let mut at_a = a.node.client();
    for n in 0..8 {
        let key = format!("s:m{n}");
        for name in ["late1", "late2"] {
            hset(&mut at_a, &key, name, &filler(name, SIZE));
        }
        for _ in 0..10 {
            at_a.say(&format!("HGET {key} late2"));
        }
    }
    assert_eq!(a.node.rebalance(), (2, 0));
    let moved: Vec<String> = (0..8).map(|n| format!("m{n}")).filter(|sid| b.node.owns(sid)).collect();
    let missing = || b.node.number("/missing_variables");
    assert_eq!((moved.len(), missing()), (2, 4));
    let (to, cookie) = (b.node.http, format!("sid={}", moved[0]));
    let request = move || http::request(to, "GET", "/read/late1", &[("Cookie", &cookie), ("X-Wait", "1")]).unwrap();
    let waiting = spawn(request);
    // The instance has the request, and has asked for nothing.
    until("the fetch", || (missing() == 3).then_some(()));
    b.instance.let_go();
    assert_eq!(waiting.join().unwrap().text(), format!("b {SIZE}"));
    assert_eq!(missing(), 3, "and nothing else, though it was read more often");
    // Of a route that is not known what is read often is fetched.
    assert_eq!(ask(b.node.http, "GET", "/echo", &moved[1]).status, 200);
    until("the fetch of what is read often", || (missing() == 2).then_some(()));
    read(&b, "late2", &moved[1]);
    assert_eq!(missing(), 2);
}

#[allow(clippy::disallowed_methods, reason = "a client of a test, whose request waits")]
fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::spawn(run)
}

#[test]
fn what_is_shown_of_routes_is_nothing_private() {
    let cluster = crate::cluster();
    let a = start(&cluster, "a");
    hset(&mut a.node.client(), "s:secret-session", "private-field", &filler("x", SIZE));
    for _ in 0..4 {
        read(&a, "private-field", "secret-session");
    }
    until("the route", || (routes(&a, "")["known"] == 1).then_some(()));
    let shown = routes(&a, "").to_string();
    assert_eq!(routes(&a, "")["routes"][0]["variables"], 1, "{shown}");
    for private in ["private", "secret", "read"] {
        assert!(!shown.contains(private), "{shown}");
    }
}
