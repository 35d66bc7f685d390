use std::{fs, path::Path, sync::Arc};

use chrono::{TimeDelta, Utc};
use protocol::CONTROLLER_DNS_NAME;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinHandle};

use super::{
    host::{Mount, judge_cgroups, judge_disk, judge_storage, mount_of},
    way::skew,
    *,
};
use crate::{identity::testing::TestCa, link::testing::working_controller};

/// Where no engine is, so that only the way to the controller counts.
fn options(data_dir: &Path, controller: Option<String>) -> Options {
    let docker_host = format!("unix://{}", data_dir.join("no.sock").display());
    Options { data_dir: data_dir.into(), docker_host, secrets_dir: "/dev/shm/a67".into(), controller }
}

/// A scene of a node of some fleet, with its controller at `url`.
async fn scene(data_dir: &Path, url: String) -> Scene {
    let mut scene = Scene::open(options(data_dir, Some(url.clone()))).await;
    scene.identity = Ok(Some(TestCa::new().identity(data_dir, &url)));
    scene
}

/// Makes checks as the program does, up to `last`.
async fn upto(scene: &mut Scene, last: Check) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    while found.last().is_none_or(|finding| finding.check < last)
        && let Some(step) = next(&found)
    {
        found.push(match step {
            Step::Skip(finding) => finding,
            Step::Make(check) => Finding { check, verdict: scene.limited(check).await },
        });
    }
    found
}

fn failure(found: &[Finding]) -> (Check, String, String) {
    let (check, what, fix) = first_failure(found).unwrap();
    (check, what.to_owned(), fix.to_owned())
}

/// Somebody who answers each connection with `answer`, and hangs up.
async fn answering(answer: &'static [u8]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let serve = async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(answer).await;
        }
    };
    (url, tokio::runtime::Handle::current().spawn(serve))
}

#[tokio::test]
async fn a_name_without_an_address_fails_dns_and_skips_what_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = scene(dir.path(), "https://controller.invalid:6701".into()).await;
    let found = upto(&mut scene, Check::Http2).await;
    let (check, what, fix) = failure(&found);
    assert_eq!(check, Check::Dns);
    assert!(what.contains("controller.invalid") && fix.contains("getent"), "{what} {fix}");
    assert_eq!(line(found.last().unwrap()), "skipped http2: needs tls");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_fails_tcp() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let mut scene = scene(dir.path(), format!("https://127.0.0.1:{port}")).await;
    let (check, what, fix) = failure(&upto(&mut scene, Check::Tcp).await);
    assert_eq!(check, Check::Tcp);
    assert!(what.contains(&port.to_string()) && fix.contains("start the controller"), "{what} {fix}");
}

#[tokio::test]
async fn somebody_who_speaks_no_tls_fails_tls() {
    for answer in [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), b""] {
        let (url, server) = answering(answer).await;
        let dir = tempfile::tempdir().unwrap();
        let mut scene = scene(dir.path(), url).await;
        let (check, what, fix) = failure(&upto(&mut scene, Check::Tls).await);
        server.abort();
        assert_eq!(check, Check::Tls, "{what}");
        assert!(fix.contains("grpc_listen"), "{what} {fix}");
    }
}

/// A server with the fleet's certificate that chooses no HTTP/2, as a proxy may.
fn without_http2(ca: &TestCa) -> String {
    let (chain, key) = ca.server_chain(CONTROLLER_DNS_NAME);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let (config, listener) = (Arc::new(config), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("https://{}", listener.local_addr().unwrap());
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            // A peer that hangs up ends its own connection only.
            while tls.complete_io(&mut socket).is_ok_and(|(read, _)| read > 0) {}
        }
    });
    url
}

#[tokio::test]
async fn who_ends_tls_and_does_not_pass_http2_on_fails_http2() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let url = without_http2(&ca);
    let mut scene = scene(dir.path(), url.clone()).await;
    scene.identity = Ok(Some(ca.identity(dir.path(), &url)));
    let found = upto(&mut scene, Check::Clock).await;
    let (check, what, fix) = failure(&found);
    assert_eq!(check, Check::Http2, "{what}");
    assert!(fix.contains("proxy"), "{fix}");
    assert_eq!(line(found.last().unwrap()), "skipped clock: needs http2");
}

#[tokio::test]
async fn a_controller_that_works_passes_all_that_is_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let (_controller, url, identity) = working_controller(dir.path()).await;
    let mut scene = scene(dir.path(), url).await;
    scene.identity = Ok(Some(identity));
    let found = upto(&mut scene, Check::Clock).await;
    assert_eq!(first_failure(&found), None);
    assert!(found.iter().all(|finding| matches!(finding.verdict, Verdict::Ok(_))), "{found:?}");
}

#[tokio::test]
async fn a_controller_of_another_fleet_fails_tls() {
    let dir = tempfile::tempdir().unwrap();
    let (_controller, url, _) = working_controller(dir.path()).await;
    let mut scene = scene(dir.path(), url).await;
    let (check, what, fix) = failure(&upto(&mut scene, Check::Clock).await);
    assert_eq!(check, Check::Tls, "{what}");
    assert!(fix.contains("another server answers"), "{fix}");
}

#[tokio::test]
async fn an_address_of_another_form_fails_dns() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = scene(dir.path(), "http://127.0.0.1:6700".into()).await;
    let (check, what, _) = failure(&upto(&mut scene, Check::Dns).await);
    assert!(check == Check::Dns && what.contains("http://127.0.0.1:6700"), "{what}");
}

#[tokio::test]
async fn a_host_that_is_not_enrolled_is_examined_as_far_as_that_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    let found = examine(options(dir.path(), None), |finding| told.push(line(finding))).await;
    assert_eq!(found.len(), Check::ALL.len());
    assert_eq!(told, found.iter().map(line).collect::<Vec<_>>());
    assert!(told[0].starts_with("skipped dns: this host is not enrolled"), "{}", told[0]);
    let (check, _, fix) = failure(&found);
    assert!(check == Check::Certificate && fix.contains("automator67-agent enrol"), "{check:?} {fix}");
    let engine = &told[6];
    assert!(engine.starts_with("FAILED engine:"), "{engine}");
    assert_eq!(told[7], "skipped storage: needs engine");
}

#[tokio::test]
async fn an_identity_that_is_damaged_is_told_where_the_certificate_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("node.json"), "half of").unwrap();
    let found = upto(&mut Scene::open(options(dir.path(), None)).await, Check::Certificate).await;
    assert_eq!(line(&found[0]), "skipped dns: the node's identity cannot be read; see certificate");
    let (check, what, _) = failure(&found);
    assert!(check == Check::Certificate && what.contains("node.json"), "{what}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_told_with_what_helps() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::open(options(dir.path(), None)).await;
    let Verdict::Failed { what, fix } = scene.limited(Check::Engine).await else { panic!("it is there") };
    assert!(what.contains("no.sock") && fix.contains("install Docker Engine"), "{what} {fix}");
    // One that takes a connection and says nothing.
    let silent = dir.path().join("silent.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    scene.docker_host = format!("unix://{}", silent.display());
    let Verdict::Failed { what, fix } = scene.limited(Check::Engine).await else { panic!("it answers") };
    // Which of two deadlines of the same length is over first is chance.
    let late = what.contains("in time") || what.contains("within 10 s");
    assert!(late && what.contains("silent.sock") && fix.contains("hangs"), "{what} {fix}");
    scene.docker_host = "nonsense".into();
    let Verdict::Failed { fix, .. } = scene.limited(Check::Engine).await else { panic!("it is there") };
    assert!(fix.contains("docker_host"), "{fix}");
}

#[tokio::test]
async fn a_certificate_that_ended_or_has_not_begun_is_told_apart() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let (now, day) = (Utc::now(), TimeDelta::days(1));
    let url = "https://127.0.0.1:1";
    for (life, wanted) in
        [((now - day * 2, now - day), "renews it by itself"), ((now + day, now + day * 2), "clock")]
    {
        let mut scene = scene(dir.path(), url.into()).await;
        scene.identity = Ok(Some(ca.identity_between(dir.path(), url, life)));
        let Verdict::Failed { fix, .. } = scene.limited(Check::Certificate).await else { panic!("good") };
        assert!(fix.contains(wanted), "{fix}");
    }
    // The controller is there, and by its clock nothing has ended.
    let mut ahead = scene(dir.path(), url.into()).await;
    ahead.identity = Ok(Some(ca.identity_between(dir.path(), url, (now - day * 2, now - day))));
    ahead.clocks = Some((Some(now - TimeDelta::hours(30)), now));
    let Verdict::Failed { fix, .. } = ahead.limited(Check::Certificate).await else { panic!("good") };
    assert!(fix.contains("clock is ahead"), "{fix}");
    let mut good = scene(dir.path(), url.into()).await;
    let Verdict::Ok(text) = good.limited(Check::Certificate).await else { panic!("bad") };
    assert!(text.contains("not shown to the controller"), "{text}");
}

#[test]
fn clocks_that_are_some_seconds_apart_are_told_with_the_side() {
    let theirs = Timestamp::from_timestamp(1_800_000_000, 0).unwrap();
    let judge = |millis| skew(theirs, theirs + TimeDelta::milliseconds(millis));
    for millis in [-4_500, 0, 500, 999, 5_500] {
        assert!(matches!(judge(millis), Verdict::Ok(_)), "{millis}");
    }
    for (millis, wanted) in [
        (5_600, "5.1 s ahead of"),
        (-60_000, "60.5 s behind"),
        (90_000_000, "24 h ahead of"),
        (-864_000_000, "10 days behind"),
    ] {
        let Verdict::Failed { what, .. } = judge(millis) else { panic!("{millis}") };
        assert!(what.contains(wanted), "{what}");
    }
}

const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:2 / /var/lib rw - xfs /dev/sda2 rw,attr2,prjquota
31 22 8:3 / /var/lib/docker-old rw master:5 - btrfs /dev/sda3 rw
";

#[test]
fn the_mount_of_a_directory_is_the_innermost_one() {
    let mount = |path: &str| mount_of(MOUNTS, Path::new(path)).unwrap();
    assert_eq!(mount("/var/lib/docker"), Mount { kind: "xfs".into(), project_quota: true });
    assert_eq!(mount("/srv/docker"), Mount { kind: "ext4".into(), project_quota: false });
    assert_eq!(mount("/var/lib/docker-old/x").kind, "btrfs");
    assert_eq!(mount_of("nonsense\n", Path::new("/")), None);
}

#[test]
fn whether_sizes_are_enforced_depends_on_driver_and_file_system() {
    let mount = |kind: &str, project_quota| Mount { kind: kind.into(), project_quota };
    for (driver, mount, wanted) in [
        ("overlay2", Some(mount("xfs", true)), "are enforced"),
        ("overlay2", Some(mount("xfs", false)), "not enforced"),
        ("overlay2", Some(mount("ext4", true)), "overlay2 on ext4; storage limits are not enforced"),
        ("btrfs", None, "are enforced"),
        ("vfs", None, "tests only"),
    ] {
        let text = judge_storage(driver, mount.as_ref());
        assert!(text.contains(wanted), "{driver}: {text}");
    }
}

#[test]
fn control_groups_of_both_versions_are_known_and_a_missing_one_is_named() {
    let root = tempfile::tempdir().unwrap();
    let what = |verdict| match verdict {
        Verdict::Failed { what, .. } => what,
        other => panic!("{other:?}"),
    };
    assert!(what(judge_cgroups(root.path())).contains("no control groups"));
    for name in ["cpu", "pids"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    assert_eq!(what(judge_cgroups(root.path())), "version 1, without memory");
    fs::create_dir(root.path().join("memory")).unwrap();
    assert_eq!(judge_cgroups(root.path()), Verdict::Ok("version 1, with cpu, memory, pids".into()));
    fs::write(root.path().join("cgroup.controllers"), "cpuset cpu io pids\n").unwrap();
    assert_eq!(what(judge_cgroups(root.path())), "version 2, without memory");
    fs::write(root.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
    assert!(matches!(judge_cgroups(root.path()), Verdict::Ok(text) if text.starts_with("version 2")));
}

#[test]
fn a_disk_is_looked_at_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(judge_disk(dir.path(), None, 0), Verdict::Ok(_)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let missing = dir.path().join("a/b");
    let verdict = judge_disk(&missing, Some("/nowhere/at/all".into()), 0);
    assert!(matches!(&verdict, Verdict::Ok(text) if text.contains("for the engine in /")), "{verdict:?}");
    let Verdict::Failed { what, fix } = judge_disk(dir.path(), None, u64::MAX) else { panic!("room") };
    assert!(what.starts_with("only") && fix.contains("make room"), "{what} {fix}");
}
