//! The door of merchants: conversions and refunds, checked to the letter, on disk before they are answered.
//!
//! A request travels: `receive` (who calls, the body), `json` and `report` or `refund` (is it right), `accept` (is it
//! new; on disk), and back as a 202. `postback` speaks the dialect of trackers over the same checks.

mod accept;
mod conversions;
mod fields;
mod fingerprint;
mod items;
pub mod json;
mod log;
mod metrics;
pub mod order_index;
mod postback;
#[cfg(any(test, fuzzing))]
pub mod probes;
mod receive;
mod refund;
mod refunds;
mod report;
mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use log::Log;
pub use order_index::OrderIndex;

use crate::api::Access;
use crate::api::body::Bodies;
use crate::event::ConversionIds;
use crate::metrics::Page;
use metrics::Metrics;

/// All that a report needs on its way.
pub struct Intake {
    access: Arc<Access>,
    ids: ConversionIds,
    log: Log,
    index: OrderIndex,
    /// `intake.max_future_s`: how far `occurred_at` may be ahead of us.
    max_future_ms: i64,
    bodies: Bodies,
    metrics: Metrics,
}

impl Intake {
    pub fn new(access: Arc<Access>, ids: ConversionIds, log: Log, index: OrderIndex, max_future_ms: i64) -> Intake {
        Intake { access, ids, log, index, max_future_ms, bodies: Bodies::default(), metrics: Metrics::default() }
    }

    /// Who may call, for the routes that read.
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    pub fn write_metrics(&self, page: &mut Page) {
        self.metrics.write(&self.index, page);
    }

    /// The order index's thread, when it has ended by itself.
    pub fn lost_thread(&self) -> Option<&'static str> {
        self.index.is_lost().then_some(order_index::THREAD)
    }

    /// Questions to the order index that got no answer.
    pub fn index_unavailable(&self) -> u64 {
        self.index.unavailable.value()
    }
}

/// The routes and their part of the OpenAPI document, for `api::router`.
pub fn routes(intake: Arc<Intake>) -> OpenApiRouter {
    let mut routes = OpenApiRouter::new()
        .routes(routes!(conversions::post_conversions))
        .routes(routes!(refunds::post_refunds))
        .routes(routes!(postback::get_postback, postback::post_postback));
    postback::needs_no_form(routes.get_openapi_mut());
    routes.with_state(intake)
}
