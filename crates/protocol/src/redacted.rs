//! `Debug` of the messages that carry what nobody may read in a log.

use std::fmt;

use crate::proto;

impl fmt::Debug for proto::InstanceSpec {
    /// Shows the names of environment variables and labels, and none of their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceSpec")
            .field("image", &self.image)
            .field("entrypoint", &self.entrypoint)
            .field("command", &self.command)
            .field("env", &self.env.keys())
            .field("working_dir", &self.working_dir)
            .field("user", &self.user)
            .field("labels", &self.labels.keys())
            .field("hostname", &self.hostname)
            .field("ports", &self.ports)
            .field("network", &self.network)
            .field("volumes", &self.volumes)
            .field("secrets", &self.secrets)
            .field("devices", &self.devices)
            .field("security", &self.security)
            .field("limits", &self.limits)
            .field("ulimits", &self.ulimits)
            .field("log", &self.log)
            .field("init", &self.init)
            .field("restart", &self.restart)
            .field("pull", &self.pull)
            .field("stop_signal", &self.stop_signal)
            .field("stop_grace_seconds", &self.stop_grace_seconds)
            .field("min_healthy_seconds", &self.min_healthy_seconds)
            .field("probes", &self.probes)
            .field("stop_after_seconds", &self.stop_after_seconds)
            .finish()
    }
}

impl fmt::Debug for proto::probe::Header {
    /// Leaves out the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for proto::LogOptions {
    /// Shows the names of options and none of their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOptions")
            .field("driver", &self.driver)
            .field("options", &self.options.keys())
            .finish()
    }
}

impl fmt::Debug for proto::LogLine {
    /// Leaves out the text: programs do write secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLine")
            .field("at", &self.at)
            .field("stderr", &self.stderr)
            .field("bytes", &self.text.len())
            .field("partial", &self.partial)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for proto::EnrolRequest {
    /// Leaves out the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest")
            .field("facts", &self.facts)
            .field("node_name", &self.node_name)
            .field("protocol_version", &self.protocol_version)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for proto::SecretValue {
    /// Leaves out the value, and how long it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretValue").field("index", &self.index).finish_non_exhaustive()
    }
}

impl fmt::Debug for proto::RegistryLogin {
    /// Shows which registry, and neither name nor password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryLogin").field("server", &self.server).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_never_shows_a_variables_value_a_line_of_a_log_or_a_token() {
        let mut spec = proto::InstanceSpec::default();
        spec.env.insert("PASSWORD".into(), "hunter2".into());
        spec.labels.insert("basic.auth".into(), "hunter2".into());
        let options = [("token".to_owned(), "hunter2".to_owned())].into();
        spec.log = Some(proto::LogOptions { driver: None, options });
        let header = proto::probe::Header { name: "authorization".into(), value: "hunter2".into() };
        let http = proto::probe::Http { headers: vec![header], ..proto::probe::Http::default() };
        let kind = Some(proto::probe::Kind::Http(http));
        spec.probes = vec![proto::Probe { kind, ..proto::Probe::default() }];
        let assignment = proto::Assignment { spec: Some(spec), ..proto::Assignment::default() };
        let shown = format!("{assignment:?}");
        assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"), "{shown}");

        let line = proto::LogLine { text: "hunter2".into(), ..proto::LogLine::default() };
        let dossier = proto::Dossier { log: vec![line], ..proto::Dossier::default() };
        let shown = format!("{:?}", proto::PushDossiersRequest { dossiers: vec![dossier] });
        assert!(shown.contains("bytes: 7") && !shown.contains("hunter2"), "{shown}");

        let value = proto::SecretValue { index: 3, value: b"hunter2".to_vec() };
        let login = proto::RegistryLogin {
            server: "ghcr.io".into(),
            username: "hunter2".into(),
            password: b"hunter2".to_vec(),
        };
        let parts = [proto::secret_part::Part::Value(value), proto::secret_part::Part::RegistryLogin(login)];
        let shown = format!("{:?}", parts.map(|part| proto::SecretPart { part: Some(part) }));
        let numbers = format!("{:?}", b"hunter2");
        assert!(shown.contains("index: 3") && shown.contains("ghcr.io"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains(numbers.trim_matches(['[', ']'])), "{shown}");

        let request = proto::EnrolRequest { token: "sesame".into(), ..proto::EnrolRequest::default() };
        assert!(!format!("{request:?}").contains("sesame"));
    }
}
