//! What sealing costs, and moving a whole vault to another master key.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use controller::{
    config::Config,
    postgres::{Embedded, EmbeddedSettings},
    service::credentials::CredentialWish,
    vault::{
        rekey::{Rekey, Step},
        verify,
    },
};
use daemon::{
    Supervisor,
    seal::{DataKeys, MasterKey},
};
use domain::{
    credential::{CredentialValue, PER_PROJECT_MAX},
    id::ProjectId,
    name::Labels,
    secret::Secret,
};
use store::{Store, StoreSettings, audit::Actor};
use uuid::Uuid;

use crate::table::{Row, median, rate};

/// Bytes of a value.
const VALUE_BYTES: usize = 4096;
/// Values that are sealed in one round, and rounds.
const SEALED: u32 = 20_000;
const ROUNDS: usize = 5;
/// Credentials that are moved.
const CREDENTIALS: usize = 10_000;
/// Those that are made at once.
const AT_ONCE: usize = 8;

/// All lines of this part.
pub async fn run() -> Result<Vec<Row>> {
    let mut rows = sealing()?;
    rows.extend(moving().await?);
    Ok(rows)
}

fn micros(time: Duration) -> String {
    format!("{:.2} µs", time.as_secs_f64() * 1e6)
}

fn row(what: &str, time: Duration) -> Row {
    let wanted = Duration::from_micros(10);
    Row {
        what: what.to_owned(),
        ours: micros(time),
        against: "what is wanted".to_owned(),
        theirs: micros(wanted),
        ratio: format!("{:.2}x", time.as_secs_f64() / wanted.as_secs_f64()),
        aim: "under 10 µs",
    }
}

/// Sealing and opening, as the vault does it: a data key of an epoch, bound to a place.
fn sealing() -> Result<Vec<Row>> {
    let keys = DataKeys::new(Arc::new(MasterKey::generate()?), "credential");
    let place = format!("credential {} 1 {}", Uuid::now_v7(), Uuid::now_v7());
    let value = vec![7_u8; VALUE_BYTES];
    let (mut seal, mut open) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..SEALED {
            black_box(keys.of(1).seal(place.as_bytes(), black_box(&value))?);
        }
        seal.push(started.elapsed() / SEALED);
        let sealed = keys.of(1).seal(place.as_bytes(), &value)?;
        let started = Instant::now();
        for _ in 0..SEALED {
            black_box(keys.of(1).open(place.as_bytes(), black_box(&sealed))?);
        }
        open.push(started.elapsed() / SEALED);
    }
    Ok(vec![
        row("sealing a value of 4 KiB, one core", median(&mut seal)),
        row("opening a value of 4 KiB, one core", median(&mut open)),
    ])
}

/// The whole command, on a PostgreSQL with fsync on: everything is there before, and
/// opens afterwards.
async fn moving() -> Result<Vec<Row>> {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711))?;
    let settings = EmbeddedSettings { data_dir: dir.path().join("postgres"), bin_dir: None, user: None };
    let postgres = Embedded::start(settings).await?;
    let config = Config {
        data_dir: dir.path().to_owned(),
        master_key_file: Some(dir.path().join("master.key")),
        ..Config::default()
    };
    let store = || {
        let settings = StoreSettings { url: postgres.url().into(), connections_max: AT_ONCE };
        Store::new(settings, tokio::runtime::Handle::current())
    };
    let (made, filled) = fill(&config, store()?).await?;
    let other = store()?;
    let started = Instant::now();
    let (mut rekey, mut moved) = (Rekey::new(&config, &other).await?, 0);
    while let Some(step) = rekey.step(&Actor::system()).await? {
        if let Step::Versions(count) = step {
            moved += count;
        }
    }
    let took = started.elapsed();
    ensure!(moved == CREDENTIALS && made == CREDENTIALS, "{moved} of {made} were moved");
    let started = Instant::now();
    let report = verify::verify(&config, &other).await?;
    let verified = started.elapsed();
    ensure!(report.failures.is_empty() && report.versions == CREDENTIALS, "not all opens");
    other.close();
    postgres.stop().await?;
    let (moving, shown) = rate(moved, took);
    let (making, made_shown) = rate(made, filled);
    let (opening, opened_shown) = rate(report.versions, verified);
    Ok(vec![
        Row {
            what: format!("moving {CREDENTIALS} credentials of 4 KiB to another master key"),
            ours: shown.clone(),
            against: "making them, eight at once".to_owned(),
            theirs: made_shown,
            ratio: format!("{:.2}x", moving / making),
            aim: "for comparison",
        },
        Row {
            what: format!("moving {CREDENTIALS} credentials of 4 KiB to another master key"),
            ours: shown,
            against: "opening all of them (vault verify)".to_owned(),
            theirs: opened_shown,
            ratio: format!("{:.2}x", moving / opening),
            aim: "for comparison",
        },
    ])
}

/// Makes the credentials, in as many projects as that takes.
async fn fill(config: &Config, store: Store) -> Result<(usize, Duration)> {
    store.migrate().await?;
    store.audit_partitions_maintain(chrono::Utc::now(), config.settings().audit_retention).await?;
    let supervisor = Supervisor::new(tokio::runtime::Handle::current());
    let services = controller::app::build(config, store, supervisor).await?;
    let each = PER_PROJECT_MAX as usize;
    let mut projects = Vec::new();
    for n in 0..CREDENTIALS.div_ceil(each) {
        projects.push(services.project_create(&format!("p{n}"), &Actor::system()).await?.id());
    }
    let started = Instant::now();
    let make = |n: usize| {
        let (services, project_id): (_, ProjectId) = (services.clone(), projects[n / each]);
        async move {
            let value = CredentialValue::Bytes(Secret::new(vec![7; VALUE_BYTES]));
            let wish =
                CredentialWish { project_id, name: format!("c{n}"), node_labels: Labels::new(), value };
            services.credential_create(wish, &Actor::system()).await
        }
    };
    let mut made = 0;
    for first in (0..CREDENTIALS).step_by(AT_ONCE) {
        let some = (first..CREDENTIALS.min(first + AT_ONCE)).map(make);
        made += futures_util::future::try_join_all(some).await?.len();
    }
    Ok((made, started.elapsed()))
}
