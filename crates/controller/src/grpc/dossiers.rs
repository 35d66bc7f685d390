//! What agents kept of attempts that ended.

use domain::{dossier::Dossier, id::NodeId};
use protocol::{DOSSIER_BATCH_MAX, DOSSIER_MAX_BYTES, proto, wire_size};
use tonic::{Response, Status};

use super::{convert_status, status};
use crate::service::Services;

pub(super) async fn push(
    services: &Services,
    node: NodeId,
    request: proto::PushDossiersRequest,
) -> Result<Response<proto::PushDossiersResponse>, Status> {
    let dossiers = read(request)?;
    let dropped = services.store.dossier_insert(node, &dossiers).await.map_err(|e| status(&e.into()))?;
    if dropped > 0 {
        tracing::warn!(node.id = %node, dropped, "dossiers of instances that are not this node's were dropped");
    }
    Ok(Response::new(proto::PushDossiersResponse { dropped: u32::try_from(dropped).unwrap_or(u32::MAX) }))
}

fn read(request: proto::PushDossiersRequest) -> Result<Vec<Dossier>, Status> {
    if request.dossiers.len() > DOSSIER_BATCH_MAX {
        return Err(Status::invalid_argument(format!("at most {DOSSIER_BATCH_MAX} dossiers in a call")));
    }
    let read = |dossier: proto::Dossier| {
        if wire_size(&dossier) > DOSSIER_MAX_BYTES {
            return Err(Status::invalid_argument(format!("a dossier has at most {DOSSIER_MAX_BYTES} bytes")));
        }
        Dossier::try_from(dossier).map_err(|e| convert_status(&e))
    };
    request.dossiers.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use domain::{Timestamp, dossier::DossierLine, id::InstanceId, instance::Outcome};
    use tonic::Code;

    use super::*;

    fn dossier(attempt: u32, text: usize) -> Dossier {
        let line = DossierLine { at: None, stderr: false, text: "x".repeat(text), partial: false };
        Dossier {
            instance_id: InstanceId::from_uuid(uuid::Uuid::nil()),
            attempt,
            ended_at: Timestamp::UNIX_EPOCH,
            outcome: Outcome::Exited { code: 3, oom: false },
            container_id: None,
            log: vec![line],
            log_cut: false,
            probes: Vec::new(),
            memory: Vec::new(),
            memory_limit_bytes: None,
        }
    }

    fn request(dossiers: &[Dossier]) -> proto::PushDossiersRequest {
        proto::PushDossiersRequest { dossiers: dossiers.iter().map(Into::into).collect() }
    }

    #[test]
    fn as_many_and_as_large_ones_as_allowed_are_read_and_no_more() {
        let many: Vec<_> = (1..=17).map(|attempt| dossier(attempt, 10)).collect();
        assert_eq!(read(request(&many[..16])).unwrap(), many[..16]);
        assert_eq!(read(request(&many)).unwrap_err().code(), Code::InvalidArgument);
        let room = DOSSIER_MAX_BYTES - 100;
        assert_eq!(read(request(&[dossier(1, room)])).unwrap().len(), 1);
        assert_eq!(read(request(&[dossier(1, room + 100)])).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn one_that_cannot_be_understood_is_refused_by_the_name_of_its_field() {
        let mut message = request(&[dossier(1, 10)]);
        message.dossiers[0].attempt = 0;
        let refused = read(message).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("attempt"), "{refused}");
    }
}
