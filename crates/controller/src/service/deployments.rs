//! Declaring deployments and asking things of instances.

use domain::{
    deployment::{DeploymentSpec, FieldFault},
    id::{DeploymentId, InstanceId, OperationId, ProjectId},
    name::Name,
    operation::OperationKind,
};
use store::{
    audit::Actor,
    deployment::{
        Deployment, DeploymentKey, DeploymentNew, IdempotencyKey,
        revision::{RevisionNew, Template},
        rollout::{Preview, RolloutRequest},
    },
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

/// A change of a deployment, not yet checked.
pub struct Change {
    /// What the new revision says.
    pub spec: DeploymentSpec,
    /// An update, a rollback or a scale.
    pub kind: OperationKind,
    /// Why, for people.
    pub cause: String,
    /// The revision that it is based on, where that matters.
    pub expected: Option<u32>,
    /// Which copies its own are like.
    pub template: Template,
}

fn checked(spec: &DeploymentSpec) -> Result<(), Error> {
    spec.validate().map_err(Error::invalid)
}

impl Services {
    /// Records a new revision of a deployment; the agents carry it out.
    ///
    /// # Errors
    /// With every field that is not allowed; when there is no such deployment, another
    /// operation is under way, or the revision is another than expected.
    pub async fn deployment_change(
        &self,
        deployment: DeploymentId,
        change: Change,
        supersede: bool,
        actor: &Actor,
    ) -> Result<Operation, Error> {
        checked(&change.spec)?;
        let new = RevisionNew {
            deployment,
            spec: &change.spec,
            kind: change.kind,
            operation_id: OperationId::from_uuid(Uuid::now_v7()),
            cause: change.cause,
            expected: change.expected,
            supersede,
            template: change.template,
        };
        let operation = self.store.deployment_revise(&new, actor).await?;
        tracing::info!(deployment.id = %deployment, operation.id = %operation, "revision declared");
        self.operation(operation).await
    }

    /// Says where a declaration would lead; see [`store::Store::deployment_preview`].
    ///
    /// # Errors
    /// With every field that is not allowed; when there is no such deployment.
    pub async fn deployment_preview(
        &self,
        deployment: Option<DeploymentId>,
        spec: &DeploymentSpec,
    ) -> Result<Preview, Error> {
        checked(spec)?;
        Ok(self.store.deployment_preview(deployment, spec, &self.heartbeats).await?)
    }

    /// Asks something of the rollout that is under way.
    ///
    /// # Errors
    /// When nothing is under way.
    pub async fn rollout_request(
        &self,
        deployment: DeploymentId,
        request: RolloutRequest,
        actor: &Actor,
    ) -> Result<Operation, Error> {
        let operation = self.store.rollout_request(deployment, request, actor).await?;
        tracing::info!(deployment.id = %deployment, operation.id = %operation, ?request, "request about a rollout");
        self.operation(operation).await
    }

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
