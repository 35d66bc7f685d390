//! What is printed: one table, with each figure beside what it is measured against.

use std::time::Duration;

/// One line.
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Ours.
    pub ours: String,
    /// What it is compared with.
    pub against: String,
    /// The other's figure.
    pub theirs: String,
    /// Ours to theirs, or the difference.
    pub ratio: String,
    /// What is wanted.
    pub aim: &'static str,
}

/// Prints the lines as Markdown.
pub fn print(rows: &[Row]) {
    println!("| measured | ours | against | theirs | ratio | aim |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            row.what, row.ours, row.against, row.theirs, row.ratio, row.aim
        );
    }
}

/// Milliseconds, to a tenth.
pub fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// The value in the middle.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Per second, in thousands where that reads better.
pub fn rate(count: usize, time: Duration) -> (f64, String) {
    let rate = count as f64 / time.as_secs_f64();
    (rate, if rate >= 10_000.0 { format!("{:.0} k/s", rate / 1000.0) } else { format!("{rate:.0} /s") })
}
