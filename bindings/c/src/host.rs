//! Jobs whose host program brings its own store or all-gather.

use std::ffi::{CString, c_char, c_void};
use std::mem::offset_of;
use std::sync::Arc;

use comm::communicator::{AllGather, KeyValueStore, Rendezvous};

use crate::boundary::guard;
use crate::communicator::syncline_comm_t;
use crate::job;
use crate::options::syncline_options_t;
use crate::sized::{self, Versioned};
use crate::status::{Failure, Outcome, syncline_status_t};
use crate::text;
use crate::types::syncline_rank_t;

/// Puts `bytes` bytes at `value` into a store at `key`, in place of what was there. Returns 0, or
/// another number when it cannot.
pub type syncline_store_set_t = Option<
    unsafe extern "C" fn(
        key: *const c_char,
        value: *const c_void,
        bytes: usize,
        user_data: *mut c_void,
    ) -> i32,
>;

/// Copies the value at `key` of a store to `value`, which has room for `capacity` bytes, and its
/// size to `*bytes`, 0 while there is none. Must not wait for one: it is called again. Returns 0,
/// or another number when it cannot.
pub type syncline_store_get_t = Option<
    unsafe extern "C" fn(
        key: *const c_char,
        value: *mut c_void,
        capacity: usize,
        bytes: *mut usize,
        user_data: *mut c_void,
    ) -> i32,
>;

/// A key-value store that all processes of a job reach, such as a c10d store or etcd. Set `size` to
/// sizeof(syncline_store_t). The functions are called on the thread that joins, one at a time, and
/// not after it has joined; they must not call the library, throw, or longjmp.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct syncline_store_t {
    /// sizeof(syncline_store_t).
    pub size: usize,
    /// Writes.
    pub set: syncline_store_set_t,
    /// Reads.
    pub get: syncline_store_get_t,
    /// Passed to both.
    pub user_data: *mut c_void,
}

// SAFETY: a size, functions and a pointer, for which 0 is valid.
unsafe impl Versioned for syncline_store_t {
    const NAME: &'static str = "syncline_store_t";
    const FIRST_BYTES: usize = offset_of!(Self, user_data) + size_of::<*mut c_void>();
}

/// Gives every process's `bytes` bytes at `mine` to every process: they come to `all` in order of
/// rank. May block; it is called once. Returns 0, or another number when it cannot.
pub type syncline_all_gather_t = Option<
    unsafe extern "C" fn(
        mine: *const c_void,
        all: *mut c_void,
        bytes: usize,
        user_data: *mut c_void,
    ) -> i32,
>;

/// What a value may have at most; ids are much shorter.
const VALUE_BYTES_MAX: usize = 1024;

/// The caller's store.
struct Store {
    set: unsafe extern "C" fn(*const c_char, *const c_void, usize, *mut c_void) -> i32,
    get: unsafe extern "C" fn(*const c_char, *mut c_void, usize, *mut usize, *mut c_void) -> i32,
    user_data: *mut c_void,
}

// SAFETY: the library calls it on the thread that joins only.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

fn key_text(key: &str) -> Result<CString, String> {
    CString::new(key).map_err(|_| "the key has a NUL".to_owned())
}

impl KeyValueStore for Store {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        let key = key_text(key)?;
        // SAFETY: the header demands a function that may be called like this.
        let status =
            unsafe { (self.set)(key.as_ptr(), value.as_ptr().cast(), value.len(), self.user_data) };
        if status == 0 { Ok(()) } else { Err(format!("its set returned {status}")) }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        let key = key_text(key)?;
        let (mut value, mut bytes) = (vec![0_u8; VALUE_BYTES_MAX], 0_usize);
        let at = value.as_mut_ptr().cast();
        // SAFETY: the header demands a function that may be called like this.
        let status = unsafe {
            (self.get)(key.as_ptr(), at, VALUE_BYTES_MAX, &raw mut bytes, self.user_data)
        };
        if status != 0 {
            return Err(format!("its get returned {status}"));
        }
        if bytes > VALUE_BYTES_MAX {
            return Err(format!("its get wrote {bytes} bytes into {VALUE_BYTES_MAX}"));
        }
        value.truncate(bytes);
        Ok((bytes > 0).then_some(value))
    }
}

/// The caller's all-gather.
struct Gather {
    function: unsafe extern "C" fn(*const c_void, *mut c_void, usize, *mut c_void) -> i32,
    ranks: usize,
    user_data: *mut c_void,
}

// SAFETY: the library calls it on the thread that joins only.
unsafe impl Send for Gather {}
// SAFETY: as above.
unsafe impl Sync for Gather {}

impl AllGather for Gather {
    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let mut all = Vec::new();
        let bytes = mine.len().checked_mul(self.ranks);
        if bytes.is_none_or(|bytes| all.try_reserve_exact(bytes).is_err()) {
            return Err(format!("no memory for what {} ranks contribute", self.ranks));
        }
        all.resize(mine.len() * self.ranks, 0_u8);
        let at = all.as_mut_ptr().cast();
        // SAFETY: the header demands a function that may be called like this.
        let status =
            unsafe { (self.function)(mine.as_ptr().cast(), at, mine.len(), self.user_data) };
        if status != 0 {
            return Err(format!("the host's all-gather returned {status}"));
        }
        Ok(all.chunks_exact(mine.len()).map(<[u8]>::to_vec).collect())
    }
}

/// Joins the job whose id travels through `store`, as `rank` of `ranks`, and returns when all ranks
/// have come. `name` (NULL: none) goes before the key: jobs that come together through one store at
/// the same time need one each. `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_init_store(
    store: *const syncline_store_t,
    name: *const c_char,
    rank: syncline_rank_t,
    ranks: syncline_rank_t,
    options: *const syncline_options_t,
    result: *mut *mut syncline_comm_t,
) -> syncline_status_t {
    guard("syncline_comm_init_store", || {
        let at = || {
            if store.is_null() {
                return Err(Failure::argument("store is null"));
            }
            // SAFETY: the header asks for a store.
            let given = unsafe { sized::read(store) }?;
            let function = |name| Failure::argument(format!("store's {name} is null"));
            let store = Arc::new(Store {
                set: given.set.ok_or_else(|| function("set"))?,
                get: given.get.ok_or_else(|| function("get"))?,
                user_data: given.user_data,
            });
            // SAFETY: the header asks for a C string or NULL.
            let namespace = unsafe { text::optional(name, "name") }?.unwrap_or_default();
            Outcome::Ok(Rendezvous::KeyValue { store, namespace })
        };
        // SAFETY: the header asks for options or NULL, and a place to write to.
        unsafe { job::init(at, (rank, ranks), options, result) }
    })
}

/// Joins the job whose id travels by the host program's own `all_gather` among the same ranks, such
/// as one over MPI, as `rank` of `ranks`, and returns when all have come. `all_gather` is called
/// once, with `user_data`, on this thread. `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_comm_init_all_gather(
    all_gather: syncline_all_gather_t,
    user_data: *mut c_void,
    rank: syncline_rank_t,
    ranks: syncline_rank_t,
    options: *const syncline_options_t,
    result: *mut *mut syncline_comm_t,
) -> syncline_status_t {
    guard("syncline_comm_init_all_gather", || {
        let at = || {
            let function = all_gather.ok_or_else(|| Failure::argument("all_gather is null"))?;
            let gather = Gather { function, ranks: ranks as usize, user_data };
            Outcome::Ok(Rendezvous::AllGather(Arc::new(gather)))
        };
        // SAFETY: the header asks for options or NULL, and a place to write to.
        unsafe { job::init(at, (rank, ranks), options, result) }
    })
}
