//! The wire between controller and agents: the generated code of `proto/`, and
//! the checked conversions between it and [`domain`].
//!
//! Generated types are always written `proto::X`; the bare name is the domain's.
//! A message that came over the wire is a claim: [`convert`] turns it into a
//! domain value or says which field is wrong.

pub mod convert;
mod redacted;

/// The version that both sides say at the start of a conversation.
pub const PROTOCOL_VERSION: u32 = 1;

/// The DNS name in the controller's server certificate, whatever host an agent dials.
pub const CONTROLLER_DNS_NAME: &str = "controller.automator67.internal";

/// Most reports in one `ReportBatch`.
pub const REPORT_BATCH_MAX: usize = 256;

/// Most readings in one `PushMetrics` call.
pub const METRICS_BATCH_MAX: usize = 2_000;

/// Most dossiers in one `PushDossiers` call.
pub const DOSSIER_BATCH_MAX: usize = 16;

/// Largest dossier that is taken, as it is on the wire.
pub const DOSSIER_MAX_BYTES: usize = 1024 * 1024;

/// Longest value of one `SecretValue`.
pub const SECRET_MAX_BYTES: usize = domain::spec::SECRET_MAX_BYTES;

/// Longest text of one `LogLine`; longer lines are split.
pub const LOG_LINE_MAX_BYTES: usize = 64 * 1024;

/// How many bytes a message takes on the wire.
#[must_use]
pub fn wire_size(message: &impl prost::Message) -> usize {
    message.encoded_len()
}

/// The generated code of `proto/automator67/agent/v1`.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated; the documents are in the .proto files"
)]
pub mod proto {
    tonic::include_proto!("automator67.agent.v1");
}
