//! From a parsed request to its answer, and what is in between.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use afflux::catalog::deep_link::DeepLinkHosts;
use afflux::catalog::{Current, OfferId, PublisherId};
use afflux::click::{ClickId, Keys, VisitorKey};
use afflux::clock::WallClock;
use afflux::config::{IpPrivacy, VisitorPrivacy};
use afflux::edge::event::{Name, Object};
use afflux::edge::{Clicks, CurrentLists, DiskWait, Edge, Metrics, Peer, Places, Settings};
use afflux::time::TimeMs;
use http::{HeaderMap, Method, Request};

use super::{catalog, spool};
use crate::Size;

const AGENT: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
const PATH: &str = "/phone?sub1=spring&sub2=banner-7&source=mail&gclid=Cj0KCQiA";
const DEEP_LINK: &str = "https://www.shop.example/product/123456789?colour=black&size=42";

/// A visitor that was here before, on a dedicated link: cookie read, ID signed, page made, event appended, answer built.
pub fn redirect(_: Size) -> Box<dyn FnMut()> {
    answers(Method::GET)
}

/// The same without ID in the page, event and spool (contract E5).
pub fn redirect_head(_: Size) -> Box<dyn FnMut()> {
    answers(Method::HEAD)
}

pub fn make_id(_: Size) -> Box<dyn FnMut()> {
    let keys = keys();
    let mut at = 1_796_000_000_000;
    Box::new(move || {
        at += 1;
        let visitor = VisitorKey(0x0102_0304_0506_0708);
        let id = ClickId::sign(&keys, TimeMs(at), OfferId(12), PublisherId(34), visitor, 0, at as u32);
        black_box(id.encode());
    })
}

pub fn verify_id(_: Size) -> Box<dyn FnMut()> {
    let keys = keys();
    let visitor = VisitorKey(0x0102_0304_0506_0708);
    let id = ClickId::sign(&keys, TimeMs(1_796_000_000_000), OfferId(12), PublisherId(34), visitor, 0, 7).to_string();
    Box::new(move || {
        black_box(ClickId::verify(black_box(&id), &keys));
    })
}

pub fn check_deep_link(_: Size) -> Box<dyn FnMut()> {
    let listed = ["shop.example".to_owned(), "*.shop.example".to_owned()];
    let hosts = DeepLinkHosts::parse(&listed, false).expect("both are hosts");
    Box::new(move || {
        assert!(hosts.check(black_box(DEEP_LINK)).is_ok());
    })
}

/// The fields of a usual click, as long as they usually are.
pub fn write_event(_: Size) -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(8_192);
    let mut seq = 0;
    Box::new(move || {
        seq += 1;
        let mut event = Object::event(&mut out, "click", 0xabc, seq);
        event.plain(Name(",\"click_id\":"), &[b'A'; 48]);
        event.number(Name(",\"clicked_at_ms\":"), 1_796_000_000_000_u64);
        event.number(Name(",\"offer_id\":"), 12_u32);
        event.number(Name(",\"publisher_id\":"), 34_u32);
        event.text(Name(",\"link\":"), black_box("phone"));
        event.plain(Name(",\"visitor_id\":"), &[b'v'; 22]);
        event.boolean(Name(",\"visitor_new\":"), false);
        event.text(Name(",\"url\":"), black_box(DEEP_LINK));
        event.text(Name(",\"sub1\":"), black_box("spring"));
        event.address(Name(",\"ip\":"), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0)));
        event.text(Name(",\"user_agent\":"), black_box(AGENT));
        event.text(Name(",\"referer\":"), black_box("https://blog.example/best-phones-of-the-year"));
        event.text(Name(",\"language\":"), black_box("fa-IR"));
        event.words(Name(",\"flags\":"), std::iter::empty());
        event.boolean(Name(",\"billable\":"), true);
        event.end();
        black_box(&out);
    })
}

fn answers(method: Method) -> Box<dyn FnMut()> {
    let home = catalog::home(0);
    let current = Current::load(Some(&home.path().join("catalog.toml")), false).expect("a catalog");
    let lists = CurrentLists::load(Places::default()).expect("the lists that come with Afflux");
    let settings = Settings {
        fallback_url: None,
        referrer_policy: Some("no-referrer-when-downgrade"),
        hsts: None,
        https_port: None,
        trusted_proxies: None,
        cookie_max_age_s: 31_536_000,
        name: "edge-1".into(),
        ip: IpPrivacy::Cut,
        visitor: VisitorPrivacy::Full,
        keys: Arc::new(keys()),
        disk_wait: DiskWait::No,
    };
    let (spools, writer) = spool::writer(home.path());
    let clock = Arc::new(WallClock::start());
    let clicks = Clicks::new(current.handle(), lists.handle(), Arc::new(settings), writer, clock).expect("randomness");
    let edge = Edge::new(clicks, Arc::new(Metrics::default()));
    let peer = Peer { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)), tls: false };
    let (mut request, ()) = Request::builder().method(method).uri(PATH).body(()).expect("a request").into_parts();
    let headers = headers();
    Box::new(move || {
        // They live as long as the part does.
        let _ = (&home, &current, &lists, &spools);
        request.headers.clone_from(&headers);
        let answer = pin!(edge.answer(black_box(&mut request), peer)).poll(&mut Context::from_waker(Waker::noop()));
        let std::task::Poll::Ready(answer) = answer else { panic!("a click in `process` waits for nothing") };
        assert_eq!(answer.status(), 302);
        black_box(answer);
    })
}

/// What reaches the edge of a browser's.
fn headers() -> HeaderMap {
    let fields = [
        ("host", "go.example"),
        ("user-agent", AGENT),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
        ("referer", "https://blog.example/best-phones-of-the-year"),
        ("accept-language", "fa-IR,fa;q=0.9,en-US;q=0.8"),
        ("cookie", "theme=dark; aff_vid=aaaaaaaaaaaaaaaaaaaaaa"),
    ];
    let field = |(name, value): (&'static str, &'static str)| (name.parse().unwrap(), value.parse().unwrap());
    HeaderMap::from_iter(fields.map(field))
}

fn keys() -> Keys {
    Keys::parse(&Keys::file_text(&[7; 64])).expect("keys")
}
