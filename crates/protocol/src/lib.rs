//! The wire between controller and agents: the generated code of `proto/`, and
//! the checked conversions between it and [`domain`].
//!
//! Generated types are always written `proto::X`; the bare name is the domain's.
//! A message that came over the wire is a claim: [`convert`] turns it into a
//! domain value or says which field is wrong.

/// The generated code of `proto/automator67/agent/v1`.
#[expect(missing_docs, clippy::all, reason = "generated; the documents are in the .proto files")]
pub mod proto {
    tonic::include_proto!("automator67.agent.v1");
}
