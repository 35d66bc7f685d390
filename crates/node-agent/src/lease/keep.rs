//! The lease on disk, so that a restart of the agent does not renew it.
//!
//! The file says when the lease was last renewed, twice: by the clock that nobody
//! sets, which is good as long as the host is not started anew, and by the calendar
//! for when it was.
//!
//! | what is found at the start | age that is gone on from |
//! |---|---|
//! | nothing | none: it counts from now. Nothing ran here under a lease |
//! | a file of this boot | exact, whatever was done to the calendar |
//! | a file of an earlier boot | by the calendar, and no less than the host is up |
//! | a file of an earlier boot, from the future | unknown: the calendar was set back |
//! | a file that cannot be understood | unknown |
//!
//! Unknown counts as run out, until the controller's next word. It costs a stop of
//! those instances whose users asked for one, and the other way would cost two
//! copies of what must not run twice (I6).
//!
//! Written every 10 s at most, and when the agent stops. What is there may be that
//! much too old and is never too young. It is not made durable: a file that a crash
//! of the host has torn is one of those that cannot be understood.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::Utc;
use daemon::Supervisor;
use domain::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Lease, since_boot};

const FILE: &str = "lease.json";
/// Between two writes at the least.
const PERIOD: Duration = Duration::from_secs(10);
/// Where a boot's id is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// When the lease was last renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    boot_id: String,
    since_boot_millis: u64,
    at: Timestamp,
}

/// The moment at which something is written or read.
#[derive(Clone, Debug)]
struct Moment {
    boot_id: String,
    since_boot: Duration,
    at: Timestamp,
}

impl Moment {
    fn now() -> Self {
        let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        Self { boot_id, since_boot: since_boot(), at: Utc::now() }
    }
}

/// The lease as an earlier agent of `data_dir` left it. Blocks.
pub(crate) fn restore(data_dir: &Path) -> Lease {
    let age = match read(data_dir) {
        Ok(Some(kept)) => age(&kept, &Moment::now()),
        Ok(None) => Some(Duration::ZERO),
        Err(error) => {
            tracing::warn!(%error, file = FILE, "when the controller last gave a word cannot be read");
            None
        }
    };
    match age {
        Some(age) => tracing::debug!(?age, "lease"),
        None => tracing::warn!(
            "how long ago the controller gave a word is not known: instances with stop_after_seconds \
             count as left alone until it gives one"
        ),
    }
    Lease::renewed_ago(age.unwrap_or(Duration::MAX))
}

/// How old what was kept is; `None` where that cannot be known.
fn age(kept: &Kept, now: &Moment) -> Option<Duration> {
    let same_boot = !now.boot_id.is_empty() && kept.boot_id == now.boot_id;
    if same_boot {
        return now.since_boot.checked_sub(Duration::from_millis(kept.since_boot_millis));
    }
    let passed = (now.at - kept.at).to_std().ok()?;
    Some(passed.max(now.since_boot))
}

fn read(data_dir: &Path) -> io::Result<Option<Kept>> {
    match fs::read(data_dir.join(FILE)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps the file up to date until `supervisor` ends, and once more then. A
/// directory that cannot be written is logged once, and tried again.
pub(crate) fn keep(supervisor: &Supervisor, lease: Lease, data_dir: PathBuf) {
    let stop = supervisor.stop_token();
    let renewals = lease.renewals();
    let file = File { lease, data_dir, failed: false, renewals };
    drop(supervisor.spawn("lease", file.follow(stop)));
}

struct File {
    lease: Lease,
    data_dir: PathBuf,
    /// Whether the last write failed.
    failed: bool,
    renewals: watch::Receiver<()>,
}

impl File {
    /// Writes what comes until it is stopped, and the last of it then. A write that
    /// has begun is never dropped: two of them would be in each other's way.
    async fn follow(mut self, stop: CancellationToken) {
        loop {
            match stop.run_until_cancelled(self.renewals.changed()).await {
                Some(Ok(())) => self.write().await,
                // Nobody is left who could renew it: cannot be, we hold it ourselves.
                Some(Err(_)) => return,
                None => break,
            }
            if stop.run_until_cancelled(sleep(PERIOD)).await.is_none() {
                break;
            }
        }
        if self.renewals.has_changed().unwrap_or(false) {
            self.write().await;
        }
    }

    async fn write(&mut self) {
        self.renewals.mark_unchanged();
        let (lease, data_dir) = (self.lease.clone(), self.data_dir.clone());
        let written = spawn_blocking(move || write(&data_dir, &kept(&lease, &Moment::now())))
            .await
            .unwrap_or_else(|gone| Err(io::Error::other(gone)));
        match &written {
            Err(error) if !self.failed => {
                tracing::warn!(%error, file = FILE, "the lease cannot be written; trying again");
            }
            Ok(()) if self.failed => tracing::info!(file = FILE, "the lease is written again"),
            _ => {}
        }
        self.failed = written.is_err();
    }
}

fn kept(lease: &Lease, now: &Moment) -> Kept {
    let age = lease.age();
    let since_boot = now.since_boot.checked_sub(age);
    Kept {
        // What is older than this boot was renewed in another.
        boot_id: since_boot.map(|_| now.boot_id.clone()).unwrap_or_default(),
        since_boot_millis: since_boot.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0),
        at: chrono::TimeDelta::from_std(age)
            .ok()
            .and_then(|age| now.at.checked_sub_signed(age))
            .unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

fn write(data_dir: &Path, kept: &Kept) -> io::Result<()> {
    let temporary = data_dir.join(".lease.json.tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    drop(file);
    fs::rename(&temporary, data_dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use tokio::runtime::Handle;

    use super::{super::testing::Hands, *};

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn renewed(boot: &str, since_boot: u64, calendar: i64) -> Kept {
        Kept { boot_id: boot.into(), since_boot_millis: since_boot * 1000, at: at(calendar) }
    }

    fn moment(boot: &str, since_boot: u64, calendar: i64) -> Moment {
        Moment { boot_id: boot.into(), since_boot: seconds(since_boot), at: at(calendar) }
    }

    const DAY: i64 = 86_400;

    #[test]
    fn while_the_host_is_up_the_calendar_may_say_what_it_likes() {
        for calendar in [-30 * DAY, 0, 40, 30 * DAY] {
            assert_eq!(age(&renewed("a", 500, 0), &moment("a", 540, calendar)), Some(seconds(40)));
        }
    }

    #[test]
    fn after_a_start_of_the_host_the_calendar_counts_and_never_to_less_than_the_host_is_up() {
        assert_eq!(age(&renewed("a", 9000, 0), &moment("b", 60, 300)), Some(seconds(300)));
        assert_eq!(age(&renewed("a", 9000, 0), &moment("b", 60, 5)), Some(seconds(60)));
        assert_eq!(age(&renewed("a", 9000, 0), &moment("b", 60, 20 * DAY)), Some(seconds(20 * 86_400)));
    }

    #[test]
    fn an_age_that_cannot_be_known_is_none() {
        assert_eq!(age(&renewed("a", 9000, 0), &moment("b", 60, -1)), None, "the calendar was set back");
        assert_eq!(age(&renewed("a", 9000, 0), &moment("a", 60, 10)), None, "no such boot");
        assert_eq!(age(&renewed("", 9, 0), &moment("", 60, -1)), None, "no boot's id is no boot");
    }

    #[test]
    fn what_is_found_at_the_start_decides_where_counting_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        assert!(restore(dir.path()).age() < seconds(5), "nothing ran under a lease here");
        let long_ago = Lease::renewed_ago(seconds(4000));
        write(dir.path(), &kept(&long_ago, &Moment::now())).unwrap();
        let found = restore(dir.path()).age();
        assert!(found >= seconds(4000) && found < seconds(4060), "{found:?}");
        let never = Lease::renewed_ago(Duration::MAX);
        write(dir.path(), &kept(&never, &Moment::now())).unwrap();
        assert!(restore(dir.path()).age() > seconds(365 * 86_400));
        for torn in [&b""[..], b"{\"boot_id\":\"x\"", b"[]"] {
            fs::write(dir.path().join(FILE), torn).unwrap();
            assert_eq!(restore(dir.path()).age(), Duration::MAX);
        }
    }

    async fn until(what: &str, so: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !so() {
            assert!(begun.elapsed() < seconds(20), "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn renewals_are_written_seldom_and_the_last_one_when_the_agent_stops() {
        let dir = tempfile::tempdir().unwrap();
        let hands = Hands::default();
        hands.set(100);
        let lease = hands.lease(seconds(70));
        let supervisor = Supervisor::new(Handle::current());
        keep(&supervisor, lease.clone(), dir.path().into());
        assert_eq!(read(dir.path()).unwrap(), None, "nothing was renewed");
        lease.renew();
        let is_there = || read(dir.path()).unwrap().is_some();
        until("it is written", is_there).await;
        let first = read(dir.path()).unwrap().unwrap();
        hands.set(150);
        for _ in 0..1000 {
            lease.renew();
        }
        tokio::task::yield_now().await;
        assert_eq!(read(dir.path()).unwrap().unwrap(), first, "not again within ten seconds");
        hands.set(151);
        assert!(supervisor.shut_down(seconds(5)).await);
        let last = read(dir.path()).unwrap().unwrap();
        assert!(last.at - first.at > TimeDelta::seconds(-2), "a second old by then: {first:?} {last:?}");
        assert_ne!(last, first);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_ends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let lease = Lease::renewed_ago(Duration::ZERO);
        let supervisor = Supervisor::new(Handle::current());
        keep(&supervisor, lease.clone(), missing.clone());
        lease.renew();
        assert!(write(&missing, &kept(&lease, &Moment::now())).is_err());
        fs::create_dir(&missing).unwrap();
        lease.renew();
        assert!(supervisor.shut_down(seconds(5)).await);
        assert!(read(&missing).unwrap().is_some());
    }
}
