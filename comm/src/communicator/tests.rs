//! Whole communicators, one thread per rank.

mod icount;

use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use half::bf16;

use super::*;
use crate::reduce::{DType, ReduceOp};
use crate::rendezvous::{Address, Dial, Hello, Purpose};
use crate::schedule::Collective;

/// Far less than the communicators' timeout: what takes longer has waited for that.
const PROMPT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(60);

fn options(transport: TransportChoice) -> Options {
    let interface = Some("127.0.0.1".to_owned());
    Options { transport, timeout: TIMEOUT, interface, ..Options::default() }
}

/// Lets every rank of a job play its part, in a thread each; what they return, by rank.
fn play<T: Send>(
    ranks: Rank,
    transport: TransportChoice,
    part: impl Fn(&Communicator) -> T + Sync,
) -> Vec<T> {
    let id = UniqueId::listen(Some("127.0.0.1")).unwrap();
    let (at, part) = (&Rendezvous::Id(id), &part);
    let play = move |rank| {
        let comm = Communicator::init(at, rank, ranks, options(transport)).unwrap();
        part(&comm)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks).map(|rank| scope.spawn(move || play(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Whether it works.
fn check(comm: &Communicator) {
    let mut data = vec![u64::from(comm.rank()) + 1; 1000];
    comm.all_reduce(&mut data, ReduceOp::Sum).unwrap();
    let ranks = u64::from(comm.ranks());
    assert!(data.iter().all(|&sum| sum == ranks * (ranks + 1) / 2));
}

/// The last rank sees the new communicator fail before it has it. It has an error, and the old
/// communicator to agree on, which works on for everybody.
#[test]
fn a_revocation_reaches_ranks_that_are_still_making_the_communicator() {
    for transport in [TransportChoice::Shm, TransportChoice::Tcp] {
        for way in ["duplicate", "split"] {
            let revoked = Barrier::new(3);
            play(3, transport, |comm| {
                let make = || match way {
                    "split" => comm.split(Some(7), 0).map(Option::unwrap),
                    _ => comm.duplicate(),
                };
                // Splitting is a collective, which all begin; so the last waits in `duplicate`.
                let last = comm.rank() == 2 && way == "duplicate";
                if last {
                    revoked.wait();
                }
                let made = make();
                if comm.rank() == 1 {
                    made.as_ref().unwrap().revoke("rank 1 has changed its mind");
                }
                if way == "duplicate" && !last {
                    revoked.wait();
                }
                let start = Instant::now();
                match &made {
                    Ok(made) => {
                        let error = made.barrier().unwrap_err().to_string();
                        assert!(error.contains("changed its mind"), "{error}");
                        // Whoever did not get it is left out at once.
                        let agreed = made.agree(1).unwrap();
                        assert!(!agreed.failed.contains(&comm.rank()), "{agreed:?}");
                    }
                    Err(error) => {
                        let error = error.to_string();
                        assert!(error.contains("rank 1 on"), "{error}");
                        assert!(error.contains("changed its mind"), "{error}");
                    }
                }
                let all_have_it = u64::from(made.is_ok());
                let agreed = comm.agree(all_have_it).unwrap();
                assert!(agreed.failed.is_empty(), "{way}: {agreed:?}");
                assert!(start.elapsed() < PROMPT, "{way}: {:?}", start.elapsed());
                assert!(comm.failure().is_none(), "{way}");
                check(comm);
                let again = make().unwrap();
                check(&again);
            });
        }
    }
}

/// One rank revokes the communicator instead of joining in the call: the others are not left
/// waiting there.
#[test]
fn a_revocation_of_the_old_communicator_ends_the_making_of_a_new_one() {
    play(3, TransportChoice::Shm, |comm| {
        comm.barrier().unwrap();
        let start = Instant::now();
        if comm.rank() == 2 {
            thread::sleep(Duration::from_millis(100));
            comm.revoke("rank 2 goes another way");
        }
        let error = match comm.duplicate() {
            // It got all it needs from rank 0; it cannot get far with it.
            Ok(made) if comm.rank() == 1 => made.barrier().unwrap_err(),
            made => made.unwrap_err(),
        };
        let error = error.to_string();
        assert!(error.contains("rank 2 on") && error.contains("another way"), "{error}");
        let agreed = comm.agree(3).unwrap();
        assert_eq!((agreed.flags, agreed.failed), (3, vec![]));
        let smaller = comm.shrink().unwrap();
        assert_eq!(smaller.ranks(), 3);
        check(&smaller);
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    });
}

/// A rank that cannot make its part says so, and nobody waits for it.
#[test]
fn who_cannot_make_the_new_communicator_is_named() {
    let errors = play(3, TransportChoice::Shm, |comm| {
        let start = Instant::now();
        let error = if comm.rank() == 0 {
            // As `assemble` does when this rank lacks something.
            let identity = Identity { id: 77, epoch: 0 };
            let inner = &comm.inner;
            let jobs = Arc::clone(&inner.jobs);
            let peers: Arc<[Peer]> = (0..3).map(|rank| Peer { rank, host: "h".into() }).collect();
            let fate = Fate::new(identity.id, 0, peers, jobs);
            inner.job.control.open(&fate);
            let charge = Charge { job: Arc::clone(&inner.job), id: identity.id, fate };
            let error = Error::System {
                what: "sharing memory".to_owned(),
                source_text: "there is none".to_owned(),
                hint: "buy some".to_owned(),
            };
            charge.give_up(&error);
            error
        } else {
            let all: Vec<Rank> = (0..3).collect();
            comm.descendant(Identity { id: 77, epoch: 0 }, &all, None).unwrap_err()
        };
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
        check(comm);
        error.to_string()
    });
    for error in &errors[1..] {
        let wanted = ["rank 0 on", "could not make", "there is none", "buy some"];
        assert!(wanted.iter().all(|word| error.contains(word)), "{error}");
    }
}

/// Epochs count on through everything that changes the members, for new ranks too, and whoever
/// comes from an earlier one is turned away, even with the right key.
#[test]
fn epochs_count_on_through_shrinking_and_growing() {
    let invitation = Mutex::new(None::<UniqueId>);
    let (invited, arrived) = (Barrier::new(2), Barrier::new(2));
    let newcomer = |ranks| {
        invited.wait();
        let id = invitation.lock().unwrap().take().unwrap();
        let at = Rendezvous::Id(id);
        let comm =
            Communicator::init(&at, ranks - 1, ranks, options(TransportChoice::Tcp)).unwrap();
        assert_eq!(comm.epoch(), 2);
        check(&comm);
        straggle(&comm);
        arrived.wait();
    };
    thread::scope(|scope| {
        scope.spawn(|| newcomer(3));
        play(2, TransportChoice::Tcp, |comm| {
            assert_eq!(comm.epoch(), 0);
            let same = comm.shrink().unwrap();
            assert_eq!(same.epoch(), 1);
            let offer = (comm.rank() == 1).then(|| same.invite().unwrap());
            if let Some(id) = &offer {
                *invitation.lock().unwrap() = Some(id.clone());
                invited.wait();
            }
            let grown = same.grow(offer.as_ref(), 3).unwrap();
            assert_eq!(grown.epoch(), 2);
            check(&grown);
            straggle(&grown);
            if comm.rank() == 1 {
                arrived.wait();
            }
        });
    });
}

/// Comes to this rank's listener as somebody of the last epoch, with this job's key.
fn straggle(comm: &Communicator) {
    let listener = &comm.inner.job.listener;
    let before = listener.refusals().stragglers;
    let hello = Hello {
        communicator: ROOT_ID,
        epoch: comm.epoch() - 1,
        purpose: Purpose::Control,
        lane: 0,
        encrypted: false,
        from: (comm.rank() + 1) % comm.ranks(),
        to: comm.rank(),
        tag: 0,
    };
    let mut dial = Dial::start(&Address::Tcp(listener.addresses()[0]), &hello).unwrap();
    let deadline = Instant::now() + PROMPT;
    while !dial.advance(listener.key()).unwrap() || listener.refusals().stragglers == before {
        assert!(Instant::now() < deadline, "it was not turned away");
        thread::sleep(Duration::from_millis(1));
    }
    check(comm);
}

#[test]
fn counts_that_no_address_space_holds_are_refused_before_anything_is_sent() {
    play(2, TransportChoice::Shm, |comm| {
        for collective in Collective::ALL.into_iter().filter(|c| *c != Collective::Barrier) {
            for count in [usize::MAX, usize::MAX / 2, usize::MAX / 8 + 1] {
                let request = Request::new(collective, DType::F64, count).op(ReduceOp::Sum);
                let error = comm.run(&request, Some(&[0; 8]), &mut [0; 8]).unwrap_err();
                assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
                let error = error.to_string();
                assert!(error.contains("address space"), "{collective:?}: {error}");
                assert!(error.contains(collective.name()), "{error}");
            }
        }
        // Lengths that overflow only together.
        let counts = Counts::PerRank(vec![usize::MAX / 2, usize::MAX / 2 + 2]);
        let request = Request { counts, ..Request::new(Collective::AllGather, DType::U8, 0) };
        let error = comm.run(&request, Some(&[0; 8]), &mut [0; 8]).unwrap_err().to_string();
        assert!(error.contains("address space"), "{error}");
        check(comm);
    });
}

/// Beyond the caches a sum goes in segments, where each rank has a core.
#[test]
fn a_large_sum_stays_in_the_cache_between_reducing_and_spreading() {
    const ELEMENTS: usize = 3 << 20;
    play(2, TransportChoice::Shm, |comm| {
        let request = Request::new(Collective::AllReduce, DType::F32, ELEMENTS);
        let plan = comm.explain(&request).unwrap();
        if thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2) {
            assert_eq!(plan.segments, 24, "{plan}");
            assert!(plan.reason.contains("still in the cache"), "{plan}");
        }
        for dtype_is_narrow in [false, true] {
            // Values that tell places and ranks apart, and whose sums are exact.
            let value = |i: usize| (i % 61) as f32 + comm.rank() as f32;
            let sum = |i: usize| 2.0 * (i % 61) as f32 + 1.0;
            if dtype_is_narrow {
                let mut data: Vec<bf16> = (0..ELEMENTS).map(|i| bf16::from_f32(value(i))).collect();
                comm.all_reduce(&mut data, ReduceOp::Sum).unwrap();
                assert!((0..ELEMENTS).all(|i| data[i].to_f32() == sum(i)));
            } else {
                let input: Vec<f32> = (0..ELEMENTS).map(value).collect();
                let mut output = vec![0.0; ELEMENTS];
                comm.all_reduce_into(&input, &mut output, ReduceOp::Sum).unwrap();
                assert!((0..ELEMENTS).all(|i| output[i] == sum(i)));
            }
        }
    });
}
