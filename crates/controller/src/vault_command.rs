//! Commands about the vault as a whole.

use std::process::ExitCode;

use store::audit::{Actor, ActorKind};

use crate::{
    app::{self, AppError},
    cli::Vault,
    complain,
    config::Config,
    print,
    vault::{
        rekey::{Rekey, Step},
        verify,
    },
};
use daemon::exit;

/// Carries a command out.
pub(crate) async fn run(config: &Config, command: Vault) -> Result<ExitCode, AppError> {
    match command {
        Vault::Rekey => app::with_store(config, async |store| rekey(config, &store).await).await,
        Vault::Verify => app::with_store(config, async |store| verified(config, &store).await).await,
    }
}

async fn rekey(config: &Config, store: &store::Store) -> Result<ExitCode, AppError> {
    let actor = Actor::of(ActorKind::Host, "administrator at the host");
    let mut rekey = Rekey::new(config, store).await?;
    let (mut keys, mut versions) = (0, 0);
    while let Some(step) = rekey.step(&actor).await? {
        match step {
            Step::SigningKeys(moved) => keys += moved,
            Step::Versions(moved) => {
                versions += moved;
                tracing::info!(versions, "versions of credentials sealed anew");
            }
            Step::Begun | Step::Ended | Step::Placed => tracing::info!(?step, "a step of the move is done"),
        }
    }
    let what = format!("sealed anew: {versions} versions of credentials, {keys} signing keys, the CA's key");
    let then = if config.master_key.is_some() {
        "the key of A67_MASTER_KEY_NEXT is the master key now: give it as A67_MASTER_KEY, without A67_MASTER_KEY_NEXT, and restart the controllers".to_owned()
    } else {
        format!(
            "the key of before is {}: keep it as long as you keep backups from its time, then take it away",
            rekey.source().old_path().display()
        )
    };
    Ok(print(&format!("{what}\n{then}")))
}

async fn verified(config: &Config, store: &store::Store) -> Result<ExitCode, AppError> {
    let report = verify::verify(config, store).await?;
    let counts = format!(
        "opened: {} versions of credentials, {} signing keys; not opened: {}",
        report.versions,
        report.signing_keys,
        report.failures.len()
    );
    if report.failures.is_empty() {
        return Ok(print(&counts));
    }
    for failure in &report.failures {
        complain(failure, exit::FAILURE);
    }
    let _ = print(&counts);
    Ok(ExitCode::from(exit::FAILURE))
}
