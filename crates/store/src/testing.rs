//! A private PostgreSQL, and a database per test.
//!
//! With `A67_TEST_DATABASE_URL` that server is used; without it a cluster is made
//! in a temporary directory for this process. Its keeper is a shell that waits on
//! a pipe from here: whatever way this process ends, the pipe closes, and the
//! shell stops the server and removes the directory.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot have its database should fail loudly"
)]

use std::{
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use diesel_async::SimpleAsyncConnection;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::{Store, StoreSettings};

const TEMPLATE: &str = "a67_template";

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// A database of a test's own, migrated and empty. Dropped with its cluster.
pub struct TestDatabase {
    /// A store on it.
    pub store: Store,
    /// Its URL.
    pub url: String,
}

struct Cluster {
    base_url: String,
    // Its pipe's end lives as long as this process.
    _keeper: Option<Child>,
}

impl Cluster {
    fn url(&self, database: &str) -> String {
        match self.base_url.split_once('?') {
            Some((base, query)) => format!("{base}/{database}?{query}"),
            None => format!("{}/{database}", self.base_url),
        }
    }

    fn start() -> Self {
        if let Ok(url) = std::env::var("A67_TEST_DATABASE_URL") {
            return Self { base_url: url, _keeper: None };
        }
        let dir = PathBuf::from(format!("/tmp/a67-test-pg-{}", Uuid::now_v7().simple()));
        std::fs::create_dir(&dir).expect("a temporary directory can be made");
        let mut keeper = Command::new("setpriv");
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = unprivileged();
            chown(&dir, Some(uid), Some(gid)).expect("root can give the directory away");
            keeper.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
        }
        let script = format!(
            "set -e; cd '{dir}'; {bin}/initdb -D data -U test -A trust -E UTF8 --locale=C.UTF-8 -N >initdb.log 2>&1; mkdir run; \
             {bin}/postgres -D data -k '{dir}/run' -c listen_addresses= -c fsync=off -c max_connections=200 >pg.log 2>&1 & pid=$!; \
             set +e; read _; kill -QUIT $pid; wait $pid; rm -rf '{dir}'",
            dir = dir.display(),
            bin = programs().display(),
        );
        keeper.args(["sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let keeper = keeper.spawn().expect("setpriv is part of util-linux");
        Self {
            base_url: format!(
                "postgres://test@{}",
                dir.join("run").display().to_string().replace('/', "%2F")
            ),
            _keeper: Some(keeper),
        }
    }
}

fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL's programs are installed");
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| Path::new(&format!("/usr/lib/postgresql/{version}/bin/initdb")).exists())
        .max();
    PathBuf::from(format!("/usr/lib/postgresql/{}/bin", newest.expect("PostgreSQL's programs are installed")))
}

fn unprivileged() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("there are accounts");
    let ids = |name: &str| {
        let line = passwd.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).expect("there is an unprivileged account")
}

/// Runs one statement on the server, again until it is there.
async fn administer(cluster: &Cluster, database: &str, statement: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let result = match crate::pool::connect(&cluster.url(database)).await {
            Ok(mut conn) => conn.batch_execute(statement).await.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        match result {
            Ok(()) => return,
            Err(e) if e.contains("already exists") => return,
            Err(e) if Instant::now() > deadline => panic!("{statement} in {database}: {e}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
}

fn open(url: &str) -> Store {
    Store::new(StoreSettings { url: url.into(), connections_max: 8 }, Handle::current())
        .expect("our own URL is fine")
}

/// Makes a migrated database for one test.
pub async fn database() -> TestDatabase {
    let cluster = CLUSTER.get_or_init(Cluster::start);
    administer(cluster, "postgres", &format!("create database {TEMPLATE}")).await;
    // Idle connections would keep the template from being copied; migrate uses one and lets it go.
    open(&cluster.url(TEMPLATE)).migrate().await.expect("the migrations apply");
    let name = format!("t_{}", Uuid::now_v7().simple());
    administer(cluster, "postgres", &format!("create database {name} template {TEMPLATE}")).await;
    let url = cluster.url(&name);
    TestDatabase { store: open(&url), url }
}

/// Makes a database without any table.
pub async fn empty_database() -> TestDatabase {
    let cluster = CLUSTER.get_or_init(Cluster::start);
    let name = format!("t_{}", Uuid::now_v7().simple());
    administer(cluster, "postgres", &format!("create database {name}")).await;
    let url = cluster.url(&name);
    TestDatabase { store: open(&url), url }
}

impl TestDatabase {
    /// Takes every migration back.
    pub async fn revert_all(&self) {
        let conn = crate::pool::connect(&self.url).await.unwrap();
        tokio::task::spawn_blocking(|| crate::migrate::revert_all(conn)).await.unwrap().unwrap();
    }

    /// Applies the migrations up to and with that one, such as `0001`.
    pub async fn migrate_to(&self, version: &'static str) {
        let conn = crate::pool::connect(&self.url).await.unwrap();
        tokio::task::spawn_blocking(move || crate::migrate::run_up_to(conn, version)).await.unwrap().unwrap();
    }

    /// Runs statements that must be refused, and gives the database's words.
    pub async fn refusal_of(&self, statements: &str) -> String {
        let mut conn = crate::pool::connect(&self.url).await.unwrap();
        match conn.batch_execute(statements).await {
            Ok(()) => panic!("it was done: {statements}"),
            Err(e) => e.to_string(),
        }
    }

    /// Runs statements.
    pub async fn execute(&self, statements: &str) {
        crate::pool::connect(&self.url).await.unwrap().batch_execute(statements).await.unwrap();
    }

    /// Reads one column of texts.
    pub async fn texts(&self, query: &str) -> Vec<String> {
        use diesel_async::RunQueryDsl;
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Text)]
            text: String,
        }
        let mut conn = crate::pool::connect(&self.url).await.unwrap();
        let rows: Vec<Row> = diesel::sql_query(format!("select t::text as text from ({query}) as q (t)"))
            .load(&mut conn)
            .await
            .unwrap();
        rows.into_iter().map(|row| row.text).collect()
    }
}
