//! Takes away what is kept of instances that are gone.

use std::{collections::BTreeMap, time::Duration};

use daemon::Supervisor;
use domain::{id::InstanceId, plan::Record};
use tokio::{task::spawn_blocking, time::sleep};

use super::Secrets;
use crate::ledger::Ledger;

/// A look that nothing asked for: what an action left behind that was given up.
const PERIOD: Duration = Duration::from_secs(60);

/// Whether what is kept of an instance can go: nothing of it is left, or nobody knows
/// of it, all being known.
fn can_go(instance: InstanceId, records: &BTreeMap<InstanceId, Record>, complete: bool) -> bool {
    records.get(&instance).map_or(complete, |record| record.status.progress.removed)
}

/// Forgets secrets whenever the ledger says that somebody is gone, and looks at the
/// beginning and now and then.
pub(crate) fn keep(supervisor: &Supervisor, secrets: Secrets, ledger: Ledger) {
    let stop = supervisor.stop_token();
    let work = async move {
        let (mut assignments, mut reports) = (ledger.assignments_changed(), ledger.reports_changed());
        loop {
            look(&secrets, &ledger).await;
            // Each arm only says that it is time to look. The ledger is held, and with it
            // the senders.
            tokio::select! {
                _ = assignments.changed() => {}
                _ = reports.changed() => {}
                () = sleep(PERIOD) => {}
            }
        }
    };
    drop(supervisor.spawn("forgetting secrets", async move {
        let _ = stop.run_until_cancelled(work).await;
    }));
}

async fn look(secrets: &Secrets, ledger: &Ledger) {
    let (secrets, ledger) = (secrets.clone(), ledger.clone());
    let forget = move || {
        // In this order: whoever is assigned between the two is found in the ledger.
        let kept = secrets.instances();
        if kept.is_empty() {
            return;
        }
        let (complete, records) = (ledger.complete_received(), ledger.records());
        for instance in kept.into_iter().filter(|id| can_go(*id, &records, complete)) {
            secrets.forget(instance);
            tracing::debug!(instance.id = %instance, "its secrets are forgotten");
        }
    };
    // Lost only where the runtime is going down.
    let _ = spawn_blocking(forget).await;
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_what_is_known_to_be_gone_can_go() {
        let id = InstanceId::from_uuid(Uuid::nil());
        let mut record = Record::new(id);
        let records = |record: &Record| [(id, record.clone())].into();
        assert!(!can_go(id, &records(&record), true));
        record.status.progress.removed = true;
        assert!(can_go(id, &records(&record), false));
        assert!(!can_go(id, &BTreeMap::new(), false), "nobody has said yet what is wanted");
        assert!(can_go(id, &BTreeMap::new(), true));
    }
}
