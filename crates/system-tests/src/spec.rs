//! Deployments to declare.

use serde_json::{Map, Value, json};

use crate::testbed::IMAGE;

/// A declaration, with defaults that suit the tests: [`IMAGE`], a program that
/// runs for ever and does not heed a stop signal, and a stop that is not waited
/// for long.
#[derive(Clone, Debug)]
pub struct Spec(Map<String, Value>);

impl Spec {
    /// One copy of a program that sleeps.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let spec = Self(Map::new()).set("name", name).set("image", IMAGE).set("stop_grace_seconds", 1);
        spec.command(&["sleep", "100000"])
    }

    /// A small HTTP server on port 80 of the container; answers with the image's name.
    #[must_use]
    pub fn web(name: &str) -> Self {
        let spec = Self::new(name).command(&["httpd", "-f", "-p", "80", "-h", "/www"]);
        spec.set("ports", json!([{"container_port": 80}]))
    }

    /// Another program.
    #[must_use]
    pub fn command(self, command: &[&str]) -> Self {
        self.set("command", command)
    }

    /// A program of the shell.
    #[must_use]
    pub fn shell(self, script: &str) -> Self {
        self.command(&["sh", "-c", script])
    }

    /// Another image.
    #[must_use]
    pub fn image(self, image: &str) -> Self {
        self.set("image", image)
    }

    /// So many copies.
    #[must_use]
    pub fn replicas(self, replicas: u32) -> Self {
        self.set("replicas", replicas)
    }

    /// Any other field.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// As it is sent.
    #[must_use]
    pub fn json(&self) -> Value {
        Value::Object(self.0.clone())
    }
}
