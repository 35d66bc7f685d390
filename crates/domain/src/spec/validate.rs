//! Whether a container's spec is acceptable. Numbers and paths are those of the API.

use super::{
    Env, InstanceSpec, LIST_MAX, TEXT_MAX_BYTES,
    fault::Faults,
    limits::{limit_faults, ulimit_faults},
    log::log_faults,
    networks::{is_hostname, network_faults},
    ports::port_faults,
    secrets::secret_faults,
    security::{device_faults, security_faults},
    stop::stop_faults,
    volumes::{path_fault, volume_faults},
};
use crate::{name::Labels, probe};

/// What our own labels on containers begin with: they say whose a container is,
/// and nobody else may set them.
pub const OWN_LABELS: &str = "automator67.";

/// Least and most of [`InstanceSpec::stop_after_seconds`]. Below, a controller that
/// is restarted would stop what it manages.
const STOP_AFTER_SECONDS: (u32, u32) = (30, 7 * 86_400);

impl InstanceSpec {
    /// What is wrong with what is run.
    pub(crate) fn program_faults(&self, faults: &mut Faults) {
        image_faults(&self.image, faults);
        text_faults(self, faults);
        place_faults(self, faults);
        label_faults(&self.labels, faults);
    }

    /// What is wrong with how it meets the world, and with its limits.
    pub(crate) fn container_faults(&self, faults: &mut Faults) {
        port_faults(&self.ports, faults);
        network_faults(&self.network, !self.ports.is_empty(), faults);
        volume_faults(&self.volumes, faults);
        secret_faults(self, faults);
        device_faults(&self.devices, faults);
        security_faults(&self.security, faults);
        limit_faults(&self.limits, faults);
        ulimit_faults(&self.ulimits, faults);
        log_faults(&self.log, faults);
        stop_faults(self.stop_signal.as_deref(), self.stop_grace_seconds, faults);
        faults.range("min_healthy_seconds", &self.min_healthy_seconds, 0, 3600);
        faults.0.extend(probe::faults("probes", &self.probes));
        if let Some(seconds) = self.stop_after_seconds {
            faults.range("stop_after_seconds", &seconds, STOP_AFTER_SECONDS.0, STOP_AFTER_SECONDS.1);
        }
    }
}

fn image_faults(image: &str, faults: &mut Faults) {
    let shape = (1..=512).contains(&image.len()) && image.bytes().all(|b| b.is_ascii_graphic());
    faults.unless(
        shape && !image.starts_with('-') && !image.contains("://"),
        "image",
        "must be an image reference such as registry.example.org/team/app:1.2, of 1 to 512 characters, without spaces and without a scheme",
    );
}

fn text_faults(spec: &InstanceSpec, faults: &mut Faults) {
    for (field, words) in [("entrypoint", &spec.entrypoint), ("command", &spec.command)] {
        faults.length(field, words.len(), LIST_MAX, "words");
        faults.unless(words.iter().all(|w| !w.contains('\0')), field, "must not contain a NUL character");
    }
    env_faults(&spec.env, faults);
    let words = spec.entrypoint.iter().chain(&spec.command).map(String::len).sum::<usize>();
    let env = spec.env.0.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    faults.unless(
        words + env <= TEXT_MAX_BYTES,
        "env",
        format!("env, command and entrypoint together must be at most {TEXT_MAX_BYTES} bytes"),
    );
}

fn env_faults(env: &Env, faults: &mut Faults) {
    faults.length("env", env.0.len(), LIST_MAX, "variables");
    for (key, value) in &env.0 {
        let key_ok = is_env_name(key);
        // The name may be hostile; the value may be a secret. Only the name is shown, and escaped.
        faults.unless(key_ok, format!("env[{key:?}]"), "name must be 1 to 255 characters without '='");
        faults.unless(
            !value.contains('\0'),
            format!("env[{key:?}]"),
            "value must not contain a NUL character",
        );
    }
}

/// Whether a text can be the name of an environment variable.
pub(super) fn is_env_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(['=', '\0'])
}

fn place_faults(spec: &InstanceSpec, faults: &mut Faults) {
    if let Some(dir) = &spec.working_dir {
        path_fault(dir, "working_dir", faults);
    }
    if let Some(user) = &spec.user {
        let name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b':' | b'/'))
        };
        let (user, group) = user.split_once(':').map_or((user.as_str(), None), |(u, g)| (u, Some(g)));
        let fine = name(user) && group.is_none_or(name) && user.len() + group.map_or(0, str::len) <= 255;
        faults.unless(
            fine,
            "user",
            "must be a user's name or number, with or without ':' and a group, at most 255 characters",
        );
    }
    if let Some(hostname) = &spec.hostname {
        faults.unless(
            is_hostname(hostname),
            "hostname",
            "must be 1 to 63 letters, digits, inner hyphens and inner dots",
        );
    }
}

fn label_faults(labels: &Labels, faults: &mut Faults) {
    faults.length("labels", labels.len(), LIST_MAX, "entries");
    for (key, value) in labels {
        let field = format!("labels[{key:?}]");
        let key_ok = (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() && b != b'=');
        faults.unless(key_ok, &field, "name must be 1 to 255 characters without spaces and '='");
        faults.unless(
            !key.starts_with(OWN_LABELS),
            &field,
            format!("name must not begin with {OWN_LABELS}, which is ours"),
        );
        let value_ok = value.len() <= 4096 && !value.contains('\0');
        faults.unless(value_ok, &field, "value must have at most 4096 bytes and no NUL character");
    }
}
