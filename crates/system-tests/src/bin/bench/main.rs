//! `cargo xtask bench`: how fast it is, as ratios measured in one run.
//!
//! Runs the real programs on real engines and a real PostgreSQL, as root. Prints a
//! table; asserts nothing about time, because a slow machine is no defect. Parts
//! may be named: `registry`, `identity`, `single`, `many`, `agent`, `vault`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on should fail where it stands"
)]
#![expect(clippy::cast_precision_loss, reason = "rates need no more than 52 bits")]

mod agent;
mod engine;
mod identity;
mod registry;
mod starts;
mod table;
mod vault;

use anyhow::{Result, bail};

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut parts: Vec<String> = std::env::args().skip(1).collect();
    if parts.is_empty() {
        parts = ["registry", "identity", "single", "many", "agent", "vault"].map(str::to_owned).to_vec();
    }
    let mut rows = Vec::new();
    for part in parts {
        eprintln!("measuring: {part}");
        rows.extend(match part.as_str() {
            "registry" => registry::run().await?,
            "identity" => identity::run().await?,
            "single" => starts::single().await?,
            "many" => starts::many().await?,
            "agent" => agent::run().await?,
            "vault" => vault::run().await?,
            other => bail!("there is no part {other:?}: registry, identity, single, many, agent, vault"),
        });
    }
    table::print(&rows);
    Ok(())
}
