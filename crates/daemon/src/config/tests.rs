use std::{net::SocketAddr, os::unix::ffi::OsStringExt as _};

use proptest::prelude::*;

use super::*;
use crate::logging::LogFormat;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default)]
struct Settings {
    data_dir: PathBuf,
    listen: SocketAddr,
    workers: u16,
    ratio: f64,
    strict: bool,
    log_format: LogFormat,
    password: Option<String>,
    labels: BTreeMap<String, String>,
    names: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/program".into(),
            listen: "127.0.0.1:1".parse().unwrap(),
            workers: 2,
            ratio: 0.5,
            strict: false,
            log_format: LogFormat::Auto,
            password: None,
            labels: BTreeMap::new(),
            names: Vec::new(),
        }
    }
}

/// Loads from a file with this content, or none if that is empty, and these
/// variables.
fn load_from<T: for<'de> Deserialize<'de>>(toml: &str, variables: &[(&str, &str)]) -> Result<T, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.toml");
    if !toml.is_empty() {
        fs::write(&path, toml).unwrap();
    }
    load(Source {
        file: (!toml.is_empty()).then_some(path),
        default_file: Path::new("/nonexistent"),
        prefix: "APP_",
        foreign: &["APP_URL", "APP_AGENT_"],
        environment: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
    })
}

fn refused(toml: &str, variables: &[(&str, &str)]) -> String {
    load_from::<Settings>(toml, variables).unwrap_err().to_string()
}

#[test]
fn nothing_set_gives_the_defaults() {
    assert_eq!(load_from::<Settings>("", &[]).unwrap(), Settings::default());
}

#[test]
fn every_kind_of_value_comes_from_the_file() {
    let toml = r#"
        data_dir = "/data"
        listen = "0.0.0.0:80"
        workers = 8
        ratio = 2
        strict = true
        log_format = "json"
        password = "1234"
        names = ["a", "b"]
        [labels]
        Zone = "east"
    "#;
    let expected = Settings {
        data_dir: "/data".into(),
        listen: "0.0.0.0:80".parse().unwrap(),
        workers: 8,
        ratio: 2.0,
        strict: true,
        log_format: LogFormat::Json,
        password: Some("1234".to_owned()),
        labels: BTreeMap::from([("Zone".to_owned(), "east".to_owned())]),
        names: vec!["a".to_owned(), "b".to_owned()],
    };
    assert_eq!(load_from::<Settings>(toml, &[]).unwrap(), expected);
}

#[test]
fn environment_wins_over_the_file() {
    let settings: Settings = load_from(
        "workers = 8\nratio = 0.25",
        &[
            ("APP_WORKERS", "16"),
            ("APP_STRICT", "true"),
            ("APP_LISTEN", "[::1]:9"),
            ("APP_LOG_FORMAT", "human"),
        ],
    )
    .unwrap();
    assert_eq!((settings.workers, settings.ratio, settings.strict), (16, 0.25, true));
    assert_eq!(settings.listen, "[::1]:9".parse().unwrap());
    assert_eq!(settings.log_format, LogFormat::Human);
}

#[test]
fn text_that_looks_like_a_number_stays_text() {
    for text in ["0123", "1e9", "true", " spaced ", "a,b"] {
        let settings: Settings = load_from("", &[("APP_PASSWORD", text)]).unwrap();
        assert_eq!(settings.password.as_deref(), Some(text));
    }
}

#[test]
fn empty_variable_counts_as_not_set() {
    let settings: Settings =
        load_from("password = 'kept'", &[("APP_PASSWORD", ""), ("APP_WORKERS", "")]).unwrap();
    assert_eq!((settings.password.as_deref(), settings.workers), (Some("kept"), 2));
}

#[test]
fn names_of_other_programs_are_left_alone() {
    let others =
        [("APP_URL", "x"), ("APP_AGENT_WORKERS", "x"), ("PATH", "x"), ("APPLE", "x"), ("app_workers", "x")];
    assert_eq!(load_from::<Settings>("", &others).unwrap(), Settings::default());
    // Only an entry that ends in `_` is a prefix.
    assert!(refused("", &[("APP_URLS", "x")]).contains("APP_URLS"));
}

#[test]
fn all_unknown_keys_are_named_with_what_was_meant() {
    let error = refused(
        "wokers = 1\nfoo = 1",
        &[("APP_DATADIR", "x"), ("APP_data_dir", "x"), ("APP_QUITE_ELSE", "x")],
    );
    for part in [
        "wokers in ",
        "did you mean workers?",
        "foo in ",
        "APP_DATADIR is not a known key (did you mean APP_DATA_DIR?)",
        "APP_data_dir is not a known key (did you mean APP_DATA_DIR?)",
        "APP_QUITE_ELSE is not a known key",
    ] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert!(!error.contains("APP_QUITE_ELSE is not a known key (did"), "{error}");
}

#[test]
fn keys_that_the_library_would_take_apart_are_unknown_too() {
    for key in ["APP_", "APP_A.B", "APP_A[0", "APP_WORKERS__X"] {
        assert!(refused("", &[(key, "x")]).contains(key), "{key}");
    }
}

#[test]
fn wrong_values_name_the_key_and_what_would_be_right() {
    let cases = [
        ("WORKERS", "hunter2", "APP_WORKERS must be a whole number from 0 to 65535"),
        ("WORKERS", "70000", "APP_WORKERS must be a whole number from 0 to 65535"),
        ("WORKERS", "1.5", "APP_WORKERS must be a whole number from 0 to 65535"),
        ("STRICT", "hunter2", "APP_STRICT must be true or false"),
        ("RATIO", "hunter2", "APP_RATIO must be a number"),
        ("LOG_FORMAT", "hunter2", "APP_LOG_FORMAT must be one of auto, human, json"),
        ("LISTEN", "hunter2", "APP_LISTEN is refused: invalid socket address syntax"),
        ("NAMES", "hunter2", "APP_NAMES must be a sequence"),
    ];
    for (key, value, expected) in cases {
        let error = refused("", &[(&format!("APP_{key}"), value)]);
        assert!(error.ends_with(expected), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn wrong_values_in_the_file_name_the_file() {
    for (toml, expected) in [
        ("workers = 'hunter2'", "a whole number from 0 to 65535"),
        ("workers = 1.5", "a whole number from 0 to 65535"),
        ("workers = [1]", "a whole number from 0 to 65535"),
        ("strict = 1", "true or false"),
        ("password = ['hunter2']", "a string"),
        ("log_format = 3", "one of auto, human, json"),
        ("[labels]\nzone = ['hunter2']", "a string"),
    ] {
        let error = refused(toml, &[]);
        assert!(error.contains("app.toml must be ") && error.ends_with(expected), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn syntax_error_tells_the_place_and_not_the_line() {
    let error = load_from::<Settings>("workers = 1\npassword = hunter2", &[]).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("line 2"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn missing_key_is_named_in_both_ways() {
    #[derive(Debug, Deserialize)]
    struct Strict {
        #[serde(rename = "data_dir")]
        _data_dir: PathBuf,
    }
    let error = load_from::<Strict>("", &[]).unwrap_err().to_string();
    assert!(error.contains("data_dir is not set (in the environment: APP_DATA_DIR)"), "{error}");
}

#[test]
fn only_the_default_file_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.toml");
    let source =
        |file, default_file| Source { file, default_file, prefix: "APP_", foreign: &[], environment: vec![] };
    assert_eq!(load::<Settings>(source(None, &missing)).unwrap(), Settings::default());
    let error = load::<Settings>(source(Some(missing.clone()), &missing)).unwrap_err();
    assert!(matches!(error, ConfigError::File { path, .. } if path == missing));
    fs::write(&missing, "workers = 3").unwrap();
    assert_eq!(load::<Settings>(source(None, &missing)).unwrap().workers, 3);
}

#[test]
fn variable_that_is_not_unicode_is_named() {
    let source = Source {
        file: None,
        default_file: Path::new("/nonexistent"),
        prefix: "APP_",
        foreign: &[],
        environment: vec![("APP_DATA_DIR".into(), OsString::from_vec(b"/data/\xff".into()))],
    };
    let error = load::<Settings>(source).unwrap_err().to_string();
    assert!(error.ends_with("APP_DATA_DIR must be Unicode text"), "{error}");
}

proptest! {
    #[test]
    fn no_error_shows_a_value(value in "[a-zA-Z0-9:/._-]{6,30}", key in 0_usize..6) {
        let key = ["APP_WORKERS", "APP_STRICT", "APP_RATIO", "APP_LOG_FORMAT", "APP_LISTEN", "APP_UNKNOWN"][key];
        if let Err(error) = load_from::<Settings>("", &[(key, &value)]) {
            let shown = format!("{error} {error:?}");
            // Words of our own may happen to be the value; no secret is one of them.
            let ours = refused("", &[(key, "~")]);
            prop_assert!(!shown.contains(&value) || ours.contains(&value), "{}", shown);
        }
    }
}
