//! What the admin listener shows of each stage.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;

use super::base::Base;
use super::certificates::TlsOfDoors;
use super::house::House;
use crate::admin::Admin;
use crate::edge;
use crate::http::{Cause, Door, INTRODUCED};
use crate::intake::Intake;
use crate::metrics::Page;

/// A clock further off than this drops readiness.
const NOT_READY_MS: i64 = 60_000;

/// The stages of a machine that answers visitors and merchants.
pub struct Answering {
    pub edge: Vec<Arc<edge::Metrics>>,
    pub edge_door: Arc<Door>,
    pub api_door: Arc<Door>,
    pub intake: Arc<Intake>,
    pub tls: TlsOfDoors,
}

/// What every role shows.
pub fn base(base: &Base) -> Admin {
    let (catalog, clock, key_reloads) = (base.catalog.clone(), base.clock.clone(), base.key_reloads.clone());
    let clock_state = clock.clone();
    Admin {
        metrics: vec![
            Box::new(move |page| catalog.write_metrics(page)),
            Box::new(move |page| key_reloads.write_metrics(page)),
            Box::new(move |page| {
                let difference = clock.difference_ms() as f64 / 1_000.0;
                let help = "System clock minus ours; above 1 look after the clock, above 60 the node is not ready.";
                page.gauge("afflux_clock_difference_seconds", help, &[(&[], difference)]);
            }),
        ],
        not_ready: vec![Box::new(move || {
            let difference = clock_state.difference_ms();
            (difference.abs() > NOT_READY_MS).then(|| format!("the clock is off by {difference} ms"))
        })],
        draining: AtomicBool::new(false),
        handed_over: watch::Sender::new(false),
    }
}

/// The same with doors and spools.
pub fn answering(house: &House, answering: Answering) -> Admin {
    let Answering { edge, edge_door, api_door, intake, tls } = answering;
    let (spools, visitors, lists) = (house.spools.clone(), edge_door.clone(), house.lists.clone());
    let spool_state = spools.clone();
    let mut admin = base(house);
    admin.metrics.push(Box::new(move |page| {
        let (turned_away, too_large) = (visitors.turned_away(), visitors.http2(|counts| &counts.too_large));
        edge::metrics::write(&edge, &edge::metrics::Unheard { turned_away, too_large }, page);
    }));
    admin.metrics.push(Box::new(move |page| lists.write_metrics(page)));
    admin.metrics.push(Box::new(move |page| doors(&edge_door, &api_door, page)));
    admin.metrics.push(Box::new(move |page| tls.write_metrics(page)));
    admin.metrics.push(Box::new(move |page| spools.write_metrics(page)));
    admin.metrics.push(Box::new(move |page| intake.write_metrics(page)));
    admin.not_ready.push(Box::new(move || spool_state.trouble()));
    admin
}

/// The door of a role that has the API alone.
pub fn api_door(api: &Door, page: &mut Page) {
    write_doors(&[("api", api)], page);
}

fn doors(edge: &Door, api: &Door, page: &mut Page) {
    write_doors(&[("edge", edge), ("api", api)], page);
}

fn write_doors(doors: &[(&str, &Door)], page: &mut Page) {
    let labels: Vec<[(&str, &str); 1]> = doors.iter().map(|(name, _)| [("door", *name)]).collect();
    let of = |count: fn(&Door) -> u64| -> Vec<(&[(&str, &str)], u64)> {
        labels.iter().zip(doors).map(|(label, (_, door))| (&label[..], count(door))).collect()
    };
    page.gauge("afflux_http_connections", "Open connections.", &of(|door| door.open() as u64));
    let help = "Connections answered 503 before a request was heard.";
    page.counter("afflux_http_turned_away_total", help, &of(Door::turned_away));
    let help = "Times that a listener refused whoever came, until those who waited had their turn: a rush.";
    page.counter("afflux_http_shut_total", help, &of(Door::shut));
    write_without_room(doors, page);
    let help = "Streams that clients opened in HTTP/2.";
    page.counter("afflux_http2_streams_total", help, &of(|door| door.http2(|counts| &counts.streams)));
    let help =
        "Streams of HTTP/2 that became requests; the others were refused, malformed, too large or reset at once.";
    page.counter("afflux_http2_requests_total", help, &of(|door| door.http2(|counts| &counts.requests)));
    let help = "Streams of HTTP/2 that clients reset.";
    page.counter("afflux_http2_resets_total", help, &of(|door| door.http2(|counts| &counts.resets)));
    let help = "Streams of HTTP/2 that were answered 431 unread.";
    page.counter("afflux_http2_too_large_total", help, &of(|door| door.http2(|counts| &counts.too_large)));
    let help = "Connections of HTTP/2 that were ended because too much was said there that is no request.";
    page.counter("afflux_http2_floods_total", help, &of(|door| door.http2(|counts| &counts.floods)));
}

/// Connections by why there was no room for them, and by what their proxies said.
fn write_without_room(doors: &[(&str, &Door)], page: &mut Page) {
    let causes = [(Cause::Connections, "connections"), (Cause::PerAddress, "connections_per_address")];
    let counted: Vec<_> = doors
        .iter()
        .flat_map(|(name, door)| {
            causes.map(|(cause, limit)| ([("door", *name), ("limit", limit)], door.without_room(cause)))
        })
        .collect();
    let samples: Vec<_> = counted.iter().map(|(labels, value)| (&labels[..], *value)).collect();
    let help = "Connections that were told there is no room for them, by the limit they met.";
    page.counter("afflux_http_without_room_total", help, &samples);
    let counted: Vec<_> = doors
        .iter()
        .flat_map(|(name, door)| {
            INTRODUCED.map(|(introduced, header)| ([("door", *name), ("header", header)], door.introduced(introduced)))
        })
        .collect();
    let samples: Vec<_> = counted.iter().map(|(labels, value)| (&labels[..], *value)).collect();
    let help = "Connections at listeners of PROXY protocol, by the header they began with.";
    page.counter("afflux_http_proxy_headers_total", help, &samples);
}
