//! What can be clicked and bought: a catalog that this program makes, or one that a running server has.

use crate::commission::Model;
use crate::random::mix;
use crate::scenario;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merchant {
    pub id: u32,
    pub currency: String,
    pub token: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub id: u32,
    /// Where its merchant stands in `merchants`.
    pub merchant: usize,
    /// The host of its pages.
    pub host: String,
    pub model: Model,
    /// Parts per million.
    pub default_rate: i64,
    pub rates: Vec<(String, i64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub code: String,
    pub offer: usize,
    pub publisher: usize,
}

#[derive(Debug, Clone)]
pub enum Links {
    /// The codes are `l0`, `l1`, …; offer and publisher follow from the number.
    Made(u64),
    Listed(Vec<Link>),
}

#[derive(Debug, Clone)]
pub struct Market {
    pub merchants: Vec<Merchant>,
    pub offers: Vec<Offer>,
    pub publishers: Vec<u32>,
    pub links: Links,
}

/// The tokens of merchants that are made, and their SHA-256.
pub const TOKENS: [(&str, &str); 2] = [
    ("merchant-1", "1c656cecd230f2d700ac02f3155621b713209be24493d2f608d6bcc220126e62"),
    ("merchant-2", "1bc31d9d33fb42bbc0a67f705c2ba85fb969e8200e1941790c5491129c1615ab"),
];

const FIRST_PUBLISHER: u32 = 101;

impl Market {
    /// Two shops with two offers each, of all models that the oracle knows.
    pub fn made(catalog: &scenario::Catalog) -> Market {
        let merchant = |index: usize, currency: &str| Merchant {
            id: index as u32 + 1,
            currency: currency.into(),
            token: TOKENS[index].0.into(),
        };
        let offer = |id, merchant, model, default_rate, rates: &[(&str, i64)]| Offer {
            id,
            merchant,
            host: format!("shop{}.example", merchant + 1),
            model,
            default_rate,
            rates: rates.iter().map(|(category, rate)| ((*category).into(), *rate)).collect(),
        };
        let rates = [("mobile", 20_000), ("fashion", 200_000), ("rice", 0)];
        Market {
            merchants: vec![merchant(0, "IRR"), merchant(1, "EUR")],
            offers: vec![
                offer(11, 0, Model::LastClick, 120_000, &rates),
                offer(12, 0, Model::FirstClick, 75_000, &rates),
                offer(21, 1, Model::LastClick, 33_333, &[("mobile", 12_500)]),
                offer(22, 1, Model::Linear, 100_000, &rates),
            ],
            publishers: (0..catalog.publishers_count as u32).map(|number| FIRST_PUBLISHER + number).collect(),
            links: Links::Made(catalog.links_count),
        }
    }

    pub fn links_count(&self) -> u64 {
        match &self.links {
            Links::Made(count) => *count,
            Links::Listed(links) => links.len() as u64,
        }
    }

    /// Where offer and publisher of a link stand.
    pub fn link(&self, number: u64) -> (usize, usize) {
        match &self.links {
            Links::Made(_) => {
                let hash = mix(number ^ 0x6c69_6e6b);
                let offer = (hash % self.offers.len() as u64) as usize;
                let publisher = (hash >> 32) as usize % self.publishers.len();
                (offer, publisher)
            }
            Links::Listed(links) => (links[number as usize].offer, links[number as usize].publisher),
        }
    }

    /// Writes the code of a link.
    pub fn write_code(&self, number: u64, to: &mut Vec<u8>) {
        match &self.links {
            Links::Made(_) => {
                to.push(b'l');
                write_number(number, to);
            }
            Links::Listed(links) => to.extend_from_slice(links[number as usize].code.as_bytes()),
        }
    }

    pub fn offer(&self, id: u32) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.id == id)
    }
}

pub fn write_number(number: u64, to: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_spread_over_all_offers_and_publishers() {
        let market = Market::made(&scenario::Catalog { links_count: 5_000, publishers_count: 50, file: None });
        let mut seen = vec![vec![0; 50]; 4];
        (0..5_000).map(|number| market.link(number)).for_each(|(offer, publisher)| seen[offer][publisher] += 1);
        assert!(seen.iter().flatten().all(|count| *count > 5), "{seen:?}");
    }

    #[test]
    fn links_are_named_by_their_number() {
        let market = Market::made(&scenario::Catalog::default());
        for (number, named) in [(0, "l0"), (7, "l7"), (999, "l999")] {
            let mut code = Vec::new();
            market.write_code(number, &mut code);
            assert_eq!(code, named.as_bytes());
        }
        assert_eq!(market.offer(22).map(|offer| offer.merchant), Some(1));
        assert_eq!(market.offer(23), None);
    }
}
