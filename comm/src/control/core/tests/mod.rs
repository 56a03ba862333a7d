//! The protocol under seeds.

mod agreement;
mod blame;
mod departure;
mod encoding;

use std::time::Duration;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
