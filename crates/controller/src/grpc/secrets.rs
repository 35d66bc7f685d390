//! What an agent asks of the vault for one of its instances.

use std::{collections::VecDeque, sync::Arc};

use domain::{
    id::{CredentialId, InstanceId, NodeId},
    secret::Secret,
    spec::SecretUse,
};
use futures_util::stream;
use protocol::{
    convert,
    proto::{self, secret_part::Part},
};
use tonic::{Response, Status};

use super::{Frames, convert_status, status};
use crate::service::{Services, secrets::Given};

/// One part of the answer, not opened yet.
enum Wanted {
    Login(CredentialId),
    Use(u32, Box<SecretUse>),
}

/// Answers with what the instance needs, one value at a time: each is opened when the
/// link takes it, so that not all of them are in memory at once.
pub(super) async fn fetch(
    services: Arc<Services>,
    node: NodeId,
    request: proto::FetchSecretsRequest,
) -> Result<Response<Frames<proto::SecretPart>>, Status> {
    let instance: InstanceId =
        convert::id("instance_id", &request.instance_id).map_err(|e| convert_status(&e))?;
    let given = services.secrets_of(node, instance).await.map_err(|e| status(&e))?;
    let wanted = match given {
        Given::Missing(message) => {
            let part = proto::SecretPart { part: Some(Part::Missing(proto::SecretsMissing { message })) };
            return Ok(Response::new(Box::pin(stream::iter([Ok(part)]))));
        }
        Given::All(wanted) => wanted,
    };
    let login = wanted.login.map(Wanted::Login).into_iter();
    let uses = (0..).zip(wanted.secrets).map(|(index, used)| Wanted::Use(index, Box::new(used)));
    let rest: VecDeque<Wanted> = login.chain(uses).collect();
    tracing::debug!(node.id = %node, instance.id = %instance, parts = rest.len(), "secrets asked for");
    let parts = stream::try_unfold((services, rest), async |(services, mut rest)| {
        while let Some(wanted) = rest.pop_front() {
            if let Some(part) = opened(&services, wanted).await? {
                return Ok(Some((proto::SecretPart { part: Some(part) }, (services, rest))));
            }
        }
        Ok(None)
    });
    Ok(Response::new(Box::pin(parts)))
}

async fn opened(services: &Services, wanted: Wanted) -> Result<Option<Part>, Status> {
    match wanted {
        Wanted::Login(id) => {
            // Deleted since: the agent tries without.
            let Some(login) = services.login_of(id).await.map_err(|e| status(&e))? else { return Ok(None) };
            Ok(Some(Part::RegistryLogin(proto::RegistryLogin {
                server: text(&login.server)?,
                username: text(&login.username)?,
                password: login.password.reveal().to_vec(),
            })))
        }
        Wanted::Use(index, used) => {
            let value = services.secret_of_use(&used).await.map_err(|e| status(&e))?;
            Ok(Some(Part::Value(proto::SecretValue { index, value: value.reveal().to_vec() })))
        }
    }
}

fn text(secret: &Secret) -> Result<String, Status> {
    String::from_utf8(secret.reveal().to_vec()).map_err(|_| Status::internal("the login is not text"))
}
