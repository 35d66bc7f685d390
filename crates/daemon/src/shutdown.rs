//! The first signal asks, the second one insists.
//!
//! SIGTERM and SIGINT mean the same: stop in order. While that goes on, a second
//! one of either kind ends the process at once, for whoever no longer wants to
//! wait.

use std::{fmt, io};

use tokio::{
    runtime::Handle,
    signal::unix::{self, SignalKind},
    sync::watch,
    task::JoinHandle,
};

/// A signal that asks the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: someone pressed Ctrl-C.
    Interrupt,
    /// SIGTERM: a service manager or an operator.
    Terminate,
}

impl Signal {
    /// What a process that this signal ended exits with: 128 and its number.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// Listens for signals from [`Signals::install`] until it is dropped. Keep it
/// until the process ends, or a second signal goes unheard.
pub struct Signals {
    first: watch::Receiver<Option<Signal>>,
    listener: JoinHandle<()>,
}

impl Signals {
    /// Starts to listen. Call it early and on the main runtime: from here on the
    /// signals no longer end the process by themselves.
    ///
    /// # Errors
    ///
    /// Where the handlers cannot be installed.
    pub fn install() -> io::Result<Self> {
        let mut interrupt = unix::signal(SignalKind::interrupt())?;
        let mut terminate = unix::signal(SignalKind::terminate())?;
        let (tell, first) = watch::channel(None);
        // Not a supervisor's task: it has to outlive the supervisor's end, since
        // that is when a second signal matters. `Drop` stops it.
        let listener = Handle::current().spawn(async move {
            let mut next = async || {
                // Cancel-safe: a signal not yet received stays pending in its stream.
                tokio::select! {
                    Some(()) = interrupt.recv() => Signal::Interrupt,
                    Some(()) = terminate.recv() => Signal::Terminate,
                }
            };
            tell.send_replace(Some(next().await));
            let second = next().await;
            tracing::warn!(signal = %second, "second signal: exiting at once");
            std::process::exit(i32::from(second.exit_code()));
        });
        Ok(Self { first, listener })
    }

    /// Waits for the first signal. Answers at once when it has come already, and
    /// as often as it is asked.
    pub async fn first(&self) -> Signal {
        let mut first = self.first.clone();
        loop {
            if let Some(signal) = *first.borrow_and_update() {
                return signal;
            }
            if first.changed().await.is_err() {
                // The listener ends only with the process or with `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        process::{Child, ChildStdout, Command, Stdio},
    };

    use rustix::process::{Pid, Signal as Kill, kill_process};

    use super::*;

    const CHILD: &str = "DAEMON_SHUTDOWN_TEST_CHILD";

    /// The program that the other tests signal: this test, run by them once more
    /// with the variable set. By itself it has nothing to do.
    #[test]
    fn signalled_program() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let signals = Signals::install().unwrap();
            say("ready");
            let first = signals.first().await;
            say(&first.to_string());
            assert_eq!(signals.first().await, first);
            say("again");
            // Ends by the parent's doing, or when the runner loses patience.
            std::future::pending::<()>().await;
        });
    }

    fn say(word: &str) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nchild: {word}").unwrap();
        out.flush().unwrap();
    }

    struct Program {
        child: Child,
        lines: std::io::Lines<BufReader<ChildStdout>>,
    }

    impl Program {
        fn start() -> Self {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "shutdown::tests::signalled_program", "--nocapture"])
                .env(CHILD, "1")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut program = Self { child, lines };
            program.says("ready");
            program
        }

        /// Waits for the word; ends with the program's output.
        fn says(&mut self, word: &str) {
            let wanted = format!("child: {word}");
            assert!(self.lines.any(|line| line.unwrap() == wanted), "the program never said {word}");
        }

        fn signal(&self, signal: Kill) {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }

        fn exit_code(mut self) -> Option<i32> {
            self.child.wait().unwrap().code()
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn first_signal_is_told_and_second_exits_with_its_code() {
        let cases = [
            (Kill::TERM, "SIGTERM", Kill::INT, 130),
            (Kill::INT, "SIGINT", Kill::TERM, 143),
            (Kill::TERM, "SIGTERM", Kill::TERM, 143),
        ];
        for (first, name, second, code) in cases {
            let mut program = Program::start();
            program.signal(first);
            program.says(name);
            program.says("again");
            program.signal(second);
            assert_eq!(program.exit_code(), Some(code), "{name} first");
        }
    }
}
