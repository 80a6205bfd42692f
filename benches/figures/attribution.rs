//! What attribution sustains, and how long it is from the 202 to the report.

use std::time::{Duration, Instant};

use serde_json::json;

use super::process;
use crate::rig::server::{Start, TOKEN};
use crate::rig::{Client, Server, books};

const CONVERSIONS: usize = 50_000;
const SALES: usize = 500;

pub fn run() {
    println!("\n## Attribution, embedded store ({})", process::machine());
    let home = tempfile::tempdir().expect("a directory");
    // `process`: the load is to outrun the consumer, not the disk.
    let start = Start { config: vec![("spool", "durability = \"process\"".into())], ..Start::default() };
    let server = Server::start(home.path(), &start);
    clicks(&server);
    conversions(&server);
    delay(&server);
    books::assert_books_close(&server);
}

fn clicks(server: &Server) {
    let url = format!("http://{}/phone?sub1=bench", server.edge);
    // The load first, on both cores; what is left over when it ends is what the consumer then works through alone.
    let wrk = std::process::Command::new("wrk")
        .args([
            "-t2",
            "-c64",
            "-d10s",
            "-H",
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ])
        .arg(&url)
        .output();
    assert!(wrk.expect("wrk").status.success());
    let (before, _) = books::reported(server);
    let (started, cpu) = (Instant::now(), process::threads_cpu_us(server.pid(), "attribution"));
    let total = spooled_clicks(server);
    books::wait_for_report(server, total, 0, 600);
    let seconds = started.elapsed().as_secs_f64();
    let cpu = process::threads_cpu_us(server.pid(), "attribution") - cpu;
    let clicks = (total - before) as f64;
    println!(
        "clicks: {total} in all, {clicks} left when the load ended, applied in {seconds:.2} s: {:.0}/s, {:.2} µs of attribution's CPU each",
        clicks / seconds,
        cpu as f64 / clicks
    );
}

fn spooled_clicks(server: &Server) -> u64 {
    let page = server.admin().get("/metrics", &[]).text();
    let lines = page.lines().filter(|line| line.starts_with("afflux_edge_requests_total{outcome=\"redirected\"}"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn conversions(server: &Server) {
    let (clicks, _) = books::reported(server);
    let ids: Vec<String> = (0..1_000)
        .map(|_| {
            server
                .edge()
                .get(
                    "/phone",
                    &[("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 buyer")],
                )
                .click_id()
        })
        .collect();
    let mut api = server.api();
    let started = Instant::now();
    for batch in 0..CONVERSIONS / 1_000 {
        let reports: Vec<_> = (0..1_000)
            .map(|n| json!({"order_id": format!("B-{batch}-{n}"), "type": "sale", "click_id": ids[n], "amount": 1_000_000}))
            .collect();
        let response = api.post_json("/v1/conversions", TOKEN, &json!({ "conversions": reports }));
        assert_eq!(response.status, 202);
    }
    let accepted = started.elapsed().as_secs_f64();
    books::wait_for_report(server, clicks + 1_000, CONVERSIONS as u64, 600);
    let decided = started.elapsed().as_secs_f64();
    println!(
        "conversions: {CONVERSIONS} accepted in batches of 1,000 at {:.0}/s, decided and posted at {:.0}/s",
        CONVERSIONS as f64 / accepted,
        CONVERSIONS as f64 / decided
    );
}

fn delay(server: &Server) {
    let mut delays = Vec::with_capacity(SALES);
    let (mut edge, mut api) = (server.edge(), server.api());
    for sale in 0..SALES {
        let click_id = edge
            .get(
                "/phone",
                &[("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 delay")],
            )
            .click_id();
        let order = json!({"order_id": format!("D-{sale}"), "type": "sale", "click_id": click_id, "amount": 1_000});
        let response = api.post_json("/v1/conversions", TOKEN, &order);
        let accepted = Instant::now();
        let id = response.json()["conversion_id"].as_str().expect("an ID").to_owned();
        wait_until_decided(&mut api, &id);
        delays.push(accepted.elapsed().as_secs_f64() * 1_000.0);
    }
    println!(
        "from the 202 to the decision in GET: p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms ({SALES} sales, one after another)",
        process::quantile(&delays, 0.5),
        process::quantile(&delays, 0.99),
        process::quantile(&delays, 1.0)
    );
}

fn wait_until_decided(api: &mut Client, id: &str) {
    let authorization = format!("Bearer {TOKEN}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while api.get(&format!("/v1/conversions/{id}"), &[("Authorization", &authorization)]).json()["outcome"] == "pending"
    {
        assert!(Instant::now() < deadline, "{id} is not decided");
    }
}
