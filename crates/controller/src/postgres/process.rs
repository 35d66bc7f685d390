//! Starting programs as another account, tied to the life of the thread that
//! starts them, and waiting for them with a deadline.
//!
//! The trap: Linux sends the death signal when the *thread* that made the child
//! ends, not the process. So every start here must come from the cluster's own
//! thread, which outlives the child.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::account::Account;

/// A command with an empty environment and its own process group, under `account`.
///
/// The standard library drops the supplementary groups when it changes the user.
/// The process group keeps a Ctrl-C on our terminal from reaching the database
/// before we have finished with it.
pub(super) fn command(program: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// Makes the kernel send `signal` to the child when the calling thread's process
/// dies in any way.
pub(super) fn die_with_us(command: &mut Command, signal: Signal) {
    let us = rustix::process::getpid();
    let hook = move || {
        // A shell that starts us in the background may have us ignore SIGINT, and
        // children inherit that. The death signal would be lost on a child that has
        // not yet installed its handlers, and the child would live for ever.
        for number in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            default_action(number)?;
        }
        rustix::process::set_parent_process_death_signal(Some(signal))?;
        // We may have died before that call, and then no signal would ever come.
        if rustix::process::getppid() == Some(us) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // The standard library runs the hook after it has changed the user; the other
    // way round the kernel would have cleared the death signal again.
    #[expect(unsafe_code, reason = "the only way to set a death signal between fork and exec")]
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; the
    // hook makes system calls, takes no lock and allocates nothing.
    unsafe {
        command.pre_exec(hook);
    }
}

/// Undoes what this process, or whoever started it, has arranged for a signal.
fn default_action(number: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: the default action involves no code of ours.
    let before = unsafe { libc::signal(number, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Calls `ended` once the child has ended, without reaping it: until its owner
/// does that, its process id cannot become another process's.
pub(super) fn watch(child: &Child, ended: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let pid = Pid::from_child(child);
    thread::Builder::new().name("postgres-wait".to_owned()).spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(rustix::process::waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
        ended();
    })?;
    Ok(())
}

/// Runs a program to its end. After `deadline` it is killed, and the answer is
/// [`io::ErrorKind::TimedOut`].
pub(super) fn run(mut command: Command, deadline: Duration) -> io::Result<ExitStatus> {
    die_with_us(&mut command, Signal::TERM);
    let mut child = command.spawn()?;
    let (tell, told) = mpsc::channel();
    let watched = watch(&child, move || _ = tell.send(()));
    if watched.is_ok() && told.recv_timeout(deadline).is_ok() {
        return child.wait();
    }
    child.kill()?;
    child.wait()?;
    watched?;
    Err(io::ErrorKind::TimedOut.into())
}

/// Whether any process works in `dir`. PostgreSQL's processes all have the
/// cluster as their working directory, backends without a postmaster too.
pub(super) fn works_in(dir: &Path) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        (fs::read_link(entry.path().join("cwd")).ok()? == dir).then_some(pid)
    })
}

/// Waits until no process works in `dir`; answers with one that still does.
pub(super) fn wait_until_left(dir: &Path, deadline: Duration) -> Result<(), u32> {
    let started = Instant::now();
    let mut told = false;
    while let Some(pid) = works_in(dir) {
        if started.elapsed() > deadline {
            return Err(pid);
        }
        if !told {
            tracing::info!(dir = %dir.display(), postgres.pid = pid, "waiting for an earlier server to end");
            told = true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_killed_at_the_deadline() {
        let mut sleep = command(Path::new("/bin/sleep"), None);
        sleep.arg("600");
        let error = run(sleep, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_status_of_a_program_comes_back() {
        assert!(run(command(Path::new("/bin/true"), None), Duration::from_secs(10)).unwrap().success());
        assert!(!run(command(Path::new("/bin/false"), None), Duration::from_secs(10)).unwrap().success());
        assert!(run(command(Path::new("/nowhere"), None), Duration::from_secs(10)).is_err());
    }

    #[test]
    fn a_child_does_not_inherit_that_signals_are_ignored() {
        // The shell ignores SIGINT and SIGQUIT and becomes a process that reads its state.
        let mut shell = command(Path::new("/bin/sh"), None);
        shell.args([
            "-c",
            "trap '' INT QUIT TERM; exec \"$0\" --exact postgres::process::tests::helper --nocapture",
        ]);
        let shell = shell.arg(std::env::current_exe().unwrap()).env(HELPER_VARIABLE, "1");
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let ignored = said.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
        for number in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            assert_eq!(ignored & (1 << (number - 1)), 0, "signal {number} in {ignored:x}");
        }
    }

    const HELPER_VARIABLE: &str = "EMBEDDED_POSTGRES_TEST_SIGNALS";

    /// Not a test of its own: prints the signal state of a child, for the one above.
    #[test]
    fn helper() {
        if std::env::var_os(HELPER_VARIABLE).is_none() {
            return;
        }
        let mut cat = command(Path::new("/bin/cat"), None);
        cat.arg("/proc/self/status");
        die_with_us(&mut cat, Signal::INT);
        let output = cat.output().unwrap();
        println!("\n{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn a_process_is_found_by_its_working_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(works_in(&path), None);
        let mut sleep = command(Path::new("/bin/sleep"), None);
        let mut child = sleep.arg("600").current_dir(&path).spawn().unwrap();
        let seen = works_in(&path);
        let left = wait_until_left(&path, Duration::from_millis(120));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen, Some(child.id()));
        assert_eq!(left, Err(child.id()));
        assert_eq!(wait_until_left(&path, Duration::ZERO), Ok(()));
    }
}
