//! How many connections each address has at one door (contract E33, `limits.connections_per_address`).
//!
//! Each address that is counted has at least one open connection, so there are never more of them than of those.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

/// Workers that accept at the same moment seldom wait for each other.
const SHARDS: usize = 16;

/// Some addresses, as the operator named them.
#[derive(Clone)]
pub struct Trusted(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl Trusted {
    pub fn new(has: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Trusted {
        Trusted(Arc::new(has))
    }

    pub fn has(&self, address: IpAddr) -> bool {
        (self.0)(address)
    }
}

impl fmt::Debug for Trusted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Trusted")
    }
}

/// What one address may have.
#[derive(Clone, Debug)]
pub struct PerAddress {
    /// Open connections; one more is answered 503.
    pub connections: usize,
    /// Proxies: behind each are many clients, so theirs are not counted.
    pub except: Trusted,
}

/// Whom a connection counts for. Somebody with IPv6 has a /64 at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    V4(u32),
    V6(u64),
}

impl Counted {
    fn of(address: IpAddr) -> Counted {
        match address.to_canonical() {
            IpAddr::V4(address) => Counted::V4(address.to_bits()),
            IpAddr::V6(address) => Counted::V6((address.to_bits() >> 64) as u64),
        }
    }
}

pub struct Addresses {
    limit: PerAddress,
    /// With a key that nobody knows: addresses are chosen by strangers.
    state: RandomState,
    shards: [Mutex<HashMap<Counted, usize>>; SHARDS],
}

/// What `come` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comes {
    /// Whoever it is leaves by `leave`.
    Counted(Counted),
    /// Nobody counts it.
    Free,
    /// The address has as many as it may have.
    TooMany,
}

impl Addresses {
    pub fn new(limit: PerAddress) -> Addresses {
        Addresses { limit, state: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    pub fn come(&self, address: IpAddr) -> Comes {
        if self.limit.except.has(address) {
            return Comes::Free;
        }
        let counted = Counted::of(address);
        let mut shard = self.shard(counted);
        let open = shard.entry(counted).or_insert(0);
        if *open >= self.limit.connections {
            return Comes::TooMany;
        }
        *open += 1;
        Comes::Counted(counted)
    }

    pub fn leave(&self, counted: Counted) {
        if let Entry::Occupied(mut open) = self.shard(counted).entry(counted) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }

    fn shard(&self, counted: Counted) -> MutexGuard<'_, HashMap<Counted, usize>> {
        let shard = &self.shards[self.state.hash_one(counted) as usize % SHARDS];
        // Nothing under this lock panics half way.
        shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn e33_each_address_has_so_many_and_ipv6_is_counted_by_64_bits() {
        let proxy = address("10.0.0.1");
        let addresses = Addresses::new(PerAddress { connections: 2, except: Trusted::new(move |one| one == proxy) });
        let first = addresses.come(address("192.0.2.1"));
        let Comes::Counted(counted) = first else { panic!("{first:?}") };
        assert_eq!(addresses.come(address("::ffff:192.0.2.1")), first);
        assert_eq!(addresses.come(address("192.0.2.1")), Comes::TooMany);
        assert!(matches!(addresses.come(address("192.0.2.2")), Comes::Counted(_)));
        addresses.leave(counted);
        assert_eq!(addresses.come(address("192.0.2.1")), first);
        assert!(matches!(addresses.come(address("2001:db8::1")), Comes::Counted(_)));
        assert!(matches!(addresses.come(address("2001:db8::ffff:2")), Comes::Counted(_)));
        assert_eq!(addresses.come(address("2001:db8::3")), Comes::TooMany);
        assert!(matches!(addresses.come(address("2001:db8:0:1::3")), Comes::Counted(_)));
        for _ in 0..5 {
            assert_eq!(addresses.come(proxy), Comes::Free);
        }
    }

    #[test]
    fn e33_who_has_left_takes_no_memory() {
        let addresses = Addresses::new(PerAddress { connections: 9, except: Trusted::new(|_| false) });
        let came: Vec<Comes> = (0..4_000).map(|number: u32| addresses.come(IpAddr::V4((number / 2).into()))).collect();
        for comes in came {
            let Comes::Counted(counted) = comes else { panic!("{comes:?}") };
            addresses.leave(counted);
        }
        assert!(addresses.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
