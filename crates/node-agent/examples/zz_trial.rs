use daemon::{Supervisor, seal::MasterKey};
use domain::{assignment::*, deployment::*, id::*, instance::*};
use node_agent::{
    ledger::Ledger,
    reconcile,
    runtime::{Runtime, docker::DockerRuntime},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;
fn asg(id: InstanceId, desired: Desired, g: u32) -> Assignment {
    let mut spec = InstanceSpec::of_image("bb:1");
    spec.command = vec!["sleep".into(), "100000".into()];
    spec.stop_grace_seconds = 1;
    spec.limits.memory_bytes = 16 << 20;
    Assignment {
        instance_id: id,
        deployment_id: DeploymentId::from_uuid(Uuid::nil()),
        deployment_name: "web".into(),
        revision: 1,
        spec,
        desired,
        restart_generation: g,
    }
}
fn set(rev: u64, v: Vec<Assignment>) -> AssignmentSet {
    AssignmentSet {
        revision: rev,
        assignments: v.into_iter().map(|a| (a.instance_id, a)).collect::<BTreeMap<_, _>>(),
    }
}
async fn until(what: &str, mut f: impl FnMut() -> bool) -> Duration {
    let t = Instant::now();
    while !f() {
        if t.elapsed() > Duration::from_secs(60) {
            panic!("in vain: {what}")
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    t.elapsed()
}
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    daemon::logging::init(&std::env::var("LOG").unwrap_or("warn".into()), daemon::logging::LogFormat::Human)
        .unwrap();
    let (fleet, node) = (FleetId::from_uuid(Uuid::now_v7()), NodeId::from_uuid(Uuid::now_v7()));
    let host = "unix:///tmp/mydocker/docker.sock";
    let rt = DockerRuntime::new(host, fleet, node).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key = || MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap().derive("x");
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    let sup = Supervisor::new(tokio::runtime::Handle::current());
    let runtime: Arc<dyn Runtime> = Arc::new(rt.clone());
    let p = reconcile::start(&sup, ledger.clone(), runtime.clone(), reconcile::Settings::default());
    let mut rev = 0;
    rev += 1;
    let _ = ledger.assignments_replace(set(rev, vec![])).await.unwrap();
    let st = p.engine.clone();
    println!(
        "engine {:?} after {:?}",
        *st.borrow(),
        until("engine", || *st.borrow() == domain::node::EngineState::Reachable).await
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    let last =
        |l: &Ledger, id| l.reports_after(0, 100000).into_iter().filter(|r| r.instance_id == id).next_back();
    let (mut bare, mut ours, mut cont) = (vec![], vec![], vec![]);
    let mut all = vec![];
    for _ in 0..20 {
        let a = asg(InstanceId::from_uuid(Uuid::now_v7()), Desired::Running, 0);
        let t = Instant::now();
        let c = rt.create(&a).await.unwrap();
        rt.start(&c.container_id).await.unwrap();
        bare.push(t.elapsed());
        rt.stop(&c.container_id, Duration::ZERO).await.unwrap();
        rt.remove(&c.container_id).await.unwrap();
        let a = asg(InstanceId::from_uuid(Uuid::now_v7()), Desired::Running, 0);
        all.push(a.clone());
        rev += 1;
        let t = Instant::now();
        let w = chrono::Utc::now();
        let mut ch = ledger.reports_changed();
        let _ = ledger.assignments_replace(set(rev, all.clone())).await.unwrap();
        loop {
            if last(&ledger, a.instance_id).is_some_and(|r| r.status.progress.phase == Phase::Running) {
                break;
            }
            ch.changed().await.unwrap();
        }
        ours.push(t.elapsed());
        cont.push((last(&ledger, a.instance_id).unwrap().status.started_at.unwrap() - w).to_std().unwrap());
    }
    bare.sort();
    ours.sort();
    cont.sort();
    println!(
        "bare median {:?}  reported running median {:?}  process started median {:?}",
        bare[10], ours[10], cont[10]
    );
    let ids: Vec<_> = all.iter().map(|a| a.instance_id).collect();
    println!(
        "all healthy after {:?}",
        until("healthy", || ids
            .iter()
            .all(|i| last(&ledger, *i).is_some_and(|r| r.status.health == Health::Healthy)))
        .await
    );
    // kill from outside
    let id0 = ids[0];
    for n in 0..3 {
        let c = last(&ledger, id0).unwrap().status.container_id.unwrap();
        let t = Instant::now();
        assert!(
            std::process::Command::new("docker")
                .args(["-H", host, "kill", &c])
                .output()
                .unwrap()
                .status
                .success()
        );
        println!("docker kill took {:?}", t.elapsed());
        let d = until("again", || {
            last(&ledger, id0).is_some_and(|r| {
                r.status.progress.attempt == 2 + n && r.status.progress.phase == Phase::Running
            })
        })
        .await;
        println!("running again after {d:?}");
        until("healthy", || last(&ledger, id0).is_some_and(|r| r.status.health == Health::Healthy)).await;
    }
    for r in ledger.reports_after(0, 100000).into_iter().filter(|r| r.instance_id == id0) {
        println!(
            "  {} a{} {:?} {:?} {} ",
            r.at.format("%H:%M:%S%.3f"),
            r.status.progress.attempt,
            r.status.progress.phase,
            r.cause,
            r.message
        );
    }
    // docker rm -f, docker stop, docker restart, pause
    for (verb, id) in
        [(vec!["rm", "-f"], ids[1]), (vec!["stop", "-t", "1"], ids[2]), (vec!["restart", "-t", "1"], ids[3])]
    {
        let c = last(&ledger, id).unwrap().status.container_id.unwrap();
        let mut v = vec!["-H", host];
        v.extend(verb.iter());
        v.push(&c);
        assert!(std::process::Command::new("docker").args(&v).output().unwrap().status.success());
        let d = until("again", || {
            last(&ledger, id)
                .is_some_and(|r| r.status.progress.attempt >= 2 && r.status.health == Health::Healthy)
        })
        .await;
        println!("{verb:?}: healthy again after {d:?}");
        for r in ledger.reports_after(0, 100000).into_iter().filter(|r| r.instance_id == id).skip(2) {
            println!(
                "  {} a{} {:?} {:?} {} ",
                r.at.format("%H:%M:%S%.3f"),
                r.status.progress.attempt,
                r.status.progress.phase,
                r.cause,
                r.message
            );
        }
    }
    // restart request
    all[4].restart_generation = 1;
    rev += 1;
    let t = Instant::now();
    let _ = ledger.assignments_replace(set(rev, all.clone())).await.unwrap();
    until("restart", || {
        last(&ledger, ids[4])
            .is_some_and(|r| r.status.restart_generation == 1 && r.status.progress.phase == Phase::Running)
    })
    .await;
    println!("restart request (grace 1) {:?}", t.elapsed());
    for r in ledger.reports_after(0, 100000).into_iter().filter(|r| r.instance_id == ids[4]).skip(2) {
        println!(
            "  {} a{} {:?} {:?} {} ",
            r.at.format("%H:%M:%S%.3f"),
            r.status.progress.attempt,
            r.status.progress.phase,
            r.cause,
            r.message
        );
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // agent restart
    let before: Vec<_> = rt.list().await.unwrap();
    let n = *ledger.reports_changed().borrow();
    assert!(sup.shut_down(Duration::from_secs(5)).await);
    ledger.close().await;
    let ledger = Ledger::open(dir.path(), key()).unwrap();
    let sup = Supervisor::new(tokio::runtime::Handle::current());
    let p = reconcile::start(&sup, ledger.clone(), runtime.clone(), reconcile::Settings::default());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut after = rt.list().await.unwrap();
    let mut b2 = before;
    b2.sort_by_key(|x| x.0);
    after.sort_by_key(|x| x.0);
    println!(
        "agent restart: unchanged {} reports unchanged {}",
        b2 == after,
        n == *ledger.reports_changed().borrow()
    );
    println!("running published {}", p.running.borrow().len());
    // engine kill -9 and back
    let pid = std::fs::read_to_string("/tmp/mydocker/pid").unwrap();
    std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
    let st = p.engine.clone();
    println!(
        "unreachable after {:?}",
        until("down", || *st.borrow() == domain::node::EngineState::Unreachable).await
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("reports unchanged while down {}", n == *ledger.reports_changed().borrow());
    std::process::Command::new("sh").args(["-c", "rm -f /tmp/mydocker/pid; nohup /usr/sbin/dockerd --host unix:///tmp/mydocker/docker.sock --data-root /tmp/mydocker/data --exec-root /tmp/mydocker/exec --pidfile /tmp/mydocker/pid --bridge none --iptables=false >> /tmp/mydocker/log 2>&1 &"]).status().unwrap();
    println!(
        "reachable after {:?}",
        until("up", || *st.borrow() == domain::node::EngineState::Reachable).await
    );
    println!(
        "all healthy after {:?}",
        until("healthy", || rt_running(&p) == 20
            && ids.iter().all(|i| last(&ledger, *i).is_some_and(|r| r.status.health == Health::Healthy)))
        .await
    );
    for r in ledger.reports_after(n, 100000).into_iter().filter(|r| r.instance_id == ids[7]) {
        println!(
            "  {} a{} {:?} {:?} {} ",
            r.at.format("%H:%M:%S%.3f"),
            r.status.progress.attempt,
            r.status.progress.phase,
            r.cause,
            r.message
        );
    }
    // bad command, bad image
    let mut bad = asg(InstanceId::from_uuid(Uuid::now_v7()), Desired::Running, 0);
    bad.spec.command = vec!["/nope".into()];
    let mut img = asg(InstanceId::from_uuid(Uuid::now_v7()), Desired::Running, 0);
    img.spec.image = "127.0.0.1:1/none:x".into();
    all.push(bad.clone());
    all.push(img.clone());
    rev += 1;
    let _ = ledger.assignments_replace(set(rev, all.clone())).await.unwrap();
    until("bad", || {
        [&bad, &img].iter().all(|a| last(&ledger, a.instance_id).is_some_and(|r| r.status.outcome.is_some()))
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for a in [&bad, &img] {
        for r in ledger.reports_after(n, 100000).into_iter().filter(|r| r.instance_id == a.instance_id) {
            println!(
                "  {} a{} {:?} {:?} {} ",
                r.at.format("%H:%M:%S%.3f"),
                r.status.progress.attempt,
                r.status.progress.phase,
                r.cause,
                r.message
            );
        }
    }
    // 40 at once
    let t = Instant::now();
    let more: Vec<_> =
        (0..34).map(|_| asg(InstanceId::from_uuid(Uuid::now_v7()), Desired::Running, 0)).collect();
    all.extend(more.clone());
    rev += 1;
    let _ = ledger.assignments_replace(set(rev, all.clone())).await.unwrap();
    until("34", || {
        more.iter()
            .all(|a| last(&ledger, a.instance_id).is_some_and(|r| r.status.progress.phase == Phase::Running))
    })
    .await;
    println!("34 at once: {:?}", t.elapsed());
    let t = Instant::now();
    let mut hs = vec![];
    for k in 0..8 {
        let rt = rt.clone();
        hs.push(tokio::runtime::Handle::current().spawn(async move {
            let mut v = vec![];
            for _ in (k..34).step_by(8) {
                let a = asg(InstanceId::from_uuid(Uuid::now_v7()), Desired::Running, 0);
                let c = rt.create(&a).await.unwrap();
                rt.start(&c.container_id).await.unwrap();
                v.push(c.container_id);
            }
            v
        }));
    }
    for h in hs {
        h.await.unwrap();
    }
    println!("34 bare, eight at a time: {:?}", t.elapsed());
    // the 34 bare ones are orphans: removed by list; then remove all
    let t = Instant::now();
    for a in &mut all {
        a.desired = Desired::Removed
    }
    rev += 1;
    let _ = ledger.assignments_replace(set(rev, all.clone())).await.unwrap();
    until("gone", || {
        all.iter().all(|a| last(&ledger, a.instance_id).is_some_and(|r| r.status.progress.removed))
    })
    .await;
    println!("all removed {:?}", t.elapsed());
    rev += 1;
    let _ = ledger.assignments_replace(set(rev, vec![])).await.unwrap();
    until("forgotten", || ledger.records().is_empty()).await;
    println!("story of 7:"); for r in story7 { println!("  {} a{} {:?} {:?} {} ", r.at.format("%H:%M:%S%.3f"), r.status.progress.attempt, r.status.progress.phase, r.cause, r.message); }
    println!("left: {}", rt.list().await.unwrap().len());
    until("no orphans", || {
        std::process::Command::new("docker")
            .args(["-H", host, "ps", "-aq"])
            .output()
            .unwrap()
            .stdout
            .is_empty()
    })
    .await;
    assert!(sup.shut_down(Duration::from_secs(5)).await);
}
fn rt_running(p: &reconcile::Published) -> usize {
    p.running.borrow().len()
}
