//! Chromium follows links: what it sends is labelled as what it does (contract E27, E31, E32).

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::page::Site;
use crate::rig::Server;
use crate::rig::books::{spooled, wait_for_report};
use crate::rig::server::{CATALOG, OPERATOR, Start};
use crate::rig::tls::make_certificate;
use crate::{Program, wait_until};

/// An ordinary one: that of a browser without a window names itself a bot.
const AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

/// Goes to `url` and runs until it is dropped; its profile is below `home`.
fn browse(home: &Path, url: &str) -> Program {
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    chromium.args(["--disable-background-networking", "--ignore-certificate-errors"]);
    chromium.arg("--host-resolver-rules=MAP merchant.test 127.0.0.1, MAP edge.test 127.0.0.1");
    chromium.arg(format!("--user-agent={AGENT}")).arg(format!("--user-data-dir={}", home.join("browser").display()));
    // Its pages are processes of their own; with a debugger's port it stays until it is told to go.
    chromium.args(["--remote-debugging-port=0", url]).stdout(Stdio::null()).stderr(Stdio::null());
    Program::start(&mut chromium)
}

/// A page per way to ask for a link; `LINK` is replaced by what the target says after `link=`.
fn page(target: &str) -> String {
    let (path, link) = target.split_once("?link=").unwrap_or((target, ""));
    match path {
        // Follows the link as a visitor does, and again each time the merchant's page sends them back.
        "/first" => format!(
            "<meta name=referrer content=unsafe-url><a id=a href=\"{link}?sub1=first\">go</a><script>onload = () => a.click()</script>"
        ),
        "/prefetch" => format!("<link rel=prefetch href=\"{link}?sub1=prefetch\">"),
        "/image" => format!("<img src=\"{link}?sub1=image\">"),
        "/frame" => format!("<iframe src=\"{link}?sub1=frame\"></iframe>"),
        // Twice by one door, then by the other.
        "/then_plain" => {
            let (tls, plain) = link.split_once(',').unwrap_or_default();
            format!(
                "<meta name=referrer content=unsafe-url><a id=a>go</a><script>const n = Number(localStorage.n || 0); \
                 localStorage.n = n + 1; a.href = (n < 2 ? \"{tls}\" : \"{plain}\") + \"/phone\"; onload = () => a.click()</script>"
            )
        }
        // What a page says of the links that its visitors may follow (Speculation Rules).
        "/speculates" => speculates("prefetch", link),
        "/prerenders" => speculates("prerender", link),
        _ => "<script>if (top === self) setTimeout(() => location = document.referrer, 200)</script>".to_owned(),
    }
}

fn speculates(how: &str, link: &str) -> String {
    let urls = format!("\"source\": \"list\", \"urls\": [\"{link}?sub1={how}\"], \"eagerness\": \"immediate\"");
    let rules = format!("{{\"{how}\": [{{{urls}}}]}}");
    format!("<script type=speculationrules>{rules}</script><p>a page that is long enough to be looked at")
}

/// A link to the merchant's page; pages at addresses are refused, so the browser is told where the name is.
fn catalog(site: &Site) -> String {
    let merchant = format!("merchant.test:{}", site.address.port());
    CATALOG
        .replace("https://shop.example/p/1?color=black", &format!("http://{merchant}/merchant"))
        .replace("[\"shop.example\", ", &format!("[\"{merchant}\", \"shop.example\", "))
        .replace("allow_http = false", "allow_http = true")
}

fn start(home: &Path, site: &Site) -> Server {
    make_certificate(home, "edge", "IP:127.0.0.1", "ecdsa");
    let edge = "tls_listen = \"127.0.0.1:0\"\ntls_certificate_file = \"edge.crt\"\ntls_key_file = \"edge.key\"";
    let start = Start { config: vec![("edge", edge.into())], catalog: Some(catalog(site)), ..Start::default() };
    Server::start(home, &start)
}

/// Whether an event's flags hold `flag`.
fn has(event: &Value, flag: &str) -> bool {
    event["flags"].as_array().is_some_and(|flags| flags.iter().any(|known| known == flag))
}

/// The events once the browser has asked for `count` more.
fn asked(home: &Path, server: &Server, site: &Site, path: &str, link: &str, count: usize) -> Vec<Value> {
    let before = spooled(server).len();
    let _browser = browse(home, &format!("http://{}{path}?link={link}", site.address));
    wait_until(path, || spooled(server).len() >= before + count);
    spooled(server)[before..before + count].to_vec()
}

/// Visits `path` in a browser and returns the events of the `count` clicks that follow first.
fn visit(home: &Path, server: &Server, site: &Site, path: &str, link: &str, count: usize) -> Vec<Value> {
    let (before, landed) = (spooled(server).len(), site.asked("/merchant"));
    let _browser = browse(home, &format!("http://{}{path}?link={link}", site.address));
    wait_until(path, || spooled(server).len() >= before + count && site.asked("/merchant") >= landed + count);
    spooled(server)[before..before + count].to_vec()
}

fn a_visitor_is_known_again(scheme: &str) {
    let home = tempfile::tempdir().unwrap();
    let site = Site::start(page);
    let server = start(home.path(), &site);
    let door = if scheme == "https" { server.edge_tls.unwrap() } else { server.edge };
    let link = format!("{scheme}://{door}/phone");
    let events = visit(home.path(), &server, &site, "/first", &link, 2);
    let (first, second) = (&events[0], &events[1]);
    assert!(first["visitor_new"] == true && second["visitor_new"] == false, "{first}\n{second}");
    assert!(first["visitor_id"].is_string() && first["visitor_id"] == second["visitor_id"], "{first}\n{second}");
    for event in [first, second] {
        assert!(event["billable"] == true && event["flags"].as_array().is_none_or(Vec::is_empty), "{event}");
    }
}

#[test]
fn e31_a_browser_lands_on_the_page_and_is_known_again() {
    a_visitor_is_known_again("http");
}

#[test]
fn e32_a_browser_gives_the_cookie_back_over_tls() {
    a_visitor_is_known_again("https");
}

#[test]
fn e32_a_browser_gives_the_cookie_of_tls_to_nobody_who_listens() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::start(page);
    let server = start(home.path(), &site);
    // Names: of 127.0.0.1 a browser believes that nobody listens.
    let links =
        format!("https://edge.test:{},http://edge.test:{}", server.edge_tls.unwrap().port(), server.edge.port());
    let events = visit(home.path(), &server, &site, "/then_plain", &links, 3);
    let new: Vec<&Value> = events.iter().map(|event| &event["visitor_new"]).collect();
    assert_eq!(new, [true, false, true], "{events:#?}");
}

#[test]
fn e27_what_a_browser_does_ahead_of_a_visitor_is_labelled_and_not_billed() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::start(page);
    let server = start(home.path(), &site);
    let link = format!("http://{}/phone", server.edge);
    for path in ["/speculates", "/prerenders"] {
        let event = &asked(home.path(), &server, &site, path, &link, 1)[0];
        assert!(has(event, "prefetch") && event["billable"] == false, "{path}: {event}");
    }
    // A browser may ask for one link more than once.
    let events = spooled(&server);
    assert!(events.iter().all(|event| has(event, "prefetch") && event["billable"] == false), "{events:#?}");
    wait_for_report(&server, events.len() as u64, 0, 20);
    let authorization = format!("Bearer {OPERATOR}");
    let target = "/v1/reports/performance?from=2020-01-01&to=2100-01-01&group_by=merchant";
    let report = server.api().get(target, &[("Authorization", &authorization)]).json();
    let billable: u64 =
        report["rows"].as_array().unwrap().iter().filter_map(|row| row["billable_clicks"].as_u64()).sum();
    assert_eq!(billable, 0, "{report}");
}

#[test]
fn e27_what_no_visitor_asked_for_is_labelled() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::start(page);
    let server = start(home.path(), &site);
    let link = format!("http://{}/phone", server.edge);
    for (path, flag) in [("/prefetch", "prefetch"), ("/image", "non_navigation"), ("/frame", "non_navigation")] {
        let event = &visit(home.path(), &server, &site, path, &link, 1)[0];
        assert!(has(event, flag) && event["billable"] == false, "{path}: {event}");
    }
}
