//! Who may sign in by a provider, and as what: a decision over what the provider says.

use std::{collections::BTreeSet, str::FromStr};

use crate::auth::role::Role;

/// A team of an organisation. Compared without case, as GitHub does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Team {
    /// Its organisation, in lower case.
    pub organization: String,
    /// Its name in addresses, in lower case.
    pub slug: String,
}

/// Why a text is not a [`Team`] or not the role of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.allowed())]
pub enum InvalidTeam {
    /// It does not name a team.
    Team,
    /// It does not give a team a role.
    Role,
}

impl InvalidTeam {
    const fn allowed(self) -> &'static str {
        match self {
            Self::Team => "must be teams as organization/team-slug",
            Self::Role => "must be organization/team-slug=role, where the role is admin, operator or viewer",
        }
    }
}

/// Whether a text can be a name at GitHub: as part of a path it must be one.
fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !matches!(text, "." | "..")
}

impl FromStr for Team {
    type Err = InvalidTeam;

    fn from_str(text: &str) -> Result<Self, InvalidTeam> {
        match text.split_once('/') {
            Some((organization, slug)) if is_name(organization) && is_name(slug) => {
                Ok(Self { organization: organization.to_ascii_lowercase(), slug: slug.to_ascii_lowercase() })
            }
            _ => Err(InvalidTeam::Team),
        }
    }
}

/// Who is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    organizations: BTreeSet<String>,
    teams: BTreeSet<Team>,
    users: BTreeSet<String>,
    default_role: Option<Role>,
    team_roles: Vec<(Team, Role)>,
}

/// What a provider says of somebody, as far as it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The name there.
    pub login: String,
    /// The id there.
    pub subject: String,
    /// Those of [`Allow::organizations`] in which that one is an active member.
    pub organizations: BTreeSet<String>,
    /// Those of [`Allow::teams`] in which that one is an active member.
    pub teams: BTreeSet<Team>,
}

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nothing: lists are configured, and none has that one.
    No,
    /// To sign in to an account that is there.
    Known {
        /// The role that a team gives.
        mapped: Option<Role>,
    },
    /// Also to get an account.
    New {
        /// The role that a team gives.
        mapped: Option<Role>,
    },
}

impl Allow {
    /// Reads the lists. A user is a login, or an id where it is a number.
    ///
    /// # Errors
    /// Naming the list, and what it may hold.
    pub fn new(
        organizations: &[String],
        teams: &[String],
        users: &[String],
        default_role: Option<Role>,
        team_roles: &[String],
    ) -> Result<Self, (&'static str, &'static str)> {
        let names = |key, texts: &[String]| -> Result<BTreeSet<String>, _> {
            let names = texts.iter().map(|text| is_name(text).then(|| text.to_ascii_lowercase()));
            let names: Option<_> = names.collect();
            names.ok_or((key, "must be names of letters, digits, hyphens, dots and underscores"))
        };
        let teams = teams.iter().map(|text| text.parse()).collect::<Result<_, InvalidTeam>>();
        let team_roles = team_roles.iter().map(|text| team_role(text)).collect::<Result<_, _>>();
        Ok(Self {
            organizations: names("github_allowed_organizations", organizations)?,
            teams: teams.map_err(|e| ("github_allowed_teams", e.allowed()))?,
            users: names("github_allowed_users", users)?,
            default_role,
            team_roles: team_roles.map_err(|e| ("github_team_roles", e.allowed()))?,
        })
    }

    /// Organisations to ask about.
    #[must_use]
    pub const fn organizations(&self) -> &BTreeSet<String> {
        &self.organizations
    }

    /// Teams to ask about.
    #[must_use]
    pub fn teams(&self) -> BTreeSet<Team> {
        self.teams.iter().chain(self.team_roles.iter().map(|(team, _)| team)).cloned().collect()
    }

    /// The role of a new account that no team gives one: `None` for the one that is
    /// nothing on the fleet.
    #[must_use]
    pub const fn default_role(&self) -> Option<Role> {
        self.default_role
    }

    /// Whether anything says who may come in.
    #[must_use]
    pub fn has_lists(&self) -> bool {
        !(self.organizations.is_empty() && self.teams.is_empty() && self.users.is_empty())
    }

    fn is_listed(&self, facts: &Facts) -> bool {
        // GitHub has logins of digits only; here a number is an id, which never changes hands.
        let login = facts.login.to_ascii_lowercase();
        let by_login = !is_id(&login) && self.users.contains(&login);
        by_login
            || self.users.contains(&facts.subject)
            || !self.organizations.is_disjoint(&facts.organizations)
            || !self.teams.is_disjoint(&facts.teams)
    }

    /// Decides. The highest role of all mapped teams counts.
    #[must_use]
    pub fn decide(&self, facts: &Facts) -> Admission {
        let of_teams = self.team_roles.iter().filter(|(team, _)| facts.teams.contains(team));
        let mapped = of_teams.map(|(_, role)| *role).max();
        match (self.has_lists(), self.is_listed(facts)) {
            (true, false) => Admission::No,
            (true, true) => Admission::New { mapped },
            // Without lists somebody must be wanted in another way.
            (false, _) if mapped.is_some() || self.default_role.is_some() => Admission::New { mapped },
            (false, _) => Admission::Known { mapped },
        }
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn team_role(text: &str) -> Result<(Team, Role), InvalidTeam> {
    let (team, role) = text.split_once('=').ok_or(InvalidTeam::Role)?;
    let role = Role::parse(role.trim()).ok_or(InvalidTeam::Role)?;
    Ok((team.trim().parse().map_err(|_| InvalidTeam::Role)?, role))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn allow(
        organizations: &[&str],
        teams: &[&str],
        users: &[&str],
        default_role: Option<Role>,
        team_roles: &[&str],
    ) -> Allow {
        Allow::new(&texts(organizations), &texts(teams), &texts(users), default_role, &texts(team_roles))
            .unwrap()
    }

    fn facts(login: &str, subject: &str, organizations: &[&str], teams: &[&str]) -> Facts {
        Facts {
            login: login.to_owned(),
            subject: subject.to_owned(),
            organizations: texts(organizations).into_iter().collect(),
            teams: teams.iter().map(|team| team.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn with_nothing_configured_nobody_new_comes_in() {
        let eve = facts("eve", "7", &["acme"], &["acme/ops"]);
        assert_eq!(Allow::default().decide(&eve), Admission::Known { mapped: None });
        let open = allow(&[], &[], &[], Some(Role::Viewer), &[]);
        assert_eq!(open.decide(&eve), Admission::New { mapped: None });
    }

    #[test]
    fn one_list_that_has_somebody_is_enough_and_none_is_not() {
        let lists = allow(&["Acme"], &["other/Core"], &["Anna", "42"], None, &[]);
        let admitted = Admission::New { mapped: None };
        assert_eq!(lists.decide(&facts("x", "1", &["acme"], &[])), admitted);
        assert_eq!(lists.decide(&facts("x", "1", &[], &["other/core"])), admitted);
        assert_eq!(lists.decide(&facts("ANNA", "1", &[], &[])), admitted);
        assert_eq!(lists.decide(&facts("x", "42", &[], &[])), admitted);
        assert_eq!(lists.decide(&facts("x", "1", &["evil"], &["acme/core"])), Admission::No);
    }

    #[test]
    fn a_login_of_digits_is_not_taken_for_an_id() {
        let lists = allow(&[], &[], &["42"], None, &[]);
        assert_eq!(lists.decide(&facts("42", "1", &[], &[])), Admission::No);
    }

    #[test]
    fn the_highest_role_of_all_teams_counts_and_a_mapped_team_lets_in() {
        let roles = allow(&[], &[], &[], None, &["acme/ops=operator", "acme/root = admin"]);
        let of = |teams: &[&str]| roles.decide(&facts("x", "1", &[], teams));
        assert_eq!(of(&["acme/ops", "acme/root"]), Admission::New { mapped: Some(Role::Admin) });
        assert_eq!(of(&["acme/ops"]), Admission::New { mapped: Some(Role::Operator) });
        assert_eq!(of(&["acme/other"]), Admission::Known { mapped: None });
        assert_eq!(roles.teams().len(), 2);
    }

    #[test]
    fn a_role_does_not_open_what_the_lists_close() {
        let both = allow(&["acme"], &[], &[], Some(Role::Viewer), &["other/root=admin"]);
        assert_eq!(both.decide(&facts("x", "1", &[], &["other/root"])), Admission::No);
    }

    #[test]
    fn what_is_no_name_is_refused_by_its_key() {
        let refused = |o: &[&str], t: &[&str], u: &[&str], r: &[&str]| {
            Allow::new(&texts(o), &texts(t), &texts(u), None, &texts(r)).unwrap_err().0
        };
        for bad in ["", "a/b", "..", "a b", "ä", "a?b"] {
            assert_eq!(refused(&[bad], &[], &[], &[]), "github_allowed_organizations", "{bad}");
            assert_eq!(refused(&[], &[], &[bad], &[]), "github_allowed_users", "{bad}");
        }
        for bad in ["acme", "acme/", "/ops", "acme/ops/x", "acme/..", "../ops"] {
            assert_eq!(refused(&[], &[bad], &[], &[]), "github_allowed_teams", "{bad}");
        }
        for bad in ["acme/ops", "acme/ops=root", "acme=admin", "=admin", "acme/ops=none"] {
            assert_eq!(refused(&[], &[], &[], &[bad]), "github_team_roles", "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whoever_no_list_has_never_comes_in_while_there_are_lists(
            listed in prop::collection::btree_set("[a-z]{1,4}", 1..4),
            there in prop::collection::btree_set("[a-z]{1,4}", 0..4),
            default_role in prop::option::of(Just(Role::Viewer)),
        ) {
            let organizations: Vec<_> = listed.iter().cloned().collect();
            let lists = Allow::new(&organizations, &[], &[], default_role, &[]).unwrap();
            let facts = Facts { login: "x".into(), subject: "1".into(), organizations: there.clone(), teams: BTreeSet::new() };
            let expected = if listed.is_disjoint(&there) { Admission::No } else { Admission::New { mapped: None } };
            prop_assert_eq!(lists.decide(&facts), expected);
        }
    }
}
