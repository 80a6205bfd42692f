//! Connections of the API to the store: opened when first needed, kept for the next, thrown away after an error.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::store::{OpenError, Reader, StoreError, View};

/// Idle connections kept.
const MAX_IDLE: usize = 8;

pub struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Reader>>,
}

#[derive(Debug, thiserror::Error)]
pub enum NotRead<E> {
    /// Nobody has consumed anything yet.
    #[error("there is no store yet")]
    Nothing,
    #[error(transparent)]
    Open(OpenError),
    #[error("{0}")]
    Failed(E),
}

impl Readers {
    pub fn new(store_path: PathBuf) -> Readers {
        Readers { path: store_path, idle: Mutex::new(Vec::new()) }
    }

    /// Looks at the store as of one moment.
    pub fn read<T, E: From<StoreError>>(&self, look: impl FnOnce(View<'_>) -> Result<T, E>) -> Result<T, NotRead<E>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => Reader::open(&self.path).map_err(|error| match error {
                OpenError::Missing(_) => NotRead::Nothing,
                error => NotRead::Open(error),
            })?,
        };
        let seen = reader.view(look).map_err(NotRead::Failed)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(reader);
        }
        Ok(seen)
    }
}
