//! Background work that has an owner, a name and an end.
//!
//! Everything that runs beside the main flow is started by a [`Supervisor`],
//! which knows its name, logs its panics, and stops it with a deadline. There are
//! two kinds. A [`BackgroundTask`] does the same small piece of work again and
//! again. [`Supervisor::spawn`] takes any other future: one-off work that must
//! not die with the request that asked for it, or a loop that watches
//! [`Supervisor::stop_token`] itself.

use std::{borrow::Cow, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, Span};

/// How long the supervisor waits for tasks that it drops after the grace. They
/// end at their next await, so this is only reached by one that blocks a thread.
const DROP_LIMIT: Duration = Duration::from_millis(500);

/// Work that runs again and again: on a period, and when someone asks.
///
/// `activate` takes no input. What to do is read from its source each time, so a
/// lost wake-up costs latency and nothing else. It must be safe to run it twice,
/// and in two processes at once. The supervisor stops a task between runs: a run
/// that may last must be bounded, or watch the stop token itself.
pub trait BackgroundTask: Send + 'static {
    /// What the task is called in logs and reports.
    const NAME: &'static str;

    /// What the last activation did, for whoever shows the state of the process.
    type Status: serde::Serialize + Clone + Default + Send + Sync + 'static;

    /// Does what there is to do now.
    fn activate(&mut self) -> impl Future<Output = Self::Status> + Send;

    /// How long until there is something to do, where that is known to be sooner than
    /// the period; asked after each activation.
    fn due_in(&self) -> Option<Duration> {
        None
    }
}

/// At that moment, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Starts tasks, wakes them, and stops them. Clones share everything.
///
/// It captures the main runtime, so a call from a thread with a runtime of its
/// own (an HTTP worker) cannot put a task onto that thread, where it would be
/// dropped with it.
#[derive(Clone)]
pub struct Supervisor {
    runtime: Handle,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Cancelled when the grace is over: what still runs is dropped.
    drop_all: CancellationToken,
}

impl Supervisor {
    /// A supervisor whose tasks run on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            drop_all: CancellationToken::new(),
        }
    }

    /// The runtime that the tasks run on.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// A token that is cancelled when the supervisor shuts down. Cancelling it
    /// stops only those who hold it or its children.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Activates `task` now, then each `period` after the last activation ended,
    /// and whenever the returned [`Notify`] is notified; wake-ups during an
    /// activation are folded into one more. The receiver shows what the last
    /// activation did.
    pub fn start<T: BackgroundTask>(
        &self,
        mut task: T,
        period: Duration,
    ) -> (Arc<Notify>, watch::Receiver<T::Status>) {
        let wake = Arc::new(Notify::new());
        let (status_tx, status_rx) = watch::channel(T::Status::default());
        let (woken, stop) = (wake.clone(), self.stop.clone());
        let activations = async move {
            // Tokio refuses a period of nothing.
            let mut tick = interval(period.max(Duration::from_millis(1)));
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut due: Option<Instant> = None;
            loop {
                // Cancel-safe: a tick or a permit that loses the race is kept for the next
                // round, and so is the moment.
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = woken.notified() => tick.reset(),
                    () = at(due) => tick.reset(),
                    _ = tick.tick() => {}
                }
                // A panic ends this activation, not the task: the next period tries again.
                match AssertUnwindSafe(task.activate()).catch_unwind().await {
                    Ok(status) => drop(status_tx.send_replace(status)),
                    Err(_) => tracing::error!("background task panicked"),
                }
                due = task.due_in().map(|wait| Instant::now() + wait);
            }
        };
        let span = tracing::error_span!(parent: None, "task", task = T::NAME);
        self.run(T::NAME.into(), span, activations);
        (wake, status_rx)
    }

    /// Runs `future` to its end, whatever becomes of the caller. A long one must
    /// watch [`Supervisor::stop_token`]; what has not ended when the grace of
    /// [`Supervisor::shut_down`] is over is dropped at its next await.
    ///
    /// The handle gives the result, or `None` where the future panicked (which is
    /// logged with `name`) or was dropped. Dropping the handle changes nothing.
    /// The log lines of the future carry the fields of the caller's spans.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let name = name.into();
        let span = tracing::error_span!("task", task = %name);
        self.run(name, span, future)
    }

    /// Asks all tasks to end and waits for them, for `grace` at most; then drops
    /// the rest. Returns whether all ended by themselves.
    pub async fn shut_down(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        if timeout(grace, self.tracker.wait()).await.is_ok() {
            return true;
        }
        self.drop_all.cancel();
        if timeout(DROP_LIMIT, self.tracker.wait()).await.is_err() {
            tracing::error!(tasks = self.tracker.len(), "tasks block their threads and are left behind");
        }
        false
    }

    fn run<F>(&self, name: Cow<'static, str>, span: Span, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let drop_all = self.drop_all.clone();
        // On the heap, so that no task's future grows those it passes through.
        let future = Box::pin(AssertUnwindSafe(future).catch_unwind());
        let task = async move {
            // Cancel-safe: dropping the future is the very meaning of the first arm.
            let result = tokio::select! {
                biased;
                () = drop_all.cancelled() => {
                    tracing::warn!("task {name} did not stop in time and was dropped");
                    return None;
                }
                result = future => result,
            };
            if result.is_err() {
                tracing::error!("task {name} panicked");
            }
            result.ok()
        };
        self.tracker.spawn_on(task.instrument(span), &self.runtime)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const NEVER: Duration = Duration::from_secs(3600);

    /// Counts its activations, and panics in the one it was told to.
    struct Count {
        done: u32,
        panics_at: u32,
    }

    impl BackgroundTask for Count {
        const NAME: &'static str = "count";
        type Status = u32;

        async fn activate(&mut self) -> u32 {
            self.done += 1;
            assert_ne!(self.done, self.panics_at, "as asked");
            self.done
        }
    }

    async fn reaches(status: &mut watch::Receiver<u32>, wanted: u32) {
        timeout(SOON, status.wait_for(|status| *status >= wanted)).await.unwrap().unwrap();
    }

    /// Sets its flag when dropped.
    struct Flag(Arc<AtomicU32>);

    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(1, SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn task_runs_at_once_and_on_its_period() {
        let supervisor = Supervisor::new(Handle::current());
        let begin = tokio::time::Instant::now();
        let (_wake, mut status) = supervisor.start(Count { done: 0, panics_at: 0 }, Duration::from_secs(1));
        reaches(&mut status, 1).await;
        assert!(begin.elapsed() < Duration::from_secs(1));
        reaches(&mut status, 4).await;
        assert!(begin.elapsed() >= Duration::from_secs(3));
        assert!(supervisor.shut_down(SOON).await);
    }

    #[tokio::test]
    async fn task_runs_when_it_is_woken() {
        let supervisor = Supervisor::new(Handle::current());
        let (wake, mut status) = supervisor.start(Count { done: 0, panics_at: 0 }, NEVER);
        for wanted in 1..=5 {
            reaches(&mut status, wanted).await;
            wake.notify_one();
        }
        assert!(supervisor.shut_down(SOON).await);
    }

    #[tokio::test(start_paused = true)]
    async fn panic_ends_one_activation_and_not_the_task() {
        let supervisor = Supervisor::new(Handle::current());
        let (_wake, mut status) = supervisor.start(Count { done: 0, panics_at: 2 }, Duration::from_secs(1));
        reaches(&mut status, 3).await;
        assert!(supervisor.shut_down(SOON).await);
    }

    #[tokio::test]
    async fn no_activation_begins_after_the_stop() {
        let supervisor = Supervisor::new(Handle::current());
        let (wake, mut status) = supervisor.start(Count { done: 0, panics_at: 0 }, NEVER);
        reaches(&mut status, 1).await;
        assert!(supervisor.shut_down(SOON).await);
        wake.notify_one();
        // The task is gone, and its end of the channel with it.
        assert!(status.wait_for(|status| *status > 1).await.is_err());
    }

    #[tokio::test]
    async fn zero_period_is_taken_as_a_short_one() {
        let supervisor = Supervisor::new(Handle::current());
        let (_wake, mut status) = supervisor.start(Count { done: 0, panics_at: 0 }, Duration::ZERO);
        reaches(&mut status, 3).await;
        assert!(supervisor.shut_down(SOON).await);
    }

    #[tokio::test]
    async fn spawned_work_gives_its_result_and_a_panic_gives_none() {
        let supervisor = Supervisor::new(Handle::current());
        assert_eq!(supervisor.spawn("answer", async { 42 }).await.unwrap(), Some(42));
        let panicked = supervisor.spawn("trouble", async { panic!("as asked") });
        assert_eq!(panicked.await.unwrap(), None::<()>);
        assert!(supervisor.shut_down(SOON).await);
    }

    #[tokio::test]
    async fn shut_down_waits_for_work_whose_handle_was_dropped() {
        let supervisor = Supervisor::new(Handle::current());
        let (stop, done) = (supervisor.stop_token(), Arc::new(AtomicU32::new(0)));
        let finished = done.clone();
        drop(supervisor.spawn("drain", async move {
            stop.cancelled().await;
            tokio::task::yield_now().await;
            finished.store(1, SeqCst);
        }));
        assert!(supervisor.shut_down(SOON).await);
        assert_eq!(done.load(SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_outlasts_the_grace_is_dropped_and_told() {
        let supervisor = Supervisor::new(Handle::current());
        let dropped = Arc::new(AtomicU32::new(0));
        let flag = Flag(dropped.clone());
        let stubborn = supervisor.spawn("stubborn", async move {
            let _flag = flag;
            std::future::pending::<()>().await;
        });
        assert!(!supervisor.shut_down(Duration::from_secs(1)).await);
        assert_eq!(dropped.load(SeqCst), 1);
        assert_eq!(stubborn.await.unwrap(), None);
    }

    #[tokio::test]
    async fn lines_of_spawned_work_carry_its_name_and_the_fields_of_the_caller() {
        let (page, _guard) = crate::logging::tests::capture();
        let supervisor = Supervisor::new(Handle::current());
        let request = tracing::info_span!("request", request_id = "r1");
        let task = request.in_scope(|| supervisor.spawn("drain", async { panic!("as asked") }));
        assert_eq!(task.await.unwrap(), None::<()>);
        let lines = page.lines();
        let line = lines.iter().find(|line| line["message"] == "task drain panicked").unwrap();
        assert_eq!(line["spans"][0]["request_id"], "r1");
        assert_eq!(line["spans"][1]["task"], "drain");
        assert!(supervisor.shut_down(SOON).await);
    }

    #[tokio::test]
    async fn cancelling_a_stop_token_stops_nobody_else() {
        let supervisor = Supervisor::new(Handle::current());
        supervisor.stop_token().cancel();
        assert!(!supervisor.stop_token().is_cancelled());
        assert!(supervisor.shut_down(SOON).await);
        assert!(supervisor.stop_token().is_cancelled());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn work_from_a_thread_with_its_own_runtime_outlives_that_runtime() {
        let supervisor = Supervisor::new(Handle::current());
        let (tell, told) = tokio::sync::oneshot::channel();
        let (theirs, gone) = (supervisor.clone(), CancellationToken::new());
        let runtime_gone = gone.clone();
        std::thread::spawn(move || {
            let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
            worker.block_on(async {
                drop(theirs.spawn("handed over", async move {
                    runtime_gone.cancelled().await;
                    tell.send(std::thread::current().id()).unwrap();
                }));
            });
        })
        .join()
        .unwrap();
        gone.cancel();
        timeout(SOON, told).await.unwrap().unwrap();
        assert!(supervisor.shut_down(SOON).await);
    }
}
