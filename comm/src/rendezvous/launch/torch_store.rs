//! The root's id in the store of torchrun's agent.

use std::time::{Duration, Instant};

use super::super::Participant;
use super::super::key_value::{id_key, parse_id};
use super::super::source::{Look, Source, Target};
use super::super::unique_id::UniqueId;
use super::super::wait::Wait;
use super::resolve::resolve;
use super::talk::{Silence, Talk};
use super::tcp_store;
use crate::error::Result;

/// How long to try one of the store's addresses.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// How long to wait for an answer that the store gives at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// How often to ask whether the id has changed when it led nowhere.
const RECHECK: Duration = Duration::from_secs(1);

/// The store, and where in it the id is.
pub(super) struct AgentStore<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) namespace: &'a str,
    pub(super) talk: Option<Talk>,
}

impl AgentStore<'_> {
    fn explain(&self, me: &Participant<'_>, doing: &str, silence: Silence) -> crate::Error {
        let reason = match silence {
            Silence::Ended(error) => return error,
            Silence::Late => "it does not answer".to_owned(),
            Silence::Broken(reason) => reason,
        };
        me.error(format!(
            "{doing} torchrun's store at {} port {}: {reason}; is the agent on that host running?",
            self.host, self.port
        ))
    }

    /// The connection, made if need be.
    fn connect(&mut self, until: Instant, wait: Wait<'_>) -> Result<&mut Talk, Silence> {
        if self.talk.is_none() {
            let mut last = Silence::Late;
            for address in resolve(self.host, self.port, until, wait)? {
                let limit = until.min(Instant::now() + CONNECT_TIME_MAX);
                match Talk::connect(address, limit, wait) {
                    Ok(mut talk) => {
                        talk.say(&tcp_store::validate(), until, wait)?;
                        self.talk = Some(talk);
                        break;
                    }
                    Err(Silence::Ended(error)) => return Err(Silence::Ended(error)),
                    Err(silence) => last = silence,
                }
            }
            if self.talk.is_none() {
                return Err(last);
            }
        }
        Ok(self.talk.as_mut().expect("made above"))
    }

    /// Makes the id known, and makes sure that it is.
    pub(super) fn publish(
        &mut self,
        id: &UniqueId,
        me: &Participant<'_>,
        wait: Wait<'_>,
    ) -> Result<()> {
        let key = id_key(self.namespace);
        let until = me.deadline.min(Instant::now() + ANSWER_TIME_MAX);
        let result = self.connect(until, wait).and_then(|talk| {
            talk.say(&tcp_store::set(&key, id.to_string().as_bytes()), until, wait)?;
            talk.say(&tcp_store::check(&key), until, wait)?;
            match talk.hear(tcp_store::parse_check, until, wait)? {
                true => Ok(()),
                false => Err(Silence::Broken("it does not keep what it is given".to_owned())),
            }
        });
        result.map_err(|silence| self.explain(me, "cannot put the job's id into", silence))
    }

    fn ask(&mut self, until: Instant, wait: Wait<'_>) -> Result<Option<Vec<u8>>, Silence> {
        let key = id_key(self.namespace);
        let talk = self.connect(until, wait)?;
        talk.say(&tcp_store::wait(&key), until, wait)?;
        match talk.hear(tcp_store::parse_wait, until, wait) {
            Ok(()) => {}
            // The store would answer some time, when nobody knows any more what was asked.
            Err(Silence::Late) => {
                self.talk = None;
                return Ok(None);
            }
            Err(other) => return Err(other),
        }
        talk.say(&tcp_store::get(&key), until, wait)?;
        talk.hear(tcp_store::parse_get, until, wait).map(Some)
    }
}

impl Source for AgentStore<'_> {
    fn look(&mut self, me: &Participant<'_>, wait: Wait<'_>) -> Result<Look> {
        let key = id_key(self.namespace);
        let asked = self.ask(me.deadline, wait);
        match asked.map_err(|s| self.explain(me, "cannot ask", s))? {
            None => Ok(Look::NotYet(format!("torchrun's store holds no {key}"))),
            Some(value) => match parse_id(&value) {
                Ok(id) => Ok(Look::Found(Target::from(&id))),
                Err(reason) => Err(me.error(format!("torchrun's store, {key}: {reason}"))),
            },
        }
    }

    fn interval(&self, _: u32) -> Duration {
        RECHECK
    }

    fn recheck(&self) -> Option<Duration> {
        Some(RECHECK)
    }
}
