//! With the real PostgreSQL of this machine. Run as root they also cover the
//! change of account; run as another user they cover the case without it.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::*;

/// Tells a process of this test binary on which directory to run a cluster.
const HELPER_VARIABLE: &str = "EMBEDDED_POSTGRES_TEST_DIR";

struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Temporary directories are closed to others; the server's account must pass.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Self(dir)
    }

    fn settings(&self) -> EmbeddedSettings {
        EmbeddedSettings { data_dir: self.0.path().join("postgres"), bin_dir: None, user: None }
    }

    fn cluster(&self) -> PathBuf {
        self.0.path().join("postgres/cluster")
    }

    fn postmaster(&self) -> u32 {
        Postmaster::read(&self.cluster()).unwrap().pid
    }
}

async fn start(dir: &TestDir) -> Embedded {
    match Embedded::start(dir.settings()).await {
        Ok(embedded) => embedded,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

async fn try_query(url: &str, sql: &str) -> Result<String, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::runtime::Handle::current().spawn(connection);
    let rows = client.simple_query(sql).await?;
    drop(client);
    driver.await.unwrap()?;
    Ok(rows
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect::<Vec<_>>()
        .join(","))
}

async fn query(url: &str, sql: &str) -> String {
    try_query(url, sql).await.unwrap()
}

/// Waits for a fact, for at most a minute.
async fn wait_for(what: &str, mut fact: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !fact().await {
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).join("cwd").read_link().is_ok()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn a_new_cluster_is_durable_private_and_unprivileged() {
    let dir = TestDir::new();
    let embedded = start(&dir).await;
    for (setting, value) in [
        ("fsync", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
        ("unix_socket_permissions", "0700"),
        ("shared_buffers", "128MB"),
        ("max_connections", "100"),
        ("TimeZone", "UTC"),
    ] {
        assert_eq!(query(embedded.url(), &format!("SHOW {setting}")).await, value, "{setting}");
    }
    assert_eq!(
        query(embedded.url(), "SELECT current_user || '@' || current_database()").await,
        "automator67@automator67"
    );
    let locale =
        query(embedded.url(), "SELECT datcollate FROM pg_database WHERE datname = 'automator67'").await;
    assert!(["C.UTF-8", "C"].contains(&locale.as_str()), "{locale}");

    let socket_dir = fs::metadata(dir.0.path().join("postgres/run")).unwrap();
    let cluster = fs::metadata(dir.cluster()).unwrap();
    assert_eq!((socket_dir.mode() & 0o777, cluster.mode() & 0o777), (0o700, 0o700));
    let status = fs::read_to_string(format!("/proc/{}/status", dir.postmaster())).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("Uid:").split('\t').next().unwrap(), cluster.uid().to_string());
    if is_root() {
        assert_ne!(cluster.uid(), 0);
        assert_eq!(field("Groups:"), "", "supplementary groups are dropped");
    }
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn data_stay_over_a_stop_and_a_start() {
    let dir = TestDir::new();
    let embedded = start(&dir).await;
    let first = dir.postmaster();
    query(embedded.url(), "CREATE TABLE t (x int); INSERT INTO t VALUES (42)").await;
    embedded.stop().await.unwrap();
    assert!(!alive(first));
    assert!(Postmaster::read(&dir.cluster()).is_none(), "a server that was stopped leaves no pid file");
    let embedded = start(&dir).await;
    assert_eq!(query(embedded.url(), "SELECT x FROM t").await, "42");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_controller_on_the_same_directory_is_refused() {
    let dir = TestDir::new();
    let embedded = start(&dir).await;
    let Err(error) = Embedded::start(dir.settings()).await else { panic!("two run one cluster") };
    assert!(matches!(error, EmbeddedError::AlreadyRunning { .. }), "{error}");
    assert_eq!(query(embedded.url(), "SELECT 1").await, "1");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_command_attaches_to_a_running_cluster_and_starts_it_otherwise() {
    let dir = TestDir::new();
    let data_dir = dir.settings().data_dir;
    assert_eq!(attach(&data_dir), None);

    let access = open(dir.settings()).await.unwrap();
    assert!(matches!(access, Access::Started(_)));
    query(access.url(), "CREATE TABLE t ()").await;
    let url = attach(&data_dir).unwrap();
    assert_eq!(url, access.url());
    let second = open(dir.settings()).await.unwrap();
    assert!(matches!(second, Access::Attached { .. }));
    assert_eq!(query(second.url(), "SELECT count(*) FROM t").await, "0");
    second.close().await.unwrap();
    assert_eq!(attach(&data_dir), Some(url), "closing an attachment leaves the server running");

    access.close().await.unwrap();
    assert_eq!(attach(&data_dir), None);
}

#[tokio::test]
async fn two_commands_at_once_share_one_new_cluster() {
    let dir = TestDir::new();
    let (a, b) = tokio::join!(open(dir.settings()), open(dir.settings()));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(query(a.url(), "SELECT 1").await, query(b.url(), "SELECT 1").await);
    assert_ne!(matches!(a, Access::Started(_)), matches!(b, Access::Started(_)));
    let (attached, started) = if matches!(a, Access::Started(_)) { (b, a) } else { (a, b) };
    attached.close().await.unwrap();
    started.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_is_started_again_with_its_data() {
    let dir = TestDir::new();
    let embedded = start(&dir).await;
    query(embedded.url(), "CREATE TABLE t (x int); INSERT INTO t VALUES (1)").await;
    for round in 2..4 {
        let old = dir.postmaster();
        signal(old, Signal::KILL);
        wait_for("another server", async || {
            let new = attach(&dir.settings().data_dir).and(Postmaster::read(&dir.cluster()));
            new.is_some_and(|new| new.pid != old)
        })
        .await;
        query(embedded.url(), &format!("INSERT INTO t VALUES ({round})")).await;
    }
    assert_eq!(query(embedded.url(), "SELECT x FROM t ORDER BY x").await, "1,2,3");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn an_idle_client_does_not_hold_up_a_stop() {
    let dir = TestDir::new();
    let embedded = start(&dir).await;
    let pid = dir.postmaster();
    let (_client, connection) = tokio_postgres::connect(embedded.url(), NoTls).await.unwrap();
    let driver = tokio::runtime::Handle::current().spawn(connection);
    embedded.stop().await.unwrap();
    assert!(!alive(pid));
    assert!(driver.await.unwrap().is_err());
}

#[tokio::test]
async fn dropping_the_handle_stops_the_server() {
    let dir = TestDir::new();
    let embedded = start(&dir).await;
    let pid = dir.postmaster();
    drop(embedded);
    wait_for("the end of the server", async || !alive(pid)).await;
    start(&dir).await.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_is_undone() {
    let dir = TestDir::new();
    drop(tokio::time::timeout(Duration::from_millis(30), Embedded::start(dir.settings())).await.map(drop));
    // The first one still makes the cluster, sees that nobody waits, and lets go.
    let embedded = {
        let mut embedded = None;
        wait_for("the lock", async || {
            embedded = Embedded::start(dir.settings()).await.ok();
            embedded.is_some()
        })
        .await;
        embedded.unwrap()
    };
    assert_eq!(query(embedded.url(), "SELECT 1").await, "1");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_crash_while_making_the_cluster_left_is_made_anew() {
    let dir = TestDir::new();
    let half = dir.0.path().join("postgres/cluster.new-4711");
    fs::create_dir_all(half.join("base")).unwrap();
    fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    fs::set_permissions(half.parent().unwrap(), fs::Permissions::from_mode(0o711)).unwrap();
    let embedded = start(&dir).await;
    assert_eq!(query(embedded.url(), "SELECT 1").await, "1");
    assert!(!half.exists());
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_stale_pid_file_with_the_number_of_another_process_does_not_block() {
    let dir = TestDir::new();
    start(&dir).await.stop().await.unwrap();
    let owner = fs::metadata(dir.cluster()).unwrap();
    let account = is_root().then_some(account::Account { uid: owner.uid(), gid: owner.gid() });
    let mut stranger = process::command(Path::new("/bin/sleep"), account).arg("600").spawn().unwrap();
    let stale = dir.cluster().join("postmaster.pid");
    fs::write(&stale, format!("{}\n/x\n1\n5432\n/x\n\n 1 1\nready   \n", stranger.id())).unwrap();
    std::os::unix::fs::chown(&stale, Some(owner.uid()), Some(owner.gid())).unwrap();
    let started = Embedded::start(dir.settings()).await;
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let embedded = started.unwrap();
    assert_eq!(query(embedded.url(), "SELECT 1").await, "1");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_of_another_major_version_is_refused_with_what_to_do() {
    let dir = TestDir::new();
    start(&dir).await.stop().await.unwrap();
    fs::write(dir.cluster().join("PG_VERSION"), "12\n").unwrap();
    let Err(error) = Embedded::start(dir.settings()).await else { panic!("a foreign version was opened") };
    let message = error.to_string();
    assert!(message.contains("PostgreSQL 12 made it") && message.contains("postgresql-12"), "{message}");
}

#[tokio::test]
async fn missing_programs_are_named_with_what_to_install() {
    let dir = TestDir::new();
    let settings = EmbeddedSettings { bin_dir: Some(dir.0.path().to_owned()), ..dir.settings() };
    let Err(error) = Embedded::start(settings).await else { panic!("started without programs") };
    let message = error.to_string();
    assert!(message.contains("apt-get install postgresql"), "{message}");
    assert!(message.contains(dir.0.path().to_str().unwrap()), "{message}");
}

#[tokio::test]
async fn a_long_path_moves_the_socket_and_everything_works() {
    let dir = TestDir::new();
    let mut settings = dir.settings();
    settings.data_dir = dir.0.path().join("x".repeat(90)).join("with space, comma and \"quote\"");
    let embedded = Embedded::start(settings.clone()).await.unwrap();
    assert!(embedded.url().starts_with("postgres://automator67@%2Ftmp%2Fa67-"), "{}", embedded.url());
    assert_eq!(query(embedded.url(), "SELECT 1").await, "1");
    assert_eq!(attach(&settings.data_dir).as_deref(), Some(embedded.url()));
    let socket_dir = Postmaster::read(&settings.data_dir.join("cluster")).unwrap().socket_dir;
    embedded.stop().await.unwrap();
    assert!(!socket_dir.exists(), "nothing stays in /tmp");
}

#[tokio::test]
async fn a_path_with_separators_of_lists_and_urls_works() {
    let dir = TestDir::new();
    let mut settings = dir.settings();
    settings.data_dir = dir.0.path().join("a b,c\"d%e@f:é");
    let embedded = Embedded::start(settings).await.unwrap();
    assert_eq!(query(embedded.url(), "SELECT 1").await, "1");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_closed_to_the_server_is_named() {
    if !is_root() {
        return; // Without a change of account nothing is closed to it.
    }
    let dir = TestDir::new();
    fs::set_permissions(dir.0.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let Err(error) = Embedded::start(dir.settings()).await else { panic!("passed a closed directory") };
    let message = error.to_string();
    assert!(message.contains(dir.0.path().to_str().unwrap()) && message.contains("chmod"), "{message}");
}

/// A process of this test binary that runs a cluster until it is killed.
struct Helper(Child);

impl Helper {
    fn start(dir: &TestDir, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "postgres::tests::helper_process", "--nocapture"]);
        command.env(HELPER_VARIABLE, dir.settings().data_dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).any(|line| line.contains("cluster is ready"));
        assert!(ready, "the helper process did not start the cluster");
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Not a test of its own: does nothing unless a test here started it as a process.
#[tokio::test]
async fn helper_process() {
    let Some(data_dir) = std::env::var_os(HELPER_VARIABLE) else { return };
    let settings = EmbeddedSettings { data_dir: data_dir.into(), bin_dir: None, user: None };
    let embedded = Embedded::start(settings).await.unwrap();
    println!("cluster is ready");
    // Ends when the test that started it does, even if that one was killed.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_controller_takes_the_server_with_it_and_the_next_one_goes_on() {
    let dir = TestDir::new();
    let helper = Helper::start(&dir, |_| {});
    let url = attach(&dir.settings().data_dir).unwrap();
    query(&url, "CREATE TABLE t (x int); INSERT INTO t VALUES (7)").await;
    let old = dir.postmaster();
    helper.kill();
    // At once, while the old server is still shutting down.
    let embedded = start(&dir).await;
    assert!(!alive(old));
    assert_eq!(query(embedded.url(), "SELECT x FROM t").await, "7");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_controller_killed_at_any_step_of_making_the_cluster_leaves_nothing_half_made() {
    let steps = ["cluster.new-*", "cluster.new-*/PG_VERSION", "statement.sql", "cluster", "postgres.log"];
    for step in steps {
        let dir = TestDir::new();
        let data_dir = dir.settings().data_dir;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "postgres::tests::helper_process"]).env(HELPER_VARIABLE, &data_dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let new = data_dir.join(format!("cluster.new-{}", child.id()));
        let path = data_dir.join(step.replace("cluster.new-*", new.to_str().unwrap()));
        wait_for(step, async || path.exists()).await;
        child.kill().unwrap();
        child.wait().unwrap();

        let embedded = start(&dir).await;
        assert_eq!(query(embedded.url(), "SELECT 1").await, "1", "{step}");
        embedded.stop().await.unwrap();
        let mut left: Vec<_> =
            fs::read_dir(&data_dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["cluster", "lock", "postgres.log", "run"], "{step}");
    }
}

#[tokio::test]
async fn without_root_the_server_runs_as_ourselves() {
    use std::os::unix::process::CommandExt;
    if !is_root() {
        return; // Every other test here covers it then.
    }
    let dir = TestDir::new();
    std::os::unix::fs::chown(dir.0.path(), Some(65534), Some(65534)).unwrap();
    let helper = Helper::start(&dir, |command| {
        command.uid(65534).gid(65534);
    });
    assert_eq!(fs::metadata(dir.cluster()).unwrap().uid(), 65534);
    assert_eq!(fs::metadata(dir.settings().data_dir).unwrap().mode() & 0o777, 0o700);
    let url = attach(&dir.settings().data_dir).unwrap();
    assert_eq!(query(&url, "SELECT 1").await, "1");
    helper.kill();
    wait_for("the end of the server", async || process::works_in(&dir.cluster()).is_none()).await;
}
