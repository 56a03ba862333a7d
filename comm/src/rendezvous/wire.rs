//! Little-endian encoding of the rendezvous messages, with every length checked before use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Appends values to a message.
#[derive(Default)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes whose number the reader knows.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A 32-bit length and that many bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("messages are far below 4 GiB"));
        self.raw(bytes);
    }

    pub(crate) fn ip(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                self.u8(4);
                self.raw(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.u8(6);
                self.raw(&v6.octets());
            }
        }
    }

    pub(crate) fn address(&mut self, address: SocketAddr) {
        self.ip(address.ip());
        self.u16(address.port());
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// A message that ends too early, or holds a value out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub(crate) struct Malformed;

/// Takes values from the front of a message.
pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    pub(crate) fn raw(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(bytes).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A 32-bit length and that many bytes, at most `bytes_max`.
    pub(crate) fn bytes(&mut self, bytes_max: usize) -> Result<&'a [u8], Malformed> {
        let bytes = self.u32()? as usize;
        if bytes > bytes_max {
            return Err(Malformed);
        }
        self.raw(bytes)
    }

    pub(crate) fn text(&mut self, bytes_max: usize) -> Result<String, Malformed> {
        let bytes = self.bytes(bytes_max)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed)
    }

    pub(crate) fn ip(&mut self) -> Result<IpAddr, Malformed> {
        match self.u8()? {
            4 => self.array::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
            6 => self.array::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn address(&mut self) -> Result<SocketAddr, Malformed> {
        Ok(SocketAddr::new(self.ip()?, self.u16()?))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends the message: nothing may be left over.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_and_short_messages_are_refused() {
        let address: SocketAddr = "[2001:db8::7]:4711".parse().unwrap();
        let mut encoder = Encoder::default();
        encoder.u16(7);
        encoder.address(address);
        encoder.bytes(b"name");
        encoder.u64(u64::MAX);
        let message = encoder.finish();
        let read = |message: &[u8]| -> Result<(u16, SocketAddr, String, u64), Malformed> {
            let mut decoder = Decoder::new(message);
            let out = (decoder.u16()?, decoder.address()?, decoder.text(4)?, decoder.u64()?);
            decoder.finish()?;
            Ok(out)
        };
        assert_eq!(read(&message), Ok((7, address, "name".to_owned(), u64::MAX)));
        for cut in 0..message.len() {
            assert_eq!(read(&message[..cut]), Err(Malformed), "cut at {cut}");
        }
        let longer = [&message[..], &[0]].concat();
        assert_eq!(read(&longer), Err(Malformed));
    }

    #[test]
    fn lengths_are_not_believed() {
        let mut encoder = Encoder::default();
        encoder.u32(u32::MAX);
        let message = encoder.finish();
        assert_eq!(Decoder::new(&message).bytes(usize::MAX), Err(Malformed));
        let mut encoder = Encoder::default();
        encoder.bytes(&[0; 9]);
        assert_eq!(Decoder::new(&encoder.finish()).bytes(8), Err(Malformed));
    }
}
