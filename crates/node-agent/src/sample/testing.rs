//! A runtime in which no time passes while files are read.

/// Plays a test with a clock that stands still, and one thread for files: what is given
/// to it after a reading ends after that reading.
pub(super) fn played(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).max_blocking_threads(1).build().unwrap();
    runtime.block_on(test);
}
