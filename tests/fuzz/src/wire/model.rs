//! What the filter must say of a payload, written from `docs/protocol.md` §6 with the standard library's SipHash-2-4.

use std::hash::Hasher;

use jpat_common::{
    reason::DropReason,
    sealed::{BARE_BUDGET, KnockKey, WORD},
};
use jpat_ebpf::filter::{Admitted, Filter};

/// The right tag for a payload that has room for one.
pub(super) fn tag(payload: &[u8], key: &KnockKey) -> Option<[u8; WORD]> {
    let (front, back) = (payload.get(..16)?, payload.get(24..)?);
    #[expect(deprecated, reason = "the only one of the standard library that says which SipHash it is")]
    let mut hasher = std::hash::SipHasher::new_with_keys(key.k0, key.k1);
    hasher.write(front);
    hasher.write(back);
    Some(hasher.finish().to_le_bytes())
}

pub(super) fn judge(payload: &[u8], now_ns: u64, host: &impl Filter) -> Result<Admitted, DropReason> {
    let has_room = |group| {
        host.budget(group).is_some_and(|budget| budget.next_ns + budget.interval_ns <= now_ns + budget.burst_ns)
    };
    match payload.first() {
        None => return Err(DropReason::KnockEmpty),
        Some(b'e') => {
            let accepts = host.budget(BARE_BUDGET).is_some_and(|budget| budget.interval_ns != 0);
            return match (accepts, has_room(BARE_BUDGET)) {
                (false, _) => Err(DropReason::KnockBareRefused),
                (true, false) => Err(DropReason::KnockBareBudget),
                (true, true) => Ok(Admitted::Bare),
            };
        }
        Some(b'J') => {}
        Some(_) => return Err(DropReason::KnockNoForm),
    }
    if payload.len() < 128 || payload.len() > 1232 || !payload.len().is_multiple_of(8) {
        return Err(DropReason::KnockSealedLength);
    }
    if &payload[..4] != b"JPAT" {
        return Err(DropReason::KnockNoForm);
    }
    if payload[4..6] != [1, 1] {
        return Err(DropReason::KnockVersion);
    }
    let key = host.knock_key([payload[6], payload[7]]).ok_or(DropReason::KnockUnknownKey)?;
    let sent_ms = payload[10..16].iter().fold(0, |sent, byte| sent << 8 | i128::from(*byte));
    let now_ms = host.wall_offset_ns().map(|offset| i128::from((offset + now_ns) / 1_000_000));
    if now_ms.is_none_or(|now_ms| (now_ms - sent_ms).abs() > 300_000) {
        return Err(DropReason::KnockTime);
    }
    let carried: [u8; WORD] = payload[16..24].try_into().map_err(|_length| DropReason::KnockSealedLength)?;
    if host.is_tag_seen(&carried) {
        return Err(DropReason::KnockTagSeen);
    }
    if tag(payload, &key) != Some(carried) {
        return Err(DropReason::KnockBadTag);
    }
    if !has_room(key.group) {
        return Err(DropReason::KnockBudget);
    }
    Ok(Admitted::Sealed { group: key.group, tag: carried })
}
