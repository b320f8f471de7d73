//! Makes a frame small over which model and program disagree.

use anyhow::Result;
use jpat_common::reason::counter_index;

use super::compare::exit;
use crate::{
    kernel::boot_ns,
    oracle::{
        model::{
            self,
            tables::{Flow, FlowId},
        },
        program::Loaded,
        stage::Stage,
    },
};

/// The shortest and emptiest frame that was found for which the model still gives this counter and the program another,
/// or the frame itself. Spoils the tables.
pub(super) fn shrunk(
    loaded: &mut Loaded,
    stage: &mut Stage,
    bytes: &[u8],
    flow: Option<(FlowId, Option<Flow>)>,
    index: u32,
) -> Result<Vec<u8>> {
    let mut best = bytes.to_vec();
    let mut differs = |candidate: &[u8]| -> Result<bool> {
        if let Some((id, before)) = flow {
            loaded.put_flow(&id, before.as_ref())?;
            match before {
                Some(before) => drop(stage.tables.flows.insert(id, before)),
                None => drop(stage.tables.flows.remove(&id)),
            }
        }
        let (_, ruling) = model::judge(&mut stage.tables, candidate, stage.program.start(), boot_ns()?);
        let same = counter_index(ruling.service, exit(&ruling.fate, stage.tables.audits).0) == index;
        let before = loaded.counter(index)?;
        loaded.run(stage.program, candidate)?;
        Ok(same && loaded.counter(index)? == before)
    };
    if !differs(&best)? {
        return Ok(best);
    }
    while best.len() > 14 && differs(&best[..best.len() - 1])? {
        best.pop();
    }
    for at in 0..best.len().min(200) {
        let mut candidate = best.clone();
        candidate[at] = 0;
        if candidate != best && differs(&candidate)? {
            best = candidate;
        }
    }
    Ok(best)
}
