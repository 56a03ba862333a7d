//! The cases every communicator must get right: collectives, types, operators, sizes, in place.

use syncline::collective::{Counts, Request};
use syncline::communicator::Communicator;
use syncline::error::Result;
use syncline::reduce::{DType, ReduceOp};
use syncline::schedule::Collective;

use crate::oracle;

const OPS: [ReduceOp; 9] = ReduceOp::all(0.5);

/// Every type and operator at one odd size, for every collective.
pub fn every_type(ranks: usize) -> Vec<Request> {
    let mut requests = Vec::new();
    for collective in Collective::ALL {
        for dtype in DType::ALL {
            let ops: &[ReduceOp] = if collective.reduces() { &OPS } else { &OPS[..1] };
            let scan = matches!(collective, Collective::Scan | Collective::ExScan);
            let defined = |op: &&ReduceOp| op.supports(dtype) && !(scan && **op == ReduceOp::Avg);
            for &op in ops.iter().filter(defined) {
                let root = (dtype as usize % ranks) as u32;
                requests.push(Request::new(collective, dtype, 2 * ranks + 3).op(op).root(root));
            }
        }
    }
    requests
}

/// Every collective in a few sizes: none, one, odd, a pipe's worth, more than a pipe holds.
pub fn every_size(ranks: usize) -> Vec<Request> {
    let mut requests = Vec::new();
    for collective in Collective::ALL {
        for count in [0, 1, 2, 5, 257, 4099, 70_001] {
            let dtype = if count % 2 == 0 { DType::F32 } else { DType::BF16 };
            for root in [0, ranks - 1] {
                requests.push(Request::new(collective, dtype, count).root(root as u32));
            }
        }
        requests.push(Request::new(collective, DType::F32, 600_000 / ranks));
    }
    requests.extend(uneven(ranks));
    // More than the scratch budget, where the multiplied input needs a copy.
    let scaled = ReduceOp::PreMulSum(0.5);
    for (collective, count) in [
        (Collective::ReduceScatter, 3_000_001 / ranks),
        (Collective::Reduce, 2_500_001),
        (Collective::ExScan, 2_500_001),
    ] {
        requests.push(Request::new(collective, DType::F32, count).op(scaled));
    }
    requests
}

/// The `_v` forms, with empty blocks among them.
fn uneven(ranks: usize) -> Vec<Request> {
    let counts: Vec<usize> = (0..ranks).map(|rank| (rank * 7) % 5 * 13).collect();
    let mut requests = Vec::new();
    for collective in
        [Collective::AllGather, Collective::ReduceScatter, Collective::Gather, Collective::Scatter]
    {
        let mut request = Request::new(collective, DType::I32, 0).root((ranks / 2) as u32);
        request.counts = Counts::PerRank(counts.clone());
        requests.push(request);
    }
    requests
}

/// The uneven all_to_all, whose counts differ by rank.
fn uneven_all_to_all(rank: usize, ranks: usize) -> Request {
    let mut request = Request::new(Collective::AllToAll, DType::U32, 0);
    request.counts = Counts::PerPair {
        send: (0..ranks).map(|peer| oracle::pair_count(rank, peer)).collect(),
        receive: (0..ranks).map(|peer| oracle::pair_count(peer, rank)).collect(),
    };
    request
}

/// Runs `requests` and the uneven all_to_all, in place and not.
///
/// # Errors
/// The first call that fails, or a description of the first wrong result.
pub fn run(comm: &Communicator, requests: &[Request]) -> std::result::Result<usize, String> {
    let (rank, ranks) = (comm.rank() as usize, comm.ranks() as usize);
    let uneven = uneven_all_to_all(rank, ranks);
    let mut done = 0;
    for request in requests.iter().chain([&uneven]) {
        let expected = oracle::output(request, rank, ranks);
        for in_place in [false, true] {
            if in_place && matches!(request.counts, Counts::PerPair { .. }) {
                continue;
            }
            let got = call(comm, request, in_place).map_err(|error| error.to_string())?;
            if let Some(expected) = expected.as_ref().filter(|expected| **expected != got) {
                let at = expected.iter().zip(&got).position(|(a, b)| a != b);
                return Err(format!(
                    "rank {rank} of {ranks}: {request:?} in_place={in_place}: wrong at byte {at:?} \
                     of {} (expected {}, got {} bytes)",
                    expected.len(),
                    expected.len(),
                    got.len()
                ));
            }
            done += 1;
        }
    }
    Ok(done)
}

/// Makes one call and returns what the output holds afterwards.
fn call(comm: &Communicator, request: &Request, in_place: bool) -> Result<Vec<u8>> {
    let (rank, ranks) = (comm.rank() as usize, comm.ranks() as usize);
    let contract = syncline::collective::contract(request, comm.rank(), comm.ranks())?;
    let size = request.dtype.size();
    let input = oracle::input(request, rank, ranks);
    if !in_place {
        let mut output = vec![0xEE; contract.output.unwrap_or(0) * size];
        comm.run(request, Some(&input), &mut output)?;
        assert_eq!(input, oracle::input(request, rank, ranks), "the input was written");
        return Ok(output);
    }
    use syncline::collective::InPlace;
    let mut buffer = vec![0xEE; contract.in_place_elements() * size];
    let (input_at, output_at) = match contract.in_place {
        InPlace::Same => (0, 0),
        InPlace::InputInOutput(at) => (at * size, 0),
        InPlace::OutputInInput(at) => (0, at * size),
    };
    buffer[input_at..input_at + input.len()].copy_from_slice(&input);
    comm.run(request, None, &mut buffer)?;
    Ok(buffer[output_at..output_at + contract.output.unwrap_or(0) * size].to_vec())
}
