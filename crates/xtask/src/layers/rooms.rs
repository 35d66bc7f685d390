//! Libraries that a crate may have, but not everywhere in it.

use std::path::Path;

use crate::source::{code_only, is_word};

/// Some names, and the only places that may use them.
struct Rule {
    what: Names,
    /// Beginnings of paths from the top of the repository.
    rooms: &'static [&'static str],
    instead: &'static str,
}

enum Names {
    /// Any path that begins with one of these crates.
    Crates(&'static [&'static str]),
    /// These paths exactly.
    Paths(&'static [&'static str]),
}

const RULES: &[Rule] = &[
    Rule {
        what: Names::Crates(&["diesel", "diesel_async", "diesel_migrations"]),
        rooms: &["crates/store/"],
        instead: "ask the store",
    },
    Rule {
        what: Names::Crates(&[
            "actix_web",
            "actix_http",
            "actix_rt",
            "tracing_actix_web",
            "utoipa_actix_web",
        ]),
        rooms: &["crates/controller/src/http/", "crates/controller/src/http.rs", "crates/controller/tests/"],
        instead: "keep HTTP in controller::http",
    },
    Rule {
        what: Names::Crates(&["tonic", "tonic_prost", "tonic_prost_build", "prost", "prost_types", "protox"]),
        rooms: &[
            "crates/protocol/",
            "crates/controller/src/grpc/",
            "crates/controller/src/grpc.rs",
            // Proves that tonic sees the client's certificate through our own accept loop.
            "crates/controller/src/pki/tls/tests.rs",
            "crates/controller/tests/",
            "crates/node-agent/src/link/",
            "crates/node-agent/src/identity/",
            "crates/node-agent/tests/",
            "crates/system-tests/",
        ],
        instead: "convert to domain types at the edge",
    },
    Rule {
        what: Names::Crates(&["bollard"]),
        rooms: &["crates/node-agent/src/runtime/", "crates/node-agent/tests/"],
        instead: "use node_agent::runtime",
    },
    Rule {
        what: Names::Paths(&[
            "tokio::spawn",
            "tokio::task::spawn",
            "tokio::task::spawn_local",
            "actix_web::rt::spawn",
            "actix_rt::spawn",
        ]),
        rooms: &["crates/daemon/"],
        instead: "tasks belong to daemon::Supervisor",
    },
];

/// What is wrong in one file.
pub(super) fn faults(path: &Path, text: &str) -> Vec<String> {
    let file = path.to_string_lossy();
    let code = code_only(text);
    let rules = RULES.iter().filter(|rule| !rule.rooms.iter().any(|room| file.starts_with(room)));
    let mut faults: Vec<(usize, String)> = rules.flat_map(|rule| faults_against(rule, &code)).collect();
    faults.sort();
    faults.into_iter().map(|(line, fault)| format!("{file}:{line}: {fault}")).collect()
}

fn faults_against(rule: &Rule, code: &str) -> Vec<(usize, String)> {
    let lines = || code.lines().enumerate();
    let found: Vec<(usize, &str)> = match rule.what {
        Names::Crates(names) => lines()
            .flat_map(|(at, line)| {
                names.iter().filter(move |name| uses_crate(line, name)).map(move |name| (at, *name))
            })
            .collect(),
        Names::Paths(paths) => lines()
            .flat_map(|(at, line)| {
                paths.iter().filter(move |path| has_path(line, path)).map(move |path| (at, *path))
            })
            .collect(),
    };
    found
        .into_iter()
        .map(|(at, name)| (at + 1, format!("{name} is not for this place: {}", rule.instead)))
        .collect()
}

/// Whether a path in this line begins with the crate `name`.
fn uses_crate(line: &str, name: &str) -> bool {
    let imports = ["use ", "pub use ", "pub(crate) use ", "extern crate "];
    let import = imports.iter().any(|word| line.trim_start().starts_with(word));
    occurrences(line, name).any(|(before, after)| {
        // After `::` it is a module of that name, unless nothing stands before the `::`.
        let inner =
            before.strip_suffix("::").is_some_and(|owner| owner.ends_with(|c| is_word(c) || c == '>'));
        !inner && (after.starts_with("::") || import)
    })
}

fn has_path(line: &str, path: &str) -> bool {
    occurrences(line, path).next().is_some()
}

/// Every place where `name` stands as whole words, with what is around it.
fn occurrences<'a>(line: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    line.match_indices(name).filter_map(move |(at, _)| {
        let (before, rest) = line.split_at_checked(at)?;
        let after = rest.strip_prefix(name)?;
        (!before.ends_with(is_word) && !after.starts_with(is_word)).then_some((before, after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_at_fault(path: &str, text: &str) -> Vec<String> {
        faults(Path::new(path), text)
            .iter()
            .map(|fault| fault.strip_prefix(path).unwrap().split(' ').take(2).collect::<Vec<_>>().join(" "))
            .collect()
    }

    const SERVICE: &str = "crates/controller/src/service/nodes.rs";

    #[test]
    fn every_kind_of_use_is_found_with_its_line() {
        let text = "\
use diesel::prelude::*;
use ::actix_web::web;
use std::{sync::Arc, fmt};
fn f(error: tonic::Status) -> Result<(), prost::DecodeError> {
    tokio::spawn(async {});
    bollard::Docker::connect()
}
#[derive(diesel::Queryable)]
pub use tonic as grpc;
";
        assert_eq!(
            lines_at_fault(SERVICE, text),
            [
                ":1: diesel",
                ":2: actix_web",
                ":4: prost",
                ":4: tonic",
                ":5: tokio::spawn",
                ":6: bollard",
                ":8: diesel",
                ":9: tonic"
            ]
        );
    }

    #[test]
    fn talking_about_a_library_is_not_using_it() {
        let text = "\
//! Not `diesel::prelude`, and no tokio::spawn either.
const FILTER: &str = \"info,tonic::transport=warn\";
use crate::grpc::tonic::Session;
use crate::tonic_like::prost_ish::X;
fn spawn(runtime: &Handle) { runtime.spawn(work); tokio::task::spawn_blocking(work); }
let diesel = 1; /* actix_web::web */
";
        assert_eq!(lines_at_fault(SERVICE, text), Vec::<String>::new());
    }

    #[test]
    fn libraries_may_be_used_in_their_own_rooms_only() {
        let rooms = [
            ("use diesel::prelude::*;", "crates/store/src/node.rs", "crates/node-agent/src/ledger/mod.rs"),
            ("use actix_web::web;", "crates/controller/src/http/v1/nodes.rs", "crates/controller/src/app.rs"),
            ("use tonic::Status;", "crates/controller/src/grpc/session.rs", "crates/controller/src/error.rs"),
            ("use tonic::Status;", "crates/node-agent/src/link/session.rs", "crates/node-agent/src/agent.rs"),
            (
                "use tonic::Status;",
                "crates/node-agent/src/identity/renew.rs",
                "crates/node-agent/src/linked.rs",
            ),
            ("use prost::Message;", "crates/protocol/build.rs", "crates/store/src/report.rs"),
            (
                "use bollard::Docker;",
                "crates/node-agent/src/runtime/docker/mod.rs",
                "crates/node-agent/src/facts.rs",
            ),
            ("tokio::spawn(x);", "crates/daemon/src/supervise.rs", "crates/system-tests/tests/fleet.rs"),
        ];
        for (text, allowed, forbidden) in rooms {
            assert_eq!(lines_at_fault(allowed, text), Vec::<String>::new(), "{allowed}");
            assert_eq!(lines_at_fault(forbidden, text).len(), 1, "{forbidden}");
        }
    }

    #[test]
    fn fault_says_what_to_do_instead() {
        assert_eq!(
            faults(Path::new(SERVICE), "\n  tokio::spawn(x);"),
            [format!("{SERVICE}:2: tokio::spawn is not for this place: tasks belong to daemon::Supervisor")]
        );
    }
}
