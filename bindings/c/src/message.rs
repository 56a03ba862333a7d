//! Messages between two ranks, and groups of operations.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comm::communicator::{self as rust, Communicator};
use comm::memory::RawBuffers;
use comm::reduce::{DType, ReduceOp};

use crate::boundary::guard;
use crate::communicator::{self, syncline_comm_t};
use crate::handles::{Kind, Table};
use crate::options::{call_options, syncline_call_options_t};
use crate::status::{Failure, Outcome, syncline_status_t};
use crate::text;
use crate::types::{self, syncline_dtype_t, syncline_op_t, syncline_rank_t};
use crate::work::{self, syncline_work_t};

/// Operations that are started together and end together. It is ended by syncline_group_end or
/// syncline_group_cancel. Only one thread may use it at a time.
pub struct syncline_group_t {
    _private: (),
}

static GROUPS: Table<Arc<Group>> = Table::new(Kind::Group);

struct Group {
    /// The communicator and its handle.
    comm: (Communicator, usize),
    items: Mutex<Vec<Item>>,
}

#[derive(Clone, Copy)]
enum Item {
    Message { data: (DType, usize), peer: u32, send: bool, at: RawBuffers },
    AllReduce { data: (DType, usize), op: ReduceOp, at: RawBuffers },
}

impl Group {
    fn items(&self) -> MutexGuard<'_, Vec<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add_all(group: &mut rust::Group<'_>, items: &[Item]) -> comm::Result<()> {
    items.iter().try_for_each(|item| match *item {
        Item::Message { data, peer, send, at } => group.message_raw(data, peer, send, at),
        Item::AllReduce { data, op, at } => group.all_reduce_raw(data, op, at),
    })
}

/// Runs the items as one, or starts them where the caller gave a place for a work handle.
///
/// # Safety
/// `work` is null or writable.
unsafe fn end(
    (comm, handle): &(Communicator, usize),
    items: &[Item],
    work: *mut *mut syncline_work_t,
) -> Outcome<()> {
    if work.is_null() {
        return Ok(comm.group(|group| add_all(group, items))?);
    }
    let started = comm.start_group(|group| add_all(group, items))?;
    // SAFETY: the function's contract.
    unsafe { work::put(work, ptr::without_provenance_mut(*handle), started) }
}

/// # Safety
/// `work` is null or writable.
unsafe fn no_work_yet(work: *mut *mut syncline_work_t) -> Outcome<()> {
    if work.is_null() {
        return Ok(());
    }
    // SAFETY: the function's contract.
    unsafe { text::put(work, "work", ptr::null_mut()) }
}

/// # Safety
/// What the header says of messages: the buffer is as large as the call says and stays so until
/// the operation has ended; `work` is null or writable.
unsafe fn message(
    comm: *mut syncline_comm_t,
    at: RawBuffers,
    (count, dtype): (usize, syncline_dtype_t),
    (peer, send): (syncline_rank_t, bool),
    work: *mut *mut syncline_work_t,
) -> Outcome<()> {
    // SAFETY: the function's contract.
    unsafe { no_work_yet(work) }?;
    let dtype = types::dtype(dtype)?;
    let handle = comm.addr();
    let comm = communicator::get(comm)?;
    if work.is_null() {
        let ended = match send {
            true => comm.send_raw(dtype, count, peer, at),
            false => comm.recv_raw(dtype, count, peer, at),
        };
        return Ok(ended?);
    }
    let started = match send {
        true => comm.start_send_raw(dtype, count, peer, at)?,
        false => comm.start_recv_raw(dtype, count, peer, at)?,
    };
    // SAFETY: the function's contract.
    unsafe { work::put(work, ptr::without_provenance_mut(handle), started) }
}

/// Sends `data` (`count` elements) to `peer`, which must receive as many of the same type. Ends
/// when `data` may be changed; the peer may not have it yet. Between two ranks messages arrive in
/// the order in which they were sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_send(
    comm: *mut syncline_comm_t,
    data: *const c_void,
    count: usize,
    dtype: syncline_dtype_t,
    peer: syncline_rank_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    guard("syncline_send", || {
        // SAFETY: the header asks for what `RawBuffers` asks for.
        let at = unsafe { RawBuffers::new(data.cast(), ptr::null_mut()) };
        // SAFETY: the header asks for what `message` asks for.
        unsafe { message(comm, at, (count, dtype), (peer, true), work) }
    })
}

/// Receives `data` (`count` elements) from `peer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_recv(
    comm: *mut syncline_comm_t,
    data: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    peer: syncline_rank_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    guard("syncline_recv", || {
        // SAFETY: the header asks for what `RawBuffers` asks for.
        let at = unsafe { RawBuffers::new(ptr::null(), data.cast()) };
        // SAFETY: the header asks for what `message` asks for.
        unsafe { message(comm, at, (count, dtype), (peer, false), work) }
    })
}

/// All-reduces `buffers_count` vectors in place, small ones packed together: `buffers[i]` has
/// `counts[i]` elements. Every rank gives the same counts in the same order.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_all_reduce_coalesced(
    comm: *mut syncline_comm_t,
    buffers: *const *mut c_void,
    counts: *const usize,
    buffers_count: usize,
    dtype: syncline_dtype_t,
    op: syncline_op_t,
    options: *const syncline_call_options_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    guard("syncline_all_reduce_coalesced", || {
        // SAFETY: the header asks for a place to write to, or NULL.
        unsafe { no_work_yet(work) }?;
        // SAFETY: the header asks for options or NULL.
        let options = unsafe { call_options(options) }?;
        let (dtype, op) = (types::dtype(dtype)?, types::op(op, options.as_ref())?);
        // SAFETY: the header asks for that many addresses.
        let buffers = unsafe { text::list(buffers, buffers_count, "buffers") }?;
        // SAFETY: the header asks for that many counts.
        let counts = unsafe { text::list(counts, buffers_count, "counts") }?;
        let item = |(&buffer, &count): (&*mut c_void, &usize)| {
            // SAFETY: the header asks for what `RawBuffers` asks for.
            let at = unsafe { RawBuffers::new(buffer.cast_const().cast(), buffer.cast()) };
            Item::AllReduce { data: (dtype, count), op, at }
        };
        let items: Vec<Item> = buffers.iter().zip(counts).map(item).collect();
        let comm = (communicator::get(comm)?, comm.addr());
        // SAFETY: the header asks for a place to write to, or NULL.
        unsafe { end(&comm, &items, work) }
    })
}

/// Begins a group of operations on `comm`. Nothing is sent before syncline_group_end; then all of
/// them are under way at the same time, so that no order of sends and receives can block, and
/// neighbouring small all_reduces of one type and op are fused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_group_begin(
    comm: *mut syncline_comm_t,
    group: *mut *mut syncline_group_t,
) -> syncline_status_t {
    guard("syncline_group_begin", || {
        // SAFETY: the header asks for a place to write to.
        unsafe { text::put(group, "group", ptr::null_mut()) }?;
        let comm = (communicator::get(comm)?, comm.addr());
        let handle = GROUPS.insert(Arc::new(Group { comm, items: Mutex::default() }))?;
        // SAFETY: as above.
        unsafe { text::put(group, "group", ptr::without_provenance_mut(handle)) }
    })
}

fn add(group: *mut syncline_group_t, item: impl FnOnce() -> Outcome<Item>) -> Outcome<()> {
    let group = GROUPS.get(group.addr(), "group")?;
    group.items().push(item()?);
    Ok(())
}

/// Adds a send to `group`; see syncline_send.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_group_send(
    group: *mut syncline_group_t,
    data: *const c_void,
    count: usize,
    dtype: syncline_dtype_t,
    peer: syncline_rank_t,
) -> syncline_status_t {
    guard("syncline_group_send", || {
        // SAFETY: the header asks for what `RawBuffers` asks for.
        let at = unsafe { RawBuffers::new(data.cast(), ptr::null_mut()) };
        let data = || Outcome::Ok((types::dtype(dtype)?, count));
        add(group, || Ok(Item::Message { data: data()?, peer, send: true, at }))
    })
}

/// Adds a receive to `group`; see syncline_recv.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_group_recv(
    group: *mut syncline_group_t,
    data: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    peer: syncline_rank_t,
) -> syncline_status_t {
    guard("syncline_group_recv", || {
        // SAFETY: the header asks for what `RawBuffers` asks for.
        let at = unsafe { RawBuffers::new(ptr::null(), data.cast()) };
        let data = || Outcome::Ok((types::dtype(dtype)?, count));
        add(group, || Ok(Item::Message { data: data()?, peer, send: false, at }))
    })
}

/// Adds an all_reduce to `group`; see syncline_all_reduce.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_group_all_reduce(
    group: *mut syncline_group_t,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: syncline_dtype_t,
    op: syncline_op_t,
    options: *const syncline_call_options_t,
) -> syncline_status_t {
    guard("syncline_group_all_reduce", || {
        // SAFETY: the header asks for what `RawBuffers` asks for.
        let at = unsafe { RawBuffers::new(input.cast(), output.cast()) };
        // SAFETY: the header asks for options or NULL.
        let options = unsafe { call_options(options) }?;
        let op = types::op(op, options.as_ref())?;
        add(group, || Ok(Item::AllReduce { data: (types::dtype(dtype)?, count), op, at }))
    })
}

/// Runs the operations of `group` as one (`work` NULL), or starts them and writes one handle for
/// all to `*work`. Ends the group in any case. Where an argument of one of them is wrong, nothing
/// was started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_group_end(
    group: *mut syncline_group_t,
    work: *mut *mut syncline_work_t,
) -> syncline_status_t {
    guard("syncline_group_end", || {
        // SAFETY: the header asks for a place to write to, or NULL.
        unsafe { no_work_yet(work) }?;
        let group = GROUPS.remove(group.addr(), "group")?;
        let items = std::mem::take(&mut *group.items());
        // SAFETY: as above.
        unsafe { end(&group.comm, &items, work) }
    })
}

/// Ends `group` without starting anything. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syncline_group_cancel(group: *mut syncline_group_t) -> syncline_status_t {
    guard("syncline_group_cancel", || match group.is_null() {
        true => Ok::<(), Failure>(()),
        false => GROUPS.remove(group.addr(), "group").map(|_| ()),
    })
}
