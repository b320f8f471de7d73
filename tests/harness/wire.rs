//! Frames as they are on a wire: a sender that writes any bytes to a device, and a tap that sees every frame of a
//! namespace. Behind an XDP program a tap sees what the program passed and nothing else, because the kernel asks packet
//! sockets after it, in native and in generic mode.

use std::{io::ErrorKind, os::fd::AsRawFd};

use anyhow::{Context, Result};
use nix::sys::socket::{LinkAddr, MsgFlags, bind, recvfrom, send, setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::NetNs;

/// `ETH_P_ALL` (`include/uapi/linux/if_ether.h`).
const EVERY_PROTOCOL: u16 = 3;
/// `PACKET_OUTGOING` (`include/uapi/linux/if_packet.h`): what this namespace itself sends.
const OUTGOING: u8 = 4;
/// `ARPHRD_LOOPBACK` (`include/uapi/linux/if_arp.h`): what it sends to itself.
const LOOPBACK: u16 = 772;
/// What is not read yet must fit: a frame that a socket dropped would be one that was not seen.
const BUFFER: usize = 64 << 20;

/// A device of a namespace, to write frames to.
#[derive(Debug)]
pub struct Wire(Socket);

impl Wire {
    /// Opens `device` of `ns`.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn open(ns: &NetNs, device: &str) -> Result<Self> {
        ns.run(|| {
            let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
            let own = |address: nix::ifaddrs::InterfaceAddress| {
                address.address.filter(|_| address.interface_name == device)?.as_link_addr().copied()
            };
            let link: LinkAddr = nix::ifaddrs::getifaddrs()?.find_map(own).context("no such device")?;
            bind(socket.as_raw_fd(), &link)?;
            Ok(Self(socket))
        })
        .with_context(|| format!("open {device} of {}", ns.name()))
    }

    /// Sends one frame as it stands.
    ///
    /// # Errors
    /// If it is shorter than an Ethernet header or longer than the device takes.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.0.as_raw_fd(), frame, MsgFlags::empty()).with_context(|| format!("send {frame:02x?}"))?;
        Ok(())
    }
}

/// Every frame that comes to a namespace, on all of its devices.
#[derive(Debug)]
pub struct Tap(Socket);

impl Tap {
    /// Listens from now on.
    ///
    /// # Errors
    /// If packet sockets are not allowed.
    pub fn open(ns: &NetNs) -> Result<Self> {
        ns.run(|| {
            let protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            widen(&socket)?;
            Ok(Self(socket))
        })
        .context("open a packet socket")
    }

    /// What came since the last call from outside.
    ///
    /// # Errors
    /// If the socket is broken.
    pub fn drain(&self) -> Result<Vec<Vec<u8>>> {
        let (mut frames, mut buffer) = (Vec::new(), vec![0; 65_536]);
        loop {
            match recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    if from.is_none_or(|from| from.pkttype() != OUTGOING && from.hatype() != LOOPBACK) {
                        frames.push(buffer[..length].to_vec());
                    }
                }
                Err(error) if std::io::Error::from(error).kind() == ErrorKind::WouldBlock => return Ok(frames),
                Err(error) => return Err(error).context("read frames"),
            }
        }
    }
}

/// Makes a socket one that is polled and loses nothing meanwhile.
pub(crate) fn widen(socket: &Socket) -> Result<()> {
    setsockopt(socket, RcvBufForce, &BUFFER).context("widen a receive buffer")?;
    socket.set_nonblocking(true)?;
    Ok(())
}
