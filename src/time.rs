//! A point in time as the contract counts it: integer milliseconds since 1970-01-01T00:00:00Z.
//!
//! Pure: this module never asks what time it is (see `clock`).

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

pub const DAY_MS: i64 = 86_400_000;
pub const HOUR_MS: i64 = 3_600_000;

/// Milliseconds since 1970, UTC. Years 0000 to 9999 can be written as RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeMs(pub i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 date and time with an offset")]
pub struct NotATime;

impl TimeMs {
    /// Parses RFC 3339 (`T` or `t` between date and time, an offset or `Z`/`z`), cut to milliseconds. A leap second is
    /// :59.999 (contract I2).
    pub fn parse_rfc3339(text: &str) -> Result<TimeMs, NotATime> {
        let bytes = text.as_bytes();
        // "YYYY-MM-DDTHH:MM:SS" is 19 bytes, an offset at least one more.
        if bytes.len() < 20 || !matches!(bytes[10], b'T' | b't') {
            return Err(NotATime);
        }
        let number = |from: usize, to: usize| -> Result<i64, NotATime> {
            bytes[from..to].iter().try_fold(0i64, |sum, b| match b {
                b'0'..=b'9' => Ok(sum * 10 + i64::from(b - b'0')),
                _ => Err(NotATime),
            })
        };
        let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
        if separators.iter().any(|&(at, wanted)| bytes[at] != wanted) {
            return Err(NotATime);
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, mut second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let mut at = 19;
        let mut ms = 0;
        if bytes[at] == b'.' {
            let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return Err(NotATime);
            }
            let kept = digits.min(3);
            ms = number(at + 1, at + 1 + kept)? * [100, 10, 1][kept - 1];
            at += 1 + digits;
        }
        let offset_minutes = parse_offset(&bytes[at..])?;
        if second == 60 {
            (second, ms) = (59, 999);
        }
        if !(1..=12).contains(&month)
            || day < 1
            || day > days_in_month(year, month)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return Err(NotATime);
        }
        let days = days_from_civil(year, month, day);
        let seconds = days * 86_400 + hour * 3_600 + (minute - offset_minutes) * 60 + second;
        Ok(TimeMs(seconds * 1_000 + ms))
    }

    /// RFC 3339 in UTC with milliseconds, `2026-11-22T06:30:00.000Z`.
    pub fn to_rfc3339(self) -> String {
        let (days, ms) = (self.0.div_euclid(DAY_MS), self.0.rem_euclid(DAY_MS));
        let (year, month, day) = civil_from_days(days);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            ms / HOUR_MS,
            ms / 60_000 % 60,
            ms / 1_000 % 60,
            ms % 1_000
        )
    }

    /// The start of this time's hour, UTC.
    pub fn hour(self) -> TimeMs {
        TimeMs(self.0.div_euclid(HOUR_MS) * HOUR_MS)
    }

    /// Days since 1970-01-01, UTC.
    pub fn day_number(self) -> i64 {
        self.0.div_euclid(DAY_MS)
    }
}

fn parse_offset(bytes: &[u8]) -> Result<i64, NotATime> {
    let two = |at: usize| -> Result<i64, NotATime> {
        match (bytes[at], bytes[at + 1]) {
            (a @ b'0'..=b'9', b @ b'0'..=b'9') => Ok(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
            _ => Err(NotATime),
        }
    };
    match bytes {
        [b'Z' | b'z'] => Ok(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (two(1)?, two(4)?);
            if hours > 23 || minutes > 59 {
                return Err(NotATime);
            }
            let offset = hours * 60 + minutes;
            Ok(if *sign == b'+' { offset } else { -offset })
        }
        _ => Err(NotATime),
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

impl Add<i64> for TimeMs {
    type Output = TimeMs;
    /// Saturates: a time beyond the calendar never wraps into the past.
    fn add(self, ms: i64) -> TimeMs {
        TimeMs(self.0.saturating_add(ms))
    }
}

impl Sub<i64> for TimeMs {
    type Output = TimeMs;
    fn sub(self, ms: i64) -> TimeMs {
        TimeMs(self.0.saturating_sub(ms))
    }
}

impl Sub for TimeMs {
    type Output = i64;
    fn sub(self, other: TimeMs) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for TimeMs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.to_rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_offsets_fractions_and_leap_seconds() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-22T10:00:00+03:30", 1_795_329_000_000),
            ("2026-11-22T06:30:00.4509z", 1_795_329_000_450),
            ("2016-12-31T23:59:60Z", 1_483_228_799_999),
            ("2000-02-29t00:00:00-00:00", 951_782_400_000),
        ];
        for (text, ms) in cases {
            assert_eq!(TimeMs::parse_rfc3339(text), Ok(TimeMs(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_what_rfc_3339_refuses() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "2026-11-22 10:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:00:00.Z",
            "2026-11-22T10:00:00+0330",
            "2026-11-22T10:00:00Zx",
            "+026-11-22T10:00:00Z",
        ] {
            assert_eq!(TimeMs::parse_rfc3339(text), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for ms in [-62_167_219_200_000, -1, 0, 951_782_399_999, 1_795_329_000_450, 253_402_300_799_999] {
            assert_eq!(TimeMs::parse_rfc3339(&TimeMs(ms).to_rfc3339()), Ok(TimeMs(ms)));
        }
    }
}
