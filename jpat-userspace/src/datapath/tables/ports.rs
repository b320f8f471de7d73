//! Which service lists a port, in rows.

use aya::maps::Array;
use jpat_common::{
    map_name,
    settings::{self, PortRow, Protocol},
};

use super::{Rules, Tables};
use crate::datapath::error::DataPathError;

impl Tables {
    /// Writes the rows of a slot that differ from what an earlier controller or reload left there.
    pub(super) fn write_ports(&mut self, slot: u32, rules: &Rules) -> Result<(), DataPathError> {
        let failed = || DataPathError::map(map_name::PORTS);
        let mut table: Array<_, PortRow> = Array::try_from(self.map_mut(map_name::PORTS)?).map_err(failed())?;
        for (row, wanted) in rows(slot, rules) {
            if table.get(&row, 0).map_err(failed())? != wanted {
                table.set(row, wanted, 0).map_err(failed())?;
            }
        }
        Ok(())
    }
}

/// All rows of a slot. A port that two services list is the later one's.
fn rows(slot: u32, rules: &Rules) -> Vec<(u32, PortRow)> {
    let first = settings::port_row(settings::port_index(slot, Protocol::Tcp, 0));
    let last = settings::port_row(settings::port_index(slot, Protocol::Udp, u16::MAX));
    let mut rows: Vec<_> = (first..=last).map(|row| (row, PortRow::EMPTY)).collect();
    for service in &rules.services {
        for range in &service.ports {
            for port in range.first..=range.last {
                let index = settings::port_index(slot, range.protocol, port);
                if let Some((_, row)) = rows.get_mut((settings::port_row(index) - first) as usize) {
                    row.set(index, service.id);
                }
            }
        }
    }
    rows
}
