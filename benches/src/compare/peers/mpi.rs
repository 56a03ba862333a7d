//! The MPIs: one launcher each, which starts the ranks, also in the hosts of a lab.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use super::{RANK_CPUS, Site, agent, existing};
use crate::cli::TransportArg;
use crate::compare::protocol::CONTROL;

/// The hosts of a lab, as launchers are told about them.
struct Hosts {
    /// The script that enters one.
    agent: String,
    addresses: Vec<String>,
    ranks_per_host: u32,
}

/// What decides how a launcher is called.
struct Job {
    transport: TransportArg,
    interface: &'static str,
    /// More ranks than cores: then a waiting rank should give way.
    is_crowded: bool,
    hosts: Option<Hosts>,
}

/// A launcher's arguments, and the environment.
type Line = (Vec<String>, Vec<(&'static str, &'static str)>);

impl Site<'_> {
    /// Open MPI, or why it cannot take part.
    pub(super) fn open_mpi(&self) -> Result<Vec<Command>, String> {
        let line = self.job()?.open_mpi();
        self.mpi("openmpi", "mpiexec", line)
    }

    /// MPICH, or why it cannot take part.
    pub(super) fn mpich(&self) -> Result<Vec<Command>, String> {
        let line = self.job()?.mpich();
        self.mpi("mpich", "mpiexec.hydra", line)
    }

    /// Intel MPI, or why it cannot take part.
    pub(super) fn intel_mpi(&self) -> Result<Vec<Command>, String> {
        let line = self.job()?.intel_mpi()?;
        self.mpi("impi", "mpiexec.hydra", line)
    }

    fn job(&self) -> Result<Job, String> {
        let namespaces = &self.placement.namespaces;
        let hosts = || -> Result<Hosts, String> {
            let agent = agent::write(self.scratch.path(), namespaces)?;
            let agent = agent.into_os_string().into_string();
            Ok(Hosts {
                agent: agent.map_err(|_| "the temporary folder's name must be UTF-8".to_owned())?,
                addresses: agent::addresses(namespaces),
                ranks_per_host: self.placement.ranks_per_host,
            })
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Job {
            transport: self.plan.transport,
            interface: self.interface(),
            is_crowded: self.ranks as usize > cores,
            hosts: (!namespaces.is_empty()).then(hosts).transpose()?,
        })
    }

    /// `launcher LINE -n RANKS program`, in the first host, so that it ends with collbench.
    fn mpi(&self, name: &str, launcher: &str, line: Line) -> Result<Vec<Command>, String> {
        let launcher = self.launcher(name, launcher)?;
        let program = self.built(&format!("mpi-{name}"))?;
        let ranks = self.ranks.to_string();
        let mut arguments = vec![OsStr::new("__exec"), OsStr::new("--"), launcher.as_os_str()];
        arguments.extend(line.0.iter().map(OsStr::new));
        arguments.extend(["-n", &ranks].map(OsStr::new));
        arguments.push(program.as_os_str());
        let mut command = self.placement.command(0, &arguments);
        self.tell(&mut command, name, self.plan.bind);
        command.envs(line.1);
        Ok(vec![command])
    }

    fn launcher(&self, mpi: &str, name: &str) -> Result<PathBuf, String> {
        // Not resolved: launchers find the rest of their installation from where they are called.
        let path = self.peers_dir.join(mpi).join("bin").join(name);
        existing(&path)?;
        std::path::absolute(&path).map_err(|e| format!("{}: {e}", path.display()))
    }
}

impl Job {
    fn open_mpi(&self) -> Line {
        let mut line = words("--allow-run-as-root --bind-to none");
        // Only what it names reaches ranks on other hosts.
        line.extend(["-x", CONTROL, "-x", RANK_CPUS].map(str::to_owned));
        match &self.hosts {
            None => line.extend(words("--map-by :OVERSUBSCRIBE")),
            Some(hosts) => {
                let slots = |address| format!("{address}:{}", hosts.ranks_per_host);
                let list: Vec<String> = hosts.addresses.iter().map(slots).collect();
                line.extend(words("--prtemca prte_if_include eth0 --prtemca plm_ssh_agent"));
                line.extend([hosts.agent.clone(), "--host".into(), list.join(",")]);
                line.extend(words("--map-by slot:OVERSUBSCRIBE"));
            }
        }
        match self.transport {
            TransportArg::Auto => {}
            TransportArg::Shm => line.extend(words("--mca pml ob1 --mca btl sm,self")),
            TransportArg::Tcp => line.extend(words("--mca pml ob1 --mca btl tcp,self")),
        }
        if self.transport == TransportArg::Tcp || self.hosts.is_some() {
            line.extend(words("--mca btl_tcp_if_include"));
            line.push(self.interface.into());
        }
        if self.is_crowded {
            line.extend(words("--mca mpi_yield_when_idle 1"));
        }
        (line, Vec::new())
    }

    fn mpich(&self) -> Line {
        let mut line = words("-bind-to none");
        line.extend(self.hydra("launcher"));
        let mut environment = Vec::new();
        if self.transport == TransportArg::Tcp {
            // As if every rank were on a host of its own, over the sockets of libfabric.
            environment.extend([("MPIR_CVAR_NOLOCAL", "1"), ("MPIR_CVAR_CH4_NETMOD", "ofi")]);
            environment.extend([("FI_PROVIDER", "tcp"), ("FI_TCP_IFACE", self.interface)]);
        }
        if self.is_crowded {
            // It has no yield; this makes it sleep after some polls in vain.
            environment.push(("MPIR_CVAR_CH4_PROGRESS_THROTTLE", "1"));
            environment.push(("MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT", "16"));
        }
        (line, environment)
    }

    fn intel_mpi(&self) -> Result<Line, String> {
        let tcp = self.transport == TransportArg::Tcp;
        if tcp && self.hosts.as_ref().is_none_or(|hosts| hosts.ranks_per_host > 1) {
            return Err("within a host Intel MPI uses shared memory whatever it is told; compare \
                        with it over TCP in a lab with one rank per host"
                .into());
        }
        // Ranks bind themselves, as those of the others do.
        let mut environment = vec![("I_MPI_PIN", "0")];
        if tcp {
            environment.extend([("I_MPI_FABRICS", "ofi"), ("FI_PROVIDER", "tcp")]);
            environment.push(("FI_TCP_IFACE", self.interface));
        }
        if self.transport == TransportArg::Shm {
            environment.push(("I_MPI_FABRICS", "shm"));
        }
        if self.is_crowded {
            environment.push(("I_MPI_THREAD_YIELD", "2"));
        }
        Ok((self.hydra("bootstrap"), environment))
    }

    /// Hydra's arguments for the hosts of a lab; MPICH and Intel call its launcher differently.
    fn hydra(&self, launcher: &str) -> Vec<String> {
        let Some(hosts) = &self.hosts else { return Vec::new() };
        let (agent, first) = (&hosts.agent, &hosts.addresses[0]);
        let list = hosts.addresses.join(",");
        let mut line = words(&format!("-{launcher} ssh -iface eth0 -localhost {first}"));
        line.extend([format!("-{launcher}-exec"), agent.clone(), "-hosts".into(), list]);
        line.extend(["-ppn".into(), hosts.ranks_per_host.to_string()]);
        line
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(transport: TransportArg, ranks_per_host: Option<u32>) -> Job {
        let hosts = ranks_per_host.map(|ranks_per_host| Hosts {
            agent: "/tmp/agent".into(),
            addresses: vec!["198.18.0.1".into(), "198.18.0.2".into()],
            ranks_per_host,
        });
        let interface = if hosts.is_some() { "eth0" } else { "lo" };
        Job { transport, interface, is_crowded: false, hosts }
    }

    #[test]
    fn open_mpi_takes_the_wires_it_is_given() {
        let line = |transport, hosts| job(transport, hosts).open_mpi().0.join(" ");
        assert!(!line(TransportArg::Auto, None).contains("btl"));
        assert!(line(TransportArg::Shm, None).contains("--mca btl sm,self"));
        let tcp = line(TransportArg::Tcp, None);
        assert!(tcp.contains("--mca btl tcp,self --mca btl_tcp_if_include lo"), "{tcp}");
        let lab = line(TransportArg::Tcp, Some(2));
        assert!(lab.contains("plm_ssh_agent /tmp/agent --host 198.18.0.1:2,198.18.0.2:2"), "{lab}");
        assert!(lab.contains("btl_tcp_if_include eth0"), "{lab}");
    }

    #[test]
    fn the_two_hydras_differ_in_the_name_of_the_launcher() {
        let job = job(TransportArg::Tcp, Some(1));
        let (mpich, environment) = job.mpich();
        assert!(mpich.join(" ").contains("-launcher ssh -iface eth0"), "{mpich:?}");
        assert!(mpich.join(" ").ends_with("-hosts 198.18.0.1,198.18.0.2 -ppn 1"), "{mpich:?}");
        assert!(environment.contains(&("FI_PROVIDER", "tcp")));
        let (intel, environment) = job.intel_mpi().expect("one rank per host");
        assert!(intel.join(" ").contains("-bootstrap-exec /tmp/agent"), "{intel:?}");
        assert!(environment.contains(&("FI_TCP_IFACE", "eth0")));
    }

    #[test]
    fn intel_mpi_says_where_it_would_not_use_tcp() {
        for hosts in [None, Some(2)] {
            let reason = job(TransportArg::Tcp, hosts).intel_mpi().expect_err("shared memory");
            assert!(reason.contains("one rank per host"), "{reason}");
        }
        assert!(job(TransportArg::Shm, None).intel_mpi().is_ok());
    }

    #[test]
    fn everybody_yields_where_there_are_more_ranks_than_cores() {
        let job = Job { is_crowded: true, ..job(TransportArg::Shm, None) };
        assert!(job.open_mpi().0.join(" ").ends_with("--mca mpi_yield_when_idle 1"));
        assert!(job.mpich().1.iter().any(|(name, _)| name.contains("THROTTLE")));
        let intel = job.intel_mpi().expect("shared memory");
        assert!(intel.1.contains(&("I_MPI_THREAD_YIELD", "2")));
    }
}
