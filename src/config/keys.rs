//! Every key there is: its type, its default and what it means. The config file is read, checked and rendered from here.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::values::{FallbackUrl, HttpsPort, Network, ReferrerPolicy, StrictTransportSecurity, TimeZone};
use crate::spool::Durability;
use crate::toml_reader::{Choice, FromToml, Int, Section, TokenHash};

/// A key with its default, as the rendered file shows it.
pub struct KeyText {
    pub key: &'static str,
    /// TOML; `None` when the key is absent by default.
    pub default: Option<&'static str>,
    /// An example for a key without a default.
    pub example: &'static str,
    pub doc: &'static [&'static str],
}

pub struct SectionText {
    pub name: &'static str,
    pub doc: &'static [&'static str],
    pub keys: &'static [KeyText],
}

/// Declares the sections: a struct for each, its reader and its text.
macro_rules! sections {
    ($(
        $(#[doc = $section_doc:literal])*
        $section:ident: $Section:ident {
            $( $(#[doc = $doc:literal])* $key:ident: $Type:ty = $default:tt, )*
        }
    )*) => {
        $(
            $(#[doc = $section_doc])*
            #[derive(Clone, Debug)]
            pub struct $Section {
                $( $(#[doc = $doc])* pub $key: $Type, )*
            }

            impl $Section {
                fn read(section: &Section<'_>) -> $Section {
                    $Section { $( $key: sections!(@read section $key $Type, $default), )* }
                }
            }
        )*

        /// The whole configuration. Paths are as written until `resolve`.
        #[derive(Clone, Debug)]
        pub struct Keys {
            $( $(#[doc = $section_doc])* pub $section: $Section, )*
        }

        impl Keys {
            /// Reads what is there, defaults for the rest; violations are noted at the sections.
            pub(super) fn read(root: &Section<'_>, empty: &Section<'_>) -> Keys {
                Keys {
                    $( $section: match root.section(stringify!($section)) {
                        Some(section) => {
                            let read = $Section::read(&section);
                            section.finish();
                            read
                        }
                        None => $Section::read(empty),
                    }, )*
                }
            }
        }

        pub const SECTIONS: &[SectionText] = &[$( SectionText {
            name: stringify!($section),
            doc: &[$($section_doc),*],
            keys: &[$( sections!(@text $key, $default, [$($doc),*]) ),*],
        } ),*];
    };
    (@read $section:ident $key:ident $Type:ty, (none, $example:literal)) => {
        $section.optional(stringify!($key))
    };
    (@read $section:ident $key:ident $Type:ty, $default:literal) => {
        $section.optional(stringify!($key)).unwrap_or_else(|| default::<$Type>($default))
    };
    (@text $key:ident, (none, $example:literal), [$($doc:literal),*]) => {
        KeyText { key: stringify!($key), default: None, example: $example, doc: &[$($doc),*] }
    };
    (@text $key:ident, $default:literal, [$($doc:literal),*]) => {
        KeyText { key: stringify!($key), default: Some($default), example: "", doc: &[$($doc),*] }
    };
}

/// A default is written as TOML here above; a test reads every one of them.
fn default<T: FromToml>(text: &str) -> T {
    let line = format!("x = {text}");
    let table = toml::de::DeTable::parse(&line).ok();
    let value = table.as_ref().and_then(|table| table.get_ref().get("x"));
    let read = value.and_then(|value| T::from_toml(value.get_ref()).ok());
    // `every_default_is_valid` has read this very text.
    read.expect("a default is valid")
}

sections! {
    /// The door of visitors.
    edge: Edge {
        /// Address of the redirects.
        listen: SocketAddr = "\"127.0.0.1:8080\"",
        /// The same over TLS; there is none without a certificate.
        tls_listen: SocketAddr = "\"127.0.0.1:8443\"",
        /// Certificate with its chain and its key, both PEM: for every name that it holds, and for whoever asks for a name
        /// that no certificate holds.
        tls_certificate_file: Option<PathBuf> = (none, "\"edge.crt\""),
        tls_key_file: Option<PathBuf> = (none, "\"edge.key\""),
        /// More of them: a directory of NAME.crt or NAME.pem beside NAME.key. A client gets the one that holds the name
        /// it asks for, ECDSA before RSA where it can. Without tls_certificate_file the first is for all other names.
        tls_directory: Option<PathBuf> = (none, "\"certificates\""),
        /// Value of the header Strict-Transport-Security on answers over TLS. Without it there is no such header.
        hsts: Option<StrictTransportSecurity> = (none, "\"max-age=31536000\""),
        /// What comes without TLS is sent to https on the same host, and is no click then; /healthz stays. true is the port
        /// of tls_listen, a number the port that visitors see.
        redirect_to_https: HttpsPort = "false",
        /// Networks of your load balancers. From there X-Forwarded-For tells the visitor's address and X-Forwarded-Proto:
        /// https that it came by TLS; nobody else is believed. limits.connections_per_address does not concern them.
        trusted_proxies: Vec<Network> = "[]",
        /// Which of "listen" and "tls_listen" take PROXY protocol v2. Each connection there must begin with it, and come
        /// from trusted_proxies where those are set.
        proxy_protocol: Vec<Choice<ProxyListener>> = "[]",
        /// Threads that answer, each with a spool of its own; 0 is one for each core.
        workers: Int<0, 256> = "0",
        /// Where visitors go when an offer, link or page is not known or has none. Without it they see a 404.
        fallback_url: Option<FallbackUrl> = (none, "\"https://network.example/\""),
        /// Value of the header Referrer-Policy on redirects. Without it there is no such header.
        referrer_policy: Option<ReferrerPolicy> = (none, "\"no-referrer\""),
        /// How long the visitor cookie lives.
        cookie_max_age_s: Int<1, 34_560_000> = "34560000",
        /// Names this machine in click events; without it the host name.
        name: Option<String> = (none, "\"edge-1\""),
        /// Names of bots, one a line, in place of the built-in list (docs/labels.md). Read again when it changes.
        bots_file: Option<PathBuf> = (none, "\"bots.txt\""),
        /// Networks of data centres, one a line: clicks from there get the flag `datacenter`. Read again when it changes.
        datacenters_file: Option<PathBuf> = (none, "\"datacenters.txt\""),
    }
    /// The door of merchants and operators.
    api: Api {
        /// Address of intake, reports and conversions.
        listen: SocketAddr = "\"127.0.0.1:8081\"",
        /// The same over TLS; there is none without a certificate.
        tls_listen: SocketAddr = "\"127.0.0.1:8444\"",
        /// Certificate with its chain and its key, both PEM.
        tls_certificate_file: Option<PathBuf> = (none, "\"api.crt\""),
        tls_key_file: Option<PathBuf> = (none, "\"api.key\""),
        /// SHA-256 (64 hex digits) of each token that may read everything.
        operator_tokens_sha256: Vec<TokenHash> = "[]",
    }
    /// The door of whoever watches: metrics, health, version.
    admin: Admin {
        listen: SocketAddr = "\"127.0.0.1:9464\"",
    }
    /// The embedded store.
    store: Store {
        /// The SQLite file. Its directory is the data directory: made keys and the order index lie there too.
        path: PathBuf = "\"data/afflux.sqlite\"",
    }
    /// PostgreSQL, the store of attribution and console.
    postgresql: PostgreSql {
        /// A file with the connection URL alone in it: postgresql://user:password@host:5432/database.
        url_file: Option<PathBuf> = (none, "\"postgresql.url\""),
        /// Connections of a console for reports; one more waits for one of them.
        readers: Int<1, 256> = "8",
    }
    /// Kafka, the log between edges and attribution.
    kafka: Kafka {
        /// Brokers to ask first, HOST:PORT, separated by commas.
        bootstrap_servers: Option<String> = (none, "\"127.0.0.1:9092\""),
        /// Topics are PREFIX.clicks, PREFIX.conversions, PREFIX.attributions and PREFIX.dead-letters; consumer groups
        /// begin with it too.
        prefix: String = "\"afflux\"",
        /// What `afflux topics create` makes: partitions of clicks and conversions, copies of each, and how many copies
        /// must have a record before it counts as delivered.
        partitions: Int<1, 1_000> = "12",
        replicas: Int<1, 15> = "3",
        min_insync_replicas: Int<1, 15> = "2",
        /// How long clicks and conversions are kept; 0 is the longest window and attribution.max_report_delay_days, and a
        /// week more.
        retention_days: Int<0, 36_500> = "0",
    }
    /// Redis: double clicks, the fast check of orders, and the touch index.
    redis: Redis {
        /// redis://HOST:PORT/DATABASE. A password stands in password_file.
        url: String = "\"redis://127.0.0.1:6379/0\"",
        /// A file with the password alone in it, or USER:PASSWORD; :PASSWORD for one with a colon.
        password_file: Option<PathBuf> = (none, "\"redis.password\""),
    }
    /// From the spools to Kafka.
    shipper: Shipper {
        /// False leaves records in the spools until it is true again.
        enabled: bool = "true",
        /// Most records that are asked for duplicates and handed to Kafka at once.
        batch_records: Int<1, 100_000> = "4096",
        /// How long Kafka's client waits for more records before it sends a batch.
        linger_ms: Int<0, 10_000> = "50",
    }
    /// Which clicks a visitor made lately: in Redis for attribution, in the store of serve.
    touch: Touch {
        /// Parts of the index in Redis, each with a position of its own; more than one only for a Redis Cluster. Changing
        /// it makes the index anew.
        buckets: Int<1, 1_024> = "1",
        /// Touches of one visitor that are kept of one day; later ones are left out, counted, and decisions say so.
        visitor_day_touches: Int<1, 65_536> = "4096",
    }
    /// The log on this machine's disk.
    spool: Spool {
        directory: PathBuf = "\"data/spool\"",
        /// When a click is answered: "disk" after an fdatasync covers it (survives a power cut), "process" at once
        /// (survives kill -9). Orders are on disk before they are answered in both.
        durability: Choice<Durability> = "\"disk\"",
        /// Interval of the background fdatasync in "process".
        sync_interval_ms: Int<1, 10_000> = "5",
        /// How long an answer waits for its fdatasync in "disk"; 0 waits without limit.
        disk_wait_max_ms: Int<0, 60_000> = "50",
        /// Size of a segment; made ahead of need.
        segment_bytes: Int<4_096, 1_073_741_824> = "67108864",
        /// Most bytes that all spools may take, at least three segments for each of edge.workers + 1 spools; 0 is 10 %
        /// of the file system, at least 1 GiB and those segments. Only unconsumed segments fill it.
        max_bytes: Int<0, 1_125_899_906_842_624> = "0",
        /// How long consumed segments are kept within max_bytes.
        keep_days: Int<0, 3_650> = "7",
    }
    /// Merchants, offers, publishers, links, coupons.
    catalog: Catalog {
        /// A TOML file, or a directory whose *.toml are read in name order as one. Without it nothing is known.
        path: Option<PathBuf> = (none, "\"catalog.toml\""),
        /// Lets a reload change terms that are already in force.
        allow_changed_terms: bool = "false",
        /// How often the files are looked at for changes, the lists of the edge and certificates too; 0 looks only on SIGHUP.
        watch_interval_ms: Int<0, 3_600_000> = "1000",
    }
    /// The click ID.
    click: Click {
        /// Signing keys (NUMBER:HEX, the first signs) and the visitor key (visitor:HEX). Without it keys are made once
        /// in the data directory.
        keys_file: Option<PathBuf> = (none, "\"click.keys\""),
    }
    /// Double clicks.
    dedupe: Dedupe {
        /// Clicks of one visitor with the same offer, publisher and page within this time of the first are duplicates;
        /// with the same offer and publisher they are one touch.
        window_ms: Int<0, 3_600_000> = "10000",
        /// How long the shipper waits for Redis before it goes on without looking for duplicates.
        timeout_ms: Int<1, 10_000> = "20",
    }
    /// What is written down of a visitor.
    privacy: Privacy {
        /// The address in events: "cut" to /24 or /48, "full", or "none".
        ip: Choice<IpPrivacy> = "\"cut\"",
        /// The cookie's value in events: "full", or "none".
        visitor: Choice<VisitorPrivacy> = "\"full\"",
        /// How long the store keeps of an order who bought (visitor_id, customer_id, extra, source_ip), and what reports
        /// said that differed or could not be applied; 0 is for ever. Money, clicks and reasons stay.
        keep_personal_days: Int<0, 36_500> = "400",
    }
    /// What merchants may say.
    intake: Intake {
        /// How far after its receipt an order may have occurred.
        max_future_s: Int<0, 86_400> = "300",
    }
    /// Who earned it.
    attribution: Attribution {
        /// Clicks up to this much after the order count when no other does: clocks differ.
        clock_skew_ms: Int<0, 3_600_000> = "120000",
        /// An order reported later than this is attributed by its own click ID alone.
        max_report_delay_days: Int<0, 3_650> = "14",
        /// How long a conversion waits for the touch index before it is decided provisionally, by what is known.
        grace_ms: Int<0, 86_400_000> = "60000",
        /// How long an order waits whose click ID names a signing key that is not listed here yet.
        unknown_key_wait_ms: Int<0, 86_400_000> = "600000",
    }
    /// Reading it back.
    report: Report {
        /// IANA time zone of days and hours in reports, and of dates without a time.
        time_zone: TimeZone = "\"UTC\"",
        /// How long counts of clicks are kept; 0 is for ever. Reports of days before that have no clicks; orders, and what
        /// they earned, stay.
        keep_click_counts_days: Int<0, 36_500> = "0",
    }
    /// Bounds.
    limits: Limits {
        /// Open connections on each door; one more gets 503. Lowered at the start, with a warning, to what fits into the
        /// files that the process may have open.
        connections: Int<1, 1_000_000> = "10000",
        /// Open connections of one address at the edge, of one /64 for IPv6; one more gets 503. 0 is no limit.
        connections_per_address: Int<0, 1_000_000> = "0",
        /// Requests a second of one merchant; one more gets 429. 0 is no limit.
        requests_per_merchant_s: Int<0, 1_000_000> = "0",
    }
    /// The end.
    shutdown: Shutdown {
        /// How long a stop may take before the process ends all the same.
        deadline_s: Int<1, 3_600> = "30",
        /// How long the doors stay open after /readyz says 503, for load balancers to see it; within deadline_s.
        readiness_delay_ms: Int<0, 3_599_999> = "0",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpPrivacy {
    Cut,
    Full,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisitorPrivacy {
    Full,
    None,
}

/// A listener of the edge, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyListener {
    Listen,
    TlsListen,
}
