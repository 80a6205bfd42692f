//! How often one merchant may call (contract I26): the generic cell rate algorithm (ITU-T I.371) with a burst of one
//! second. One number per merchant that ever called; merchants are the catalog's, so the map is bounded by it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use crate::catalog::MerchantId;
use crate::time::TimeMs;

const SECOND_US: i64 = 1_000_000;

pub struct RateLimit {
    interval_us: i64,
    /// When the next call of a merchant would come if they called evenly, microseconds.
    next_us: Mutex<HashMap<MerchantId, i64>>,
}

impl RateLimit {
    pub fn new(requests_per_s: NonZeroU32) -> RateLimit {
        let interval_us = (SECOND_US / i64::from(requests_per_s.get())).max(1);
        RateLimit { interval_us, next_us: Mutex::new(HashMap::new()) }
    }

    /// Whether this call is within the limit; a refused call does not count.
    pub fn allows(&self, merchant_id: MerchantId, now: TimeMs) -> bool {
        let now_us = now.0.saturating_mul(1_000);
        let mut all = self.next_us.lock().unwrap_or_else(PoisonError::into_inner);
        let next_us = all.entry(merchant_id).or_insert(now_us);
        // A clock that stood in the future must not shut a merchant out for longer than the burst.
        let start = (*next_us).clamp(now_us, now_us.saturating_add(SECOND_US));
        let allowed = start.saturating_add(self.interval_us) <= now_us.saturating_add(SECOND_US);
        if allowed {
            *next_us = start + self.interval_us;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i26_a_second_holds_the_limit_and_merchants_do_not_share_it() {
        let limit = RateLimit::new(NonZeroU32::new(3).unwrap());
        let calls = |merchant: u32, at: i64| limit.allows(MerchantId(merchant), TimeMs(at));
        assert_eq!([calls(1, 0), calls(1, 0), calls(1, 0), calls(1, 0)], [true, true, true, false]);
        assert!(calls(2, 0));
        assert_eq!([calls(1, 332), calls(1, 334), calls(1, 334)], [false, true, false]);
        assert_eq!([calls(1, 5_000), calls(1, 5_000), calls(1, 5_000), calls(1, 5_000)], [true, true, true, false]);
    }
}
