//! Subscribers on one node and what members know of one another.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use wayfarer_engine::command::events::Events;
use wayfarer_engine::ids::Epoch;

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn bus(classes: &str) -> Arc<Bus> {
    Arc::new(Bus::new(Classes::parse(classes.as_bytes()).unwrap(), Numbering::default()))
}

fn member(number: u64) -> Incarnation {
    Incarnation(Epoch(number))
}

fn shown(subscriber: &Subscriber) -> Vec<String> {
    let line = |message: Message| {
        let pattern = message.pattern.map(|p| format!("{} ", String::from_utf8_lossy(&p))).unwrap_or_default();
        format!("{pattern}{} {}", String::from_utf8_lossy(&message.channel), String::from_utf8_lossy(&message.payload))
    };
    subscriber.take().unwrap().into_iter().map(line).collect()
}

#[test]
fn names_that_may_be_about_keys_are_known() {
    for (of, name, expected) in [
        (Of::Channel, "__keyevent@0__:expired", true),
        (Of::Channel, "__keyspace@3__:k", true),
        (Of::Channel, "news", false),
        (Of::Pattern, "*", true),
        (Of::Pattern, "__key*__:*", true),
        (Of::Pattern, "__keyevent@*:expired", true),
        (Of::Pattern, "_", false),
        (Of::Pattern, "_?keyevent*", true),
        (Of::Pattern, "[_]_key*", true),
        (Of::Pattern, "spring:session:event:0:created:*", false),
        (Of::Pattern, "__keyevent@0__:expired", true),
    ] {
        assert_eq!(concerns_keys(of, name.as_bytes()), expected, "{of:?} {name}");
    }
}

#[test]
fn messages_about_keys_name_them() {
    assert_eq!(key_of(&text("__keyspace@12__:a__:b"), &text("set")), Some((12, text("a__:b"))));
    assert_eq!(key_of(&text("__keyevent@0__:expired"), &text("k")), Some((0, text("k"))));
    for other in ["__keyspace@x__:a", "__keyspace@1", "__keyevent@999__:del", "news"] {
        assert_eq!(key_of(&text(other), &text("k")), None, "{other}");
    }
}

#[test]
fn a_message_reaches_each_subscription_once_and_nobody_who_left() {
    let bus = bus("");
    let (mut one, mut two) = (Subscriber::new(bus.clone(), 1 << 20), Subscriber::new(bus.clone(), 1 << 20));
    assert!(one.add(Of::Channel, &text("news")) && one.add(Of::Pattern, &text("n*")) && one.add(Of::Channel, &text("news")));
    assert!(two.add(Of::Pattern, &text("*s")));
    assert_eq!((one.count(), two.count()), (2, 1));
    assert_eq!(bus.publish(&text("news"), &text("a")), 3);
    assert_eq!(shown(&one), ["news a", "n* news a"]);
    assert_eq!(shown(&two), ["*s news a"]);
    one.remove(Of::Channel, &text("news"));
    drop(two);
    assert_eq!(bus.publish(&text("news"), &text("b")), 1);
    assert_eq!(shown(&one), ["n* news b"]);
    drop(one);
    assert_eq!((bus.publish(&text("news"), &text("c")), bus.registry.patterns().len()), (0, 0));
}

#[test]
fn who_does_not_read_is_told_nothing_more() {
    let bus = bus("");
    let mut slow = Subscriber::new(bus.clone(), 1000);
    slow.add(Of::Channel, &text("news"));
    let page = text(&"x".repeat(300));
    for _ in 0..10 {
        bus.publish(&text("news"), &page);
    }
    assert_eq!(slow.take(), Err(Overflow));
    assert_eq!(slow.take(), Err(Overflow), "for good");
}

#[test]
fn events_are_wanted_while_somebody_listens_and_classes_are_told() {
    let bus = bus("Ex");
    let wanted = || bus.happened().wanted();
    assert_eq!(wanted(), Classes::NONE);
    let mut one = Subscriber::new(bus.clone(), 1 << 20);
    one.add(Of::Channel, &text("news"));
    assert_eq!((wanted(), bus.said().0), (Classes::NONE, 0));
    one.add(Of::Channel, &text("__keyevent@0__:expired"));
    assert!(wanted().has(Classes::EXPIRED) && bus.said().1.listens);
    bus.set_classes(Classes::NONE);
    assert_eq!(wanted(), Classes::NONE);
    bus.set_classes(Classes::parse(b"KEA").unwrap());
    drop(one);
    assert_eq!((wanted(), bus.said().1.listens), (Classes::NONE, false));
    // Another member listens.
    let said = Said { listens: true, ..bus.said().1 };
    bus.heard(member(2), said);
    assert!(wanted().has(Classes::HASH));
    assert_eq!(bus.interested(), [member(2)]);
    bus.keep(&BTreeSet::new());
    assert_eq!((wanted(), bus.interested().len()), (Classes::NONE, 0));
}

#[test]
fn the_last_change_of_classes_wins_everywhere() {
    let (a, b) = (bus(""), bus(""));
    let tell = |from: &Bus, number, to: &Bus| to.heard(member(number), from.said().1);
    a.set_classes(Classes::parse(b"Ex").unwrap());
    tell(&a, 1, &b);
    assert_eq!(b.classes(), a.classes());
    b.set_classes(Classes::parse(b"KEA").unwrap());
    tell(&a, 1, &b);
    tell(&b, 2, &a);
    assert_eq!((a.classes(), b.classes()), (Classes::parse(b"KEA").unwrap(), Classes::parse(b"KEA").unwrap()));
    // Both at the same moment: they agree on one.
    a.set_classes(Classes::parse(b"Eg").unwrap());
    b.set_classes(Classes::parse(b"Ks").unwrap());
    tell(&a, 1, &b);
    tell(&b, 2, &a);
    assert_eq!(a.classes(), b.classes());
}

#[test]
fn an_event_is_told_by_key_and_by_event() {
    let bus = bus("KEA");
    let mut one = Subscriber::new(bus.clone(), 1 << 20);
    one.add(Of::Pattern, &text("__key*__:*"));
    let mut events = Events::of(bus.happened().wanted());
    events.note(Classes::EXPIRED, "expired", b"\0db\x03sess:1");
    bus.happened().add(events.into_noted());
    let told = futures_now(bus.news());
    bus.tell(&told);
    assert_eq!(shown(&one), ["__key*__:* __keyspace@3__:sess:1 expired", "__key*__:* __keyevent@3__:expired sess:1"]);
    bus.set_classes(Classes::parse(b"Ex").unwrap());
    bus.tell(&told);
    assert_eq!(shown(&one), ["__key*__:* __keyevent@3__:expired sess:1"]);
}

/// What a future gives that need not wait.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn questions_of_other_members_are_answered_and_nothing_else() {
    let bus = bus("");
    let mut one = Subscriber::new(bus.clone(), 1 << 20);
    one.add(Of::Channel, &text("news"));
    one.add(Of::Pattern, &text("n*"));
    let ask = |words: &str| bus.asked(Some(member(2)), &words.split(' ').map(text).collect::<Vec<_>>());
    assert_eq!(ask("publish news hello"), Some(text(":2\r\n")));
    assert_eq!(ask("channels"), Some(text("*1\r\n$4\r\nnews\r\n")));
    assert_eq!(ask("channels x*"), Some(text("*0\r\n")));
    assert_eq!(ask("numsub news other"), Some(text("*2\r\n:1\r\n:0\r\n")));
    assert_eq!(ask("patterns"), Some(text("*1\r\n$2\r\nn*\r\n")));
    assert_eq!(ask("said 1 7 9 12288"), Some(text("+OK\r\n")));
    assert_eq!((bus.interested(), bus.classes().text()), (vec![member(2)], "KE".to_owned()));
    for bad in ["said 1 7", "said x 7 9 1", "said 1 7 9 70000", "publish news", "shout news", "classes 1", ""] {
        assert_eq!(ask(bad), None, "{bad}");
    }
    let said = question::said(bus.said().1);
    assert_eq!(question::arguments(said.args()).map(|args| args[0].clone()), Some(text("said")));
    assert_eq!(question::arguments(&[text("GET"), text("k")]), None);
}
