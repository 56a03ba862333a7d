//! The bytes of c10d's `TCPStore`, as torchrun's agent serves it: just enough to put a value, to
//! wait for one, and to get it.
//!
//! Integers are in the byte order of the hosts, which is little-endian wherever torch runs; texts
//! and values are a 64-bit length and bytes. The order of the queries is that of torch's
//! `TCPStoreBackend.hpp` since version 2.1. What is here does no input or output.

/// Longest value that is believed.
const VALUE_BYTES_MAX: u64 = 4096;
/// Opens every connection, behind the query that says so.
const MAGIC: u32 = 0x3C85_F7CE;

const VALIDATE: u8 = 0;
const SET: u8 = 1;
const GET: u8 = 3;
const CHECK: u8 = 5;
const WAIT: u8 = 6;
const STOP_WAITING: u8 = 0;
const READY: u8 = 0;
const NOT_READY: u8 = 1;

fn text(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The first bytes on a connection.
pub(crate) fn validate() -> Vec<u8> {
    let mut out = vec![VALIDATE];
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out
}

/// Puts `value` at `key`; there is no answer.
pub(crate) fn set(key: &str, value: &[u8]) -> Vec<u8> {
    let mut out = vec![SET];
    text(key.as_bytes(), &mut out);
    text(value, &mut out);
    out
}

/// Asks for the value at `key`, which is there.
pub(crate) fn get(key: &str) -> Vec<u8> {
    let mut out = vec![GET];
    text(key.as_bytes(), &mut out);
    out
}

fn of_one_key(query: u8, key: &str) -> Vec<u8> {
    let mut out = vec![query];
    out.extend_from_slice(&1_u64.to_le_bytes());
    text(key.as_bytes(), &mut out);
    out
}

/// Asks whether there is a value at `key`.
pub(crate) fn check(key: &str) -> Vec<u8> {
    of_one_key(CHECK, key)
}

/// Asks to be told when there is a value at `key`.
pub(crate) fn wait(key: &str) -> Vec<u8> {
    of_one_key(WAIT, key)
}

/// An answer at the front of `bytes` and its length; `None` while it is not all there.
pub(crate) type Parsed<T> = Result<Option<(T, usize)>, String>;

fn unknown(what: &str) -> String {
    format!("answered {what} with something else; is it a c10d TCPStore of torch 2.1 or later?")
}

/// The answer to [`check`]: whether the key is there.
pub(crate) fn parse_check(bytes: &[u8]) -> Parsed<bool> {
    match bytes.first() {
        None => Ok(None),
        Some(&READY) => Ok(Some((true, 1))),
        Some(&NOT_READY) => Ok(Some((false, 1))),
        Some(_) => Err(unknown("a check")),
    }
}

/// The answer to [`wait`].
pub(crate) fn parse_wait(bytes: &[u8]) -> Parsed<()> {
    match bytes.first() {
        None => Ok(None),
        Some(&STOP_WAITING) => Ok(Some(((), 1))),
        Some(_) => Err(unknown("a wait")),
    }
}

/// The answer to [`get`].
pub(crate) fn parse_get(bytes: &[u8]) -> Parsed<Vec<u8>> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let length = u64::from_le_bytes(*length);
    if length > VALUE_BYTES_MAX {
        return Err(unknown("a get"));
    }
    // At most VALUE_BYTES_MAX.
    let length = length as usize;
    Ok(rest.get(..length).map(|value| (value.to_vec(), 8 + length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries_are_what_torch_reads() {
        assert_eq!(validate(), [0, 0xce, 0xf7, 0x85, 0x3c]);
        assert_eq!(
            set("k", b"vw"),
            [&[1, 1, 0, 0, 0, 0, 0, 0, 0, b'k', 2][..], &[0; 7], b"vw"].concat()
        );
        assert_eq!(wait("k"), [&[6, 1][..], &[0; 7], &[1], &[0; 7], b"k"].concat());
        assert_eq!((get("k")[0], check("k")[0]), (3, 5));
    }

    #[test]
    fn answers_are_taken_apart_as_they_come() {
        let answer = [&[3, 0, 0, 0, 0, 0, 0, 0][..], b"abcX"].concat();
        for cut in 0..11 {
            assert_eq!(parse_get(&answer[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(parse_get(&answer), Ok(Some((b"abc".to_vec(), 11))));
        assert!(parse_get(&[0xff; 8]).is_err());
        assert_eq!(parse_check(&[1, 9]), Ok(Some((false, 1))));
        assert!(parse_check(b"H").is_err() && parse_wait(b"H").is_err());
        assert_eq!(parse_wait(&[]), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Some((value, length))) = parse_get(&bytes) {
                prop_assert_eq!(value.len() + 8, length);
                prop_assert!(length <= bytes.len());
            }
            let _ = (parse_check(&bytes), parse_wait(&bytes));
        }
    }
}
