//! Who is writing about which order right now. A map of fair locks: a follower waits for the first one's fdatasync and
//! is then first itself (contract I14, I16). The map holds nothing that no request holds, so requests bound it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::{MarkKey, Release};

#[derive(Default)]
pub struct Claims {
    turns: Mutex<HashMap<MarkKey, Arc<Turn<()>>>>,
}

/// The right to write about one key; given up when dropped.
pub struct Claim {
    // Dropped in this order: first other edges may have it, then the turn goes to the next, who asks the edges again, then
    // the ticket may clear the map.
    _release: Option<Arc<Release>>,
    _turn: OwnedMutexGuard<()>,
    _ticket: Ticket,
}

/// Keeps a key's entry in the map while somebody waits for it or holds it.
struct Ticket {
    key: MarkKey,
    turn: Option<Arc<Turn<()>>>,
    claims: Arc<Claims>,
}

impl Claim {
    /// Held among edges too.
    pub fn with(self, release: &Arc<Release>) -> Claim {
        Claim { _release: Some(Arc::clone(release)), ..self }
    }
}

impl Claims {
    pub async fn claim(self: &Arc<Claims>, key: MarkKey) -> Claim {
        let (ticket, turn) = self.ticket(key);
        Claim { _release: None, _turn: turn.lock_owned().await, _ticket: ticket }
    }

    /// `None` while another holds it.
    pub fn try_claim(self: &Arc<Claims>, key: MarkKey) -> Option<Claim> {
        let (ticket, turn) = self.ticket(key);
        Some(Claim { _release: None, _turn: turn.try_lock_owned().ok()?, _ticket: ticket })
    }

    fn ticket(self: &Arc<Claims>, key: MarkKey) -> (Ticket, Arc<Turn<()>>) {
        let turn = self.turns().entry(key).or_default().clone();
        (Ticket { key, turn: Some(turn.clone()), claims: self.clone() }, turn)
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<MarkKey, Arc<Turn<()>>>> {
        // No code between lock and unlock can panic halfway through a change.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut turns = self.claims.turns();
        self.turn = None;
        // New references are made only under the map's lock: one left means the map's own.
        if turns.get(&self.key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::MerchantId;

    #[tokio::test]
    async fn i14_a_claim_is_held_by_one_and_leaves_nothing_behind() {
        let claims = Arc::new(Claims::default());
        let key = MarkKey::order(MerchantId(1), "A", "sale");
        let first = claims.claim(key).await;
        assert!(claims.try_claim(key).is_none());
        assert!(claims.try_claim(MarkKey::order(MerchantId(2), "A", "sale")).is_some());
        let waiting = tokio::spawn({
            let claims = claims.clone();
            async move { claims.claim(key).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        let second = waiting.await.unwrap();
        let gave_up = tokio::time::timeout(std::time::Duration::ZERO, claims.claim(key)).await;
        assert!(gave_up.is_err());
        drop(second);
        assert!(claims.turns().is_empty());
    }
}
