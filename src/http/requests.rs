//! Requests of HTTP/2 as those of HTTP/1 come: the same limits, the same strictness, the same form, so that one service
//! answers both (contract E33, E36, E37).
//!
//! What h2 finds malformed (RFC 9113 8.1.1: fields of a connection, upper case, a target with controls) it resets itself,
//! and the service hears of none of it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;

use super::limits::{FIELDS, LIST_BYTES, PATH_BYTES};
use super::places::Places;
use super::refusal::{self, Refusal};

/// RFC 9113 6.5.2: what each field of a list counts beside its name and value.
const FIELD_OVERHEAD: usize = 32;

/// The service of one connection.
pub struct Requests<S> {
    service: S,
    places: Arc<Places>,
    /// Each is only told that there is no room.
    is_surplus: bool,
}

impl<S> Requests<S> {
    pub fn new(service: S, places: Arc<Places>, is_surplus: bool) -> Requests<S> {
        Requests { service, places, is_surplus }
    }
}

impl<S, B> Service<Request<Incoming>> for Requests<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body,
{
    type Response = Response<Answer<B>>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.places.http2.requests.add_shared(1);
        let is_head = request.method() == Method::HEAD;
        let refusal = if self.is_surplus { Err(Refusal::Overloaded) } else { check(&request) };
        match refusal {
            Ok(()) => as_http1(&mut request),
            Err(refusal) => refusal.take_place_of(&mut request),
        }
        Answering { answer: Box::pin(self.service.call(request)), is_head }
    }
}

fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > PATH_BYTES {
        return Err(Refusal::LineTooLong);
    }
    let authority = request.uri().authority().map(Authority::as_str);
    // Method, scheme, authority and path are fields of the list.
    let pseudo = [(":method", request.method().as_str()), (":scheme", "https"), (":path", target)];
    let pseudo = pseudo.iter().map(|(name, value)| name.len() + value.len() + FIELD_OVERHEAD).sum::<usize>()
        + authority.map_or(0, |authority| ":authority".len() + authority.len() + FIELD_OVERHEAD);
    let headers = request.headers();
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum::<usize>();
    if headers.len() > FIELDS || pseudo + fields > LIST_BYTES {
        return Err(Refusal::FieldsTooLarge);
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::Malformed);
    }
    // RFC 9113 8.3.1: one names the host, or both the same.
    let mut hosts = headers.get_all(HOST).iter();
    match (authority, hosts.next(), hosts.next()) {
        (_, _, Some(_)) | (None, None, _) => Err(Refusal::Malformed),
        (Some(authority), Some(host), _) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            Err(Refusal::Malformed)
        }
        _ => Ok(()),
    }
}

/// The target by its path, the authority as Host, and no method that means something to us or to hyper.
fn as_http1<B>(request: &mut Request<B>) {
    let authority = request.uri().authority().cloned();
    if let Some(authority) = authority.filter(|_| !request.headers().contains_key(HOST))
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    let is_renamed = *request.method() == Method::CONNECT || request.method().as_str() == refusal::METHOD;
    if is_renamed && let Ok(other) = Method::from_bytes(refusal::OTHER.as_bytes()) {
        *request.method_mut() = other;
    }
    let target = request.uri().path_and_query().cloned();
    *request.uri_mut() = target.map_or_else(|| Uri::from_static("*"), Uri::from);
}

/// The answer on its way.
pub struct Answering<F> {
    answer: Pin<Box<F>>,
    is_head: bool,
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body,
{
    type Output = Result<Response<Answer<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(answer) = ready!(self.answer.as_mut().poll(cx));
        // hyper says the length of an answer without a body in HTTP/1 alone, and what h2 itself answers is known by that.
        let is_bodiless = self.is_head || answer.body().is_end_stream();
        Poll::Ready(Ok(if is_bodiless { without_body(answer) } else { answer.map(|body| Answer(Some(body))) }))
    }
}

/// hyper leaves out the body of an answer to HEAD in HTTP/1 alone.
fn without_body<B: Body>(answer: Response<B>) -> Response<Answer<B>> {
    let (mut head, body) = answer.into_parts();
    // RFC 9110 8.6: nor is there a length where there can be no body.
    let may_have_one = !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let Some(length) = body.size_hint().exact().filter(|_| may_have_one) {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    Response::from_parts(head, Answer(None))
}

/// The body of an answer, if it has one.
pub struct Answer<B>(Option<B>);

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str) -> Request<()> {
        Request::get(target).body(()).unwrap()
    }

    #[test]
    fn e33_path_list_and_count_of_fields_are_bounded() {
        let path = |length: usize| format!("https://x/{}", "p".repeat(length - 1));
        assert_eq!(check(&request(&path(PATH_BYTES))), Ok(()));
        assert_eq!(check(&request(&path(PATH_BYTES + 1))), Err(Refusal::LineTooLong));
        let mut many = request("https://x/");
        for number in 0..FIELDS {
            many.headers_mut().append("x-a", HeaderValue::from(number));
        }
        assert_eq!(check(&many), Ok(()));
        many.headers_mut().append("x-a", HeaderValue::from(1));
        assert_eq!(check(&many), Err(Refusal::FieldsTooLarge));
        // 7+3+32, 7+5+32, 5+1+32, 10+1+32 and 3+32 of the field.
        let room = LIST_BYTES - 42 - 44 - 38 - 43 - 35;
        for (length, expected) in [(room, Ok(())), (room + 1, Err(Refusal::FieldsTooLarge))] {
            let mut large = request("https://x/");
            large.headers_mut().append("x-a", "v".repeat(length).parse().unwrap());
            assert_eq!(check(&large), expected);
        }
    }

    #[test]
    fn e36_the_host_is_named_once_or_twice_the_same() {
        for (target, hosts, is_good) in [
            ("https://x.test/", &[][..], true),
            ("https://x.test/", &["X.test"], true),
            ("https://x.test/", &["y.test"], false),
            ("https://x.test/", &["x.test", "x.test"], false),
            ("/", &["any thing"], true),
            ("/", &[], false),
        ] {
            let mut request = request(target);
            for host in hosts {
                request.headers_mut().append(HOST, host.parse().unwrap());
            }
            assert_eq!(check(&request).is_ok(), is_good, "{target} {hosts:?}");
        }
    }

    #[test]
    fn a_service_sees_what_it_would_of_http1() {
        let mut seen = request("https://x.test/a?b=c");
        as_http1(&mut seen);
        assert_eq!((seen.uri().to_string().as_str(), &seen.headers()[HOST]), ("/a?b=c", &"x.test".parse().unwrap()));
        for method in ["CONNECT", refusal::METHOD] {
            let mut seen = Request::builder().method(method).uri("x.test:443").body(()).unwrap();
            as_http1(&mut seen);
            assert_eq!((seen.method().as_str(), seen.uri().path()), ("OTHER", "*"));
        }
        let mut refused = request("https://x.test/a");
        Refusal::LineTooLong.take_place_of(&mut refused);
        assert_eq!(Refusal::of(refused.method(), refused.uri()), Some(Refusal::LineTooLong));
    }
}
