//! A TUN device whose peer is this process: what a VPN's program does, packet by packet.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result};
use tappers::{Interface, linux::Tun};

use crate::{
    netns::NetNs,
    packet::{self, CLIENT_PORT, SYN, TCP, UDP},
    probe::{self, Port},
    wait,
};

const RST: u8 = 0x04;

/// The device; it goes when this is dropped.
pub struct TunDevice(Tun);

impl TunDevice {
    /// Makes a device of this name in `ns`, which is down.
    ///
    /// # Errors
    /// If the kernel has no TUN devices, or one of that name.
    pub fn create(ns: &NetNs, name: &str) -> Result<Self> {
        ns.run(|| {
            let tun = Tun::create_named(Interface::new(name)?)?;
            tun.set_nonblocking(true)?;
            Ok(Self(tun))
        })
        .with_context(|| format!("make the TUN device {name}"))
    }

    /// What a TCP port of the namespace answers to a SYN that comes through the device.
    ///
    /// # Errors
    /// If the device is not up.
    pub fn tcp(&self, from: IpAddr, to: SocketAddr) -> Result<Port> {
        self.discard()?;
        self.send(from, to, TCP, &packet::tcp(to.port(), SYN, &[]))?;
        let answer = self.answer(TCP, to.port())?;
        Ok(match answer.and_then(|segment| segment.get(13).copied()) {
            None => Port::Silent,
            Some(flags) if flags & RST != 0 => Port::Refused,
            Some(_) => {
                // Or its answer comes again, and is taken for one to a later question. Without ACK: one that
                // acknowledges nothing right resets no half-open connection (RFC 9293 §3.10.7.4).
                let mut reset = packet::tcp(to.port(), RST, &[]);
                reset[4..8].copy_from_slice(&2u32.to_be_bytes());
                self.send(from, to, TCP, &reset)?;
                Port::Open
            }
        })
    }

    /// What a UDP port of the namespace answers to a datagram that comes through the device.
    ///
    /// # Errors
    /// If the device is not up.
    pub fn udp(&self, from: IpAddr, to: SocketAddr, payload: &[u8]) -> Result<Port> {
        self.discard()?;
        self.send(from, to, UDP, &packet::udp(to.port(), payload))?;
        Ok(if self.answer(UDP, to.port())?.is_some() { Port::Open } else { Port::Silent })
    }

    /// Sends a transport segment, whose checksum is made here, in an IP packet.
    ///
    /// # Errors
    /// If the device is not up.
    pub fn send(&self, from: IpAddr, to: SocketAddr, protocol: u8, segment: &[u8]) -> Result<()> {
        let mut segment = segment.to_vec();
        let at = if protocol == TCP { 16 } else { 6 };
        segment[at..at + 2].fill(0);
        let ends = match (from, to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets().to_vec(), to.octets().to_vec()].concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets().to_vec(), to.octets().to_vec()].concat(),
            (from, to) => anyhow::bail!("{from} and {to} are of two families"),
        };
        let pseudo = [ends, vec![0, protocol], (segment.len() as u16).to_be_bytes().to_vec(), segment.clone()].concat();
        segment[at..at + 2].copy_from_slice(&packet::checksum(&pseudo).to_be_bytes());
        let whole = match (from, to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => packet::ipv4(from.octets(), to.octets(), protocol, 0, &[], &segment),
            (IpAddr::V6(from), IpAddr::V6(to)) => packet::ipv6(from.octets(), to.octets(), protocol, &segment),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
        };
        self.0.send(&whole).context("write to the TUN device")?;
        Ok(())
    }

    /// The first segment that comes from that port, without its IP header.
    fn answer(&self, protocol: u8, port: u16) -> Result<Option<Vec<u8>>> {
        let deadline = wait::now().after(probe::silence());
        while wait::now() < deadline {
            let Some(packet) = self.receive()? else {
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            };
            let (next, header) = match packet.first().map(|byte| byte >> 4) {
                Some(4) => (packet.get(9).copied(), usize::from(packet[0] & 15) * 4),
                _ => (packet.get(6).copied(), 40),
            };
            let segment = packet.get(header..).unwrap_or_default();
            if next == Some(protocol)
                && segment.get(..4) == Some(&[port, CLIENT_PORT].map(u16::to_be_bytes).concat()[..])
            {
                return Ok(Some(segment.to_vec()));
            }
        }
        Ok(None)
    }

    fn discard(&self) -> Result<()> {
        while self.receive()?.is_some() {}
        Ok(())
    }

    fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 65_536];
        match self.0.recv(&mut buffer) {
            Ok(length) => Ok(Some(buffer[..length].to_vec())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("read from the TUN device"),
        }
    }
}
