//! Tables that are kept in rows, from their single entries.

use std::collections::BTreeMap;

use jpat_common::{
    grant::{GrantKey, ServiceId},
    hints,
    settings::{PortRow, port_row},
};

/// Rows of the ports table, from services by port index.
pub fn ports(entries: impl IntoIterator<Item = (u32, ServiceId)>) -> BTreeMap<u32, PortRow> {
    let mut rows = BTreeMap::new();
    for (index, service) in entries {
        rows.entry(port_row(index)).or_insert(PortRow::EMPTY).set(index, service);
    }
    rows
}

/// Rows of the hints, with the bits of these keys.
pub fn hints<'a>(keys: impl IntoIterator<Item = &'a GrantKey>) -> BTreeMap<u32, hints::Row> {
    let mut rows = BTreeMap::new();
    for bit in keys.into_iter().map(hints::bit) {
        rows.entry(hints::row(bit)).or_insert([0; 128])[hints::word(bit)] |= hints::mask(bit);
    }
    rows
}
