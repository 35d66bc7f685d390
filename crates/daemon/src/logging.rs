//! Log lines for people on a terminal, JSON for everything else, on stderr.
//!
//! A line carries the fields of all spans around it, so an id that a span was
//! opened with (`node.id`, `operation.id`, …) is on every line written inside.
//! Panics become log lines too, so that a reader of JSON does not lose them.

use std::io::{self, IsTerminal as _};

use serde::Deserialize;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::{self, MakeWriter},
    util::SubscriberInitExt as _,
};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// [`LogFormat::Human`] where stderr is a terminal, else [`LogFormat::Json`].
    #[default]
    Auto,
    /// One readable line per event.
    Human,
    /// One JSON object per event.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter as a whole cannot be read.
    #[error("log filter {filter:?} is not valid")]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What the parser says about it.
        #[source]
        source: ParseError,
    },
    /// A word stands alone in the filter and is not a level, as in `inof`.
    #[error(
        "log filter has {directive:?}, which is neither a level (off, error, warn, info, debug, trace) nor of the form target=level"
    )]
    Directive {
        /// The word.
        directive: String,
    },
    /// Something else in this process has set up logging before.
    #[error("logging is set up already")]
    AlreadySetUp,
}

/// Sets up logging for the whole process. Call it once, before the first task.
///
/// `filter` is a level or a list such as `info,tonic=warn`.
///
/// # Errors
///
/// See [`LogError`]; nothing is set up then.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LogError> {
    let filter = parse(filter)?;
    let terminal = io::stderr().is_terminal();
    let installed = match format {
        LogFormat::Json => json(filter, io::stderr).try_init(),
        LogFormat::Auto if !terminal => json(filter, io::stderr).try_init(),
        LogFormat::Auto | LogFormat::Human => human(filter, terminal, io::stderr).try_init(),
    };
    // The only way `try_init` fails is that there is a subscriber or a logger.
    installed.map_err(|_| LogError::AlreadySetUp)?;
    log_panics();
    Ok(())
}

/// Reads a filter strictly. The library takes a lone word that is no level for a
/// target, so a misspelt level would silence everything without a word.
fn parse(text: &str) -> Result<EnvFilter, LogError> {
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    let lone = |word: &&str| !word.is_empty() && !word.contains(['=', '[', ':']);
    let mut words = directives.iter().copied().filter(lone);
    if let Some(wrong) = words.find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(LogError::Directive { directive: wrong.to_owned() });
    }
    EnvFilter::try_new(directives.join(","))
        .map_err(|source| LogError::Filter { filter: text.to_owned(), source })
}

fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    fmt::Subscriber::builder()
        .with_env_filter(filter)
        .with_writer(writer)
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(true)
        .finish()
}

fn human<W>(filter: EnvFilter, colour: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // https://no-color.org: set and not empty means no colour.
    let colour = colour && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    fmt::Subscriber::builder().with_env_filter(filter).with_writer(writer).with_ansi(colour).finish()
}

/// Replaces the standard report of a panic, which would be bare text between
/// JSON lines.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("(no message)");
        let location = panic.location().map(ToString::to_string);
        tracing::error!(panic.message = message, panic.location = location, "panicked");
    }));
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::DefaultGuard;

    use super::*;

    /// Makes this thread write its log, as JSON, to the returned page.
    pub(crate) fn capture() -> (Page, DefaultGuard) {
        let page = Page::default();
        let guard = tracing::subscriber::set_default(json(parse("info").unwrap(), page.writer()));
        (page, guard)
    }

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        /// The lines as JSON.
        pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
            self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }

        fn writer(&self) -> impl for<'a> MakeWriter<'a> + Send + Sync + 'static {
            let page = self.clone();
            move || page.clone()
        }
    }

    fn write_lines() {
        let _node = tracing::info_span!("session", node.id = "n1").entered();
        let _instance = tracing::info_span!("start", instance.id = "i1").entered();
        tracing::info!(attempt = 2, "container started");
        tracing::debug!("not shown");
    }

    #[test]
    fn json_lines_carry_the_fields_of_every_span() {
        let (page, _guard) = capture();
        write_lines();
        let line = &page.lines()[0];
        assert_eq!(line["message"], "container started");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["attempt"], 2);
        assert_eq!(line["spans"][0]["node.id"], "n1");
        assert_eq!(line["spans"][1]["instance.id"], "i1");
    }

    #[test]
    fn human_lines_carry_the_fields_of_every_span() {
        let page = Page::default();
        tracing::subscriber::with_default(human(parse("info").unwrap(), false, page.writer()), write_lines);
        let text = page.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in ["container started", "node.id=\"n1\"", "instance.id=\"i1\"", "attempt=2"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn filters_by_target_are_accepted() {
        for filter in ["info", "WARN", "info, tonic=warn,h2=off", "off", "info,[session]=debug", ""] {
            parse(filter).unwrap();
        }
    }

    #[test]
    fn wrong_filters_are_refused_and_say_what_is_wrong() {
        let refused = |filter: &str| parse(filter).unwrap_err().to_string();
        assert!(refused("inof").contains("\"inof\""));
        assert!(refused("info,tonic").contains("\"tonic\""));
        assert!(refused("info,tonic=loud").contains("\"info,tonic=loud\""));
    }

    #[test]
    fn logging_is_set_up_once() {
        init("off", LogFormat::Json).unwrap();
        assert!(matches!(init("off", LogFormat::Human), Err(LogError::AlreadySetUp)));
    }

    #[test]
    fn panics_become_log_lines() {
        let (page, _guard) = capture();
        let usual = std::panic::take_hook();
        log_panics();
        let panicked = std::panic::catch_unwind(|| panic!("as asked, {}", 7));
        std::panic::set_hook(usual);
        assert!(panicked.is_err());
        let line = &page.lines()[0];
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["panic.message"], "as asked, 7");
        assert!(line["panic.location"].as_str().unwrap().contains("logging.rs:"), "{line}");
    }

    #[test]
    fn formats_are_named_as_in_the_configuration() {
        for (text, format) in
            [("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)]
        {
            assert_eq!(serde_json::from_str::<LogFormat>(&format!("\"{text}\"")).unwrap(), format);
        }
    }
}
