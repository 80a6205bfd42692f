//! A real browser: what it sends with a click, a prefetch and an image, and that it keeps the cookie (contract E27, E31).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::rig::server::{CATALOG, Start};
use crate::rig::{Server, books};
use crate::{alone, tool};

/// Headless says so in its user agent and is a bot; this one is a person's.
const PERSON: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";

/// Pages of a publisher and of a merchant: `/blog` is what the publisher wrote, anything else the merchant's.
fn serve_pages(listener: TcpListener, blog: impl Fn(&str) -> String + Send + 'static) {
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let page = |target: &str| match target.strip_prefix("/blog") {
                Some(rest) => blog(rest),
                None => "<p id=landed>the merchant's</p>".to_owned(),
            };
            // A connection that a browser opened in advance and does not use must not keep the others.
            let _ = connection.set_read_timeout(Some(Duration::from_millis(500)));
            let _ = answer(connection, page);
        }
    });
}

fn answer(connection: TcpStream, page: impl Fn(&str) -> String) -> std::io::Result<()> {
    let mut request = BufReader::new(connection);
    let mut line = String::new();
    request.read_line(&mut line)?;
    let body = page(line.split(' ').nth(1).unwrap_or_default());
    while line.trim_end() != "" {
        line.clear();
        request.read_line(&mut line)?;
    }
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length:";
    write!(request.get_mut(), "{head} {}\r\n\r\n{body}", body.len())
}

/// What the page has become when the browser has nothing more to do.
fn visit(profile: &Path, url: &str) -> String {
    let output = tool("timeout")
        .arg("60")
        .arg(tool("chromium").get_program())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-agent={PERSON}"))
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .output()
        .expect("timeout");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one event with this label; whoever prefetches takes its time.
fn event(server: &Server, sub1: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut found = books::spooled(server);
        found.retain(|event| event["sub1"] == sub1);
        assert!(found.len() < 2, "{found:?}");
        if let Some(event) = found.pop() {
            return event;
        }
        assert!(Instant::now() < deadline, "no click of {sub1}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An edge with one offer, whose merchant is `pages`.
fn start(home: &Path, pages: SocketAddr) -> Server {
    // By name: an address is no host of an offer.
    let shop = format!("localhost:{}", pages.port());
    let catalog = CATALOG
        .replace("allow_http = false", "allow_http = true")
        .replace("deep_link_hosts = [", &format!("deep_link_hosts = [{shop:?}, "))
        .replace("https://shop.example/p/1?color=black", &format!("http://{shop}/p/1?color=black"));
    Server::start(home, &Start { catalog: Some(catalog), ..Start::default() })
}

#[test]
fn e27_e31_chromium_lands_keeps_its_cookie_and_its_prefetches_and_images_are_not_billable() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pages = listener.local_addr().unwrap();
    let server = start(home.path(), pages);
    let link = format!("http://127.0.0.1:{}/phone?sub1=", server.edge.port());
    serve_pages(listener, move |rest| match rest {
        "/prefetch" => format!("<link rel=prefetch href='{link}prefetch'>"),
        "/image" => format!("<img src='{link}image'>"),
        "/script" => format!("<script>location.href = '{link}script'</script>"),
        click => {
            let name = click.trim_start_matches('/');
            format!("<a id=l href='{link}{name}'>see</a><script>document.getElementById('l').click()</script>")
        }
    });
    let profile = home.path().join("profile");
    let look = |name: &str| visit(&profile, &format!("http://127.0.0.1:{}/blog/{name}", pages.port()));

    // Each of a browser of its own, which has nothing but what is in the profile.
    for name in ["first", "again", "script"] {
        let seen = look(name);
        assert!(seen.contains("id=\"landed\""), "{name}: {seen}");
    }
    let [first, again, script] = ["first", "again", "script"].map(|name| event(&server, name));
    assert_eq!(first["visitor_new"], true);
    for event in [&first, &again, &script] {
        assert_eq!((&event["flags"], &event["billable"]), (&serde_json::json!([]), &true.into()), "{event}");
        assert_eq!(event["visitor_id"], first["visitor_id"], "{event}");
        assert!(event["url"].as_str().unwrap().ends_with("/p/1?color=black"), "{event}");
    }
    assert_eq!((&again["visitor_new"], &script["visitor_new"]), (&false.into(), &false.into()));
    for (name, flag) in [("prefetch", "prefetch"), ("image", "non_navigation")] {
        look(name);
        let event = event(&server, name);
        assert!(event["flags"].as_array().unwrap().contains(&flag.into()), "{event}");
        assert_eq!((&event["billable"], &event["visitor_id"]), (&false.into(), &first["visitor_id"]), "{event}");
    }
    books::assert_chains_have_no_gap(&books::spooled(&server));
}
