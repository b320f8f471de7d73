//! The knock rings: records become [`Received`].

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, RawFd},
};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use jpat_common::{
    addr::Addr,
    knock::{FORM_BARE, FORM_SEALED, KnockRecord},
    map_name,
};

use super::error::DataPathError;
use crate::{
    clock::BootTime,
    knock::{Form, Received},
};

/// Both rings.
pub struct Rings {
    /// Sealed knocks whose tag verified.
    pub sealed: Ring,
    /// Bare knocks.
    pub bare: Ring,
}

impl Rings {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, DataPathError> {
        Ok(Self { sealed: Ring::new(ebpf, map_name::KNOCKS)?, bare: Ring::new(ebpf, map_name::BARE_KNOCKS)? })
    }
}

/// The consumer's end of a ring.
pub struct Ring {
    ring: RingBuf<MapData>,
}

impl Ring {
    fn new(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataPathError> {
        let map = ebpf.take_map(name).ok_or(DataPathError::NoMap(name))?;
        Ok(Self { ring: RingBuf::try_from(map).map_err(DataPathError::map(name))? })
    }

    /// The next datagram; `None` when the ring is empty. A record that is not of this ABI is skipped.
    pub fn next_knock(&mut self) -> Option<Received> {
        loop {
            let item = self.ring.next()?;
            if let Some(received) = parse(&item) {
                return Some(received);
            }
        }
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// Reads a record at the offsets that `jpat_common::knock` asserts.
fn parse(record: &[u8]) -> Option<Received> {
    if record.len() < size_of::<KnockRecord>() {
        return None;
    }
    let (meta, payload) = record.split_at(std::mem::offset_of!(KnockRecord, payload));
    let length = u16::from_ne_bytes(field(meta, 12)?);
    let form = match *meta.get(14)? {
        FORM_BARE => Form::Bare,
        FORM_SEALED => Form::Sealed,
        _ => return None,
    };
    Some(Received {
        form,
        group: u32::from_ne_bytes(field(meta, 52)?),
        bytes: payload.get(..usize::from(length))?.to_owned(),
        source: socket_addr(field(meta, 16)?, field(meta, 48)?),
        destination: socket_addr(field(meta, 32)?, field(meta, 50)?),
        received: BootTime(u64::from_ne_bytes(field(meta, 0)?)),
        ifindex: u32::from_ne_bytes(field(meta, 8)?),
    })
}

fn field<const N: usize>(meta: &[u8], at: usize) -> Option<[u8; N]> {
    meta.get(at..at + N)?.try_into().ok()
}

fn socket_addr(address: Addr, port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address)).to_canonical(), u16::from_be_bytes(port))
}

const _: () = {
    use jpat_common::knock::KnockMeta;
    use std::mem::offset_of;
    assert!(offset_of!(KnockMeta, received_ns) == 0 && offset_of!(KnockMeta, ifindex) == 8);
    assert!(offset_of!(KnockMeta, length) == 12 && offset_of!(KnockMeta, source) == 16);
    assert!(offset_of!(KnockMeta, destination) == 32 && offset_of!(KnockMeta, source_port) == 48);
    assert!(offset_of!(KnockMeta, destination_port) == 50);
    assert!(offset_of!(KnockMeta, form) == 14 && offset_of!(KnockMeta, group) == 52);
};
