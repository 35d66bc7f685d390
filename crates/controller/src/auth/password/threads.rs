//! The threads that hash: few, and of a lower priority than everything else.
//!
//! A hash takes a quarter of a second of a core. On a thread of equal priority every
//! request that becomes runnable meanwhile might wait for the scheduler's next tick;
//! beside one of lower priority it goes first. They are not the runtime's blocking
//! threads, because a thread that has given up priority cannot have it back.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use tokio::sync::oneshot;

/// How much lower than the process: about a tenth of the weight.
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that work off jobs in their order. They end with the last clone of this.
#[derive(Clone)]
pub(super) struct Threads(mpsc::Sender<Job>);

impl Threads {
    /// Starts that many.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(count: usize) -> std::io::Result<Self> {
        let (sender, jobs) = mpsc::channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..count {
            let jobs = jobs.clone();
            std::thread::Builder::new().name("password".into()).spawn(move || work_off(&jobs))?;
        }
        Ok(Self(sender))
    }

    /// Has one of them do something, also when nobody waits for it any more. The
    /// receiver gets nothing when it panics.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        // Without a thread the sender is dropped with the job, and the receiver learns of it.
        let _ = self.0.send(Box::new(move || drop(answer.send(work()))));
        answered
    }
}

fn work_off(jobs: &Mutex<mpsc::Receiver<Job>>) {
    lower_priority();
    loop {
        // The lock guards whose turn it is to wait, and is free again while a job runs.
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a password's hash panicked");
        }
    }
}

/// On Linux, priorities belong to threads: this is of the calling one alone.
fn lower_priority() {
    let own = rustix::process::getpriority_process(None);
    let lowered = own.and_then(|own| rustix::process::setpriority_process(None, own + NICENESS));
    if let Err(error) = lowered {
        tracing::warn!(%error, "password hashes run at the priority of everything else");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn work_is_done_on_these_threads_alone_and_on_each_at_once() {
        let threads = Threads::start(2).unwrap();
        let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let answers: Vec<_> = (0..40)
            .map(|_| {
                let (under_way, most) = (under_way.clone(), most.clone());
                threads.run(move || {
                    most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    std::thread::current().id()
                })
            })
            .collect();
        let mut used = HashSet::new();
        for answer in answers {
            used.insert(answer.await.unwrap());
        }
        assert!((1..=2).contains(&used.len()), "{used:?}");
        assert!(!used.contains(&std::thread::current().id()));
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn two_threads_work_at_the_same_time() {
        let threads = Threads::start(2).unwrap();
        // Each waits for the other: one thread alone would never be done.
        let both = Arc::new(std::sync::Barrier::new(2));
        let answers = [0, 1].map(|_| {
            let both = both.clone();
            threads.run(move || both.wait().is_leader())
        });
        for answer in answers {
            answer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn they_have_less_priority_than_the_rest_of_the_process() {
        let of_this_thread = || rustix::process::getpriority_process(None).unwrap();
        let before = of_this_thread();
        let threads = Threads::start(1).unwrap();
        assert_eq!(threads.run(of_this_thread).await.unwrap(), (before + NICENESS).min(19));
        assert_eq!(of_this_thread(), before);
    }

    #[tokio::test]
    async fn a_panic_ends_the_work_and_not_the_thread() {
        let threads = Threads::start(1).unwrap();
        assert!(threads.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(threads.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn they_end_with_the_last_user_once_all_work_is_done() {
        struct Tell(mpsc::Sender<()>);
        impl Drop for Tell {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        thread_local!(static LIVES: std::cell::RefCell<Option<Tell>> = const { std::cell::RefCell::new(None) });
        let threads = Threads::start(1).unwrap();
        let (tell, told) = mpsc::channel();
        let first = threads.run(move || LIVES.with(|lives| drop(lives.replace(Some(Tell(tell))))));
        let second = threads.clone().run(|| 7);
        drop(threads);
        first.await.unwrap();
        assert_eq!(second.await.unwrap(), 7);
        told.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    }
}
