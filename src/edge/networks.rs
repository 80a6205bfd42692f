//! The networks of data centres: `edge.datacenters_file`, one network a line. A click from there is labelled
//! `datacenter` and nothing else changes (contract E27).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Most networks that are read: a larger file is refused.
const MOST_NETWORKS: usize = 1_000_000;
/// Values behind one entry of an index: a block is one or two lines of the processor's cache for IPv4.
const FAN: usize = 16;

/// Addresses of networks, joined and sorted.
#[derive(Default)]
pub struct Networks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    networks: usize,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadNetworks {
    #[error("more than {MOST_NETWORKS} networks")]
    TooMany,
    #[error(
        "{0:?} is no network; ADDRESS/BITS without bits behind them is allowed, as 192.0.2.0/24 or 2001:db8::/32, or an address alone",
        text
    )]
    NoNetwork { line: usize, text: String },
}

impl BadNetworks {
    /// The line that is wrong, counted from 1.
    pub fn line(&self) -> usize {
        match self {
            BadNetworks::TooMany => MOST_NETWORKS + 1,
            BadNetworks::NoNetwork { line, .. } => *line,
        }
    }
}

impl Networks {
    /// A network a line; empty lines and what stands behind a `#` are skipped.
    pub fn parse(text: &str) -> Result<Networks, BadNetworks> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            let network = line.split('#').next().unwrap_or_default().trim();
            if network.is_empty() {
                continue;
            }
            match read(network) {
                Some(IpNet::V4(network)) => v4.push((network.network().to_bits(), network.broadcast().to_bits())),
                Some(IpNet::V6(network)) => v6.push((network.network().to_bits(), network.broadcast().to_bits())),
                None => {
                    let text = network.chars().take(64).collect();
                    return Err(BadNetworks::NoNetwork { line: number + 1, text });
                }
            }
            if v4.len() + v6.len() > MOST_NETWORKS {
                return Err(BadNetworks::TooMany);
            }
        }
        let networks = v4.len() + v6.len();
        Ok(Networks { v4: Ranges::joined(v4), v6: Ranges::joined(v6), networks })
    }

    /// Networks as they stood in the file.
    pub fn count(&self) -> usize {
        self.networks
    }

    /// Allocates nothing. IPv4 inside of IPv6 is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(Ipv4Addr::to_bits(address)),
            IpAddr::V6(address) => self.v6.contains(Ipv6Addr::to_bits(address)),
        }
    }
}

/// `None` also for bits behind the network's: most often a slip that would label other addresses than were meant.
fn read(text: &str) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    let IpNet::V6(wide) = network else { return (network.trunc() == network).then_some(network) };
    // `::ffff:192.0.2.0/120`: clicks from there are looked up as IPv4.
    match (wide.network().to_ipv4_mapped(), wide.prefix_len().checked_sub(96)) {
        (Some(v4), Some(bits)) => ipnet::Ipv4Net::new(v4, bits).ok().map(IpNet::V4),
        _ => (network.trunc() == network).then_some(network),
    }
}

/// First and last values of ranges that do not overlap.
#[derive(Default)]
struct Ranges<T> {
    ranges: Vec<(T, T)>,
    /// First values of each `FAN`th range, of each `FAN`th of those, and so on; the shortest first.
    index: Vec<Vec<T>>,
}

impl<T: Ord + Copy> Ranges<T> {
    fn joined(mut listed: Vec<(T, T)>) -> Ranges<T> {
        listed.sort_unstable();
        let mut ranges: Vec<(T, T)> = Vec::new();
        for (first, last) in listed {
            match ranges.last_mut() {
                Some((_, before)) if first <= *before => *before = last.max(*before),
                _ => ranges.push((first, last)),
            }
        }
        ranges.shrink_to_fit();
        let mut index = Vec::new();
        let mut level: Vec<T> = ranges.iter().map(|(first, _)| *first).collect();
        while level.len() > FAN {
            level = level.into_iter().step_by(FAN).collect();
            index.push(level.clone());
        }
        index.reverse();
        Ranges { ranges, index }
    }

    fn contains(&self, value: T) -> bool {
        // The block to look at: what begins it is not above the value, but in the first.
        let mut block = 0;
        for level in &self.index {
            let Some(found) = last_below(level, block, |first| *first <= value) else { return false };
            block = found;
        }
        let found = last_below(&self.ranges, block, |(first, _)| *first <= value);
        found.and_then(|at| self.ranges.get(at)).is_some_and(|(_, last)| value <= *last)
    }
}

/// Where in the block of `all` the last value stands for which `is_below` holds.
fn last_below<V>(all: &[V], block: usize, is_below: impl Fn(&V) -> bool) -> Option<usize> {
    let from = block * FAN;
    let to = all.len().min(from + FAN);
    let below = all.get(from..to)?.partition_point(is_below);
    below.checked_sub(1).map(|behind| from + behind)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn contains(networks: &Networks, address: &str) -> bool {
        networks.contains(address.parse().unwrap())
    }

    #[test]
    fn e27_addresses_of_listed_networks_are_found_and_their_neighbours_are_not() {
        let text = "# clouds\n192.0.2.0/25 # one\n\n192.0.2.128/26\n198.51.100.7\n2001:db8:4::/48\n2001:db8::1\n";
        let networks = Networks::parse(text).unwrap();
        assert_eq!(networks.count(), 5);
        for address in [
            "192.0.2.0",
            "192.0.2.127",
            "192.0.2.128",
            "192.0.2.191",
            "198.51.100.7",
            "::ffff:192.0.2.5",
            "2001:db8::1",
        ] {
            assert!(contains(&networks, address), "{address}");
        }
        assert!(contains(&networks, "2001:db8:4:ffff:ffff:ffff:ffff:ffff"));
        for address in [
            "192.0.1.255",
            "192.0.2.192",
            "198.51.100.6",
            "198.51.100.8",
            "2001:db8:5::",
            "2001:db8::2",
            "::1",
            "0.0.0.0",
        ] {
            assert!(!contains(&networks, address), "{address}");
        }
        assert!(contains(&Networks::parse("::ffff:192.0.2.0/120").unwrap(), "192.0.2.9"));
        assert!(contains(&Networks::parse("0.0.0.0/0").unwrap(), "255.255.255.255"));
        assert!(!contains(&Networks::default(), "192.0.2.1"));
    }

    #[test]
    fn a_line_that_is_no_network_is_named() {
        for wrong in ["192.0.2.1/24", "192.0.2.0/33", "cloud", "2001:db8::1/32", "192.0.2.0 - 192.0.2.9", "192.0.2.0/"]
        {
            let error = Networks::parse(&format!("192.0.2.0/24\n# {wrong}\n{wrong}\n")).err().unwrap();
            assert_eq!(error.line(), 3, "{error}");
            assert!(error.to_string().contains(wrong), "{error}");
        }
        let many = "192.0.2.0/24\n".repeat(MOST_NETWORKS);
        assert_eq!(Networks::parse(&many).unwrap().count(), MOST_NETWORKS);
        assert_eq!(Networks::parse(&format!("{many}192.0.2.0/24")).err(), Some(BadNetworks::TooMany));
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_some_network_holds(
            listed in prop::collection::vec((any::<u16>(), 0u8..=16), 0..300),
            asked in prop::collection::vec(any::<u16>(), 200),
        ) {
            // 10.0.0.0/16 alone, so that networks overlap and touch.
            let networks: Vec<IpNet> = listed
                .iter()
                .map(|(low, bits)| IpNet::new(Ipv4Addr::from(0x0a00_0000 + u32::from(*low)).into(), 16 + bits).unwrap().trunc())
                .collect();
            let text: String = networks.iter().map(|network| format!("{network}\n")).collect();
            let read = Networks::parse(&text).unwrap();
            for low in asked {
                let address = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + u32::from(low)));
                prop_assert_eq!(read.contains(address), networks.iter().any(|network| network.contains(&address)));
            }
        }
    }

    /// `AFFLUX_FIGURES=1 cargo test --release --lib edge::networks -- --nocapture`
    #[test]
    fn figures_of_a_look_up() {
        if std::env::var_os("AFFLUX_FIGURES").is_none() {
            return;
        }
        // As many as the clouds publish together, and as many as are read.
        figures(50_000);
        figures(1_000_000);
    }

    fn figures(count: u32) {
        let each = count / 2;
        let text: String = (0..each)
            .map(|number| {
                let v4 = Ipv4Addr::from(number << 9);
                format!("{v4}/25\n2001:db8:{:x}:{:x}::/64\n", number >> 16, number & 0xffff)
            })
            .collect();
        let started = Instant::now();
        let networks = Networks::parse(&text).unwrap();
        println!("{count} networks read in {} ms", started.elapsed().as_millis());
        let mut word = 1u64;
        let mut next = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word >> 32
        };
        let v4: Vec<IpAddr> = (0..100_000).map(|_| Ipv4Addr::from((next() as u32) % (each << 9)).into()).collect();
        let v6: Vec<IpAddr> = (0..100_000)
            .map(|_| Ipv6Addr::from((0x2001_0db8u128 << 96) | u128::from(next() % u64::from(each)) << 64).into())
            .collect();
        // CPU time: whatever else the machine does is not in it.
        let cpu_ns = || {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
        };
        for (name, addresses) in [("IPv4", v4), ("IPv6", v6)] {
            let mut rounds: Vec<u64> = (0..21)
                .map(|_| {
                    let started = cpu_ns();
                    let found = addresses.iter().filter(|address| networks.contains(**address)).count();
                    std::hint::black_box(found);
                    (cpu_ns() - started) / addresses.len() as u64
                })
                .collect();
            rounds.sort_unstable();
            println!("{name}: {} ns a look-up, least {}, at random", rounds[10], rounds[0]);
        }
    }
}
