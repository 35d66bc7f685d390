//! Who is calling, as of now, and what that one may.

use std::collections::BTreeMap;

use domain::id::{SessionId, UserId};
use store::{audit::ActorKind, caller::Visible};
use uuid::Uuid;

use super::{
    policy::{Reach, Rule, covers},
    role::Role,
};

/// With what somebody calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A sign-in.
    Session(SessionId),
    /// An API token, within its scopes.
    Token {
        /// Which.
        id: Uuid,
        /// Names of permissions.
        scopes: Vec<String>,
    },
    /// None: made, not shown; for what is done at the host.
    None,
}

/// Who is calling, as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub account_id: UserId,
    /// Its name.
    pub name: String,
    /// A person or a service.
    pub kind: ActorKind,
    /// Its role on the fleet; `None` when it only has those that projects give.
    pub role: Option<Role>,
    /// Its roles in projects.
    pub memberships: BTreeMap<Uuid, Role>,
    /// With what.
    pub credential: Credential,
}

/// What a permission comes to for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It may, on whatever the permission reaches; over projects, [`Caller::decide_in`] says on which.
    May,
    /// Its role is too low.
    RoleTooLow,
    /// Its API token does not cover it.
    ScopeMissing,
    /// It does not even see the object: to it, there is none.
    Unseen,
}

impl Caller {
    /// The session, when it is one.
    #[must_use]
    pub const fn session_id(&self) -> Option<SessionId> {
        match self.credential {
            Credential::Session(id) => Some(id),
            Credential::Token { .. } | Credential::None => None,
        }
    }

    /// Its role over a project's objects.
    #[must_use]
    pub fn role_in(&self, project: Uuid) -> Option<Role> {
        self.role.max(self.memberships.get(&project).copied())
    }

    /// The projects whose objects it sees.
    #[must_use]
    pub fn visible(&self) -> Visible {
        match self.role {
            Some(_) => Visible::All,
            None => Visible::Projects(self.memberships.keys().copied().collect()),
        }
    }

    fn is_covered(&self, rule: &Rule) -> bool {
        match &self.credential {
            Credential::Token { scopes, .. } => scopes.iter().any(|scope| covers(scope, rule)),
            Credential::Session(_) | Credential::None => true,
        }
    }

    /// Whether it has a permission at all: on the fleet, or over some project.
    pub fn decide(&self, rule: &Rule) -> Decision {
        let role = match rule.reach {
            Reach::Own => return if self.is_covered(rule) { Decision::May } else { Decision::ScopeMissing },
            Reach::Fleet => self.role,
            Reach::Project => self.memberships.values().copied().max().max(self.role),
        };
        match role {
            Some(role) if role >= rule.role && self.is_covered(rule) => Decision::May,
            Some(role) if role >= rule.role => Decision::ScopeMissing,
            // A list of nothing is no secret, so whoever is a member of no project sees empty lists.
            None if rule.reach == Reach::Project && rule.role == Role::Viewer && self.is_covered(rule) => {
                Decision::May
            }
            _ => Decision::RoleTooLow,
        }
    }

    /// Whether it has a permission over an object of a project.
    pub fn decide_in(&self, rule: &Rule, project: Uuid) -> Decision {
        match self.role_in(project) {
            None => Decision::Unseen,
            Some(_) if !self.is_covered(rule) => Decision::ScopeMissing,
            Some(role) if role >= rule.role => Decision::May,
            Some(_) => Decision::RoleTooLow,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::policy::TABLE, *};

    fn caller(role: Option<Role>, memberships: &[(u128, Role)], scopes: Option<&[&str]>) -> Caller {
        Caller {
            account_id: UserId::from_uuid(Uuid::from_u128(1)),
            name: "eve".to_owned(),
            kind: ActorKind::User,
            role,
            memberships: memberships.iter().map(|(id, role)| (Uuid::from_u128(*id), *role)).collect(),
            credential: match scopes {
                None => Credential::None,
                Some(scopes) => Credential::Token {
                    id: Uuid::from_u128(9),
                    scopes: scopes.iter().map(ToString::to_string).collect(),
                },
            },
        }
    }

    fn roles() -> impl Strategy<Value = Option<Role>> {
        prop_oneof![Just(None), Just(Some(Role::Viewer)), Just(Some(Role::Operator)), Just(Some(Role::Admin))]
    }

    #[test]
    fn a_member_of_one_project_sees_nothing_of_another() {
        let member = caller(None, &[(1, Role::Admin)], None);
        for rule in TABLE.iter().filter(|rule| rule.reach == Reach::Project) {
            assert_eq!(member.decide_in(rule, Uuid::from_u128(1)), Decision::May, "{}", rule.name);
            assert_eq!(member.decide_in(rule, Uuid::from_u128(2)), Decision::Unseen, "{}", rule.name);
        }
        for rule in TABLE.iter().filter(|rule| rule.reach == Reach::Fleet) {
            assert_eq!(member.decide(rule), Decision::RoleTooLow, "{}", rule.name);
        }
        assert_eq!(member.visible(), Visible::Projects(vec![Uuid::from_u128(1)]));
    }

    proptest! {
        #[test]
        fn a_higher_role_never_may_less(low in roles(), high in roles(), in_project in roles(), rule in 0..TABLE.len()) {
            let (rule, project) = (&TABLE[rule], Uuid::from_u128(1));
            prop_assume!(low <= high);
            let members: Vec<_> = in_project.map(|role| (1, role)).into_iter().collect();
            let (low, high) = (caller(low, &members, None), caller(high, &members, None));
            prop_assert!(low.decide(rule) != Decision::May || high.decide(rule) == Decision::May);
            prop_assert!(low.decide_in(rule, project) != Decision::May || high.decide_in(rule, project) == Decision::May);
        }

        #[test]
        fn a_token_never_may_more_than_its_account(role in roles(), scope in 0..TABLE.len(), rule in 0..TABLE.len()) {
            let (scope, rule, project) = (TABLE[scope].name, &TABLE[rule], Uuid::from_u128(1));
            let (account, token) = (caller(role, &[], None), caller(role, &[], Some(&[scope])));
            prop_assert!(token.decide(rule) != Decision::May || account.decide(rule) == Decision::May);
            prop_assert!(token.decide_in(rule, project) != Decision::May || account.decide_in(rule, project) == Decision::May);
        }

        #[test]
        fn whoever_may_over_a_project_may_at_all(role in roles(), in_project in roles(), rule in 0..TABLE.len()) {
            let members: Vec<_> = in_project.map(|role| (1, role)).into_iter().collect();
            let (caller, rule) = (caller(role, &members, None), &TABLE[rule]);
            prop_assume!(rule.reach == Reach::Project);
            prop_assert!(caller.decide_in(rule, Uuid::from_u128(1)) != Decision::May || caller.decide(rule) == Decision::May);
        }
    }
}
