//! `Debug` of the messages that carry what nobody may read in a log.

use std::fmt;

use crate::proto;

impl fmt::Debug for proto::InstanceSpec {
    /// Shows the names of environment variables and none of their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceSpec")
            .field("image", &self.image)
            .field("entrypoint", &self.entrypoint)
            .field("command", &self.command)
            .field("env", &self.env.keys())
            .field("ports", &self.ports)
            .field("limits", &self.limits)
            .field("restart", &self.restart)
            .field("pull", &self.pull)
            .field("stop_grace_seconds", &self.stop_grace_seconds)
            .field("min_healthy_seconds", &self.min_healthy_seconds)
            .finish()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_never_shows_a_variables_value_or_a_token() {
        let mut spec = proto::InstanceSpec::default();
        spec.env.insert("PASSWORD".into(), "hunter2".into());
        let assignment = proto::Assignment { spec: Some(spec), ..proto::Assignment::default() };
        let shown = format!("{assignment:?}");
        assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"), "{shown}");

        let request = proto::EnrolRequest { token: "sesame".into(), ..proto::EnrolRequest::default() };
        assert!(!format!("{request:?}").contains("sesame"));
    }
}
