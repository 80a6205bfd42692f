//! The admin listener: `/metrics`, `/livez`, `/readyz`, `/version` (contract P12, P26, P27). For operators only, on an
//! address of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::Page;

type WriteMetrics = Box<dyn Fn(&mut Page) + Send + Sync>;
pub type NotReady = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// What the listener shows: every stage brings a writer of its metrics, and whoever must be ready a check.
pub struct Admin {
    pub metrics: Vec<WriteMetrics>,
    /// Each gives the reason for which clicks cannot be answered durably now, if there is one.
    pub not_ready: Vec<NotReady>,
    pub draining: AtomicBool,
    /// True when another process answers at this listener's port.
    pub handed_over: watch::Sender<bool>,
}

impl Admin {
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(|| async { no_store((StatusCode::OK, "ok")) }))
            .route("/readyz", get(ready))
            .route("/version", get(version))
            .layer(map_response_with_state(self.clone(), say_last))
            .with_state(self)
    }

    /// Every answer is the last of its connection, and no further one is accepted. Readiness is the other process's.
    pub fn hand_over(&self) {
        self.handed_over.send_replace(true);
    }

    pub fn was_handed_over(&self) -> bool {
        *self.handed_over.borrow()
    }

    pub async fn is_handed_over(&self) {
        // We have the sender ourselves.
        let _ = self.handed_over.subscribe().wait_for(|is_handed_over| *is_handed_over).await;
    }

    fn reasons(&self) -> Vec<String> {
        let draining = self.draining.load(Relaxed).then(|| "draining".to_owned());
        draining.into_iter().chain(self.not_ready.iter().filter_map(|check| check())).collect()
    }
}

/// While draining each answer is its connection's last (contract P8); whoever watches the drain connects anew.
async fn say_last(State(admin): State<Arc<Admin>>, mut answer: Response) -> Response {
    if admin.draining.load(Relaxed) || admin.was_handed_over() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let reasons = admin.reasons();
    if reasons.is_empty() {
        return no_store((StatusCode::OK, "ok"));
    }
    no_store((StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n")))
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut page = Page::default();
    for write in &admin.metrics {
        write(&mut page);
    }
    page.gauge(
        "afflux_ready",
        "1 when clicks can be answered durably.",
        &[(&[], u8::from(admin.reasons().is_empty()))],
    );
    process_metrics(&mut page);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    no_store((kind, page.finish()))
}

async fn version() -> Response {
    let text = format!("{{\"name\":\"afflux\",\"version\":\"{}\",\"commit\":\"{}\"}}\n", VERSION, commit());
    no_store(([(header::CONTENT_TYPE, "application/json")], text))
}

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit the binary was built from, when the build was told (`AFFLUX_COMMIT`).
fn commit() -> &'static str {
    option_env!("AFFLUX_COMMIT").unwrap_or("unknown")
}

fn no_store(response: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], response).into_response()
}

/// The process itself, under the names every dashboard knows.
fn process_metrics(page: &mut Page) {
    page.gauge(
        "afflux_build_info",
        "Always 1; version and commit in the labels.",
        &[(&[("version", VERSION), ("commit", commit())], 1)],
    );
    let Some(process) = Process::read() else { return };
    page.counter("process_cpu_seconds_total", "User and system time spent.", &[(&[], process.cpu_seconds)]);
    page.gauge("process_resident_memory_bytes", "Resident memory.", &[(&[], process.resident_bytes)]);
    page.gauge("process_threads", "Threads.", &[(&[], process.threads)]);
    page.gauge("process_open_fds", "Open file descriptors.", &[(&[], process.open_descriptors)]);
    page.gauge("process_start_time_seconds", "Start of the process since 1970.", &[(&[], process.started_s)]);
}

struct Process {
    cpu_seconds: f64,
    resident_bytes: u64,
    threads: u64,
    open_descriptors: usize,
    started_s: f64,
}

impl Process {
    /// From /proc (proc(5)); `None` where there is none.
    fn read() -> Option<Process> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        // The second field, the command's name, may hold anything; the third starts behind its closing parenthesis.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let up_s: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        Some(Process {
            cpu_seconds: (number(14)? + number(15)?) as f64 / ticks_per_second,
            resident_bytes: number(24)? * rustix::param::page_size() as u64,
            threads: number(20)?,
            open_descriptors: std::fs::read_dir("/proc/self/fd").ok()?.count(),
            started_s: now_s - up_s + number(22)? as f64 / ticks_per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_read() {
        let process = Process::read().unwrap();
        assert!(process.resident_bytes > 1_000_000 && process.threads >= 1 && process.open_descriptors >= 1);
        assert!(process.started_s > 1.6e9);
    }
}
