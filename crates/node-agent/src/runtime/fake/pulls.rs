//! Pulls of the engine in memory.

use std::collections::{BTreeMap, VecDeque};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;

use super::{Call, FakeRuntime};
use crate::runtime::{PullSign, RegistryLogin, RuntimeError};

type Said = Result<PullSign, RuntimeError>;

/// What pulls say, where that is scripted.
#[derive(Default)]
pub(super) struct Scripts {
    next: BTreeMap<String, VecDeque<mpsc::Receiver<Said>>>,
    /// The server of each pull's login, in order.
    logins: Vec<Option<String>>,
}

/// A pull in a test's hands. Dropped, it is done and the image is there, unless it
/// has failed.
pub struct ScriptedPull(mpsc::Sender<Said>);

impl ScriptedPull {
    /// Lets the engine say something about a layer.
    pub async fn say(&self, id: &str, status: &str, current_bytes: Option<u64>, total_bytes: Option<u64>) {
        let sign = PullSign { id: Some(id.into()), status: status.into(), current_bytes, total_bytes };
        // Nobody may be listening any more.
        let _ = self.0.send(Ok(sign)).await;
    }

    /// Lets it fail.
    pub async fn fail(self, error: RuntimeError) {
        let _ = self.0.send(Err(error)).await;
    }

    /// Waits until nobody listens any more.
    pub async fn given_up(&self) {
        self.0.closed().await;
    }
}

/// Remote control.
impl FakeRuntime {
    /// Takes the next pull of an image into the test's hands; more than one queue up.
    #[must_use]
    pub fn script_pull(&self, image: &str) -> ScriptedPull {
        let (say, said) = mpsc::channel(1024);
        self.state().scripts.next.entry(image.to_owned()).or_default().push_back(said);
        ScriptedPull(say)
    }

    /// The server of the login of each pull, in order.
    #[must_use]
    pub fn logins_used(&self) -> Vec<Option<String>> {
        self.state().scripts.logins.clone()
    }

    pub(super) fn fetch(&self, image: &str, login: Option<&RegistryLogin>) -> BoxStream<'static, Said> {
        let (engine, image) = (self.clone(), image.to_owned());
        let script = {
            let mut state = self.state();
            state.scripts.logins.push(login.map(|login| login.server.clone()));
            state.scripts.next.get_mut(&image).and_then(VecDeque::pop_front)
        };
        match script {
            Some(script) => {
                self.state().calls.push((Call::Pull, None));
                engine.played(image, script)
            }
            None => stream::once(async move { engine.plain_pull(image).await }).boxed(),
        }
    }

    fn played(self, image: String, script: mpsc::Receiver<Said>) -> BoxStream<'static, Said> {
        stream::unfold((script, self, Some(image)), |(mut script, engine, mut image)| async move {
            let Some(said) = script.recv().await else {
                engine.state().images.extend(image.take());
                return None;
            };
            if said.is_err() {
                image = None;
            }
            Some((said, (script, engine, image)))
        })
        .boxed()
    }

    async fn plain_pull(&self, image: String) -> Said {
        self.answer(Call::Pull, None, |state| {
            if let Some(reason) = state.refused_images.get(&image) {
                return Err(RuntimeError::refused(*reason, "the registry refused"));
            }
            state.images.insert(image);
            Ok(PullSign { status: "Pull complete".into(), ..PullSign::default() })
        })
        .await
    }
}
