//! Rows of the store: a token's in CBOR (RFC 8949), definite lengths throughout; nonces one after the other.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use minicbor::{Decoder, Encoder, data::Type, decode, encode};

use super::{NonceUse, StoredLease, TokenPlace, TokenRecord};
use crate::{
    clock::{BootTime, UnixTime},
    token::{KeptToken, TokenId},
};

/// Parts of a token's row.
const PARTS: u64 = 7;
/// Bytes of a date, a nonce and the index of a budget.
const NONCE: usize = 8 + 16 + 4;

/// The key of a token's row.
pub(super) fn token_key(place: TokenPlace) -> [u8; 16] {
    (u128::from(place.expires.0) << 64 | u128::from(place.number)).to_be_bytes()
}

/// A token's row.
pub(super) fn token(record: &TokenRecord) -> Result<Vec<u8>, encode::Error<Infallible>> {
    let kept = record.token.as_ref().map_or("", |token| token.text());
    let mut cbor = Encoder::new(Vec::with_capacity(256 + kept.len() + 64 * record.leases.len()));
    cbor.array(PARTS)?;
    match &*record.id {
        TokenId::Jti(issuer, jti) => cbor.array(2)?.str(issuer)?.str(jti)?,
        TokenId::Digest(digest) => cbor.bytes(digest)?,
    };
    cbor.bytes(&record.offset_ns.to_be_bytes())?.bool(record.until_exp)?;
    address(&mut cbor, record.v4.map(IpAddr::V4))?;
    address(&mut cbor, record.v6.map(IpAddr::V6))?;
    match &record.token {
        Some(token) => cbor.str(token.text())?,
        None => cbor.null()?,
    };
    cbor.array(record.leases.len() as u64)?;
    for lease in &record.leases {
        cbor.array(5)?.bytes(&lease.prefix)?.u32(lease.service)?.u64(lease.end.0)?;
        address(&mut cbor, Some(lease.source))?;
        cbor.bool(lease.sealed)?;
    }
    Ok(cbor.into_writer())
}

/// What was written under a key.
pub(super) fn read_token(key: &[u8], row: &[u8]) -> Result<TokenRecord, decode::Error> {
    let fault = || decode::Error::message("not a token's row");
    let key = u128::from_be_bytes(key.try_into().map_err(|_length| fault())?);
    let place = TokenPlace { expires: UnixTime((key >> 64) as u64), number: key as u64 };
    let mut cbor = Decoder::new(row);
    if cbor.array()? != Some(PARTS) {
        return Err(fault());
    }
    let id = Arc::new(if cbor.datatype()? == Type::Bytes {
        TokenId::Digest(cbor.bytes()?.try_into().map_err(|_length| fault())?)
    } else if cbor.array()? == Some(2) {
        TokenId::Jti(cbor.str()?.into(), cbor.str()?.into())
    } else {
        return Err(fault());
    });
    let offset_ns = i128::from_be_bytes(cbor.bytes()?.try_into().map_err(|_length| fault())?);
    let until_exp = cbor.bool()?;
    let v4 = match read_address(&mut cbor)? {
        Some(IpAddr::V4(v4)) => Some(v4),
        None => None,
        Some(IpAddr::V6(_)) => return Err(fault()),
    };
    let v6 = match read_address(&mut cbor)? {
        Some(IpAddr::V6(v6)) => Some(v6),
        None => None,
        Some(IpAddr::V4(_)) => return Err(fault()),
    };
    let token = if cbor.datatype()? == Type::Null {
        cbor.null().map(|()| None)?
    } else {
        Some(Arc::new(KeptToken::stored(place.expires, cbor.str()?.into())))
    };
    let leases = (0..cbor.array()?.ok_or_else(fault)?).map(|_| read_lease(&mut cbor)).collect::<Result<_, _>>()?;
    if cbor.position() != row.len() {
        return Err(fault());
    }
    Ok(TokenRecord { place, left: None, id, offset_ns, until_exp, v4, v6, token, leases })
}

fn read_lease(cbor: &mut Decoder<'_>) -> Result<StoredLease, decode::Error> {
    let fault = || decode::Error::message("not a lease");
    if cbor.array()? != Some(5) {
        return Err(fault());
    }
    Ok(StoredLease {
        prefix: cbor.bytes()?.try_into().map_err(|_length| fault())?,
        service: cbor.u32()?,
        end: BootTime(cbor.u64()?),
        source: read_address(cbor)?.ok_or_else(fault)?,
        sealed: cbor.bool()?,
    })
}

fn address(cbor: &mut Encoder<Vec<u8>>, address: Option<IpAddr>) -> Result<(), encode::Error<Infallible>> {
    match address {
        Some(IpAddr::V4(v4)) => cbor.bytes(&v4.octets())?,
        Some(IpAddr::V6(v6)) => cbor.bytes(&v6.octets())?,
        None => cbor.null()?,
    };
    Ok(())
}

fn read_address(cbor: &mut Decoder<'_>) -> Result<Option<IpAddr>, decode::Error> {
    if cbor.datatype()? == Type::Null {
        return cbor.null().map(|()| None);
    }
    let bytes = cbor.bytes()?;
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let v6 = <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
    v4.or(v6).map(Some).ok_or_else(|| decode::Error::message("not an address"))
}

/// The key and the row of nonces: the latest of their dates, then a nonce, because two rows may have one date.
pub(super) fn nonces(used: &[NonceUse]) -> Option<([u8; 24], Vec<u8>)> {
    let latest = used.iter().max_by_key(|used| used.time)?;
    let mut key = [0; 24];
    key[..8].copy_from_slice(&latest.time.0.to_be_bytes());
    key[8..].copy_from_slice(&latest.nonce);
    let row = used.iter().flat_map(|used| {
        let parts: [&[u8]; 3] = [&used.time.0.to_be_bytes(), &used.nonce, &used.group.to_be_bytes()];
        parts.concat()
    });
    Some((key, row.collect()))
}

/// What was written; nothing if it has not its length.
pub(super) fn read_nonces(row: &[u8]) -> Option<impl Iterator<Item = NonceUse>> {
    let (used, rest) = row.as_chunks::<NONCE>();
    let read = |used: &[u8; NONCE]| {
        let (time, rest) = used.split_first_chunk()?;
        let (nonce, group) = rest.split_first_chunk()?;
        Some(NonceUse {
            nonce: *nonce,
            time: UnixTime(u64::from_be_bytes(*time)),
            group: u32::from_be_bytes(group.try_into().ok()?),
        })
    };
    rest.is_empty().then(|| used.iter().filter_map(read))
}

/// The date that a key begins with.
pub(super) fn read_date(key: &[u8]) -> Option<UnixTime> {
    key.first_chunk().map(|date| UnixTime(u64::from_be_bytes(*date)))
}
