//! Which TCP ports listeners may take.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The TCP ports a process may listen on: any (the system chooses), or a range for networks with
/// a firewall. A host needs one port for each of its ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Both 0: any.
    first: u16,
    last: u16,
}

impl Ports {
    /// Whichever the system chooses.
    pub const ANY: Self = Self { first: 0, last: 0 };

    /// Those from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there are none, or when 0 is among several.
    pub fn new(first: u16, last: u16) -> Result<Self> {
        if last < first || (first == 0 && last != 0) {
            return Err(Error::InvalidArgument {
                operation: "Ports",
                reason: format!("{first} to {last} is no range of ports; such as 20000 to 20999"),
            });
        }
        Ok(Self { first, last })
    }

    /// Whether the system chooses.
    pub fn is_any(self) -> bool {
        self.first == 0
    }

    /// Tries `bind` with one port after the other until one is free.
    pub(crate) fn bind<T>(self, mut bind: impl FnMut(u16) -> io::Result<T>) -> io::Result<T> {
        for port in RangeInclusive::from(self) {
            match bind(port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!(
                "no port is left: {self} are all taken; widen Options::ports (a host needs one \
                 for each of its ranks)"
            ),
        ))
    }
}

impl From<Ports> for RangeInclusive<u16> {
    fn from(ports: Ports) -> Self {
        ports.first..=ports.last
    }
}

impl TryFrom<RangeInclusive<u16>> for Ports {
    type Error = Error;

    fn try_from(range: RangeInclusive<u16>) -> Result<Self> {
        Self::new(*range.start(), *range.end())
    }
}

impl FromStr for Ports {
    type Err = Error;

    /// `0` (any), `20000` or `20000-20999`.
    fn from_str(text: &str) -> Result<Self> {
        let malformed = |_| Error::InvalidArgument {
            operation: "Ports",
            reason: format!("`{text}` is neither 0, a port, nor a range such as 20000-20999"),
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse(), last.trim().parse());
        Self::new(first.map_err(malformed)?, last.map_err(malformed)?)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_survive_text() {
        for text in ["0", "20000", "20000-20999"] {
            let ports: Ports = text.parse().unwrap();
            assert_eq!(ports.to_string(), text);
            assert_eq!(ports.is_any(), text == "0");
        }
        for text in ["", "x", "5-4", "0-9", "70000", "1-2-3"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
        assert_eq!(Ports::try_from(7..=9).unwrap().to_string(), "7-9");
    }

    #[test]
    fn the_first_free_port_is_taken_and_a_full_range_says_so() {
        let taken = |port| io::Error::new(io::ErrorKind::AddrInUse, format!("{port}"));
        let ports = Ports::new(7, 9).unwrap();
        let found = ports.bind(|port| if port < 9 { Err(taken(port)) } else { Ok(port) });
        assert_eq!(found.unwrap(), 9);
        let error = ports.bind(|port| Err::<(), _>(taken(port))).unwrap_err().to_string();
        assert!(error.contains("7-9 are all taken") && error.contains("Options::ports"), "{error}");
        let other = ports.bind(|_| Err::<(), _>(io::Error::other("broken"))).unwrap_err();
        assert_eq!(other.to_string(), "broken");
    }
}
