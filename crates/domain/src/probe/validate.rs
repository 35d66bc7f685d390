//! Whether what a user declared about probes is acceptable.

use super::{HttpCheck, HttpHeader, ProbeKind, ProbeSpec, StatusRange};
use crate::deployment::{FieldFault, LIST_MAX};

/// Most probes of one instance.
pub const PROBES_MAX: usize = 8;
/// Longest interval, and longest start period.
const PERIOD_MAX_SECONDS: u32 = 86_400;
const TIMEOUT_MAX_SECONDS: u32 = 300;
const RETRIES_MAX: u32 = 100;
const PATH_MAX_BYTES: usize = 2048;
const HEADERS_MAX: usize = 32;
const HEADER_MAX_BYTES: usize = 4096;
const RANGES_MAX: usize = 32;
const NEEDLE_MAX_BYTES: usize = 256;
const COMMAND_MAX_BYTES: usize = 65_536;

/// Headers that say how the request itself is sent.
const OURS: [&str; 6] = ["connection", "content-length", "transfer-encoding", "upgrade", "te", "expect"];

/// Lists everything that is wrong with an instance's probes, in the order of the
/// fields. The fields are named from `field` on, such as `probes[0].retries`.
#[must_use]
pub fn faults(field: &str, probes: &[ProbeSpec]) -> Vec<FieldFault> {
    let mut faults = Faults { at: field.to_owned(), found: Vec::new() };
    faults.unless(probes.len() <= PROBES_MAX, "", format!("must be at most {PROBES_MAX}"));
    let images = probes.iter().filter(|probe| probe.kind == ProbeKind::Image).count();
    faults.unless(images <= 1, "", "must use the image's own check at most once");
    for (index, probe) in probes.iter().enumerate() {
        faults.at = format!("{field}[{index}]");
        kind_faults(&probe.kind, &mut faults);
        time_faults(probe, &mut faults);
    }
    faults.found
}

struct Faults {
    /// The probe at hand.
    at: String,
    found: Vec<FieldFault>,
}

impl Faults {
    fn unless(&mut self, fine: bool, field: &str, message: impl Into<String>) {
        if !fine {
            self.found.push(FieldFault { field: format!("{}{field}", self.at), message: message.into() });
        }
    }
}

fn time_faults(probe: &ProbeSpec, faults: &mut Faults) {
    let mut within = |value: u32, least: u32, most: u32, field: &str| {
        faults.unless((least..=most).contains(&value), field, format!("must be {least} to {most}"));
    };
    within(probe.interval_seconds, 1, PERIOD_MAX_SECONDS, ".interval_seconds");
    within(probe.timeout_seconds, 1, TIMEOUT_MAX_SECONDS, ".timeout_seconds");
    within(probe.retries, 1, RETRIES_MAX, ".retries");
    within(probe.start_period_seconds, 0, PERIOD_MAX_SECONDS, ".start_period_seconds");
}

fn kind_faults(kind: &ProbeKind, faults: &mut Faults) {
    match kind {
        ProbeKind::Http(check) => http_faults(check, faults),
        ProbeKind::Tcp { port } => port_fault(*port, faults),
        ProbeKind::Exec { command } => {
            let program = command.first().is_some_and(|program| !program.is_empty());
            faults.unless(
                program && command.len() <= LIST_MAX,
                ".command",
                format!("must be a program and its arguments, at most {LIST_MAX} words"),
            );
            faults.unless(
                command.iter().all(|word| !word.contains('\0')),
                ".command",
                "must not contain a NUL character",
            );
            faults.unless(
                command.iter().map(String::len).sum::<usize>() <= COMMAND_MAX_BYTES,
                ".command",
                format!("must be at most {COMMAND_MAX_BYTES} bytes"),
            );
        }
        ProbeKind::Image => {}
    }
}

fn port_fault(port: u16, faults: &mut Faults) {
    faults.unless(port != 0, ".port", "must be 1 to 65535");
}

fn http_faults(check: &HttpCheck, faults: &mut Faults) {
    let path = &check.path;
    faults.unless(
        path.starts_with('/')
            && path.len() <= PATH_MAX_BYTES
            && path.bytes().all(|b| b.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&b)),
        ".path",
        format!(
            "must begin with '/', be at most {PATH_MAX_BYTES} bytes long, and be written as in a URL, without '#'"
        ),
    );
    port_fault(check.port, faults);
    faults.unless(check.headers.len() <= HEADERS_MAX, ".headers", format!("must be at most {HEADERS_MAX}"));
    for (index, header) in check.headers.iter().enumerate() {
        header_faults(index, header, faults);
    }
    status_faults(&check.expected_status, faults);
    faults.unless(
        check.body_contains.as_ref().is_none_or(|text| (1..=NEEDLE_MAX_BYTES).contains(&text.len())),
        ".body_contains",
        format!("must be 1 to {NEEDLE_MAX_BYTES} bytes, or left out"),
    );
}

/// The value may be a secret, and is never shown.
fn header_faults(index: usize, header: &HttpHeader, faults: &mut Faults) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let HttpHeader { name, value } = header;
    faults.unless(
        (1..=128).contains(&name.len()) && name.bytes().all(token),
        &format!(".headers[{index}].name"),
        "must be 1 to 128 characters as HTTP allows in the name of a header",
    );
    faults.unless(
        !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)),
        &format!(".headers[{index}].name"),
        "is set by the probe itself",
    );
    faults.unless(
        value.len() <= HEADER_MAX_BYTES && value.bytes().all(|b| (0x20..0x7f).contains(&b) || b == b'\t'),
        &format!(".headers[{index}].value"),
        format!("must be at most {HEADER_MAX_BYTES} printable ASCII characters"),
    );
}

fn status_faults(ranges: &[StatusRange], faults: &mut Faults) {
    faults.unless(
        (1..=RANGES_MAX).contains(&ranges.len()),
        ".expected_status",
        format!("must have 1 to {RANGES_MAX} entries"),
    );
    for (index, range) in ranges.iter().enumerate() {
        faults.unless(
            100 <= range.from && range.from <= range.to && range.to <= 599,
            &format!(".expected_status[{index}]"),
            "must be within 100 to 599, the lower code first",
        );
    }
}
