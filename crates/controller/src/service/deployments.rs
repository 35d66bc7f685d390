//! Declaring deployments and asking things of instances.

use domain::{
    deployment::{DeploymentSpec, FieldFault},
    id::{DeploymentId, InstanceId, OperationId, ProjectId},
    name::Name,
};
use store::{
    audit::Actor,
    deployment::{Deployment, DeploymentKey, DeploymentNew, IdempotencyKey},
    instance::InstanceRequest,
    operation::Operation,
};
use uuid::Uuid;

use super::Services;
use crate::error::Error;

/// What a user declares, not yet checked.
pub struct Declaration {
    /// Which project it shall belong to.
    pub project_id: ProjectId,
    /// The name, as given.
    pub name: String,
    /// The rest.
    pub spec: DeploymentSpec,
    /// Where the client sent one.
    pub idempotency: Option<IdempotencyKey>,
}

impl Services {
    /// Records a deployment; the agents carry it out.
    ///
    /// # Errors
    /// With every field that is not allowed; when the name is in use in the project,
    /// or the project is gone.
    pub async fn deployment_create(
        &self,
        declaration: Declaration,
        actor: &Actor,
    ) -> Result<Operation, Error> {
        let mut faults = declaration.spec.validate().err().unwrap_or_default();
        if let Err(e) = Name::parse(declaration.name.as_str()) {
            faults.insert(0, FieldFault { field: "name".into(), message: e.to_string() });
        } else if declaration.name.parse::<Uuid>().is_ok() {
            let message = "must not look like an id".to_owned();
            faults.insert(0, FieldFault { field: "name".into(), message });
        }
        if !faults.is_empty() {
            return Err(Error::invalid(faults));
        }
        let new = DeploymentNew {
            project_id: declaration.project_id,
            id: DeploymentId::from_uuid(Uuid::now_v7()),
            name: declaration.name,
            spec: declaration.spec,
            operation_id: OperationId::from_uuid(Uuid::now_v7()),
            idempotency: declaration.idempotency,
        };
        let operation = self.store.deployment_create(&new, actor).await?;
        tracing::info!(deployment.id = %new.id, operation.id = %operation, "deployment declared");
        self.operation(operation).await
    }

    /// Records that nothing of a deployment shall be left.
    ///
    /// # Errors
    /// When there is none.
    pub async fn deployment_delete(
        &self,
        deployment: &Deployment,
        actor: &Actor,
    ) -> Result<Operation, Error> {
        let (key, id) = (DeploymentKey::Id(deployment.id), OperationId::from_uuid(Uuid::now_v7()));
        let operation = self.store.deployment_delete(&key, id, actor).await?;
        tracing::info!(deployment.id = %deployment.id, operation.id = %operation, "deletion of a deployment asked for");
        self.operation(operation).await
    }

    /// Records a request about one instance.
    ///
    /// # Errors
    /// When there is none, or it is to go.
    pub async fn instance_request(
        &self,
        id: InstanceId,
        request: InstanceRequest,
        actor: &Actor,
    ) -> Result<Operation, Error> {
        let operation = OperationId::from_uuid(Uuid::now_v7());
        let operation = self.store.instance_request(id, request, operation, actor).await?;
        tracing::info!(instance.id = %id, operation.id = %operation, ?request, "request about an instance");
        self.operation(operation).await
    }

    async fn operation(&self, id: OperationId) -> Result<Operation, Error> {
        self.store.operation_fetch(id).await?.ok_or_else(|| Error::not_found("operation"))
    }
}
