//! What is kept of a container that died, when it is started again at once.

use std::{sync::Arc, time::Duration};

use daemon::{Supervisor, seal::MasterKey};
use domain::{dossier::LOG_BYTES_MAX, instance::Outcome, plan::ContainerStatus};
use node_agent::{
    death::{Death, Deaths},
    dossier::{self, Dossiers},
    runtime::Runtime as _,
    sample::Recent,
};

use crate::engine::{World, shell, until};

/// A size of this process, in bytes: `VmRSS` now, or `VmHWM` at most since the last reset.
fn size(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// 150 lines, one of 10 MB, 150 lines, and the end; the second time much else.
const SCRIPT: &str =
    "if [ -e /tmp/again ]; then i=0; while [ $i -lt 3000 ]; do echo again $i; i=$((i+1)); done; sleep 60; fi
echo > /tmp/again; echo an error >&2
i=0; while [ $i -lt 150 ]; do echo before $i; i=$((i+1)); done
head -c 10485760 /dev/zero | tr '\\0' x; echo
i=0; while [ $i -lt 150 ]; do echo after $i; i=$((i+1)); done
exit 3";

pub async fn a_dossier_has_the_lines_of_the_run_that_ended_though_the_next_began_at_once(world: Arc<World>) {
    let assignment = shell(SCRIPT);
    let instance_id = assignment.instance_id;
    let first = world.run(&assignment).await;
    let dead = world.container(instance_id, |c| c.status == ContainerStatus::Exited).await;
    let second = world.runtime.start(&dead.container_id).await.unwrap();
    assert!(second.started_at > first.started_at);
    // The next run has written more than is asked for first.
    until("the next run", async || {
        let log = world.docker(&["logs", "--tail", "1", &dead.container_id]).await;
        (log == "again 2999").then_some(())
    })
    .await;

    let dir = tempfile::tempdir().unwrap();
    let key = MasterKey::generate().unwrap().derive("test");
    let dossiers = Dossiers::open(dir.path(), key);
    let (deaths, told) = Deaths::new();
    let supervisor = Supervisor::new(tokio::runtime::Handle::current());
    let parts = dossier::Parts {
        deaths: told,
        runtime: Arc::new(world.runtime.clone()),
        recent: Recent::default(),
        dossiers: dossiers.clone(),
    };
    dossier::start(&supervisor, parts);
    let death = Death {
        instance_id,
        attempt: 1,
        started_at: dead.started_at,
        ended_at: dead.finished_at.unwrap(),
        outcome: Outcome::Exited { code: dead.exit_code.unwrap(), oom: dead.oom_killed },
        container_id: Some(dead.container_id.clone()),
        memory_limit_bytes: Some(64 << 20),
        probes: Vec::new(),
    };
    let before = size("VmRSS");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    deaths.tell(death.clone());
    let kept = until("the dossier", async || dossiers.peek(1).await.pop()).await.dossier;
    let grown = size("VmHWM").saturating_sub(before);
    assert!(grown < 8 << 20, "reading a line of 10 MB took {grown} bytes");
    assert_eq!((kept.outcome, kept.log_cut), (Outcome::Exited { code: 3, oom: false }, false));
    assert_eq!(kept.log.len(), 200);
    assert!(kept.log.iter().map(|line| line.text.len()).sum::<usize>() <= LOG_BYTES_MAX);
    let texts: Vec<_> = kept.log.iter().filter(|line| !line.stderr).map(|line| line.text.as_str()).collect();
    assert!(texts.iter().all(|text| !text.starts_with("again")), "lines of the next run");
    let (after, rest): (Vec<&str>, Vec<&str>) = texts.iter().partition(|text| text.starts_with("after"));
    assert_eq!(after, (0..150).map(|n| format!("after {n}")).collect::<Vec<_>>());
    let (long, before) = rest.split_last().unwrap();
    assert!(long.len() == 16 * 1024 && long.bytes().all(|byte| byte == b'x'), "{} bytes", long.len());
    let last_before: Vec<_> = (0..150).map(|n| format!("before {n}")).collect();
    assert_eq!(before, &last_before[150 - before.len()..]);
    let partial: Vec<_> = kept.log.iter().filter(|line| line.partial).map(|line| line.text.len()).collect();
    assert_eq!(partial, [16 * 1024]);

    // Once the container is gone, the rest is kept and the log is said to be missing.
    world.runtime.remove(&dead.container_id).await.unwrap();
    deaths.tell(Death { attempt: 2, ..death });
    let both =
        until("the second", async || Some(dossiers.peek(9).await).filter(|waiting| waiting.len() == 2));
    let gone = both.await.pop().unwrap().dossier;
    assert_eq!((gone.attempt, gone.log.len(), gone.log_cut), (2, 0, true));
    assert!(supervisor.shut_down(Duration::from_secs(5)).await);
}
