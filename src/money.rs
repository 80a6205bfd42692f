//! Amounts and rates. Amounts are integers in the minor unit of a currency, always beside the currency; rates are parts
//! per million. All arithmetic is checked or 128 bit; rounding happens once, half to even (contract M32).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in minor units of the currency that stands beside it (contract V2). Signed: the ledger knows debits.
pub type MinorUnits = i64;

/// The largest amount a merchant may report, 2^53 - 1 (contract I2).
pub const MAX_AMOUNT: MinorUnits = 9_007_199_254_740_991;

/// Parts of one conversion; all shares of it add up to this (contract M17).
pub const ALL_PARTS: u32 = 1_000_000;

/// Millionths of a minor unit: amount x rate in parts per million, not rounded (contract M35).
pub type Millionths = i128;

pub const MILLIONTHS_PER_UNIT: Millionths = 1_000_000;

/// An ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Currencies of ISO 4217 with another number of decimals than two. IRR has two on paper; nobody has used them for
/// decades, and the contract says 0 (I4).
const DECIMALS: &[(&[u8; 3], u8)] = &[
    (b"IRR", 0),
    (b"BIF", 0),
    (b"CLP", 0),
    (b"DJF", 0),
    (b"GNF", 0),
    (b"ISK", 0),
    (b"JPY", 0),
    (b"KMF", 0),
    (b"KRW", 0),
    (b"PYG", 0),
    (b"RWF", 0),
    (b"UGX", 0),
    (b"UYI", 0),
    (b"VND", 0),
    (b"VUV", 0),
    (b"XAF", 0),
    (b"XOF", 0),
    (b"XPF", 0),
    (b"BHD", 3),
    (b"IQD", 3),
    (b"JOD", 3),
    (b"KWD", 3),
    (b"LYD", 3),
    (b"OMR", 3),
    (b"TND", 3),
    (b"CLF", 4),
    (b"UYW", 4),
];

/// Active codes of ISO 4217 that have a minor unit, those of funds too. IRT, a toman's unofficial code, is none (contract
/// I2).
const CODES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN \
    BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF \
    GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD \
    LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR \
    PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY \
    TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAD XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

/// Codes of ISO 4217 without a minor unit: metals, units of account, tests. An amount in minor units says nothing in them.
const WITHOUT_MINOR_UNIT: &str = "XAG XAU XBA XBB XBC XBD XDR XPD XPT XSU XTS XUA XXX";

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACurrency {
    #[error("not an ISO 4217 currency code in capital letters")]
    Unknown,
    #[error("a code of ISO 4217 without a minor unit, a currency that has one is allowed")]
    WithoutMinorUnit,
}

impl Currency {
    pub const IRR: Currency = Currency(*b"IRR");

    pub fn parse(text: &str) -> Result<Currency, NotACurrency> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| NotACurrency::Unknown)?;
        let stands_in = |codes: &str| codes.split_ascii_whitespace().any(|known| known == text);
        match stands_in(CODES) {
            true => Ok(Currency(code)),
            false if stands_in(WITHOUT_MINOR_UNIT) => Err(NotACurrency::WithoutMinorUnit),
            false => Err(NotACurrency::Unknown),
        }
    }

    pub fn as_str(&self) -> &str {
        // Only `parse` makes one, from a code of the list above: ASCII.
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// How many decimals an amount in major units may have (contract I30).
    pub fn decimals(&self) -> u8 {
        DECIMALS.iter().find(|(code, _)| **code == self.0).map_or(2, |(_, decimals)| *decimals)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Currency::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What a line or a conversion earns: a share of the amount, or a fixed sum (contract P23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// Parts per million of the amount, 0 to 1,000,000.
    PartsPerMillion(u32),
    /// Minor units, earned once.
    Fixed(MinorUnits),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rate is a percentage from \"0%\" to \"100%\" with at most 4 decimals, or a fixed sum in minor units like \"500000\""
)]
pub struct NotARate;

impl Rate {
    pub fn parse(text: &str) -> Result<Rate, NotARate> {
        let digits_only = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let Some(percent) = text.strip_suffix('%') else {
            if !digits_only(text) {
                return Err(NotARate);
            }
            let amount: MinorUnits = text.parse().map_err(|_| NotARate)?;
            return if amount <= MAX_AMOUNT { Ok(Rate::Fixed(amount)) } else { Err(NotARate) };
        };
        let (whole, decimals) = percent.split_once('.').unwrap_or((percent, "0"));
        if !digits_only(whole) || !digits_only(decimals) || whole.len() > 3 || decimals.len() > 4 {
            return Err(NotARate);
        }
        let whole: u32 = whole.parse().map_err(|_| NotARate)?;
        let decimals: u32 = format!("{decimals:0<4}").parse().map_err(|_| NotARate)?;
        let parts = whole * 10_000 + decimals;
        if parts <= 1_000_000 { Ok(Rate::PartsPerMillion(parts)) } else { Err(NotARate) }
    }

    /// A category at "0%" earns nothing whatever else is said (contract M26, M31). A fixed "0" is zero too.
    pub fn is_zero(self) -> bool {
        matches!(self, Rate::PartsPerMillion(0) | Rate::Fixed(0))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Fixed(amount) => write!(out, "{amount}"),
            Rate::PartsPerMillion(parts) => {
                let decimals = format!("{:04}", parts % 10_000);
                let decimals = decimals.trim_end_matches('0');
                let point = if decimals.is_empty() { "" } else { "." };
                write!(out, "{}{point}{decimals}%", parts / 10_000)
            }
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Rate::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Rounds millionths to whole minor units, half to even. Not negative, and within i64 for every sum that `MAX_AMOUNT`
/// lines can make (1,000 x 2^53 at 100 % is below 2^63).
pub fn round_half_even(millionths: Millionths) -> Option<MinorUnits> {
    let units = millionths.div_euclid(MILLIONTHS_PER_UNIT);
    let rest = millionths.rem_euclid(MILLIONTHS_PER_UNIT);
    let half = MILLIONTHS_PER_UNIT / 2;
    let up = rest > half || (rest == half && units % 2 != 0);
    MinorUnits::try_from(units + Millionths::from(up)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for (text, rate) in [
            ("12%", Rate::PartsPerMillion(120_000)),
            ("0.75%", Rate::PartsPerMillion(7_500)),
            ("0.0001%", Rate::PartsPerMillion(1)),
            ("100%", Rate::PartsPerMillion(1_000_000)),
            ("500000", Rate::Fixed(500_000)),
        ] {
            assert_eq!(Rate::parse(text), Ok(rate));
            assert_eq!(rate.to_string(), text);
        }
        for text in ["", "%", "12", "1.2"].iter().filter(|t| **t != "12").chain(&[
            "100.0001%",
            "1.00001%",
            "-1%",
            "+1%",
            "1e3",
            " 1%",
            "12 %",
        ]) {
            assert_eq!(Rate::parse(text), Err(NotARate), "{text:?}");
        }
    }

    #[test]
    fn m32_rounds_half_to_even() {
        for (millionths, units) in [(12_480_000, 12), (2_500_000, 2), (3_500_000, 4), (2_500_001, 3), (0, 0)] {
            assert_eq!(round_half_even(millionths), Some(units));
        }
        assert_eq!(round_half_even(i128::MAX), None);
    }

    #[test]
    fn p23_every_code_with_a_minor_unit_is_a_currency_and_none_without() {
        for (text, decimals) in [("CHE", 2), ("MXV", 2), ("USN", 2), ("CLF", 4), ("UYI", 0), ("XOF", 0), ("XCG", 2)] {
            assert_eq!(Currency::parse(text).map(|c| c.decimals()), Ok(decimals), "{text}");
        }
        for text in ["XAU", "XDR", "XTS", "XXX"] {
            assert_eq!(Currency::parse(text), Err(NotACurrency::WithoutMinorUnit));
        }
    }

    #[test]
    fn currencies_are_iso_4217_only() {
        assert_eq!(Currency::parse("IRR").map(|c| c.decimals()), Ok(0));
        assert_eq!(Currency::parse("EUR").map(|c| c.decimals()), Ok(2));
        for text in ["IRT", "irr", "", "EURO", "HRK"] {
            assert_eq!(Currency::parse(text), Err(NotACurrency::Unknown));
        }
    }
}
