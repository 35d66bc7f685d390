//! Carrying one step out at the engine, within its deadline.

use std::{future::Future, sync::Arc, time::Duration};

use domain::{
    Timestamp,
    assignment::Assignment,
    id::InstanceId,
    plan::{Seen, Step},
};
use futures_util::future::{AbortHandle, Abortable, BoxFuture, FutureExt as _};
use tokio::time::timeout;

use super::Settings;
use crate::{
    pull::Pulls,
    runtime::{Runtime, RuntimeError, RuntimeErrorKind},
    secrets::Secrets,
};

/// What an action needs to know. Taken when it begins: what changes meanwhile is
/// the next step's business.
pub(super) struct Order {
    pub instance_id: InstanceId,
    pub step: Step,
    /// For steps that make something.
    pub assignment: Option<Assignment>,
    /// For steps on a container.
    pub container_id: Option<String>,
}

/// What came of an action.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is done, and this is how the container stands now.
    Seen(Seen),
    /// Whether the image is here.
    Image(bool),
    /// The image was fetched.
    Pulled,
    /// What the container is given is at hand.
    Prepared,
    /// It was given up: nobody wants it any more.
    GivenUp,
    Failed(RuntimeError),
}

/// An action that ended.
pub(super) struct Done {
    pub instance_id: InstanceId,
    pub step: Step,
    /// When it began.
    pub asked: Timestamp,
    pub outcome: Outcome,
}

/// Begins an action. It goes on as long as the future is polled, and ends as
/// [`Outcome::GivenUp`] when it is aborted.
pub(super) fn begin(
    runtime: &Arc<dyn Runtime>,
    settings: &Settings,
    (pulls, secrets): (&Pulls, &Secrets),
    order: Order,
) -> (BoxFuture<'static, Done>, AbortHandle) {
    let (abort, registration) = AbortHandle::new_pair();
    let (instance_id, step, asked) = (order.instance_id, order.step, (settings.clock)());
    let work = match (step, &order.assignment) {
        (Step::Pull, Some(assignment)) => {
            let pull = pulls.join(assignment);
            pull.map(|pulled| pulled.map(|()| Outcome::Pulled)).boxed()
        }
        _ => carry_out(runtime.clone(), settings.clone(), secrets.clone(), order).boxed(),
    };
    let work = Abortable::new(work, registration);
    let done = async move {
        let outcome = match work.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Failed(error),
            Err(_) => Outcome::GivenUp,
        };
        Done { instance_id, step, asked, outcome }
    };
    (done.boxed(), abort)
}

async fn carry_out(
    runtime: Arc<dyn Runtime>,
    settings: Settings,
    secrets: Secrets,
    order: Order,
) -> Result<Outcome, RuntimeError> {
    let Order { instance_id, step, assignment, container_id } = order;
    let deadline = settings.call_deadline;
    match (step, assignment, container_id) {
        (Step::CheckImage, Some(assignment), _) => {
            let image = within(deadline, runtime.image(&assignment.spec.image)).await?;
            Ok(Outcome::Image(image.is_some()))
        }
        (Step::Prepare, Some(assignment), _) => {
            secrets.prepare(&assignment).await?;
            Ok(Outcome::Prepared)
        }
        (Step::Create, Some(assignment), _) => {
            let given = secrets.deliver(&assignment).await?;
            let container = within(deadline, runtime.create_given(&assignment, &given)).await?;
            Ok(Outcome::Seen(Seen::Present(container)))
        }
        (Step::Start, assignment, Some(container)) => {
            if let Some(assignment) = assignment {
                secrets.deliver_files(&assignment).await?;
            }
            let container = within(deadline, runtime.start(&container)).await?;
            Ok(Outcome::Seen(Seen::Present(container)))
        }
        (Step::Stop { grace }, _, Some(container)) => {
            let deadline = grace.saturating_add(settings.stop_slack);
            let container = within(deadline, runtime.stop(&container, grace)).await?;
            Ok(Outcome::Seen(container.into()))
        }
        (Step::Remove, _, Some(container)) => {
            within(deadline, runtime.remove(&container)).await?;
            Ok(Outcome::Seen(Seen::Absent))
        }
        // A look, also where what the step needs is not there: that cannot be, and a
        // look finds out what is.
        _ => Ok(Outcome::Seen(within(deadline, runtime.inspect(instance_id)).await?.into())),
    }
}

/// Bounds an engine's answer.
pub(super) async fn within<T>(
    deadline: Duration,
    answer: impl Future<Output = Result<T, RuntimeError>>,
) -> Result<T, RuntimeError> {
    timeout(deadline, answer).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", deadline.as_secs_f64());
        Err(RuntimeError::new(RuntimeErrorKind::Timeout, message))
    })
}
