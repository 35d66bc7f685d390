//! Projects, and who is a member of which.

use domain::{
    id::{DeploymentId, ProjectId},
    name::Name,
};
use store::{
    audit::Actor,
    caller::Visible,
    deployment::{Deployment, DeploymentKey},
    project::{Project, ProjectKey},
};
use uuid::Uuid;

use super::Services;
use crate::{
    auth::{caller::Decision, policy::Rule},
    error::{Error, ErrorKind},
};

impl Services {
    /// Makes a project without members.
    ///
    /// # Errors
    /// When the name is not allowed, or in use.
    pub async fn project_create(&self, name: &str, actor: &Actor) -> Result<Project, Error> {
        let name = Name::parse(name).map_err(|e| Error::invalid_field("name", e.to_string()))?;
        if name.as_str().parse::<Uuid>().is_ok() {
            return Err(Error::invalid_field("name", "must not look like an id"));
        }
        let id = ProjectId::from_uuid(Uuid::now_v7());
        let project = self.store.project_insert(id, name.as_str(), actor).await?;
        tracing::info!(project.id = %id, project.name = %name, "project made");
        Ok(project)
    }

    /// A project by name or id, whoever sees it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn project_find(&self, text: &str) -> Result<Project, Error> {
        let key = text.parse().map_or_else(|_| ProjectKey::Name(text.to_owned()), ProjectKey::Id);
        self.store.project_fetch(&key).await?.ok_or_else(|| Error::not_found("project"))
    }

    /// Whether a token still gives a permission over a project's objects, for what goes
    /// on after its request was answered. While the database is away it does: nothing
    /// can be revoked then either.
    pub async fn project_still_allowed(
        &self,
        (token, address): (&str, Option<&str>),
        rule: &Rule,
        project: ProjectId,
    ) -> bool {
        match self.authenticate(token, address).await {
            Ok(caller) => caller.decide_in(rule, project.uuid()) == Decision::May,
            Err(e) => e.kind() != ErrorKind::Unauthenticated,
        }
    }

    /// A deployment by id, whoever sees it, or by name among those that are seen: in
    /// the project, where one is given; else in the default one; else in whichever
    /// alone has it.
    ///
    /// # Errors
    /// When there is none, or several projects have one of that name.
    pub async fn deployment_find(
        &self,
        text: &str,
        project: Option<ProjectId>,
        visible: &Visible,
    ) -> Result<Deployment, Error> {
        let missing = || Error::not_found("deployment");
        let wanted = |deployment: &Deployment| project.is_none_or(|id| deployment.project_id == id);
        if let Ok(id) = text.parse::<DeploymentId>() {
            let found = self.store.deployment_fetch(&DeploymentKey::Id(id)).await?;
            return found.filter(wanted).ok_or_else(missing);
        }
        if let Some(id) = project {
            let key = DeploymentKey::In(id, text.to_owned());
            let found = self.store.deployment_fetch(&key).await?;
            return found.filter(|found| visible.sees(found.project_id.uuid())).ok_or_else(missing);
        }
        let mut namesakes = self.store.deployment_list_named(text, visible).await?.into_iter();
        let first = namesakes.next().ok_or_else(missing)?;
        if first.project_id == ProjectId::DEFAULT || namesakes.len() == 0 {
            return Ok(first);
        }
        let projects: Vec<_> = std::iter::once(first.project).chain(namesakes.map(|d| d.project)).collect();
        let projects = projects.join(", ");
        let message = format!("several projects have a deployment {text}: {projects}; say which (?project=)");
        Err(Error::new(ErrorKind::Conflict, "ambiguous_name", message))
    }
}
