//! Stores and collectives that a host program brings to carry the root's id.

use super::unique_id::UniqueId;

/// A key-value store that all processes of a job reach: a c10d store, etcd, a PMI key space.
///
/// Calls come on the thread that makes the communicator, and one at a time. Text in an error is
/// passed on to the user.
pub trait KeyValueStore: Send + Sync {
    /// Puts `value` at `key`, in place of what was there.
    ///
    /// # Errors
    /// In words, when the store cannot be reached or refuses.
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String>;

    /// The value at `key`, `None` while there is none. Must not wait for one: Syncline asks
    /// again, under its own deadline.
    ///
    /// # Errors
    /// In words, when the store cannot be reached.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, String>;
}

/// A host's own all-gather among the processes of a job, such as one over MPI.
///
/// It is called once, on the thread that makes the communicator, and may block: the host's own
/// deadline applies, not Syncline's.
pub trait AllGather: Send + Sync {
    /// Gives every process's `mine`, in order of rank. All ranks pass [`ALL_GATHER_BYTES`] bytes.
    ///
    /// # Errors
    /// In words, when it cannot be completed.
    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, String>;
}

/// What each rank contributes to an [`AllGather`].
pub const ALL_GATHER_BYTES: usize = 256;

/// Where the id of a job lies in a store.
pub(crate) fn id_key(namespace: &str) -> String {
    if namespace.is_empty() { "syncline/id".to_owned() } else { format!("{namespace}/syncline/id") }
}

/// Makes the id known.
pub(crate) fn publish(
    store: &dyn KeyValueStore,
    namespace: &str,
    id: &UniqueId,
) -> Result<(), String> {
    let key = id_key(namespace);
    store.set(&key, id.to_string().as_bytes()).map_err(|reason| {
        format!("cannot put the job's id into the store at {key}: {reason}; is the store alive?")
    })
}

/// The id, if it is there.
pub(crate) fn fetch(
    store: &dyn KeyValueStore,
    namespace: &str,
) -> Result<Option<UniqueId>, String> {
    let key = id_key(namespace);
    let value = store.get(&key).map_err(|reason| {
        format!("cannot ask the store for the job's id at {key}: {reason}; is the store alive?")
    })?;
    value.map(|value| parse_id(&value).map_err(|e| format!("the store's {key}: {e}"))).transpose()
}

/// The id in a value that some other program kept for us.
pub(crate) fn parse_id(value: &[u8]) -> Result<UniqueId, String> {
    let text = std::str::from_utf8(value).map_err(|_| "is not text".to_owned())?;
    text.trim_end_matches('\0').parse().map_err(|error: crate::Error| error.to_string())
}

/// What a rank contributes to an all-gather: its numbers, and the id if it is the root's.
pub(crate) fn contribution(
    rank: u32,
    ranks: u32,
    offer: &Result<Option<UniqueId>, String>,
) -> Vec<u8> {
    let text = match offer {
        Ok(Some(id)) => format!("id {id}"),
        Ok(None) => "member".to_owned(),
        Err(reason) => format!("failed {reason}"),
    };
    let mut bytes = format!("{rank} {ranks} {text}").into_bytes();
    // Errors that are longer lose their end, but not within a character of the id.
    bytes.resize(ALL_GATHER_BYTES, 0);
    bytes
}

/// The id among the contributions of all ranks, or in words what is wrong with them.
pub(crate) fn settle(contributions: &[Vec<u8>], ranks: u32) -> Result<UniqueId, String> {
    if contributions.len() != ranks as usize {
        return Err(format!(
            "the host's all-gather brought {} contributions for {ranks} ranks",
            contributions.len()
        ));
    }
    let mut id = None;
    for (bytes, rank) in contributions.iter().zip(0_u32..) {
        let text = String::from_utf8_lossy(bytes);
        let mut words = text.trim_end_matches('\0').splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
        let (Some(theirs), Some(size)) = (number(), number()) else {
            return Err(format!("the host's all-gather brought something else from rank {rank}"));
        };
        if (theirs, size) != (rank, ranks) {
            return Err(format!(
                "the host's all-gather brought rank {theirs} of {size} where rank {rank} of \
                 {ranks} belongs; pass Syncline the ranks of that same group"
            ));
        }
        let rest = words.next().unwrap_or_default();
        if let Some(reason) = rest.strip_prefix("failed ") {
            return Err(format!("rank {rank} could not open the job's listener: {reason}"));
        }
        if let Some(text) = rest.strip_prefix("id ") {
            id = Some(parse_id(text.as_bytes())?);
        }
    }
    id.ok_or_else(|| "the host's all-gather brought no id from rank 0".to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::super::proof::Secret;
    use super::*;

    fn id() -> UniqueId {
        UniqueId::new(Secret::from_bytes([3; 16]), &[Ipv4Addr::LOCALHOST.into()], 9)
    }

    fn all(ranks: u32) -> Vec<Vec<u8>> {
        let offer = |rank| if rank == 0 { Ok(Some(id())) } else { Ok(None) };
        (0..ranks).map(|rank| contribution(rank, ranks, &offer(rank))).collect()
    }

    #[test]
    fn contributions_settle_on_rank_0s_id() {
        assert_eq!(settle(&all(3), 3), Ok(id()));
        assert!(all(3).iter().all(|bytes| bytes.len() == ALL_GATHER_BYTES));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(settle(&all(3), 4).unwrap_err().contains("3 contributions for 4 ranks"));
        let mut swapped = all(3);
        swapped.swap(1, 2);
        assert!(settle(&swapped, 3).unwrap_err().contains("rank 2 of 3 where rank 1 of 3"));
        let mut failed = all(3);
        failed[0] = contribution(0, 3, &Err("no port left".to_owned()));
        let reason = settle(&failed, 3).unwrap_err();
        assert_eq!(reason, "rank 0 could not open the job's listener: no port left");
        let mut foreign = all(3);
        foreign[1] = vec![0xff; 9];
        assert!(settle(&foreign, 3).unwrap_err().contains("something else from rank 1"));
        let none: Vec<_> = (0..2).map(|rank| contribution(rank, 2, &Ok(None))).collect();
        assert!(settle(&none, 2).unwrap_err().contains("no id from rank 0"));
    }

    #[test]
    fn keys_have_a_namespace() {
        assert_eq!(id_key("job/7"), "job/7/syncline/id");
        assert_eq!(id_key(""), "syncline/id");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_id_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_id(&bytes);
            prop_assert!(settle(&[bytes.clone(), bytes], 2).is_err());
        }
    }
}
