//! A Varnish between visitors and edge that ignores cookies and keeps all that its own rules let it keep (contract E4).

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::rig::server::Start;
use crate::rig::{Client, Response, Server};
use crate::{alone, start_with_certificates, tool};

/// Hands cookies on, but to Varnish a request has none: its own rules would not keep anything for who has one. What asks
/// with `x-keep` gets what a cache does to answers that forbid nothing.
const VCL: &str = r#"vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "PORT"; }
sub vcl_recv {
    set req.http.X-Hidden = req.http.Cookie;
    unset req.http.Cookie;
}
sub vcl_backend_fetch {
    set bereq.http.Cookie = bereq.http.X-Hidden;
}
sub vcl_backend_response {
    if (bereq.http.X-Keep) {
        unset beresp.http.Cache-Control;
        unset beresp.http.Set-Cookie;
        set beresp.ttl = 60s;
    }
}
"#;

const KNOWN: &str = "aff_vid=aaaaaaaaaaaaaaaaaaaaaa";

struct Varnish {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Varnish {
    fn before(server: &Server) -> Varnish {
        let directory = server.home.join("varnish");
        std::fs::create_dir(&directory).expect("a directory");
        let vcl = VCL.replace("PORT", &server.edge.port().to_string());
        std::fs::write(directory.join("default.vcl"), vcl).expect("a file");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let log = std::fs::File::create(directory.join("log")).expect("a file");
        let child = tool("varnishd")
            .args(["-F", "-j", "none", "-T", "none", "-s", "malloc,32M", "-p", "http_req_hdr_len=32k", "-n"])
            .arg(directory.join("work"))
            .arg("-f")
            .arg(directory.join("default.vcl"))
            .args(["-a", &address.to_string()])
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("varnishd");
        let varnish = Varnish { child, address, directory };
        varnish.wait();
        varnish
    }

    /// It compiles its rules first.
    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(self.address).is_err() {
            let log = || std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// On a connection of its own, as another visitor's would be.
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        Client::new(self.address).try_request(method, target, headers, b"").expect("an answer")
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        // Told to end, it ends its worker too; killed, it would not.
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// Whether Varnish gave it without asking: then it names the request, too, that it had it from.
fn was_kept(answer: &Response) -> bool {
    answer.header("x-varnish").expect("it came through Varnish").split(' ').count() == 2
}

#[test]
fn e4_a_cache_in_front_never_gives_two_visitors_the_same_click_or_cookie() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let varnish = Varnish::before(&server);
    let long = format!("/{}", "p".repeat(9_000));
    for (method, target, status) in [
        ("GET", "/phone", 302),
        ("HEAD", "/phone", 302),
        ("GET", "/click?offer_id=12&aff_id=34&sub1=a", 302),
        ("GET", "/click?offer_id=12&aff_id=35", 302),
        ("GET", "/nobody", 404),
        ("GET", "/click?offer_id=99&aff_id=34", 404),
        ("POST", "/phone", 405),
        ("DELETE", "/phone", 405),
        ("GET", &*long, 414),
        ("GET", "/healthz", 200),
        ("GET", "/robots.txt", 200),
    ] {
        let shown = &target[..target.len().min(40)];
        let mut given = std::collections::HashSet::new();
        // New visitors and known ones, each twice: a Set-Cookie alone keeps caches off too, so it must not be there.
        for headers in [&[("cookie", KNOWN)][..], &[("cookie", KNOWN)], &[], &[]] {
            let answer = varnish.ask(method, target, headers);
            assert_eq!(answer.status, status, "{method} {shown}: {answer:?}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{method} {shown}: {answer:?}");
            assert!(!was_kept(&answer), "{method} {shown}: {answer:?}");
            for own in [answer.location_parameter("click_id"), answer.header("set-cookie").map(str::to_owned)] {
                assert!(own.is_none_or(|own| given.insert(own)), "{method} {shown}: given twice: {answer:?}");
            }
        }
        // Varnish asks by GET for who asks by HEAD.
        let clicks = if status == 302 && !target.ends_with("aff_id=35") { 4 } else { 0 };
        let cookies = if status == 302 { 2 } else { 0 };
        assert_eq!(given.len(), clicks + cookies, "{method} {shown}: {given:?}");
    }
}

#[test]
fn e4_without_no_store_the_same_cache_gives_a_visitor_the_click_of_another() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let varnish = Varnish::before(&server);
    for target in ["/phone", "/nobody", "/robots.txt"] {
        let ask = || varnish.ask("GET", target, &[("cookie", KNOWN), ("x-keep", "1")]);
        let (first, second) = (ask(), ask());
        assert!(!was_kept(&first) && was_kept(&second), "{target}: {first:?} {second:?}");
        assert_eq!(first.header("location"), second.header("location"));
    }
}

#[test]
fn e4_the_redirect_to_https_is_not_kept() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mut start = start_with_certificates(home.path());
    start.config.push(("edge", "redirect_to_https = true".into()));
    let server = Server::start(home.path(), &start);
    let varnish = Varnish::before(&server);
    for _ in 0..3 {
        let answer = varnish.ask("GET", "/phone", &[]);
        assert_eq!((answer.status, answer.header("cache-control")), (301, Some("no-store")));
        assert!(!was_kept(&answer), "{answer:?}");
    }
}
