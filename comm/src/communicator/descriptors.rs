//! Whether this process may open what a communicator needs: known beforehand, rather than half-way
//! when the other ranks already count on it.

use crate::error::{Error, Result};
use crate::rendezvous::descriptors;

/// What joining a job takes: listeners, their polls, the control thread, its links, and a few
/// ranks on this host.
pub(super) const TO_JOIN: u64 = 40;
/// What a communicator takes in any case.
const TO_COMMUNICATE: u64 = 6;
/// What every rank of this host adds: its doorbell, a watch on its process, the connection that
/// hands out the shared memory.
const PER_LOCAL_RANK: u64 = 3;

/// What a communicator with `local` ranks on this host takes.
pub(super) fn to_share(local: usize) -> u64 {
    TO_COMMUNICATE + PER_LOCAL_RANK * local as u64
}

/// Refuses `what` when this process may not open `needed` more descriptors.
pub(super) fn check(what: &str, needed: u64) -> Result<()> {
    // Without a limit, or without /proc, there is nothing to be known.
    let Some(limit) = descriptors::limit() else { return Ok(()) };
    let Some(open) = descriptors::open() else {
        return if needed < limit { Ok(()) } else { Err(too_few(what, needed, limit, "?")) };
    };
    if open + needed <= limit {
        Ok(())
    } else {
        Err(too_few(what, needed, limit, &open.to_string()))
    }
}

fn too_few(what: &str, needed: u64, limit: u64, open: &str) -> Error {
    Error::System {
        what: what.to_owned(),
        source_text: format!(
            "it needs {needed} file descriptors, and {open} of the {limit} that this process may \
             have are open"
        ),
        hint: format!("raise the limit (ulimit -n {})", descriptors::enough(limit, needed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_refused_with_the_numbers() {
        check("joining the job", 1).unwrap();
        let limit = descriptors::limit().unwrap();
        let refusal = check("joining the job", limit).unwrap_err().to_string();
        assert!(refusal.starts_with("joining the job: it needs "), "{refusal}");
        assert!(refusal.contains("ulimit -n"), "{refusal}");
    }
}
