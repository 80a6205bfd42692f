//! What strangers send to a door, against what must always hold of it (see `crate::probes`).

use super::head::{self, Head};
use super::proxy_header::{Header, read};
use super::request_line;

/// A head that is taken reads the same when it is written anew, and in whatever pieces it comes (contract E36-E38): hyper,
/// which reads what we write, cannot find another end or another body in it.
pub fn head(bytes: &[u8]) {
    let whole = head::find_end(bytes, 0);
    let (Ok(Some(end)), Some(cut)) = (whole, bytes.first()) else { return };
    assert!(end <= bytes.len());
    let cut = usize::from(*cut) % bytes.len();
    if head::find_end(&bytes[..cut], 0) == Ok(None) {
        assert_eq!(head::find_end(bytes, cut), Ok(Some(end)), "cut at {cut}");
    }
    let Ok(read) = Head::read(&bytes[..end], |_| true) else { return };
    assert_eq!(read.length, end);
    let mut written = Vec::new();
    read.rewrite(&bytes[..end], false, false, &mut written);
    assert_eq!(head::find_end(&written, 0), Ok(Some(written.len())));
    let Ok(again) = Head::read(&written, |_| true) else { panic!("{:?}", String::from_utf8_lossy(&written)) };
    assert_eq!((again.body, again.expects, again.is_plain()), (read.body, read.expects, true));
    let mut hidden = Vec::new();
    read.rewrite(&bytes[..end], true, true, &mut hidden);
    let Ok(hidden) = Head::read(&hidden, |_| true) else { panic!("{:?}", String::from_utf8_lossy(&hidden)) };
    assert_eq!(hidden.body, super::head::Body::None, "a body that is hidden is not told");
}

/// A request line that is taken has one reading; each beginning of it may still become one.
pub fn line(bytes: &[u8]) {
    let Ok(new) = request_line::check(bytes) else { return };
    assert!(!bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    for end in 0..bytes.len() {
        assert!(request_line::may_become_one(&bytes[..end]), "{end} of {:?}", String::from_utf8_lossy(bytes));
    }
    let Some(new) = new else { return };
    let new = new.strip_suffix(b"\r\n").unwrap_or_default();
    assert_eq!(request_line::check(new), Ok(None), "{:?}", String::from_utf8_lossy(new));
}

/// A PROXY header that is taken ends where it says, whatever follows; before its end it asks for more, and never for less
/// than came (contract E41).
pub fn proxy_header(bytes: &[u8]) {
    match read(bytes) {
        Ok(Header::Whole(whole)) => {
            assert!(whole.length <= bytes.len());
            assert_eq!(read(&bytes[..whole.length]), Ok(Header::Whole(whole)), "what follows is not its");
            for end in 0..whole.length {
                assert!(matches!(read(&bytes[..end]), Ok(Header::Needs(more)) if more > end && more <= whole.length));
            }
        }
        Ok(Header::Needs(more)) => assert!(more > bytes.len()),
        Err(_) => {}
    }
}
