//! What identity costs: knowing who a token belongs to, signing in, and what a
//! flood of sign-ins does to everybody else.
//!
//! A private PostgreSQL with fsync on, passwords at the cost that is the default,
//! and one account and one address of its own for each that signs in, so that no
//! limit of an account or an address is what is measured. Tokens are checked in this
//! process, as handlers do it; everything else goes over HTTP to a controller.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use controller::{
    app,
    auth::{password::Password, role::Role, token::sha256_of},
    config::Config,
    postgres::{Embedded, EmbeddedSettings},
    service::{Services, identity::session::SignInFrom},
};
use daemon::Supervisor;
use domain::{
    deployment::{DeploymentSpec, InstanceSpec},
    id::ProjectId,
};
use serde_json::{Value, json};
use store::{Store, StoreSettings, audit::Actor, deployment::DeploymentNew};
use system_tests::{
    controller::Controller,
    wait::{seconds, until},
};
use uuid::Uuid;

use crate::table::{Row, median, millis, rate};

const PASSWORD: &str = "correct horse battery";
/// Who signs in at once.
const CLIENTS: u8 = 64;
/// Sessions whose tokens are checked in turn.
const SESSIONS: usize = 256;
/// Tokens checked in one round, and rounds.
const CHECKS: usize = 100_000;
const ROUNDS: usize = 5;
/// Sign-ins whose rate is measured.
const SIGN_INS: usize = 48;
/// Requests in each of the rounds, idle and busy in turns.
const REQUESTS: usize = 500;
/// Deployments in the list that is asked for.
const DEPLOYMENTS: usize = 20;

/// Where everything is, for the time of the measurement.
struct Place {
    dir: tempfile::TempDir,
    postgres: Embedded,
}

impl Place {
    async fn new() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir()?;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711))?;
        let settings = EmbeddedSettings { data_dir: dir.path().join("postgres"), bin_dir: None, user: None };
        Ok(Self { postgres: Embedded::start(settings).await?, dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Services in this process, with the tasks that tell them of revocations.
    async fn services(&self) -> Result<Arc<Services>> {
        let settings = StoreSettings { url: self.postgres.url().into(), connections_max: 8 };
        let store = Store::new(settings, tokio::runtime::Handle::current())?;
        store.migrate().await?;
        let config = Config {
            data_dir: self.path().to_owned(),
            master_key_file: Some(self.path().join("master.key")),
            ..Config::default()
        };
        let services = app::build(&config, store, Supervisor::new(tokio::runtime::Handle::current())).await?;
        services.store.sample_partitions_maintain(Utc::now()).await?;
        controller::tasks::start(&services);
        Ok(services)
    }

    /// A controller with the same data, as a program of its own.
    fn controller(&self) -> Controller {
        let key = self.path().join("master.key").display().to_string();
        Controller::alone(self.path())
            .with("A67_DATABASE_URL", self.postgres.url())
            .with("A67_MASTER_KEY_FILE", &key)
            .with("A67_BCRYPT_COST", &Config::default().bcrypt_cost.to_string())
            // Kept, and counted in the database as always, but never reached.
            .with("A67_SIGN_IN_LIMIT_PER_ADDRESS_PER_MINUTE", "6000")
            .with("A67_LOG", "warn")
    }
}

/// All lines of this part.
pub async fn run() -> Result<Vec<Row>> {
    let place = Place::new().await?;
    let services = place.services().await?;
    for client in 0..CLIENTS {
        let password = Password::new(PASSWORD);
        services.account_create(name(client), password, Role::Viewer, &Actor::system()).await?;
    }
    for n in 0..DEPLOYMENTS {
        services.store.deployment_create(&deployment(n), &Actor::system()).await?;
    }
    let mut rows = tokens(&services).await?;
    let hashes_before = hashes_of_one_core(&services).await?;
    services.stopping.cancel();
    services.supervisor.shut_down(Duration::from_secs(5)).await;

    let mut controller = place.controller();
    controller.start().await;
    let clients: Vec<Client> =
        (0..CLIENTS).map(|n| Client::new(controller.url(), n)).collect::<Result<_>>()?;
    let (sign_ins, text) = sign_in_rate(&clients).await?;
    let hashes = f64::midpoint(hashes_before, hashes_of_one_core(&services).await?);
    rows.extend(sign_in_rows(sign_ins, &text, hashes));
    rows.extend(latency(&clients).await?);
    controller.stop(seconds(20)).await;
    services.store.close();
    place.postgres.stop().await?;
    Ok(rows)
}

fn name(client: u8) -> String {
    format!("user-{client}")
}

fn deployment(n: usize) -> DeploymentNew {
    let instance = InstanceSpec::of_image("registry.example.org/team/app:1.2");
    let spec = DeploymentSpec { replicas: 0, ..DeploymentSpec::of_instance(instance) };
    DeploymentNew {
        project_id: ProjectId::DEFAULT,
        id: Uuid::now_v7().into(),
        name: format!("app-{n}"),
        spec,
        operation_id: Uuid::now_v7().into(),
        idempotency: None,
    }
}

/// Checks access tokens, one after the other on one thread: of sessions that this
/// process has not met yet, and of those that it has.
async fn tokens(services: &Services) -> Result<Vec<Row>> {
    let account = services.store.account_fetch_by_name(&name(0)).await?.context("it was just made")?;
    let mut tokens = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        let from = SignInFrom { actor: Actor::system(), user_agent: None };
        tokens.push(services.session_begin(&account, "password", from).await?.access_token);
    }
    let first = tokens.first().context("there are sessions")?;
    until("revocations are heard, so that callers are remembered", seconds(30), async || {
        services.authenticate(first, None).await?;
        let known = services.identity.callers.get(&sha256_of(first.as_bytes()), (Instant::now(), Utc::now()));
        ensure!(known.is_some(), "nobody is remembered");
        Ok(())
    })
    .await;
    let began = Instant::now();
    for token in &tokens {
        services.authenticate(token, None).await?;
    }
    let (new, new_text) = rate(tokens.len(), began.elapsed());
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for token in tokens.iter().cycle().take(CHECKS) {
            services.authenticate(token, None).await?;
        }
        times.push(began.elapsed());
    }
    let (again, text) = rate(CHECKS, median(&mut times));
    let row = |against: &str, theirs: String, ratio: f64, aim| Row {
        what: "checking an access token and its session, one core".into(),
        ours: text.clone(),
        against: against.into(),
        theirs,
        ratio: format!("{ratio:.2}x"),
        aim,
    };
    Ok(vec![
        row("what is wanted", "20 k/s".into(), again / 20_000.0, "at least 1x"),
        row("sessions seen for the first time", new_text, again / new, "for comparison"),
    ])
}

/// Passwords that one core checks in a second, and nothing else.
async fn hashes_of_one_core(services: &Services) -> Result<f64> {
    let hasher = &services.identity.passwords;
    let hash = hasher.hash(Password::new(PASSWORD)).await?;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(4) {
        let _ = hasher.verify(Password::new(PASSWORD), Some(hash.clone())).await?;
        count += 1;
    }
    Ok(rate(count, began.elapsed()).0)
}

/// One who signs in: an account and an address of its own.
struct Client {
    http: reqwest::Client,
    base: String,
    name: String,
    /// What is added to each wait, so that those who were refused together do not come
    /// back together.
    spread: Duration,
}

enum SignedIn {
    /// With this token.
    Yes(String),
    /// Not now, and for how long.
    Wait(Duration),
}

impl Client {
    fn new(url: &str, n: u8) -> Result<Self> {
        let own = IpAddr::V4(Ipv4Addr::new(127, 200, n, 1));
        let http = reqwest::Client::builder().local_address(own).no_proxy().timeout(seconds(30)).build()?;
        let spread = Duration::from_secs(1).mul_f64(f64::from(n) / f64::from(CLIENTS));
        Ok(Self { http, base: format!("{url}/api/v1"), name: name(n), spread })
    }

    async fn sign_in(&self) -> Result<SignedIn> {
        let body = json!({"name": self.name, "password": PASSWORD});
        let request = self.http.post(format!("{}/auth/login", self.base));
        let request = request.header("content-type", "application/json").body(body.to_string());
        let response = request.send().await?;
        if response.status() == 429 {
            let wait = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
            return Ok(SignedIn::Wait(Duration::from_secs(wait.unwrap_or(1))));
        }
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{status}: {text}");
        let session: Value = serde_json::from_str(&text)?;
        Ok(SignedIn::Yes(session["access_token"].as_str().context("a session has a token")?.to_owned()))
    }

    /// Signs in again and again, and waits when told to. Counts the answers.
    async fn sign_in_on_and_on(&self, answers: &AtomicU64) -> Result<()> {
        loop {
            let answer = self.sign_in().await?;
            answers.fetch_add(1, Ordering::Relaxed);
            if let SignedIn::Wait(wait) = answer {
                tokio::time::sleep(wait + self.spread).await;
            }
        }
    }

    /// Lists the deployments that many times, one after the other; gives each time.
    async fn list(&self, token: &str, times: usize) -> Result<Vec<Duration>> {
        let mut taken = Vec::with_capacity(times);
        for _ in 0..times {
            let began = Instant::now();
            let response =
                self.http.get(format!("{}/deployments", self.base)).bearer_auth(token).send().await?;
            let (status, text) = (response.status(), response.text().await?);
            taken.push(began.elapsed());
            ensure!(status.is_success(), "{status}: {text}");
        }
        Ok(taken)
    }
}

/// Sign-ins in a second, with enough callers that a hash is always under way.
async fn sign_in_rate(clients: &[Client]) -> Result<(f64, String)> {
    const CALLERS: usize = 8;
    let began = Instant::now();
    let callers = (0..CALLERS).map(|caller| async move {
        for n in (caller..SIGN_INS).step_by(CALLERS) {
            let client = clients.get(n).context("there are more clients than sign-ins")?;
            while let SignedIn::Wait(wait) = client.sign_in().await? {
                tokio::time::sleep(wait).await;
            }
        }
        Ok::<_, anyhow::Error>(())
    });
    futures_util::future::try_join_all(callers).await?;
    let time = began.elapsed();
    let rate = SIGN_INS as f64 / time.as_secs_f64();
    Ok((rate, format!("{rate:.1} /s")))
}

fn sign_in_rows(sign_ins: f64, text: &str, hashes: f64) -> Vec<Row> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cost = Config::default().bcrypt_cost;
    let row = |against: String, theirs: f64, aim| Row {
        what: format!("signing in over HTTP, bcrypt cost {cost}, {cores} cores"),
        ours: text.to_owned(),
        against,
        theirs: format!("{theirs:.1} /s"),
        ratio: format!("{:.2}x", sign_ins / theirs),
        aim,
    };
    let bound = (cores / 2).max(1);
    let limit = f64::from(u32::try_from(bound).unwrap_or(u32::MAX)) * hashes;
    vec![
        row(format!("bcrypt alone on the {bound} allowed to it"), limit, "near 1x"),
        row("bcrypt alone on one core".into(), hashes, "for comparison"),
    ]
}

/// How long lists take, idle and while all clients sign in.
async fn latency(clients: &[Client]) -> Result<Vec<Row>> {
    let prober = clients.first().context("there are clients")?;
    let SignedIn::Yes(token) = prober.sign_in().await? else {
        anyhow::bail!("the first to sign in was told to wait");
    };
    prober.list(&token, REQUESTS).await?;
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        idle.extend(prober.list(&token, REQUESTS).await?);
        let answers = AtomicU64::new(0);
        let flood = futures_util::future::try_join_all(clients.iter().map(|c| c.sign_in_on_and_on(&answers)));
        let probe = async {
            // Until then connections are made, and those beyond the queue are sent away.
            until("sign-ins are under way", seconds(30), async || {
                let answers = answers.load(Ordering::Relaxed);
                ensure!(answers >= u64::from(CLIENTS / 2), "only {answers} were answered");
                Ok(())
            })
            .await;
            prober.list(&token, REQUESTS).await
        };
        // Cancel-safe: once the lists are measured, what becomes of the sign-ins is nothing to us.
        busy.extend(tokio::select! {
            failed = flood => failed.map(|_| Vec::new())?,
            listed = probe => listed?,
        });
        settle(clients).await;
    }
    let row = |what: &str, of: usize, aim| {
        let (ours, theirs) = (percentile(&mut busy.clone(), of), percentile(&mut idle.clone(), of));
        Row {
            what: format!("GET /deployments while {CLIENTS} sign in at once, {what}"),
            ours: millis(ours),
            against: "idle".into(),
            theirs: millis(theirs),
            ratio: format!("{:.2}x", ours.as_secs_f64() / theirs.as_secs_f64()),
            aim,
        }
    };
    Ok(vec![row("p99", 99, "under 2x"), row("median", 50, "for comparison")])
}

/// Waits until nobody queues for a hash any more: one who signs in alone is
/// answered soon.
async fn settle(clients: &[Client]) {
    let last = clients.last();
    until("the sign-ins are over", seconds(60), async || {
        let began = Instant::now();
        let answer = last.context("there are clients")?.sign_in().await?;
        ensure!(matches!(answer, SignedIn::Yes(_)), "told to wait");
        ensure!(began.elapsed() < seconds(2), "it took {:?}", began.elapsed());
        Ok(())
    })
    .await;
}

fn percentile(times: &mut [Duration], of: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * of / 100).copied().unwrap_or_default()
}
