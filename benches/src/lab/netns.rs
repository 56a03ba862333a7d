//! Hosts as network namespaces, joined by a bridge in a namespace of its own.
//!
//! ```text
//!   host 0: eth0 --- port0 \
//!   host 1: eth0 --- port1 -- br0 (switch)
//!   host 2: eth0 --- port2 /
//! ```
//!
//! Nothing in the namespace collbench runs in is touched: links are made inside the others.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use super::rate::Links;
use super::shape::shape;
use super::sweep::{PREFIX, remove, sweep};
use super::tool::{check_requirements, tool};
use crate::failure::{Failure, Outcome};
use crate::owner::Owner;

/// Most hosts: each is an address in one /24.
pub(crate) const HOSTS_MAX: u32 = 200;

/// Gives every host the same congestion control, Linux's default, or, where that is reserved to
/// the machine's own namespace, its ancestor. Hosts would otherwise inherit the machine's choice,
/// and BBR, for one, leaves a part of a shaped link idle while it probes.
const CONGESTION_CONTROL: &str = "cd /proc/sys/net/ipv4; \
    echo cubic 2> /dev/null > tcp_congestion_control || echo reno > tcp_congestion_control";

/// The namespaces of a lab; removed on drop.
pub(crate) struct Lab {
    switch: String,
    hosts: Vec<String>,
    janitor: Option<Child>,
}

impl Lab {
    /// Makes `hosts` hosts with such links.
    pub(crate) fn build(hosts: u32, links: Links) -> Outcome<Self> {
        check_requirements()?;
        sweep()?;
        let owner = Owner::me().map_err(Failure::Run)?;
        let mut lab = Self {
            switch: format!("{PREFIX}{owner}-switch"),
            hosts: Vec::new(),
            janitor: Some(janitor()?),
        };
        tool("ip", &["netns", "add", &lab.switch])?;
        tool("ip", &["-n", &lab.switch, "link", "add", "br0", "type", "bridge"])?;
        tool("ip", &["-n", &lab.switch, "link", "set", "br0", "up"])?;
        for host in 0..hosts {
            let name = format!("{PREFIX}{owner}-h{host}");
            lab.hosts.push(name.clone());
            tool("ip", &["netns", "add", &name])?;
            lab.connect(host, &name, links)?;
        }
        Ok(lab)
    }

    /// The hosts' namespaces.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The address of a host: from the block that RFC 2544 sets aside for benchmarks.
    pub(crate) fn address(host: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + host)
    }

    fn connect(&self, host: u32, name: &str, links: Links) -> Outcome {
        let switch = self.switch.as_str();
        let port = format!("port{host}");
        let address = format!("{}/24", Self::address(host));
        tool(
            "ip",
            &[
                "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns",
                switch,
            ],
        )?;
        tool("ip", &["-n", name, "address", "add", &address, "dev", "eth0"])?;
        tool("ip", &["-n", name, "link", "set", "lo", "up"])?;
        tool("ip", &["-n", name, "link", "set", "eth0", "up"])?;
        tool("ip", &["-n", switch, "link", "set", &port, "master", "br0", "up"])?;
        tool("ip", &["netns", "exec", name, "sh", "-c", CONGESTION_CONTROL])?;
        let Links::Shaped(rate) = links else { return Ok(()) };
        shape(name, "eth0", rate)?;
        shape(switch, &port, rate)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.switch]) {
            if let Err(failure) = remove(name) {
                crate::complain(&failure.to_string());
            }
        }
        if let Some(mut janitor) = self.janitor.take() {
            // A word before the end of the stream says that nothing is left to do.
            if let Some(mut stdin) = janitor.stdin.take() {
                let _ = stdin.write_all(b"done");
            }
            let _ = janitor.wait();
        }
    }
}

/// Starts a process that cleans up should this one be killed.
fn janitor() -> Outcome<Child> {
    Command::new("/proc/self/exe")
        .arg0("collbench")
        .arg("__janitor")
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| Failure::run(format!("cannot start the lab's janitor: {e}")))
}
