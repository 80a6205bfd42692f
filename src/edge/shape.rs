//! Whether a user agent looks like a browser at all: a platform and an engine, or a word that only phones, televisions and
//! consoles use (contract E27, the general rule of `bot`). No list knows every program, and most programs do not even
//! pretend.
//!
//! Precision first: who looks like any browser of the last thirty years is let through; `bots.rs` judges the rest.

use aho_corasick::{AhoCorasick, Anchored, BuildError, Input, StartKind};
use memchr::memmem::Finder;

/// What a browser's user agent is made of.
pub struct Shape {
    platforms: AhoCorasick,
    engines: AhoCorasick,
    devices: AhoCorasick,
    makers: AhoCorasick,
    /// Browsers say it in their first remark alone, if at all; programs that pose as one say it behind it.
    compatible: Finder<'static>,
}

/// How nearly all browsers begin, whatever they are and inside of whichever app.
const USUAL: &[u8] = b"Mozilla/5.0 (";
const USUAL_PLATFORMS: [&[u8]; 8] = [
    b"Windows NT ",
    b"Linux; Android ",
    b"iPhone; CPU ",
    b"Macintosh; Intel Mac OS X ",
    b"iPad; CPU ",
    b"X11; Linux ",
    b"Android ",
    b"X11; Ubuntu; Linux ",
];
const USUAL_ENGINES: [&[u8]; 2] = [b") AppleWebKit/", b") Gecko/"];

const PLATFORMS: [&str; 43] = [
    "windows",
    "macintosh",
    "mac os",
    "linux",
    "x11",
    "iphone",
    "ipad",
    "ipod",
    "android",
    "cros ",
    "crkey",
    "tizen",
    "web0s",
    "webos",
    "kaios",
    "mobile",
    "tablet",
    "playstation",
    "nintendo",
    "xbox",
    "bb10",
    "playbook",
    "harmony",
    "freebsd",
    "openbsd",
    "netbsd",
    "sunos",
    "haiku",
    "fuchsia",
    "kindle",
    "silk",
    "meego",
    "maemo",
    "bada",
    "rim ",
    "amiga",
    "os/2",
    "beos",
    "cygwin",
    "s60v",
    "viera",
    "bravia",
    "appletv",
];

const ENGINES: [&str; 13] = [
    "applewebkit",
    "gecko/",
    "like gecko",
    "trident/",
    "msie ",
    "presto/",
    "khtml/",
    "goanna/",
    "servo/",
    "edge/",
    "netfront",
    "konqueror",
    "webkit/",
];

/// Each of these alone is enough: phones of before there were apps, televisions, and apps that show pages.
const DEVICES: [&str; 46] = [
    "midp",
    "cldc",
    "profile/",
    "opera",
    "ucbrowser",
    "ucweb",
    "uc browser",
    "uc applewebkit",
    "mqqbrowser",
    "blackberry",
    "netfront",
    "obigo",
    "nokia",
    "symbian",
    "series60",
    "novarra",
    "dolfin",
    "teleca",
    "openwave",
    "up.browser",
    "up.link",
    "nextreaming",
    "docomo/",
    "[fban/",
    "[fb_iab/",
    "amigaos",
    "amiga-aweb",
    "morphos",
    "hbbtv",
    "smart-tv",
    "smarttv",
    "netcast",
    "brew",
    "palmos",
    "windows ce",
    "vodafone",
    "webview",
    "maui",
    "nintendo 3ds",
    "playstation",
    "aquosbrowser",
    "opentv",
    "foma;",
    "webtv",
    "dreamcast",
    "ladybird/",
];

/// Makers of phones and text browsers that begin with their own name.
const MAKERS: [&str; 26] = [
    "samsung-",
    "lg-",
    "lg/",
    "lge-",
    "mot-",
    "htc",
    "sie-",
    "sec-",
    "alcatel",
    "pantech",
    "lenovo",
    "huawei",
    "motorola",
    "sonyericsson",
    "sprd-",
    "zte",
    "philips",
    "onebrowser",
    "links (",
    "elinks",
    "lynx/",
    "w3m/",
    "ncsa_mosaic",
    "dillo/",
    "netsurf",
    "mozilla/5.0 (en-us) applewebkit",
];

impl Shape {
    pub fn build() -> Result<Shape, BuildError> {
        Ok(Shape {
            platforms: anywhere(&PLATFORMS)?,
            engines: anywhere(&ENGINES)?,
            devices: anywhere(&DEVICES)?,
            makers: AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .start_kind(StartKind::Anchored)
                .build(MAKERS)?,
            compatible: Finder::new("compatible;"),
        })
    }

    pub fn is_browser(&self, agent: &[u8]) -> bool {
        let remark_ends = memchr::memchr(b')', agent).unwrap_or(agent.len());
        let behind = agent.get(remark_ends..).unwrap_or_default();
        if self.compatible.find(behind).is_some() {
            return false;
        }
        if is_usual(agent, behind) {
            return true;
        }
        let begins = Input::new(agent).anchored(Anchored::Yes);
        self.devices.is_match(agent)
            || self.makers.try_find(begins).is_ok_and(|found| found.is_some())
            || self.platforms.is_match(agent) && self.engines.is_match(agent)
    }
}

/// The short way for nearly all visitors; what it lets through the long way would let through too.
fn is_usual(agent: &[u8], behind: &[u8]) -> bool {
    agent.strip_prefix(USUAL).is_some_and(|rest| USUAL_PLATFORMS.iter().any(|platform| rest.starts_with(platform)))
        && USUAL_ENGINES.iter().any(|engine| behind.starts_with(engine))
}

fn anywhere(words: &[&str]) -> Result<AhoCorasick, BuildError> {
    AhoCorasick::builder().ascii_case_insensitive(true).build(words)
}
