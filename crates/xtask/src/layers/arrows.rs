//! The arrows between crates, and the libraries that belong to one crate.

use crate::workspace::Workspace;

/// Each crate of ours, and those of ours that it may depend on. `*` is all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("daemon", &[]),
    ("dashboard", &[]),
    ("protocol", &["domain"]),
    ("store", &["domain"]),
    ("node-agent", &["domain", "protocol", "daemon"]),
    ("cli", &["domain"]),
    ("controller", &["domain", "protocol", "daemon", "store", "dashboard"]),
    ("system-tests", &["*"]),
    ("xtask", &[]),
];

/// Libraries that only some crates may depend on, in their tests too.
const OWNED: &[(&str, &[&str])] = &[
    ("actix-web", &["controller"]),
    ("bollard", &["node-agent"]),
    ("config", &["daemon"]),
    ("diesel", &["store"]),
    ("diesel-async", &["store"]),
    ("diesel_migrations", &["store"]),
    ("prost", &["protocol"]),
    ("tonic-prost", &["protocol"]),
    ("tonic-prost-build", &["protocol"]),
    ("tracing-subscriber", &["daemon"]),
];

/// All that `domain` may use: nothing there does I/O, waits or reads a clock.
const DOMAIN_MAY_USE: &[&str] = &["chrono", "serde", "serde_json", "subtle", "thiserror", "uuid", "zeroize"];

/// One package and what it depends on.
#[derive(Debug)]
pub(super) struct Package {
    name: String,
    manifest: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    /// Whether it is one of our own crates.
    ours: bool,
    /// Whether only tests use it.
    test_only: bool,
}

/// The packages of the workspace.
pub(super) fn packages(workspace: &Workspace) -> Vec<Package> {
    let metadata = workspace.metadata();
    let dependency = |dependency: &cargo_metadata::Dependency| Dependency {
        name: dependency.name.clone(),
        ours: dependency.path.is_some(),
        test_only: dependency.kind == cargo_metadata::DependencyKind::Development,
    };
    let package = |package: &cargo_metadata::Package| Package {
        name: package.name.to_string(),
        manifest: package
            .manifest_path
            .strip_prefix(&metadata.workspace_root)
            .unwrap_or(&package.manifest_path)
            .to_string(),
        dependencies: package.dependencies.iter().map(dependency).collect(),
    };
    metadata.workspace_packages().into_iter().map(package).collect()
}

/// What is wrong with these packages.
pub(super) fn faults(packages: &[Package]) -> Vec<String> {
    packages.iter().flat_map(faults_of).collect()
}

fn faults_of(package: &Package) -> Vec<String> {
    let Package { name, manifest, dependencies } = package;
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| known == name) else {
        return vec![format!(
            "{manifest}:1: crate {name} has no place among the layers yet; decide it in xtask"
        )];
    };
    let fault = |dependency: &Dependency| {
        let reason =
            if dependency.ours { arrow(name, allowed, dependency) } else { ownership(name, dependency) };
        reason.map(|reason| format!("{manifest}:1: {reason}"))
    };
    dependencies.iter().filter_map(fault).collect()
}

fn arrow(name: &str, allowed: &[&str], dependency: &Dependency) -> Option<String> {
    // A crate names itself to switch on a feature of its own for its tests.
    let itself = dependency.name == name && dependency.test_only;
    let granted = allowed.iter().any(|allowed| *allowed == "*" || *allowed == dependency.name);
    (!itself && !granted).then(|| format!("{name} must not depend on {}", dependency.name))
}

fn ownership(name: &str, dependency: &Dependency) -> Option<String> {
    if let Some((library, owners)) = OWNED.iter().find(|(library, _)| *library == dependency.name) {
        let owned = owners.contains(&name);
        return (!owned)
            .then(|| format!("{name} must not depend on {library}, only {} may", owners.join(", ")));
    }
    let outside =
        name == "domain" && !dependency.test_only && !DOMAIN_MAY_USE.contains(&dependency.name.as_str());
    outside.then(|| format!("domain must not depend on {}: it only decides", dependency.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, bool, bool)]) -> Package {
        let dependency = |&(name, ours, test_only): &(&str, bool, bool)| Dependency {
            name: name.to_owned(),
            ours,
            test_only,
        };
        Package {
            name: name.to_owned(),
            manifest: format!("crates/{name}/Cargo.toml"),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    fn faults_with(name: &str, dependency: (&str, bool, bool)) -> Vec<String> {
        faults(&[package(name, &[dependency])])
    }

    #[test]
    fn allowed_arrows_pass() {
        let packages = [
            package("domain", &[("serde", false, false), ("proptest", false, true)]),
            package("store", &[("domain", true, false), ("diesel", false, false), ("store", true, true)]),
            package(
                "controller",
                &[("store", true, false), ("daemon", true, false), ("actix-web", false, false)],
            ),
            package("system-tests", &[("controller", true, false), ("node-agent", true, false)]),
        ];
        assert_eq!(faults(&packages), Vec::<String>::new());
    }

    #[test]
    fn forbidden_arrows_are_named_in_their_manifest() {
        assert_eq!(
            faults_with("node-agent", ("store", true, false)),
            ["crates/node-agent/Cargo.toml:1: node-agent must not depend on store"]
        );
        // Also where only tests would use it, and never backwards.
        for (name, other) in [("domain", "daemon"), ("xtask", "domain"), ("controller", "system-tests")] {
            assert_eq!(faults_with(name, (other, true, true)).len(), 1, "{name} -> {other}");
        }
    }

    #[test]
    fn libraries_stay_with_their_owners() {
        for (name, library) in [
            ("controller", "diesel"),
            ("system-tests", "bollard"),
            ("node-agent", "actix-web"),
            ("controller", "tracing-subscriber"),
            ("domain", "tokio"),
        ] {
            assert_eq!(faults_with(name, (library, false, false)).len(), 1, "{name} -> {library}");
        }
    }

    #[test]
    fn crate_without_a_place_is_a_fault() {
        assert!(faults(&[package("helpers", &[])])[0].contains("no place"));
    }
}
