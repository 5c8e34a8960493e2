//! The limit of memory, without an upstream: births and growing writes are refused as Redis refuses them, and nothing is lost.

use crate::cluster;
use crate::harness::resp::Reply;

#[test]
fn a_full_node_refuses_births_and_growth_and_loses_nothing() {
    let node = cluster().set(&["state.max_memory=1048576"]).start("a", &[]);
    let mut client = node.client();
    let value = "x".repeat(10_000);
    let mut born = 0;
    let refused = loop {
        match client.call(&["SET", &format!("k:{born}"), &value]) {
            reply if reply == Reply::ok() => born += 1,
            other => break other,
        }
        assert!(born < 1000, "no limit");
    };
    assert_eq!(refused.error(), "OOM command not allowed when used memory > 'maxmemory'.");
    assert!((60..120).contains(&born), "{born} sessions of 10 kB in 1 MiB");
    assert_eq!(node.sessions(), born, "none was born in vain, and none went");
    assert_eq!(client.call(&["APPEND", "k:0", "x"]).error(), refused.error());
    for n in 0..born {
        assert_eq!(client.say(&format!("STRLEN k:{n}")), Reply::Int(10_000));
    }
    assert_eq!(client.say("EXPIRE k:0 1000"), Reply::Int(1));
    assert!(node.metric("wayfarer_memory_refused_total") >= 2.0);
    assert_eq!((client.say("DEL k:0"), client.say("DEL k:1")), (Reply::Int(1), Reply::Int(1)));
    assert_eq!(client.call(&["SET", "k:new", &value]), Reply::ok(), "there is room again");
    // What is not served on a session's key is named.
    assert!(client.say("GEOADD k:2 1 1 a").error().starts_with("ERR unknown command"));
    assert!(client.say("NOSUCHTHING k:2").error().starts_with("ERR unknown command"));
    assert_eq!(node.metric("wayfarer_state_unknown_commands_total"), 2.0);
}
