//! What becomes of what a container writes.

use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Options, fault::Faults};

/// Where the engine puts a container's output.
///
/// Without a driver it is kept in files at the node, three of at most 10 MB. The
/// drivers `json-file`, `local` and `journald` can be read back; of others, and of
/// `none`, only engines that keep a copy of their own show anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// The engine's name of the driver; `None` means `json-file`.
    #[serde(default)]
    pub driver: Option<String>,
    /// As the driver has them; may hold secrets.
    #[serde(default)]
    pub options: Options,
}

pub(super) fn log_faults(log: &LogSpec, faults: &mut Faults) {
    if let Some(driver) = &log.driver {
        let allowed = |b: u8| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b'/' | b':')
        };
        let fine = (1..=128).contains(&driver.len())
            && driver.starts_with(|c: char| c.is_ascii_lowercase())
            && driver.bytes().all(allowed);
        faults.unless(
            fine,
            "log.driver",
            "must be a driver's name such as json-file, of 1 to 128 characters",
        );
    }
    faults.length("log.options", log.options.0.len(), LIST_MAX, "entries");
    for (key, value) in &log.options.0 {
        let key_ok = (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        let field = format!("log.options[{key:?}]");
        faults.unless(key_ok, &field, "name must be 1 to 255 characters without spaces");
        let value_ok = value.len() <= 4096 && !value.contains('\0');
        faults.unless(value_ok, &field, "value must have at most 4096 bytes and no NUL character");
    }
}
