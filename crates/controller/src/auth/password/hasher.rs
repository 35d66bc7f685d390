//! Hashing and checking passwords, which takes a quarter of a second of a core.
//!
//! It runs on threads of its own, because an HTTP worker would stall with it, on at
//! most half of the cores and at a lower priority, because sign-ins must not starve
//! everything else. Who would have to wait too long is told so instead.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Password, PasswordFault, threads::Threads};

/// The least and the greatest cost that [`Hasher::new`] takes. One more doubles the
/// time; 16 is some four seconds.
pub const COSTS: std::ops::RangeInclusive<u32> = 4..=16;
/// Callers that may wait at once, besides those being served.
const QUEUE_MAX: usize = 32;
/// How long one may wait for its turn.
const QUEUE_DEADLINE: Duration = Duration::from_secs(5);

/// Why a password could not be hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Too many others are waiting.
    #[error("check a password: too many sign-ins at once")]
    Busy,
    /// The password cannot be hashed.
    #[error("hash a password: it {0}")]
    Unusable(PasswordFault),
    /// The operating system gave no random bytes.
    #[error("get random bytes")]
    Random,
    /// The cost is out of range.
    #[error("use the bcrypt cost {0}: it must be 4 to 16")]
    Cost(u32),
    /// The library refused.
    #[error("hash a password")]
    Library(#[from] bcrypt::BcryptError),
    /// The system gave no thread for it.
    #[error("start the threads that hash passwords")]
    Threads(#[source] std::io::Error),
    /// It ended without an answer.
    #[error("hash a password: it broke off")]
    Broken,
}

/// Whether a password is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It is.
    Right,
    /// It is, but was hashed at another cost than is configured now: hash it again
    /// and keep that.
    RightButOutdated,
    /// It is not, or there is no account.
    Wrong,
}

/// Hashes and checks passwords. Clones share their turns.
#[derive(Clone)]
pub struct Hasher {
    cost: u32,
    threads: Threads,
    deadline: Duration,
    /// Work that may run at once.
    turns: Arc<Semaphore>,
    /// Callers that may be in here at once, waiting or served.
    places: Arc<Semaphore>,
    /// A hash of no password, checked where there is no account.
    dummy: Arc<str>,
}

impl Hasher {
    /// A hasher with its threads, which end with the last clone.
    ///
    /// # Errors
    /// [`HashError::Cost`], [`HashError::Threads`].
    pub fn new(cost: u32) -> Result<Self, HashError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_limits(cost, (cores / 2).max(1), QUEUE_MAX, QUEUE_DEADLINE)
    }

    fn with_limits(cost: u32, turns: usize, queue: usize, deadline: Duration) -> Result<Self, HashError> {
        if !COSTS.contains(&cost) {
            return Err(HashError::Cost(cost));
        }
        // Well formed, of our cost, and the hash of nothing that anyone could know.
        let dummy = format!("$2b${cost:02}${}", "C".repeat(21) + "." + &"C".repeat(30) + ".");
        Ok(Self {
            cost,
            threads: Threads::start(turns).map_err(HashError::Threads)?,
            deadline,
            turns: Arc::new(Semaphore::new(turns)),
            places: Arc::new(Semaphore::new(turns + queue)),
            dummy: dummy.into(),
        })
    }

    /// Hashes a password for keeping. What may be a password is the caller's to
    /// check before, by [`Password::fault`].
    ///
    /// # Errors
    /// [`HashError::Busy`] when too many wait; [`HashError::Unusable`] when it would
    /// be cut.
    pub async fn hash(&self, password: Password) -> Result<String, HashError> {
        if let Some(fault) = password.unusable() {
            return Err(HashError::Unusable(fault));
        }
        let cost = self.cost;
        // Not `non_truncating_hash`: that counts the NUL at the end and refuses 72
        // bytes, of which none would be cut. Longer ones were refused above.
        self.in_turn(move || Ok(bcrypt::hash(password.reveal(), cost)?)).await
    }

    /// Says whether `password` is that of `hash`. Without a hash (no such account,
    /// or one without a password) it takes just as long and says that it is wrong.
    ///
    /// The times are equal for hashes of the configured cost; see
    /// [`Verdict::RightButOutdated`].
    ///
    /// # Errors
    /// [`HashError::Busy`] when too many wait; [`HashError::Library`] when the hash
    /// is not one.
    pub async fn verify(&self, password: Password, hash: Option<String>) -> Result<Verdict, HashError> {
        if password.unusable().is_some() {
            // No account has it, whatever the name: this tells nothing.
            return Ok(Verdict::Wrong);
        }
        let (cost, dummy) = (self.cost, self.dummy.clone());
        self.in_turn(move || {
            let Some(hash) = hash else {
                // The answer is no anyway; what counts is the time.
                std::hint::black_box(bcrypt::verify(password.reveal(), &dummy)?);
                return Ok(Verdict::Wrong);
            };
            if !bcrypt::verify(password.reveal(), &hash)? {
                return Ok(Verdict::Wrong);
            }
            let current = hash.parse::<bcrypt::HashParts>()?.get_cost() == cost;
            Ok(if current { Verdict::Right } else { Verdict::RightButOutdated })
        })
        .await
    }

    /// Waits for a turn and works. The turn ends with the work and not with the
    /// caller: one who goes away does not make room before the core is free.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| HashError::Busy)?;
        let turn = timeout(self.deadline, self.turns.clone().acquire_owned());
        let turn: OwnedSemaphorePermit =
            turn.await.map_err(|_| HashError::Busy)?.map_err(|_| HashError::Broken)?;
        let work = self.threads.run(move || {
            let result = work();
            drop((turn, place));
            result
        });
        work.await.map_err(|_| HashError::Broken)?
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Instant};

    use tokio::runtime::Handle;

    use super::*;

    const COST: u32 = 4;
    const PATIENCE: Duration = Duration::from_secs(30);

    fn hasher() -> Hasher {
        Hasher::new(COST).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::new(text)
    }

    #[tokio::test]
    async fn a_password_is_right_and_every_other_one_is_wrong() {
        let hasher = hasher();
        let hash = hasher.hash(password("correct horse")).await.unwrap();
        assert!(hash.starts_with("$2b$04$"));
        assert_eq!(
            hasher.verify(password("correct horse"), Some(hash.clone())).await.unwrap(),
            Verdict::Right
        );
        for wrong in ["correct horsf", "correct hors", "Correct horse", "", "correct horse "] {
            assert_eq!(hasher.verify(password(wrong), Some(hash.clone())).await.unwrap(), Verdict::Wrong);
        }
    }

    #[tokio::test]
    async fn all_72_bytes_count_and_longer_ones_are_refused_not_cut() {
        let hasher = hasher();
        let longest = "abcdefgh".repeat(9);
        let hash = hasher.hash(password(&longest)).await.unwrap();
        assert_eq!(hasher.verify(password(&longest), Some(hash.clone())).await.unwrap(), Verdict::Right);
        for wrong in [format!("{}i", &longest[..71]), longest[..71].to_owned(), format!("{longest}i")] {
            assert_eq!(hasher.verify(password(&wrong), Some(hash.clone())).await.unwrap(), Verdict::Wrong);
        }
        let refused = hasher.hash(password(&format!("{longest}i"))).await;
        assert!(matches!(refused, Err(HashError::Unusable(PasswordFault::TooLong))));
        let refused = hasher.hash(password("a\0a")).await;
        assert!(matches!(refused, Err(HashError::Unusable(PasswordFault::Nul))));
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_is_right_but_outdated() {
        let hash = hasher().hash(password("correct horse")).await.unwrap();
        let now = Hasher::new(COST + 1).unwrap();
        let verdict = now.verify(password("correct horse"), Some(hash)).await.unwrap();
        assert_eq!(verdict, Verdict::RightButOutdated);
    }

    #[tokio::test]
    async fn without_an_account_the_check_takes_as_long_and_fails() {
        let hasher = Hasher::new(8).unwrap();
        let hash = hasher.hash(password("correct horse")).await.unwrap();
        let mut shortest = [Duration::MAX; 2];
        for _ in 0..10 {
            for (shortest, hash) in shortest.iter_mut().zip([Some(hash.clone()), None]) {
                let started = Instant::now();
                let verdict = hasher.verify(password("wrong horse"), hash).await.unwrap();
                *shortest = (*shortest).min(started.elapsed());
                assert_eq!(verdict, Verdict::Wrong);
            }
        }
        let [with, without] = shortest.map(|time| time.as_secs_f64());
        // The least of ten is the work itself, whatever else the machine did.
        assert!((0.5..2.0).contains(&(with / without)), "{with} s with an account, {without} s without");
    }

    #[tokio::test]
    async fn a_hash_that_is_none_is_an_error() {
        let answer = hasher().verify(password("correct horse"), Some("garbage".to_owned())).await;
        assert!(matches!(answer, Err(HashError::Library(_))));
    }

    #[tokio::test]
    async fn costs_out_of_range_are_refused() {
        for cost in [0, 3, 17, 31] {
            assert!(matches!(Hasher::new(cost), Err(HashError::Cost(_))));
        }
    }

    #[tokio::test]
    async fn beyond_the_queue_callers_are_told_that_it_is_busy() {
        let hasher = Hasher::with_limits(COST, 1, 1, PATIENCE).unwrap();
        let turn = hasher.turns.clone().acquire_owned().await.unwrap();
        let waiting = {
            let hasher = hasher.clone();
            [0, 1].map(|_| {
                let hasher = hasher.clone();
                Handle::current().spawn(async move { hasher.hash(password("correct horse")).await })
            })
        };
        while hasher.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(hasher.hash(password("correct horse")).await, Err(HashError::Busy)));
        drop(turn);
        for one in waiting {
            assert!(one.await.unwrap().is_ok());
        }
        assert!(hasher.hash(password("correct horse")).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_turn_beyond_the_deadline() {
        let short = Duration::from_millis(50);
        let hasher = Hasher::with_limits(COST, 1, 1, short).unwrap();
        let turn = hasher.turns.clone().acquire_owned().await.unwrap();
        let answer = timeout(PATIENCE, hasher.hash(password("correct horse"))).await.unwrap();
        assert!(matches!(answer, Err(HashError::Busy)));
        drop(turn);
        assert!(hasher.hash(password("correct horse")).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn hashes_run_on_no_more_threads_than_there_are_turns() {
        let hasher = Hasher::with_limits(COST, 2, 64, PATIENCE).unwrap();
        let callers = (0..40).map(|_| {
            let hasher = hasher.clone();
            Handle::current().spawn(async move { hasher.in_turn(|| Ok(std::thread::current().id())).await })
        });
        let mut used = HashSet::new();
        for caller in callers.collect::<Vec<_>>() {
            used.insert(caller.await.unwrap().unwrap());
        }
        assert!((1..=2).contains(&used.len()), "{used:?}");
    }

    #[tokio::test]
    async fn who_goes_away_keeps_the_turn_until_the_work_is_done() {
        let hasher = Hasher::with_limits(COST, 1, 1, PATIENCE).unwrap();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let work = hasher.in_turn(move || {
            wait.recv_timeout(PATIENCE).ok();
            Ok(())
        });
        assert!(timeout(Duration::from_millis(20), work).await.is_err());
        assert_eq!(hasher.turns.available_permits(), 0);
        go.send(()).unwrap();
        assert!(hasher.hash(password("correct horse")).await.is_ok());
    }
}
