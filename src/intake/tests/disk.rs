//! A spool in memory whose disk does what the test says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tokio::sync::watch;

use crate::spool::{NotDurable, NotSpooled};

pub struct MemoryDisk {
    records: Mutex<Vec<String>>,
    refuse: Mutex<Option<NotSpooled>>,
    fail: AtomicBool,
    /// True while fdatasync returns.
    syncing: watch::Sender<bool>,
}

impl Default for MemoryDisk {
    fn default() -> MemoryDisk {
        MemoryDisk {
            records: Mutex::default(),
            refuse: Mutex::default(),
            fail: AtomicBool::new(false),
            syncing: watch::Sender::new(true),
        }
    }
}

impl MemoryDisk {
    pub fn append(&self, record: impl FnOnce(u64) -> String) -> Result<u64, NotSpooled> {
        if let Some(refusal) = *self.refuse.lock().unwrap() {
            return Err(refusal);
        }
        let mut records = self.records.lock().unwrap();
        let seq = records.len() as u64;
        records.push(record(seq));
        Ok(seq)
    }

    pub async fn wait(&self, _seq: u64) -> Result<(), NotDurable> {
        let _ = self.syncing.subscribe().wait_for(|syncing| *syncing).await;
        if self.fail.load(SeqCst) { Err(NotDurable) } else { Ok(()) }
    }

    /// Every record, as JSON.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.records.lock().unwrap().iter().map(|record| serde_json::from_str(record).unwrap()).collect()
    }

    pub fn raw(&self) -> Vec<String> {
        self.records.lock().unwrap().clone()
    }

    /// What `append` answers from now on.
    pub fn refuse(&self, refusal: Option<NotSpooled>) {
        *self.refuse.lock().unwrap() = refusal;
    }

    /// Whether fdatasync fails from now on.
    pub fn fail(&self, fail: bool) {
        self.fail.store(fail, SeqCst);
    }

    /// Whether fdatasync hangs from now on.
    pub fn hang(&self, hang: bool) {
        self.syncing.send_replace(!hang);
    }
}
