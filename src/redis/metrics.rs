//! What links count.

use crate::metrics::{Counter, Gauge, Page};

/// Of all links for one use; shared by their threads.
#[derive(Debug, Default)]
pub struct LinkMetrics {
    /// Times that a link went from answered to unanswered.
    pub outages: Counter,
    /// Questions without an answer, those that were not even asked during a pause between tries too.
    pub unanswered: Counter,
    /// Questions refused for want of memory.
    pub full: Counter,
    /// Connections opened.
    pub connections: Counter,
    /// Links whose last question had no answer.
    pub down: Gauge,
    /// Links to a server that may evict what it promised to keep.
    pub evicting: Gauge,
}

impl LinkMetrics {
    /// `links`: of each use its name.
    pub fn write(links: &[(&str, &LinkMetrics)], page: &mut Page) {
        let labels: Vec<[(&str, &str); 1]> = links.iter().map(|(name, _)| [("use", *name)]).collect();
        let mut counter = |name: &str, help: &str, of: fn(&LinkMetrics) -> &Counter| {
            let samples: Vec<_> = labels.iter().zip(links).map(|(l, (_, link))| (&l[..], of(link).value())).collect();
            page.counter(name, help, &samples);
        };
        counter("afflux_redis_outages_total", "Times that Redis stopped answering.", |link| &link.outages);
        counter("afflux_redis_unanswered_total", "Questions that Redis did not answer.", |link| &link.unanswered);
        counter("afflux_redis_full_total", "Writes that Redis refused for want of memory.", |link| &link.full);
        counter("afflux_redis_connections_total", "Connections opened to Redis.", |link| &link.connections);
        let mut gauge = |name: &str, help: &str, of: fn(&LinkMetrics) -> &Gauge| {
            let samples: Vec<_> = labels.iter().zip(links).map(|(l, (_, link))| (&l[..], of(link).value())).collect();
            page.gauge(name, help, &samples);
        };
        gauge("afflux_redis_down", "Links whose last question had no answer.", |link| &link.down);
        gauge("afflux_redis_evicting", "Links to a server that may evict the touch index.", |link| &link.evicting);
    }
}
