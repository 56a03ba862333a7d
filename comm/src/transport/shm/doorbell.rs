//! Falling asleep without missing anything, and waking who sleeps.
//!
//! Every rank has a state word (awake, or asleep and how) and a futex word, in shared memory.
//! A sleeper writes its state, fences, and polls once more; a ringer writes what the sleeper
//! polls, fences, and reads the state. One of the two sees the other.
//!
//! The ringer takes the state back to awake before it touches the futex word, so that of many
//! ringers one pays for the system call. This order matters: a ringer that is late, and meets a
//! later sleep than the one it saw, then still ends the sleep it takes the state from.

/// How a rank sleeps, in its state word. Any other value counts as asleep in `Poll`, which at
/// worst costs a write to a descriptor.
pub(super) const AWAKE: u32 = 0;
/// On the futex word.
pub(super) const ON_FUTEX: u32 = 1;
/// In `poll(2)`, on its eventfd among others.
pub(super) const IN_POLL: u32 = 2;

/// The two words of a rank.
pub(super) trait BellMemory {
    /// The state, relaxed.
    fn state(&self) -> u32;
    /// Writes the state and returns the old one, acquire and release.
    fn swap_state(&self, state: u32) -> u32;
    /// The futex word, relaxed.
    fn word(&self) -> u32;
    /// Adds one to the futex word, wrapping.
    fn bump_word(&self);
    /// A sequentially consistent fence.
    fn fence(&self);
}

/// Announces a sleep. The caller polls once more before it sleeps, on the futex only while its
/// word has the value returned.
pub(super) fn arm(bell: &impl BellMemory, how: u32) -> u32 {
    let value = bell.word();
    // Releases the load above: whoever takes this state bumps the word after it was read.
    bell.swap_state(how);
    bell.fence();
    value
}

/// Ends a sleep. Whether somebody rang.
pub(super) fn disarm(bell: &impl BellMemory) -> bool {
    bell.swap_state(AWAKE) == AWAKE
}

/// After something was written that the owner of `bell` polls. Says how to wake it when that
/// falls to the caller.
#[inline]
pub(super) fn ring(bell: &impl BellMemory) -> Option<u32> {
    bell.fence();
    if bell.state() == AWAKE { None } else { wake(bell) }
}

#[cold]
fn wake(bell: &impl BellMemory) -> Option<u32> {
    let how = bell.swap_state(AWAKE);
    if how == AWAKE {
        return None;
    }
    bell.bump_word();
    Some(how)
}
