//! A rank's communicator: the only place that calls the library.

use std::collections::BTreeMap;

use syncline::collective::Request;
use syncline::communicator::{Communicator, LaunchEnvironment, Options, Rendezvous};
use syncline::schedule::Collective;

use crate::cli::TransportArg;
use crate::operation::Operation;
use crate::plan::Plan;
use crate::runner::{Call, Choice, Runner};

/// One rank of a job that has come together.
pub(crate) struct Session {
    comm: Communicator,
    transport: TransportArg,
}

impl Session {
    /// Joins the job; returns when all ranks have come.
    pub(crate) fn join(plan: &Plan, job: &LaunchEnvironment) -> Result<Self, String> {
        let options = Options {
            transport: plan.transport.choice(),
            timeout: plan.timeout(),
            reproducible: plan.reproducible,
            encrypt: plan.encrypt,
            algorithm: plan.algorithm.clone(),
            tuning_file: plan.tuning.clone(),
            dump_dir: plan.dump.clone(),
            ..Options::default()
        };
        let at = Rendezvous::Launched(job.clone());
        let comm = Communicator::init(&at, job.rank, job.ranks, options);
        comm.map(|comm| Self { comm, transport: plan.transport }).map_err(|e| e.to_string())
    }

    /// Writes this rank's flight dump, if one is wanted.
    pub(crate) fn dump(&self, plan: &Plan) -> Result<(), String> {
        let Some(folder) = &plan.dump else { return Ok(()) };
        let written = self.comm.dump().write_into(folder);
        written.map(drop).map_err(|e| format!("--dump {}: {e}", folder.display()))
    }

    /// Sends to the next rank and receives from the one before, both at once.
    fn send_recv(&self, input: Option<&[u8]>, output: &mut [u8]) -> syncline::Result<()> {
        let (rank, ranks) = (self.comm.rank(), self.comm.ranks());
        self.comm.group(|group| {
            group.send(input.unwrap_or(&[]), (rank + 1) % ranks)?;
            group.recv(output, (rank + ranks - 1) % ranks)
        })
    }
}

/// What the library is asked for; point-to-point messages are not requests.
pub(crate) fn request(call: &Call) -> Option<Request> {
    let collective = match call.operation {
        Operation::AllReduce => Collective::AllReduce,
        Operation::ReduceScatter => Collective::ReduceScatter,
        Operation::AllGather => Collective::AllGather,
        Operation::Broadcast => Collective::Broadcast,
        Operation::Reduce => Collective::Reduce,
        Operation::Gather => Collective::Gather,
        Operation::Scatter => Collective::Scatter,
        Operation::AllToAll => Collective::AllToAll,
        Operation::Scan => Collective::Scan,
        Operation::ExScan => Collective::ExScan,
        Operation::Barrier => Collective::Barrier,
        Operation::SendRecv => return None,
    };
    Some(Request::new(collective, call.dtype, call.count).op(call.op).root(call.root))
}

impl Runner for Session {
    fn rank(&self) -> u32 {
        self.comm.rank()
    }

    fn ranks(&self) -> u32 {
        self.comm.ranks()
    }

    fn hosts(&self) -> u32 {
        self.comm.hosts()
    }

    fn init_ms(&self) -> BTreeMap<String, f64> {
        let phases = self.comm.init_timings().phases();
        phases.into_iter().map(|(name, time)| (name.into(), time.as_secs_f64() * 1e3)).collect()
    }

    fn run(&self, call: &Call, input: Option<&[u8]>, output: &mut [u8]) -> Result<(), String> {
        match request(call) {
            Some(request) => self.comm.run(&request, input, output),
            None => self.send_recv(input, output),
        }
        .map_err(|e| e.to_string())
    }

    fn choice(&self, call: &Call) -> Result<Choice, String> {
        let Some(request) = request(call) else {
            return Ok(Choice {
                algorithm: "point_to_point".into(),
                transport: self.transport.name().into(),
                explanation: "one message to the next rank, one from the one before".into(),
            });
        };
        let explanation = self.comm.explain(&request).map_err(|e| e.to_string())?;
        Ok(Choice {
            algorithm: explanation.algorithm.clone(),
            transport: explanation.transport.clone(),
            explanation: explanation.to_string(),
        })
    }
}
