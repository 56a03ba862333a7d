//! Handles: numbers in the guise of pointers, looked up in a table and never dereferenced.
//!
//! A handle says what it is a handle of, which process made it, and which use of which place in
//! the table it names. So a destroyed handle, one of another kind, one from before fork and any
//! other number are told apart from a live one, and answered with an error. The one exception: a
//! handle that was destroyed is taken for a live one again after 2^24 later uses of its place.

use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use comm::memory::process_generation;

use crate::status::{Failure, Outcome, syncline_status};

const _: () = assert!(usize::BITS == 64, "handles need 64 bits");

/// What a handle can be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Communicator = 1,
    Work = 2,
    Group = 3,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Communicator, Self::Work, Self::Group];

    const fn name(self) -> &'static str {
        match self {
            Self::Communicator => "a communicator",
            Self::Work => "a work handle",
            Self::Group => "a group",
        }
    }

    const fn gone(self) -> &'static str {
        match self {
            Self::Communicator => "it was destroyed",
            Self::Work => "it was freed",
            Self::Group => "it was ended or cancelled",
        }
    }
}

/// A handle, taken apart: tag 8 bits, process 12, use 24, place 20. The tag makes it an address
/// that no processor accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Handle {
    kind: Kind,
    process: u16,
    usage: u32,
    place: u32,
}

const TAG: usize = 0x5c;
const PROCESS_BITS: u32 = 12;
const USAGE_BITS: u32 = 24;
const PLACE_BITS: u32 = 20;
/// A place rests until this many others are free.
const RESTING: usize = 64;

impl Handle {
    const fn pack(self) -> usize {
        let mut word = TAG + self.kind as usize;
        word = word << PROCESS_BITS | self.process as usize;
        word = word << USAGE_BITS | self.usage as usize;
        word << PLACE_BITS | self.place as usize
    }

    fn unpack(word: usize) -> Option<Self> {
        let field = |shift: u32, bits: u32| (word >> shift) & ((1 << bits) - 1);
        let tag = word >> (PROCESS_BITS + USAGE_BITS + PLACE_BITS);
        Some(Self {
            kind: Kind::ALL.into_iter().find(|&kind| TAG + kind as usize == tag)?,
            process: field(USAGE_BITS + PLACE_BITS, PROCESS_BITS) as u16,
            usage: field(PLACE_BITS, USAGE_BITS) as u32,
            place: field(0, PLACE_BITS) as u32,
        })
    }
}

/// What a handle says of the process that made it.
fn this_process() -> u16 {
    (process_generation() & ((1 << PROCESS_BITS) - 1)) as u16
}

/// All live objects of one kind.
pub(crate) struct Table<T> {
    kind: Kind,
    book: AtomicPtr<Book<T>>,
}

/// The table of one process. A forked child starts a new one and leaves its parent's alone: what
/// is in there is the parent's, and so may be its lock.
struct Book<T> {
    process: u64,
    slots: RwLock<Slots<T>>,
}

struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// Free places, longest free first.
    free: VecDeque<u32>,
}

struct Slot<T> {
    usage: u32,
    value: Option<T>,
}

impl<T: Clone> Table<T> {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { kind, book: AtomicPtr::new(ptr::null_mut()) }
    }

    /// A handle of `value`.
    pub(crate) fn insert(&self, value: T) -> Outcome<usize> {
        let mut slots = self.write();
        let enough = slots.free.len() > RESTING || slots.slots.len() >= 1 << PLACE_BITS;
        let place = if enough { slots.free.pop_front() } else { None };
        let place = match place {
            Some(place) => place,
            None if slots.slots.len() < 1 << PLACE_BITS => {
                slots.slots.push(Slot { usage: 0, value: None });
                slots.slots.len() as u32 - 1
            }
            None => {
                let text =
                    format!("there are {} of {} already", slots.slots.len(), self.kind.name());
                return Err(Failure::new(syncline_status::SYNCLINE_ERROR_SYSTEM, text));
            }
        };
        let slot = &mut slots.slots[place as usize];
        slot.usage = (slot.usage + 1) & ((1 << USAGE_BITS) - 1);
        slot.value = Some(value);
        Ok(Handle { kind: self.kind, process: this_process(), usage: slot.usage, place }.pack())
    }

    /// What the handle in the argument called `name` is of.
    pub(crate) fn get(&self, handle: usize, name: &str) -> Outcome<T> {
        let parts = self.check(handle, name)?;
        let slots = self.read();
        let slot = slots.slots.get(parts.place as usize).filter(|slot| slot.usage == parts.usage);
        slot.and_then(|slot| slot.value.clone()).ok_or_else(|| self.gone(name))
    }

    /// Ends the handle. What it was of is returned, to be dropped without the table's lock.
    pub(crate) fn remove(&self, handle: usize, name: &str) -> Outcome<T> {
        let parts = self.check(handle, name)?;
        let mut slots = self.write();
        let slot =
            slots.slots.get_mut(parts.place as usize).filter(|slot| slot.usage == parts.usage);
        let value = slot.and_then(|slot| slot.value.take()).ok_or_else(|| self.gone(name))?;
        slots.free.push_back(parts.place);
        Ok(value)
    }

    /// Every live object for which `wanted` holds.
    pub(crate) fn filter(&self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let slots = self.read();
        let live = slots.slots.iter().filter_map(|slot| slot.value.as_ref());
        live.filter(|value| wanted(value)).cloned().collect()
    }

    fn check(&self, handle: usize, name: &str) -> Outcome<Handle> {
        if handle == 0 {
            return Err(Failure::argument(format!("{name} is null")));
        }
        let wanted = self.kind.name();
        let invalid = |text| Failure::new(syncline_status::SYNCLINE_ERROR_INVALID_HANDLE, text);
        let Some(parts) = Handle::unpack(handle) else {
            return Err(invalid(format!("{name} is not {wanted}, nor any handle of this library")));
        };
        if parts.kind != self.kind {
            return Err(invalid(format!("{name} is not {wanted} but {}", parts.kind.name())));
        }
        if parts.process != this_process() {
            let text = format!(
                "{name} was made before fork, by another process, and only that process can use \
                 it; make one after fork"
            );
            return Err(Failure::new(syncline_status::SYNCLINE_ERROR_FORKED, text));
        }
        Ok(parts)
    }

    fn gone(&self, name: &str) -> Failure {
        let text = format!("{name} is not {} any more: {}", self.kind.name(), self.kind.gone());
        Failure::new(syncline_status::SYNCLINE_ERROR_INVALID_HANDLE, text)
    }

    fn read(&self) -> RwLockReadGuard<'_, Slots<T>> {
        self.book().slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slots<T>> {
        self.book().slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> &Book<T> {
        let process = process_generation();
        let known = self.book.load(Ordering::Acquire);
        // SAFETY: a pointer in `book` is null or comes from `Box::leak` below.
        if let Some(book) = unsafe { known.as_ref() }
            && book.process == process
        {
            return book;
        }
        let slots = RwLock::new(Slots { slots: Vec::new(), free: VecDeque::new() });
        let fresh = Box::into_raw(Box::new(Book { process, slots }));
        match self.book.compare_exchange(known, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: just made, and never freed: others may be reading in it by now.
            Ok(_) => unsafe { &*fresh },
            Err(other_thread) => {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: as for `known`; only null is replaced, or a parent's book, and only
                // once in a process.
                unsafe { &*other_thread }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_take_apart_as_they_were_put_together() {
        let handle = Handle { kind: Kind::Work, process: 0xabc, usage: 0x12_3456, place: 0xf_0f0f };
        assert_eq!(Handle::unpack(handle.pack()), Some(handle));
        assert_eq!(Handle::unpack(0), None);
        assert_eq!(Handle::unpack(0x7fff_ffff_1234), None, "an address");
    }

    #[test]
    fn a_handle_ends_once_and_says_so_afterwards() {
        let table = Table::new(Kind::Work);
        let handle = table.insert("x").unwrap();
        assert_eq!(table.get(handle, "work").unwrap(), "x");
        assert_eq!(table.remove(handle, "work").unwrap(), "x");
        let again = table.remove(handle, "work").unwrap_err();
        assert_eq!(again.text, "work is not a work handle any more: it was freed");
        assert_eq!(again.status, syncline_status::SYNCLINE_ERROR_INVALID_HANDLE);
        assert!(table.get(handle, "work").is_err());
    }

    #[test]
    fn a_place_that_is_used_again_does_not_revive_its_old_handles() {
        let table = Table::new(Kind::Group);
        let mut old = Vec::new();
        for value in 0..1000 {
            let handle = table.insert(value).unwrap();
            assert_eq!(table.get(handle, "group").unwrap(), value);
            table.remove(handle, "group").unwrap();
            old.push(handle);
        }
        assert!(table.read().slots.len() <= RESTING + 1, "places are used again");
        let live = table.insert(0).unwrap();
        assert!(!old.contains(&live));
        assert!(old.iter().all(|&handle| table.get(handle, "group").is_err()));
    }

    #[test]
    fn what_is_no_handle_is_told_apart() {
        let works = Table::<u8>::new(Kind::Work);
        let comms = Table::<u8>::new(Kind::Communicator);
        let comm = comms.insert(1).unwrap();
        let text = |handle| works.get(handle, "work").unwrap_err().text;
        assert_eq!(text(0), "work is null");
        assert_eq!(text(comm), "work is not a work handle but a communicator");
        assert_eq!(text(1234), "work is not a work handle, nor any handle of this library");
        let forked = Handle { kind: Kind::Work, process: 0xfff, usage: 1, place: 0 };
        assert!(text(forked.pack()).contains("made before fork"));
    }
}
