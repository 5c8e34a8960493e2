//! Writes that are merged: which value each rests on, by connection and by request, on fast and slow sessions.

use super::*;
use wayfarer_settings::MergeBy;

/// Values are merged; those of `sess:slow…` go the slow way, for which there are enough permits.
async fn merging(by: MergeBy) -> (World, Arc<Flights>) {
    let flights = Arc::new(Flights::new(by));
    let for_face = flights.clone();
    let mut state = state();
    state.keys = KeyMatcher::new(state.keys.patterns().iter().cloned().map(KeyPattern::merging).collect());
    let world = start_with(state, |face| face.with_merging(Some(for_face))).await;
    world.sessions.gate.add_permits(1000);
    (world, flights)
}

const READ: &str = "{\"a\":0,\"b\":0}";

async fn set(client: &mut TcpStream, key: &str, value: &str) {
    check(client, &format!("SET {key} '{value}'\n"), "+OK\n").await;
}

async fn get(client: &mut TcpStream, key: &str, value: &str) {
    check(client, &format!("GET {key}\n"), &format!("${}\n{value}\n", value.len())).await;
}

#[tokio::test]
async fn by_connection_both_writers_of_one_read_survive() {
    let (world, _) = merging(MergeBy::Connection).await;
    let (mut one, mut two) = (world.client().await, world.client().await);
    for key in ["sess:1", "sess:slow"] {
        set(&mut one, key, READ).await;
        get(&mut one, key, READ).await;
        get(&mut two, key, READ).await;
        set(&mut one, key, "{\"a\":1,\"b\":0}").await;
        check(&mut two, &format!("EXPIRE {key} 60\nTTL {key}\n"), ":1\n:60\n").await;
        check(&mut two, &format!("SETEX {key} 60 '{{\"a\":0,\"b\":2}}'\n"), "+OK\n").await;
        get(&mut one, key, "{\"a\":1,\"b\":2}").await;
        // What it wrote itself is what it knows: it takes its own change back, and leaves that of the other.
        set(&mut two, key, "{\"a\":0,\"b\":0}").await;
        get(&mut one, key, "{\"a\":1,\"b\":0}").await;
    }
}

#[tokio::test]
async fn what_was_not_read_as_a_whole_replaces_all() {
    let (world, _) = merging(MergeBy::Connection).await;
    let (mut one, mut two) = (world.client().await, world.client().await);
    let present = "{\"a\":1,\"b\":0}";
    let (whole, queued) = (format!("*2\n$13\n{present}\n$-1\n"), format!("*1\n$13\n{present}\n"));
    let betweens: [&[(&str, &str)]; 4] = [
        &[("MGET sess:1 sess:2", &whole)],
        &[("GETRANGE sess:1 0 1", "$2\n{\"\n")],
        &[("MULTI", "+OK\n"), ("GET sess:1", "+QUEUED\n"), ("EXEC", &queued)],
        &[("WATCH sess:1", "+OK\n"), ("UNWATCH", "+OK\n")],
    ];
    for between in betweens {
        set(&mut one, "sess:1", READ).await;
        get(&mut two, "sess:1", READ).await;
        set(&mut one, "sess:1", present).await;
        for (command, reply) in between {
            check(&mut two, &format!("{command}\n"), reply).await;
        }
        set(&mut two, "sess:1", "{\"a\":0,\"b\":2}").await;
        get(&mut one, "sess:1", "{\"a\":0,\"b\":2}").await;
    }
}

#[tokio::test]
async fn a_connection_that_does_not_wait_for_replies_is_not_merged() {
    let (world, _) = merging(MergeBy::Connection).await;
    let (mut one, mut two) = (world.client().await, world.client().await);
    set(&mut one, "sess:1", READ).await;
    check(&mut two, "GET sess:1\nGET sess:2\n", &format!("${}\n{READ}\n$-1\n", READ.len())).await;
    get(&mut two, "sess:1", READ).await;
    set(&mut one, "sess:1", "{\"a\":1,\"b\":0}").await;
    set(&mut two, "sess:1", "{\"a\":0,\"b\":2}").await;
    get(&mut one, "sess:1", "{\"a\":0,\"b\":2}").await;
}

#[tokio::test]
async fn by_request_only_the_one_request_that_is_alone_is_known() {
    let (world, flights) = merging(MergeBy::Request).await;
    // The connections of one instance are of no meaning; the other writer is at another instance.
    let (mut one, mut two, mut other) = (world.client().await, world.client().await, world.client().await);
    for (key, session) in [("sess:1", &b"1"[..]), ("sess:slow", b"slow")] {
        for (alone, after) in [(true, "{\"a\":1,\"b\":2}"), (false, "{\"a\":0,\"b\":2}")] {
            set(&mut one, key, READ).await;
            flights.begins(session, 0);
            get(&mut one, key, READ).await;
            if !alone {
                flights.begins(session, 0);
            }
            world.run_elsewhere(session, key, "{\"a\":1,\"b\":0}");
            set(&mut two, key, "{\"a\":0,\"b\":2}").await;
            get(&mut other, key, after).await;
            (0..if alone { 1 } else { 2 }).for_each(|_| flights.ends(session, true, 0));
        }
        set(&mut one, key, READ).await;
        get(&mut one, key, READ).await;
        world.run_elsewhere(session, key, "{\"a\":1,\"b\":0}");
        set(&mut one, key, "{\"a\":0,\"b\":2}").await;
        get(&mut one, key, "{\"a\":0,\"b\":2}").await;
    }
}
