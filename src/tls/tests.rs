//! Certificates of all kinds, made by openssl, in order and not.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use super::*;
use crate::clock::{Clock, WallClock};
use crate::time::{DAY_MS, TimeMs};

/// A certificate that signs itself.
pub struct Made {
    home: TempDir,
}

impl Made {
    fn certificate(&self) -> PathBuf {
        self.home.path().join("made.crt")
    }

    fn key(&self) -> PathBuf {
        self.home.path().join("made.key")
    }

    fn put(&self, directory: &Path, name: &str) {
        std::fs::copy(self.certificate(), directory.join(format!("{name}.crt"))).unwrap();
        std::fs::copy(self.key(), directory.join(format!("{name}.key"))).unwrap();
    }

    fn pair(&self) -> Pair {
        Pair { certificate: self.certificate(), key: self.key(), config_key: "edge.tls_certificate_file" }
    }

    pub fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_file(self.certificate()).unwrap().to_vec()
    }
}

/// `names` as openssl takes them, `DNS:a.example,DNS:*.b.example`; good for `days`.
pub fn made(names: &str, algorithm: &str, days: u32) -> Made {
    let made = Made { home: tempfile::tempdir().unwrap() };
    let kind: &[&str] = match algorithm {
        "ecdsa" => &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        other => &[other],
    };
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-subj", "/CN=made", "-days", &days.to_string(), "-newkey"]).args(kind);
    if !names.is_empty() {
        command.args(["-addext", &format!("subjectAltName={names}")]);
    }
    let output = command.arg("-keyout").arg(made.key()).arg("-out").arg(made.certificate()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    made
}

/// What a listener needs of it.
pub fn server(made: &Made) -> std::sync::Arc<Server> {
    let sources = of_pair(made.pair());
    let loaded = sources.load(now()).unwrap_or_else(|violations| panic!("{violations}"));
    Server::new(sources, loaded).unwrap()
}

fn now() -> TimeMs {
    WallClock::start().now()
}

fn of_directory(directory: &Path) -> Sources {
    Sources { door: "edge", pair: None, directory: Some(directory.to_owned()), directory_key: "edge.tls_directory" }
}

fn of_pair(pair: Pair) -> Sources {
    Sources { door: "edge", pair: Some(pair), directory: None, directory_key: "edge.tls_directory" }
}

fn refused(sources: &Sources) -> String {
    sources.load(now()).err().map(|violations| violations.to_string()).unwrap_or_default()
}

/// The file of the certificate that is chosen.
fn chosen(certificates: &Certificates, name: Option<&str>, schemes: &[SignatureScheme]) -> String {
    let key = certificates.choose(name, schemes).unwrap();
    let of_key = |one: &&Certificate| one.key.cert[0] == key.cert[0];
    let certificate = certificates.all.iter().find(of_key).unwrap();
    certificate.file.file_stem().unwrap().to_string_lossy().into_owned()
}

const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;

#[test]
fn p12_a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let home = tempfile::tempdir().unwrap();
    made("DNS:first.example", "ecdsa", 9).put(home.path(), "a");
    made("DNS:Shop.example,DNS:*.shop.example", "ecdsa", 9).put(home.path(), "b-ecdsa");
    made("DNS:shop.example,DNS:www.shop.example", "rsa", 9).put(home.path(), "b-rsa");
    std::fs::write(home.path().join("README"), "not one").unwrap();
    let loaded = of_directory(home.path()).load(now()).unwrap_or_else(|violations| panic!("{violations}"));
    let both = [ECDSA, RSA];
    let served = |name: &str, schemes: &[SignatureScheme]| chosen(&loaded.certificates, Some(name), schemes);
    assert_eq!(served("first.example", &both), "a");
    assert_eq!(served("shop.example", &both), "b-ecdsa");
    assert_eq!(served("SHOP.example", &[RSA]), "b-rsa");
    assert_eq!(served("shop.example", &[ECDSA]), "b-ecdsa");
    // An exact name before a wildcard, whatever the algorithm.
    assert_eq!(served("www.shop.example", &both), "b-rsa");
    assert_eq!(served("x.shop.example", &both), "b-ecdsa");
    assert_eq!(served("x.y.shop.example", &both), "a");
    assert_eq!(served("example", &both), "a");
    assert_eq!(chosen(&loaded.certificates, None, &both), "a");
    // Nothing fits: the client is told by rustls.
    assert_eq!(served("first.example", &[RSA]), "a");
}

#[test]
fn p12_the_named_pair_is_the_default_and_may_lie_in_the_directory() {
    let home = tempfile::tempdir().unwrap();
    made("DNS:a.example", "ecdsa", 9).put(home.path(), "a");
    made("DNS:z.example", "ecdsa", 9).put(home.path(), "z");
    made("DNS:z.example", "rsa", 9).put(home.path(), "z-rsa");
    let path = |name: &str| home.path().join(name);
    let pair = Pair { certificate: path("z.crt"), key: path("z.key"), config_key: "edge.tls_certificate_file" };
    let sources = Sources { pair: Some(pair), ..of_directory(home.path()) };
    let loaded = sources.load(now()).unwrap_or_else(|violations| panic!("{violations}"));
    assert_eq!(loaded.certificates.all.len(), 3);
    assert_eq!(chosen(&loaded.certificates, None, &[ECDSA, RSA]), "z");
    assert_eq!(chosen(&loaded.certificates, Some("other.example"), &[RSA]), "z-rsa");
}

#[test]
fn p3_what_is_wrong_with_a_pair_names_its_file() {
    let good = made("DNS:a.example", "ecdsa", 9);
    let other = made("DNS:a.example", "ecdsa", 9);
    let with = |certificate: &Path, key: &Path| {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        refused(&of_pair(Pair { certificate, key, ..good.pair() }))
    };
    assert_eq!(with(&good.certificate(), &good.key()), "");
    let wrong = with(&good.certificate(), &other.key());
    let start = format!(
        "{}:1: edge.tls_certificate_file: not the key of {}",
        other.key().display(),
        good.certificate().display()
    );
    assert!(wrong.starts_with(&start), "{wrong}");
    let swapped = with(&good.key(), &good.certificate());
    assert!(swapped.contains("made.key:1: ") && swapped.contains("holds none"), "{swapped}");
    let missing = with(&good.certificate(), Path::new("/nowhere/a.key"));
    assert!(missing.starts_with("/nowhere/a.key:1: ") && missing.contains("cannot be read"), "{missing}");
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(scratch.path().join(name), text).unwrap();
        scratch.path().join(name)
    };
    for (text, part) in [
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted"),
        ("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n", "no key of a known kind"),
        ("-----BEGIN PRIVATE KEY-----\nhunter2 !\n-----END PRIVATE KEY-----\n", "not PEM"),
        ("hunter2", "holds none"),
    ] {
        let said = with(&good.certificate(), &file("bad.key", text));
        assert!(said.contains("bad.key:1: ") && said.contains(part) && !said.contains("hunter2"), "{said}");
    }
    let said = with(&file("bad.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), &good.key());
    assert!(said.contains("bad.crt:1: ") && said.contains("not an X.509 certificate"), "{said}");
}

#[test]
fn p3_an_expired_certificate_is_warned_of_and_so_is_one_of_tomorrow() {
    let made = made("DNS:a.example", "ecdsa", 2);
    let sources = of_pair(made.pair());
    let later = TimeMs(now().0 + 3 * DAY_MS);
    let loaded = sources.load(later).unwrap_or_else(|violations| panic!("{violations}"));
    let warned = &loaded.certificates.all[0].warnings;
    assert!(warned.iter().any(|warning| warning.contains("made.crt: expired at 20")), "{warned:?}");
    let before = sources.load(TimeMs(now().0 - DAY_MS)).unwrap_or_else(|violations| panic!("{violations}"));
    assert!(before.certificates.all[0].warnings.iter().any(|warning| warning.contains("not valid before")));
}

#[test]
fn p9_what_has_expired_stays_beside_others_and_takes_the_place_of_none_that_is_good() {
    let home = tempfile::tempdir().unwrap();
    let (brief, long) = (made("DNS:a.example", "ecdsa", 2), made("DNS:b.example", "ecdsa", 9));
    brief.put(home.path(), "a");
    long.put(home.path(), "b");
    let sources = of_directory(home.path());
    let later = TimeMs(now().0 + 3 * DAY_MS);
    // A start: both are served, and the name of the good one gets it.
    let server = Server::new(sources.clone(), sources.load(later).ok().unwrap()).unwrap();
    let expired = || server.current.certificates().all.iter().map(|one| one.is_expired).collect::<Vec<_>>();
    assert_eq!(expired(), [true, false]);
    // The one that expired does not hold up a renewal of the other.
    made("DNS:b.example", "ecdsa", 8).put(home.path(), "b");
    server.current.reload(later);
    assert!(server.current.last_reload_successful());
    // An old file over a good one does not count.
    brief.put(home.path(), "b");
    server.current.reload(later);
    assert_eq!((server.current.last_reload_successful(), expired()), (false, vec![true, false]));
    // Renewed under another name, and the old file lies there still.
    made("DNS:a.example", "ecdsa", 9).put(home.path(), "c");
    long.put(home.path(), "b");
    server.current.reload(later);
    assert_eq!((server.current.last_reload_successful(), expired()), (true, vec![true, false, false]));
    let certificates = server.current.certificates();
    let served: Vec<_> = certificates.served().map(|(name, one)| (name, one.is_expired)).collect();
    assert_eq!(served, [("b.example".to_owned(), false), ("a.example".to_owned(), false)], "one figure for each name");
    let new = CertificateDer::from_pem_file(home.path().join("c.crt")).unwrap();
    let chosen = server.current.certificates().choose(Some("a.example"), &[ECDSA]);
    assert_eq!(chosen.unwrap().end_entity_cert().unwrap(), &new);
}

#[test]
fn p3_a_directory_is_judged_as_a_whole() {
    let home = tempfile::tempdir().unwrap();
    assert!(refused(&of_directory(home.path())).contains("holds no *.crt or *.key or *.pem"));
    assert!(refused(&of_directory(&home.path().join("nowhere"))).contains("nowhere"));
    made("DNS:a.example,DNS:b.example", "ecdsa", 9).put(home.path(), "a");
    made("DNS:c.example,DNS:b.example", "ecdsa", 9).put(home.path(), "b");
    let twice = refused(&of_directory(home.path()));
    assert!(twice.contains("b.crt:1: edge.tls_directory: b.example has another ecdsa certificate"), "{twice}");
    std::fs::remove_file(home.path().join("a.key")).unwrap();
    std::fs::remove_file(home.path().join("b.crt")).unwrap();
    let said = refused(&of_directory(home.path()));
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("a.crt:1: ") && said.contains("its NAME.key is missing"), "{said}");
    assert!(said.contains("b.key:1: ") && said.contains("its NAME.crt or NAME.pem is missing"), "{said}");
}

#[test]
fn a_key_that_everybody_can_read_and_a_certificate_without_a_name_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let made = made("", "ecdsa", 9);
    let warnings = || of_pair(made.pair()).load(now()).ok().unwrap().certificates.all.remove(0).warnings.join("\n");
    std::fs::set_permissions(made.key(), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(warnings().contains("no DNS name") && !warnings().contains("read this key"), "{}", warnings());
    std::fs::set_permissions(made.key(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(warnings().contains("everybody on this machine can read this key"), "{}", warnings());
}

#[test]
fn p9_a_bad_reload_leaves_what_is_served_and_is_told_once() {
    let (first, second) = (made("DNS:a.example", "ecdsa", 9), made("DNS:b.example", "ecdsa", 9));
    let home = tempfile::tempdir().unwrap();
    first.put(home.path(), "a");
    let sources = of_directory(home.path());
    let server = Server::new(sources.clone(), sources.load(now()).ok().unwrap()).unwrap();
    let served = || server.current.certificates().all[0].names.join(" ");
    // A certificate before its key.
    std::fs::copy(second.certificate(), home.path().join("a.crt")).unwrap();
    assert!(server.current.changed().is_some());
    server.current.reload(now());
    assert_eq!((served().as_str(), server.current.last_reload_successful()), ("a.example", false));
    assert!(server.current.changed().is_none(), "and it is not tried again before something changes");
    second.put(home.path(), "a");
    server.current.reload(now());
    assert_eq!((served().as_str(), server.current.last_reload_successful()), ("b.example", true));
    let mut page = crate::metrics::Page::default();
    write(&[("edge", &server)], &mut page);
    let page = page.finish();
    for line in [
        "afflux_tls_reloads_total{door=\"edge\",result=\"success\"} 1\n",
        "afflux_tls_reloads_total{door=\"edge\",result=\"failure\"} 1\n",
        "afflux_tls_last_reload_successful{door=\"edge\"} 1\n",
        "afflux_tls_certificate_expires_timestamp_seconds{door=\"edge\",name=\"b.example\",algorithm=\"ecdsa\"} 1",
        "afflux_tls_handshake_failures_total{door=\"edge\",kind=\"timed_out\"} 0\n",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}
