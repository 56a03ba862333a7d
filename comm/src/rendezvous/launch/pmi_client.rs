//! Carries the root's id through the key space of a PMI-1 server: put, barrier, get.

use std::time::Instant;

use super::super::Participant;
use super::super::wait::Wait;
use super::PmiServer;
use super::pmi1::{LINE_BYTES_MAX, Reply, Request, value};
use super::resolve::resolve;
use super::talk::{Silence, Talk};
use crate::error::Result;
use crate::memory::duplicate_inherited;

const KEY: &str = "syncline-id";
/// What PMI-1 allows at least, where the server does not say.
const VALUE_BYTES_DEFAULT: usize = 256;

struct Client<'a, 'w> {
    talk: Talk,
    until: Instant,
    wait: Wait<'w>,
    server: &'a PmiServer,
}

/// Gives everybody what the leader offers. `offer` is `None` on all others.
///
/// Opens the conversation with the process manager and ends it: one process can do this once,
/// and an MPI library in the same process can no longer do it.
///
/// # Errors
/// `Error::Rendezvous` when the server fails or the other ranks do not come.
pub(super) fn exchange(
    server: &PmiServer,
    offer: Option<&str>,
    me: &Participant<'_>,
    wait: Wait<'_>,
) -> Result<String> {
    let carried = Client::open(server, me.deadline, wait).and_then(|mut c| c.exchange(offer));
    carried.map_err(|silence| match silence {
        Silence::Ended(error) => error,
        Silence::Late => me.error(
            "waited at the process manager's barrier until the deadline: not all ranks have \
             come; see what they printed"
                .to_owned(),
        ),
        Silence::Broken(reason) => me.error(format!(
            "the process manager (PMI-1) did not carry the job's id: {reason}; it does so once \
             per process, and not for two libraries: make further communicators by split or \
             duplicate, and beside an MPI library meet through its all-gather"
        )),
    })
}

impl<'a, 'w> Client<'a, 'w> {
    fn open(server: &'a PmiServer, until: Instant, wait: Wait<'w>) -> Result<Self, Silence> {
        let talk = match server {
            PmiServer::Descriptor(number) => {
                let fd = duplicate_inherited(*number).map_err(|error| {
                    Silence::Broken(format!("its descriptor PMI_FD={number}: {error}"))
                })?;
                Talk::over(fd)?
            }
            PmiServer::Port { host, port, .. } => {
                let mut reached = Err(Silence::Late);
                for address in resolve(host, *port, until, wait)? {
                    reached = Talk::connect(address, until, wait);
                    if matches!(reached, Ok(_) | Err(Silence::Ended(_))) {
                        break;
                    }
                }
                reached?
            }
        };
        Ok(Self { talk, until, wait, server })
    }

    fn exchange(&mut self, offer: Option<&str>) -> Result<String, Silence> {
        if let PmiServer::Port { id, .. } = self.server {
            self.ask(&Request::Connect { id })?;
        }
        self.ask(&Request::Init)?;
        let maxes = self.ask(&Request::Maxes)?;
        let bytes_max = get(&maxes, "vallen_max").and_then(|text| text.parse().ok());
        let space = self.ask(&Request::KeySpace)?;
        let space = required(&space, "kvsname")?;
        if let Some(text) = offer {
            let text = value(text, bytes_max.unwrap_or(VALUE_BYTES_DEFAULT));
            self.ask(&Request::Put { space: &space, key: KEY, value: &text })?;
        }
        self.ask(&Request::Barrier)?;
        let answer = self.ask(&Request::Get { space: &space, key: KEY })?;
        let carried = required(&answer, "value")?;
        self.ask(&Request::Finalize)?;
        Ok(carried)
    }

    /// Asks, and waits for the line that answers.
    fn ask(&mut self, request: &Request<'_>) -> Result<String, Silence> {
        self.talk.say(request.line().as_bytes(), self.until, self.wait)?;
        loop {
            let line = self.talk.hear(take_line, self.until, self.wait)?;
            let reply = Reply::parse(&line).map_err(Silence::Broken)?;
            if reply.command == request.answer() {
                return match reply.failure() {
                    None => Ok(line),
                    Some(failure) => Err(Silence::Broken(failure)),
                };
            }
            // On a port it says a few things about the process unasked.
            if reply.command != "set" {
                return Err(Silence::Broken(format!("it answered {line:?} to {request:?}")));
            }
        }
    }
}

fn take_line(bytes: &[u8]) -> std::result::Result<Option<(String, usize)>, String> {
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => Ok(Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), end + 1))),
        None if bytes.len() > LINE_BYTES_MAX => Err("its line has no end".to_owned()),
        None => Ok(None),
    }
}

fn get(line: &str, key: &str) -> Option<String> {
    Reply::parse(line).ok()?.get(key).map(str::to_owned)
}

fn required(line: &str, key: &str) -> Result<String, Silence> {
    get(line, key).ok_or_else(|| Silence::Broken(format!("it left out {key} in {line:?}")))
}
