//! Two namespaces and a veth between them. Whoever is at the other end has all of 10.0.0.0/8.

use std::{
    io::IoSlice,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use jpat_tests::netns::NetNs;
use nix::{
    libc,
    sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg},
};

use crate::controller::KNOCK_PORT;

pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// Both ends; their devices are called `eth0`.
pub(crate) struct Wire {
    pub(crate) host: NetNs,
    pub(crate) far: NetNs,
}

impl Wire {
    pub(crate) fn create(prefix: &str) -> Result<Self> {
        let (host, far) = (NetNs::create(&format!("{prefix}-host"))?, NetNs::create(&format!("{prefix}-far"))?);
        host.ip(&format!(
            "link add name eth0 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns {}\n\
             link set eth0 up\naddr add {HOST}/24 dev eth0",
            far.name()
        ))?;
        // Replies find their way without a question.
        far.ip(&format!(
            "link set eth0 up\naddr add {CLIENT}/24 dev eth0\nroute add local 10.0.0.0/8 dev lo\n\
             neigh replace {HOST} lladdr 02:00:00:00:00:01 dev eth0"
        ))?;
        host.ip(&format!(
            "neigh replace {CLIENT} lladdr 02:00:00:00:00:02 dev eth0\nroute add 10.0.0.0/8 via {CLIENT}"
        ))?;
        Ok(Self { host, far })
    }

    /// What comes out at the far end is taken in on the first CPU, not on that of whoever sends it.
    pub(crate) fn receive_on_first_cpu(&self) -> Result<()> {
        // Only `ip netns exec` brings a /sys of that namespace.
        let output = Command::new("ip")
            .args(["netns", "exec", self.far.name(), "sh", "-c", "echo 1 > /sys/class/net/eth0/queues/rx-0/rps_cpus"])
            .output()
            .context("start ip")?;
        ensure!(output.status.success(), "RPS: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

/// The address of 10.0.0.0/8 with this number.
pub(crate) fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 | (number & 0x00ff_ffff))
}

/// Sends a knock from `source`, which must be this end's. What the device has no room for is an error.
pub(crate) fn send_from(socket: &UdpSocket, source: Ipv4Addr, knock: &[u8]) -> nix::Result<()> {
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let to = SockaddrIn::from(SocketAddrV4::new(HOST, KNOCK_PORT));
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(knock)], &control, MsgFlags::empty(), Some(&to)).map(|_| ())
}
