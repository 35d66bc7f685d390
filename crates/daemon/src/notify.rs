//! What a service manager is told: that the process is ready, that it stops, and
//! again and again that it lives.
//!
//! The protocol is `sd_notify(3)`: a datagram to the socket that `NOTIFY_SOCKET`
//! names. Without that variable nothing is sent and nothing fails, so a process
//! behaves the same when a person starts it.
//!
//! A process says that it lives from a task of its runtime. So a runtime whose
//! threads are all blocked says nothing, and the manager starts it anew; what a
//! single task waits for, this does not see.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

/// The manager's patience holds this many signs of life, so that one that is late
/// does no harm.
const SIGNS: u32 = 3;

/// Says that the start is complete; what depends on this process may go on.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// Says that an orderly stop has begun.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Says for people, in one line, what the process is about (`systemctl status`).
pub fn status(text: &str) {
    // A line break would begin another assignment.
    send(&[NotifyState::Status(&text.replace(['\n', '\r'], " "))]);
}

fn send(state: &[NotifyState<'_>]) {
    // A manager that is not there cannot be told so; for the process nothing follows.
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Says that the process lives, as often as the service manager wants
/// (`WatchdogSec=`), until it is dropped. Keep it until the process ends: an
/// orderly stop is watched, too.
pub struct Watchdog(Option<JoinHandle<()>>);

impl Watchdog {
    /// Begins. Call it on the main runtime. Does nothing where no manager asked
    /// this very process for it.
    #[must_use]
    pub fn start() -> Self {
        // Not a supervisor's task: it has to outlive the supervisor's end. `Drop` stops it.
        Self(
            sd_notify::watchdog_enabled()
                .and_then(period)
                .map(|period| Handle::current().spawn(keep(period))),
        )
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// How often to send, for a manager that waits for `patience`.
fn period(patience: Duration) -> Option<Duration> {
    Some(patience / SIGNS).filter(|period| !period.is_zero())
}

async fn keep(period: Duration) {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        send(&[NotifyState::Watchdog]);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::UnixDatagram,
        process::{Child, Command, Stdio},
    };

    use super::*;

    const CHILD: &str = "DAEMON_NOTIFY_TEST_CHILD";

    /// The program that the other tests listen to: this test, run by them once more
    /// with the variable set. By itself it has nothing to do.
    #[test]
    fn notifying_program() {
        let Some(ends) = std::env::var_os(CHILD) else { return };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let watchdog = Watchdog::start();
            ready();
            status("two\nlines");
            stopping();
            if ends != "ends" {
                // Ends by the parent's doing, or when the runner loses patience.
                std::future::pending::<()>().await;
            }
            drop(watchdog);
        });
    }

    fn program(ends: &str) -> Command {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program
            .args(["--exact", "notify::tests::notifying_program"])
            .env(CHILD, ends)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        program
    }

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    struct Manager {
        _dir: tempfile::TempDir,
        socket: UnixDatagram,
        path: std::path::PathBuf,
    }

    impl Manager {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Self { _dir: dir, socket, path }
        }

        fn hears(&self) -> String {
            let mut buffer = [0; 256];
            let length = self.socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end().to_owned()
        }
    }

    #[test]
    fn a_manager_is_told_of_start_stop_and_status_in_order() {
        let manager = Manager::new();
        let _program = Killed(program("stays").env("NOTIFY_SOCKET", &manager.path).spawn().unwrap());
        assert_eq!(
            [manager.hears(), manager.hears(), manager.hears()],
            ["READY=1".to_owned(), "STATUS=two lines".to_owned(), "STOPPING=1".to_owned()]
        );
    }

    #[test]
    fn a_manager_that_watches_hears_again_and_again_that_the_process_lives() {
        let manager = Manager::new();
        let mut program = program("stays");
        program.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "60000");
        let _program = Killed(program.spawn().unwrap());
        let mut signs = 0;
        while signs < 3 {
            signs += u32::from(manager.hears() == "WATCHDOG=1");
        }
    }

    #[test]
    fn without_a_manager_or_with_one_that_is_gone_nothing_fails() {
        assert!(program("ends").status().unwrap().success());
        let gone = tempfile::tempdir().unwrap().path().join("notify");
        assert!(program("ends").env("NOTIFY_SOCKET", gone).status().unwrap().success());
    }

    #[test]
    fn a_sign_of_life_is_sent_several_times_within_the_managers_patience() {
        assert_eq!(period(Duration::from_secs(30)), Some(Duration::from_secs(10)));
        assert_eq!(period(Duration::ZERO), None);
    }
}
