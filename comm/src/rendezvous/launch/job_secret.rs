//! The secret of a job whose launcher carries nothing: what the user gave it.

use std::fmt;

use super::super::proof::Secret;

/// Shorter texts are guessed.
const TEXT_BYTES_MIN: usize = 16;
/// Longer ones are a mistake.
pub(super) const TEXT_BYTES_MAX: usize = 4096;

/// What a user gave all processes of a job, and nobody else, bound to the name of the job. The
/// text itself is neither kept nor sent.
#[derive(Clone, PartialEq, Eq)]
pub struct JobSecret(Secret);

impl JobSecret {
    /// From what the user gave, for the job of this name.
    ///
    /// # Errors
    /// In words, when it is too short to be a secret.
    pub(super) fn derive(text: &str, job: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() < TEXT_BYTES_MIN || text.len() > TEXT_BYTES_MAX {
            return Err(format!(
                "has {} bytes; give {TEXT_BYTES_MIN} to {TEXT_BYTES_MAX} random ones, such as \
                 `openssl rand -hex 16` prints",
                text.len()
            ));
        }
        let mut hasher =
            blake3::Hasher::new_derive_key("syncline 2026-11 secret of a launched job");
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        hasher.update(job.as_bytes());
        let hash = hasher.finalize();
        let bytes = hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
        Ok(Self(Secret::from_bytes(*bytes)))
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for JobSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobSecret(withheld)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_a_secret_of_its_own_and_none_shows() {
        let text = "0123456789abcdef";
        let one = JobSecret::derive(text, "job 1").unwrap();
        assert_eq!(one, JobSecret::derive(" 0123456789abcdef\n", "job 1").unwrap());
        assert_ne!(one, JobSecret::derive(text, "job 2").unwrap());
        assert_ne!(one, JobSecret::derive("0123456789abcdeg", "job 1").unwrap());
        assert_eq!(format!("{one:?}"), "JobSecret(withheld)");
        assert!(JobSecret::derive("password", "job 1").unwrap_err().contains("has 8 bytes"));
    }
}
