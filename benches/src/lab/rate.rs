//! Link speeds as tc writes them.

use std::fmt;
use std::str::FromStr;

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// At least 1 Mbit/s, at most 100 Gbit/s.
    bits_per_second: u64,
}

/// The links of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// As fast as the machine copies.
    Unshaped,
    /// Not faster than this, in and out.
    Shaped(Rate),
}

impl FromStr for Links {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Unshaped),
            _ => text.parse().map(Self::Shaped).map_err(|e: String| e + ", or none for no limit"),
        }
    }
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unshaped => f.write_str("unshaped"),
            Self::Shaped(rate) => write!(f, "{rate} in and out"),
        }
    }
}

const MIN: u64 = 1_000_000;
const MAX: u64 = 100_000_000_000;

impl Rate {
    /// Bits per second.
    pub(crate) const fn bits_per_second(self) -> u64 {
        self.bits_per_second
    }

    /// What is left for payload in bytes per second, when full TCP segments with timestamps
    /// (1448 bytes) travel in Ethernet frames of 1514, which is how the kernel's shaper counts.
    pub(crate) fn payload_bytes_per_second(self) -> f64 {
        self.bits_per_second as f64 / 8.0 * 1448.0 / 1514.0
    }

    /// Bytes the token bucket holds: 2 ms, and at least two of the largest segments that the
    /// kernel hands to the shaper in one piece.
    pub(crate) fn burst_bytes(self) -> u64 {
        (self.bits_per_second / 8 / 500).max(2 * 65_536)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let units = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000), ("bit", 1)];
        let found =
            units.iter().find_map(|(unit, scale)| Some((lower.strip_suffix(unit)?, *scale)));
        let bits = found.and_then(|(digits, scale)| digits.parse::<u64>().ok()?.checked_mul(scale));
        bits.filter(|b| (MIN..=MAX).contains(b))
            .map(|bits_per_second| Self { bits_per_second })
            .ok_or_else(|| {
                format!("'{text}' is not a link speed from 1mbit to 100gbit; write it as 1gbit")
            })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits_per_second {
            b if b.is_multiple_of(1_000_000_000) => write!(f, "{}gbit", b / 1_000_000_000),
            b if b.is_multiple_of(1_000_000) => write!(f, "{}mbit", b / 1_000_000),
            b => write!(f, "{b}bit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_tc_writes_them() {
        for (text, bits, back) in [
            ("1gbit", 1_000_000_000, "1gbit"),
            ("100Mbit", 100_000_000, "100mbit"),
            ("1500mbit", 1_500_000_000, "1500mbit"),
            ("2500000bit", 2_500_000, "2500000bit"),
        ] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!((rate.bits_per_second(), rate.to_string().as_str()), (bits, back));
        }
        for text in ["", "1", "1gb", "gbit", "-1gbit", "1.5gbit", "0gbit", "1kbit", "1000gbit"] {
            assert!(text.parse::<Rate>().expect_err(text).contains("1gbit"), "{text}");
        }
    }

    #[test]
    fn links_may_be_unshaped() {
        assert_eq!("none".parse(), Ok(Links::Unshaped));
        let links: Links = "1gbit".parse().expect("a rate");
        assert_eq!(links.to_string(), "1gbit in and out");
        assert!("fast".parse::<Links>().expect_err("neither").contains("none"));
    }

    #[test]
    fn payload_of_a_gigabit_link() {
        let rate: Rate = "1gbit".parse().expect("valid");
        let mbit = rate.payload_bytes_per_second() * 8.0 / 1e6;
        assert!((956.0..957.0).contains(&mbit), "{mbit}");
        assert_eq!(rate.burst_bytes(), 250_000);
    }
}
