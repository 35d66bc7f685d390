//! Checks who may depend on whom, and which library stays in which room.
//!
//! Two things are read. What `cargo metadata` says of each package gives the
//! arrows between crates ([`arrows`]). The sources give the use of libraries that
//! a crate may have, but not everywhere in it ([`rooms`]). Names that reach a
//! place by `use` of a whole tree are not followed; the lints catch the most
//! harmful of those.

use anyhow::bail;

use crate::workspace::Workspace;

mod arrows;
mod rooms;

/// Prints every fault as `file:line: what is wrong`, and fails where there is any.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let mut faults = arrows::faults(&arrows::packages(workspace));
    for (path, text) in workspace.sources()? {
        faults.extend(rooms::faults(&path, &text));
    }
    for fault in &faults {
        println!("{fault}");
    }
    if !faults.is_empty() {
        bail!("{} layering faults", faults.len());
    }
    println!("layers are kept");
    Ok(())
}
