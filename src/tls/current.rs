//! The certificates that are served now: read by every handshake without a lock, replaced whole (contract P9).

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificates::Certificates;
use super::sources::{Loaded, Sources};
use crate::files::Files;
use crate::metrics::Counter;
use crate::time::TimeMs;

pub struct Current {
    sources: Sources,
    certificates: Arc<ArcSwap<Certificates>>,
    /// What the last load has looked at, also one that was refused; held while reloading.
    files: Mutex<Files>,
    last_reload_successful: AtomicBool,
    pub(super) succeeded: Counter,
    pub(super) failed: Counter,
}

impl Current {
    pub fn new(sources: Sources, loaded: Loaded) -> Current {
        Current {
            sources,
            certificates: Arc::new(ArcSwap::from_pointee(loaded.certificates)),
            files: Mutex::new(loaded.files),
            last_reload_successful: AtomicBool::new(true),
            succeeded: Counter::new(),
            failed: Counter::new(),
        }
    }

    /// Loads again and logs what came of it. Bad files leave what is served; connections stay in any case.
    pub fn reload(&self, now: TimeMs) {
        let door = self.sources.door;
        let mut files = self.files();
        *files = Files::default();
        let loaded = self.sources.load_noting(&mut files, now);
        self.last_reload_successful.store(loaded.is_ok(), Relaxed);
        match loaded {
            Ok(certificates) => {
                for warning in certificates.all.iter().flat_map(|certificate| &certificate.warnings) {
                    tracing::warn!("{warning}");
                }
                let served = certificates.all.len();
                self.certificates.store(Arc::new(certificates));
                self.succeeded.add_shared(1);
                tracing::info!(door, served, "the certificates were reloaded");
            }
            Err(violations) => {
                self.failed.add_shared(1);
                tracing::error!(door, "the certificates were not reloaded, the old ones stay:\n{violations}");
            }
        }
    }

    /// What lies there now, when a file is not what the last load read, whether that was taken or refused.
    pub(super) fn changed(&self) -> Option<Files> {
        self.files().changed_to()
    }

    pub fn certificates(&self) -> Arc<Certificates> {
        self.certificates.load_full()
    }

    pub fn last_reload_successful(&self) -> bool {
        self.last_reload_successful.load(Relaxed)
    }

    pub(super) fn resolver(&self) -> Arc<Resolver> {
        Arc::new(Resolver(self.certificates.clone()))
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        // A panic while it is held leaves it as it was or empty: both may be used.
        self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

pub(super) struct Resolver(Arc<ArcSwap<Certificates>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().choose(hello.server_name(), hello.signature_schemes())
    }
}

/// rustls asks for it; there is nothing to say that were no secret.
impl fmt::Debug for Resolver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Resolver")
    }
}
