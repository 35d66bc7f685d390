//! Who may do what: the one table that decides.
//!
//! Every handler names a permission in its signature, and a permission is a row
//! here: what an API token's scope calls it, over what it reaches, and the least role
//! that has it. What is not in the table, nobody may.

use super::role::Role;

/// Over what a permission reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The whole fleet: the role is the account's own.
    Fleet,
    /// The objects of a project: the role is that on the fleet or in the project,
    /// whichever is higher.
    Project,
    /// What is the caller's own; whoever is signed in has it.
    Own,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is called, in API tokens' scopes too.
    pub name: &'static str,
    /// Over what.
    pub reach: Reach,
    /// The least role that has it.
    pub role: Role,
}

/// A permission as a type, which a handler asks for.
pub trait Permission: 'static {
    /// Its row.
    const RULE: Rule;
}

macro_rules! table {
    ($($(#[$doc:meta])* $marker:ident = $name:literal, $reach:ident, $role:ident;)*) => {
        $(
            $(#[$doc])*
            pub struct $marker;

            impl Permission for $marker {
                const RULE: Rule = Rule { name: $name, reach: Reach::$reach, role: Role::$role };
            }
        )*

        /// All of them.
        pub const TABLE: &[Rule] = &[$($marker::RULE),*];
    };
}

table! {
    /// One's own account and sessions.
    OwnAccount = "self", Own, Viewer;
    /// One's own API tokens.
    OwnTokensRead = "tokens:read", Own, Viewer;
    /// Making and deleting them.
    OwnTokens = "tokens:write", Own, Viewer;
    /// Deployments, instances, their logs, readings and operations.
    DeploymentsRead = "deployments:read", Project, Viewer;
    /// Declaring and deleting deployments; restarting, stopping and starting instances.
    DeploymentsWrite = "deployments:write", Project, Operator;
    /// Credentials, without their values.
    CredentialsRead = "credentials:read", Project, Viewer;
    /// Making, replacing and deleting credentials.
    CredentialsWrite = "credentials:write", Project, Operator;
    /// Seeing values of credentials, where the configuration allows it at all.
    CredentialsReveal = "credentials:reveal", Project, Admin;
    /// What happened.
    EventsRead = "events:read", Project, Viewer;
    /// Projects and who is a member.
    ProjectsRead = "projects:read", Project, Viewer;
    /// Who is a member of a project.
    MembersWrite = "members:write", Project, Admin;
    /// Making and deleting projects.
    ProjectsWrite = "projects:write", Fleet, Admin;
    /// Nodes.
    NodesRead = "nodes:read", Fleet, Viewer;
    /// Letting hosts become nodes.
    NodesWrite = "nodes:write", Fleet, Admin;
    /// Accounts, invites, and other accounts' tokens.
    AccountsRead = "accounts:read", Fleet, Admin;
    /// Changing them.
    AccountsWrite = "accounts:write", Fleet, Admin;
    /// The audit log.
    AuditRead = "audit:read", Fleet, Admin;
    /// Settings.
    SettingsRead = "settings:read", Fleet, Admin;
    /// Changing them.
    SettingsWrite = "settings:write", Fleet, Admin;
}

/// Whether a scope of an API token covers a permission: its name, `*`, or `*:read`
/// for all that ends so. One's own account is always covered.
#[must_use]
pub fn covers(scope: &str, rule: &Rule) -> bool {
    scope == "*"
        || scope == rule.name
        || rule.name == OwnAccount::RULE.name
        || scope.strip_prefix('*').is_some_and(|rest| rest == ":read" && rule.name.ends_with(rest))
}

/// Whether a text is a scope.
#[must_use]
pub fn is_scope(text: &str) -> bool {
    text == "*" || text == "*:read" || TABLE.iter().any(|rule| rule.name == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = TABLE.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn a_scope_covers_what_it_says_and_no_more() {
        for rule in TABLE {
            assert!(covers("*", rule) && covers(rule.name, rule) && is_scope(rule.name));
            let own = rule.name == "self";
            assert_eq!(covers("*:read", rule), own || rule.name.ends_with(":read"), "{}", rule.name);
            assert_eq!(covers("nodes:read", rule), own || rule.name == "nodes:read", "{}", rule.name);
            assert_eq!(covers("", rule), own);
        }
        for text in ["", "read", ":read", "*:write", "nodes", "nodes:*", "* "] {
            assert!(!is_scope(text), "{text}");
        }
    }

    #[test]
    fn what_only_reads_never_needs_more_than_what_writes_the_same() {
        for read in TABLE.iter().filter(|rule| rule.name.ends_with(":read")) {
            let write = read.name.replace(":read", ":write");
            for write in TABLE.iter().filter(|rule| rule.name == write) {
                assert!(read.role <= write.role, "{}", read.name);
            }
        }
    }
}
