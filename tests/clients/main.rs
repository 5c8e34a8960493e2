//! Real session libraries over two sidecars each: sessions move while requests on them are in flight, and nobody notices.
//!
//! It never looks inside a sidecar: services and clients speak HTTP and Redis to it, operators the admin interface. What a
//! client must read back stands in [`ledger`]; how a session is made to move, in [`stage`].
//!
//! | service | libraries | a session is | driven by |
//! |---|---|---|---|
//! | `flask_app.py` | Flask-Session, redis-py | one msgpack string | HTTP, through the sidecars ([`web`]) |
//! | `php_app.php` | phpredis' session handler, several processes | one string of PHP | the same |
//! | `express_app.js` | express-session, connect-redis, node-redis | one JSON string | the same |
//! | `express_app.js` | express-session, connect-redis, ioredis | one JSON string | the same |
//! | `fastify_app.js` | @fastify/session, connect-redis, node-redis | one JSON string | the same |
//! | `koa_app.js` | koa-session, koa-redis on ioredis | one JSON string under a bare UUID | the same |
//! | `django_app.py` | Django's cache sessions, on its own RedisCache and on django-redis | one pickle | the same |
//! | in this process | redis-rs, multiplexed connections | one hash | Redis commands, at the state faces ([`hash`]) |
//! | `multiplexed.js` | ioredis, node-redis: one connection each | keys and hashes | commands; the owner of one hangs ([`multiplexed`]) |
//!
//! [`balancers`] puts a real HAProxy, nginx and Envoy in front. Each that writes its sessions whole also shows what two slow requests at a time lose, and that nothing is lost where writes are
//! merged ([`merge`]). A fleet of each is also rolled from plain Redis to sidecars in `observe`, to `own`, and back to plain Redis ([`roll`]).
//! Three of them also stand, unchanged, before a Redis Cluster, and two are brought to their sidecars by rules of the kernel without being
//! told anything ([`transparent`]).
//!
//! Each service moves by rebalance, by arrival and by drain (PHP, Fastify, Koa by two of them; Django by two, and on django-redis by the
//! third). Without python, node, php or their packages the tests of that service are skipped
//! with the reason; where `CI` is set they fail. `scripts/clients.sh` installs the packages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod balancers;
#[path = "../harness/mod.rs"]
mod harness;
mod hash;
mod http_client;
mod ledger;
mod merge;
mod multiplexed;
mod roll;
mod services;
mod stage;
mod transparent;
mod unix;
mod web;

use balancers::Balancer;
use services::Service;
use stage::Way;

#[test]
fn haproxy_takes_the_hint() {
    balancers::requests_come_to_the_owner(Balancer::HaProxy);
}

#[test]
fn nginx_takes_the_hint() {
    balancers::requests_come_to_the_owner(Balancer::Nginx);
}

#[test]
fn envoy_takes_the_hint() {
    balancers::requests_come_to_the_owner(Balancer::Envoy);
}

#[test]
fn flask_by_rebalance() {
    web::sessions_move(Service::FLASK_THAT_REFRESHES, Way::Rebalance);
}

#[test]
fn flask_by_arrival() {
    web::sessions_move(Service::FLASK, Way::Arrival);
}

#[test]
fn flask_by_drain() {
    web::sessions_move(Service::FLASK_ON_RESP2, Way::Drain);
}

#[test]
fn flask_by_member_by_arrival() {
    web::sessions_move(Service::FLASK_OPAQUE, Way::Arrival);
}

#[test]
fn php_by_arrival() {
    web::sessions_move(Service::PHP, Way::Arrival);
}

#[test]
fn php_by_drain() {
    web::sessions_move(Service::PHP_SERIALIZE, Way::Drain);
}

#[test]
fn express_on_node_redis_by_rebalance() {
    web::sessions_move(Service::NODE_REDIS, Way::Rebalance);
}

#[test]
fn express_on_node_redis_by_arrival() {
    web::sessions_move(Service::NODE_REDIS, Way::Arrival);
}

#[test]
fn express_on_node_redis_by_drain() {
    web::sessions_move(Service::NODE_REDIS, Way::Drain);
}

#[test]
fn express_on_ioredis_by_rebalance() {
    web::sessions_move(Service::IOREDIS, Way::Rebalance);
}

#[test]
fn express_on_ioredis_by_arrival() {
    web::sessions_move(Service::IOREDIS, Way::Arrival);
}

#[test]
fn express_on_ioredis_by_drain() {
    web::sessions_move(Service::IOREDIS, Way::Drain);
}

#[test]
fn fastify_by_rebalance() {
    web::sessions_move(Service::FASTIFY, Way::Rebalance);
}

#[test]
fn fastify_by_drain() {
    web::sessions_move(Service::FASTIFY, Way::Drain);
}

#[test]
fn koa_by_arrival() {
    web::sessions_move(Service::KOA, Way::Arrival);
}

#[test]
fn koa_by_drain() {
    web::sessions_move(Service::KOA, Way::Drain);
}

#[test]
fn django_by_rebalance() {
    web::sessions_move(Service::DJANGO, Way::Rebalance);
}

#[test]
fn django_by_arrival() {
    web::sessions_move(Service::DJANGO, Way::Arrival);
}

#[test]
fn django_on_django_redis_by_drain() {
    web::sessions_move(Service::DJANGO_REDIS, Way::Drain);
}

#[test]
fn hash_on_redis_rs_by_rebalance() {
    hash::sessions_move(Way::Rebalance);
}

#[test]
fn hash_on_redis_rs_by_arrival() {
    hash::sessions_move(Way::Arrival);
}

#[test]
fn hash_on_redis_rs_by_drain() {
    hash::sessions_move(Way::Drain);
}

#[test]
fn flask_that_was_told_nothing() {
    transparent::is_served(Service::FLASK);
}

#[test]
fn node_redis_that_was_told_nothing() {
    transparent::is_served(Service::NODE_REDIS);
}

#[test]
fn flask_on_a_unix_socket() {
    unix::is_served(Service::FLASK);
}

#[test]
fn express_on_node_redis_keeps_what_two_requests_write() {
    merge::both_survive(Service::NODE_REDIS, r#"[{ preset = "connect-redis", merge = "members" }]"#, "request");
}

#[test]
fn flask_keeps_what_two_requests_write() {
    merge::both_survive(Service::FLASK, r#"[{ preset = "flask-session", merge = "members" }]"#, "request");
}

/// Each of its processes has one connection for one request at a time.
#[test]
fn php_keeps_what_two_requests_write() {
    let keys = r#"[{ pattern = "PHPREDIS_SESSION:{session}", layout = "php", merge = "members" }]"#;
    merge::both_survive(Service::PHP, keys, "connection");
}

#[test]
fn flask_rolls_in_and_out() {
    roll::in_and_out(Service::FLASK);
}

#[test]
fn flask_before_a_cluster() {
    roll::before_a_cluster(Service::FLASK);
}

#[test]
fn express_on_node_redis_before_a_cluster() {
    roll::before_a_cluster(Service::NODE_REDIS);
}

#[test]
fn express_on_ioredis_before_a_cluster() {
    roll::before_a_cluster(Service::IOREDIS);
}

#[test]
fn php_rolls_in_and_out() {
    roll::in_and_out(Service::PHP);
}

#[test]
fn express_on_node_redis_rolls_in_and_out() {
    roll::in_and_out(Service::NODE_REDIS);
}

#[test]
fn express_on_ioredis_rolls_in_and_out() {
    roll::in_and_out(Service::IOREDIS);
}

#[test]
fn hash_on_redis_rs_rolls_in_and_out() {
    roll::hashes_in_and_out();
}
