//! A slow or cut network between any two, by proxies before every server.

use crate::cluster::{Cluster, Shape};
use crate::crowd::{Crowd, Pace};
use crate::proxy::{Fault, Proxy};
use crate::servers::Servers;
use crate::{alone, books, brokers, by_form, random};

const PACE: Pace = Pace { people: 4, rest_ms: 20, orders_percent: 30 };

#[test]
fn a_network_that_is_slow_cut_or_silent_loses_and_doubles_nothing() {
    let _alone = alone();
    let (shape, links) = proxied();
    let mut cluster = Cluster::start_with("network", shape);
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    for (name, proxies) in &links {
        for fault in [Fault::Delay, Fault::Reset, Fault::BlackHole, Fault::HalfOpen] {
            let before = crowd.clicks();
            for proxy in proxies {
                if fault == Fault::Delay { proxy.delay(300) } else { proxy.set(fault) }
            }
            crate::sleep_ms(by_form(2_000, 60_000));
            if (*name, fault) == ("kafka", Fault::BlackHole) {
                cluster.shows("edge", "afflux_shipper_lag_seconds", "", brokers::HELD_UP);
            }
            proxies.iter().for_each(|proxy| proxy.set(Fault::None));
            let meanwhile = crowd.clicks() - before;
            println!("{name}: {fault:?}: {meanwhile} clicks meanwhile");
            assert!(meanwhile > 0, "redirects do not depend on {name}");
            crate::sleep_ms(by_form(500, 10_000));
        }
    }
    crowd.wait_for(100, 10);
    let answers = crowd.go_home();
    cluster.shows("edge", "afflux_redis_outages_total", "", 0.0);
    cluster.shows("attribution", "afflux_redis_outages_total", "", 0.0);
    cluster.shows("attribution", "afflux_store_errors_total", "kind=\"unavailable\"", 0.0);
    books::close(&mut cluster, &answers);
}

/// A proxy before Redis, before PostgreSQL, and before each broker.
fn proxied() -> (Shape, Vec<(&'static str, Vec<Proxy>)>) {
    let servers = Servers::ours();
    let kafka: Vec<Proxy> = servers.proxied().iter().map(|(listen, target)| Proxy::start(listen, target)).collect();
    let bootstrap: Vec<&str> = kafka.iter().map(|proxy| proxy.address.as_str()).collect();
    let redis_at = servers.redis.trim_start_matches("redis://").split('/').next().expect("an address");
    let redis = Proxy::start("127.0.0.1:0", redis_at);
    let (_, rest) = servers.postgresql.split_once('@').expect("a user");
    let postgresql_at = rest.split('/').next().expect("an address");
    let postgresql = Proxy::start("127.0.0.1:0", postgresql_at);
    let shape = Shape {
        kafka: Some(bootstrap.join(",")),
        redis: Some(format!("redis://{}/0", redis.address)),
        postgresql: Some(servers.postgresql.replace(postgresql_at, &postgresql.address)),
        ..Shape::with("attribution", "grace_ms = 3000")
    };
    (shape, vec![("redis", vec![redis]), ("postgresql", vec![postgresql]), ("kafka", kafka)])
}
