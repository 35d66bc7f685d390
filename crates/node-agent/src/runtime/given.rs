//! What a container is made with beside what its spec says.

use std::path::PathBuf;

use zeroize::Zeroizing;

/// Values of secrets on their way into a container. On purpose it can be neither shown
/// nor written out (I7).
#[derive(Default)]
pub struct Given {
    /// Variables. The engine shows them to whoever may inspect the container.
    pub env: Vec<(String, Zeroizing<String>)>,
    /// Files in memory, to be mounted for reading.
    pub files: Vec<GivenFile>,
}

domain::assert_has_not!(Given: std::fmt::Debug, serde::Serialize, Clone);

/// A file that holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenFile {
    /// Where it is on this host.
    pub source: PathBuf,
    /// Where the container finds it.
    pub target: String,
}

/// Shorter values are too common to be told apart from what anybody says.
const SCRUB_MIN_BYTES: usize = 4;

impl Given {
    /// Nothing.
    pub const NONE: &'static Self = &Self { env: Vec::new(), files: Vec::new() };

    /// What somebody said who was told these values, without them.
    #[must_use]
    pub fn scrub(&self, said: String) -> String {
        let values = self.env.iter().map(|(_, value)| value.as_str());
        values.filter(|value| value.len() >= SCRUB_MIN_BYTES).fold(said, |said, value| {
            if said.contains(value) { said.replace(value, "[secret]") } else { said }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_repeats_of_a_value_is_left_out() {
        let env = vec![
            ("A".to_owned(), Zeroizing::new("hunter2".to_owned())),
            ("B".to_owned(), Zeroizing::default()),
        ];
        let given = Given { env, files: Vec::new() };
        assert_eq!(given.scrub("bad variable A=hunter2!".into()), "bad variable A=[secret]!");
        assert_eq!(Given::NONE.scrub("hunter2".into()), "hunter2");
    }
}
