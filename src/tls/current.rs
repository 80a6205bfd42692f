//! The certificates that are served now: read by every handshake without a lock, replaced whole (contract P9).

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::certificates::Certificates;
use super::sources::{Loaded, Sources};
use crate::files::Files;
use crate::metrics::Counter;
use crate::time::TimeMs;
use crate::toml_reader::{Violation, Violations};

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
        let loaded = unless_it_panics(|| {
            let certificates = self.sources.load_noting(&mut files, now).map_err(NotReloaded::Wrong)?;
            self.are_no_worse(&certificates, now).map_err(NotReloaded::Wrong)?;
            Ok(certificates)
        });
        drop(files);
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
            Err(error) => {
                self.failed.add_shared(1);
                tracing::error!(door, "the certificates were not reloaded, the old ones stay:\n{error}");
            }
        }
    }

    /// What has expired does not take the place of what has not; beside others it may stay.
    fn are_no_worse(&self, new: &Certificates, now: TimeMs) -> Result<(), Violations> {
        let served = self.certificates();
        let is_served = |file: &Path| served.all.iter().any(|known| known.file == file && known.not_after > now);
        let mut violations = Violations::default();
        for Certificate { file, not_after, .. } in new.all.iter().filter(|new| new.is_expired && is_served(&new.file)) {
            let message =
                format!("expired at {}; one that is valid, as that before it, is allowed", not_after.to_rfc3339());
            violations.add(Violation { file: file.clone(), line: 1, key: String::new(), message });
        }
        violations.none()
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

#[derive(Debug, thiserror::Error)]
enum NotReloaded {
    #[error("{0}")]
    Wrong(Violations),
    #[error("reading them panicked, as told above")]
    Panicked,
}

/// A panic refuses what was read, as an error does: the thread is one that the process does not go on without.
fn unless_it_panics<T>(load: impl FnOnce() -> Result<T, NotReloaded>) -> Result<T, NotReloaded> {
    std::panic::catch_unwind(AssertUnwindSafe(load)).unwrap_or(Err(NotReloaded::Panicked))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p9_a_reload_of_certificates_that_panics_is_refused() {
        let refused = unless_it_panics(|| -> Result<(), NotReloaded> { panic!("on purpose") }).unwrap_err();
        assert!(matches!(refused, NotReloaded::Panicked));
        assert!(unless_it_panics(|| Ok(())).is_ok());
    }
}
