//! Accounts: how they come to be, and what administrators change of them.

use domain::{id::UserId, name::Name};
use serde::Deserialize;
use store::{
    account::{AccountChange, AccountKey, AccountNew, AccountRow},
    audit::{Actor, ActorKind},
};
use uuid::Uuid;

use super::{Services, hash_error, limits::shown};
use crate::{
    auth::{password::Password, role::Role, token},
    error::{Error, ErrorKind},
};

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Anybody, as a viewer; with an invite, with its role.
    Open,
    /// Who has an invite.
    Invite,
    /// Nobody.
    Closed,
}

impl Registration {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Invite, Self::Closed];

    /// The name, as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Invite => "invite",
            Self::Closed => "closed",
        }
    }

    /// The policy of that name; `None` for any other text.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == name)
    }
}

/// What somebody wants an account to be. Holds a password: no `Debug`.
pub struct AccountWish {
    /// What it signs in with.
    pub name: String,
    /// Its role on the fleet; `None` for only those that projects give.
    pub role: Option<Role>,
    /// Whether it is a service's: such a one never signs in.
    pub service: bool,
    /// A person's password; a service has none.
    pub password: Option<Password>,
}

/// Reads a role that an account may have: `none`, or one of [`Role`].
///
/// # Errors
/// For any other text.
pub fn role_or_none(text: &str) -> Result<Option<Role>, Error> {
    match Role::parse(text) {
        None if text != "none" => {
            Err(Error::invalid_field("role", "must be admin, operator, viewer or none"))
        }
        role => Ok(role),
    }
}

/// What such a role is called.
#[must_use]
pub fn role_name(role: Option<Role>) -> &'static str {
    role.map_or("none", Role::as_str)
}

/// Reads what a path or query says: an id, or else a name.
#[must_use]
pub fn account_key(text: &str) -> AccountKey {
    text.parse().map_or_else(|_| AccountKey::Name(text.to_owned()), AccountKey::Id)
}

impl Services {
    /// Makes an account as the registration policy allows. The invite for the first
    /// administrator works whatever the policy is.
    ///
    /// # Errors
    /// When the policy forbids it, the invite is not good, the name is taken, or
    /// name or password are not allowed.
    pub async fn account_register(
        &self,
        name: String,
        password: Password,
        invite: Option<&str>,
        actor: &Actor,
    ) -> Result<AccountRow, Error> {
        let shown = shown(&name);
        let made = self.account_register_checked(name, password, invite, actor).await;
        if made.as_ref().is_err_and(|e| e.kind() == ErrorKind::PermissionDenied) {
            self.stranger_refused(actor, "account_register", &shown).await;
        }
        made
    }

    async fn account_register_checked(
        &self,
        name: String,
        password: Password,
        invite: Option<&str>,
        actor: &Actor,
    ) -> Result<AccountRow, Error> {
        let invite = invite.map(token::sha256);
        let bootstrap = match &invite {
            Some(invite) => self.store.invite_is_bootstrap(invite).await?,
            None => false,
        };
        if !bootstrap {
            self.registration_check(invite.is_some()).await?;
        }
        let new = self.account_new(name, false, Some(password)).await?;
        let actor = Actor { name: new.name.clone(), kind: ActorKind::User, ..actor.clone() };
        Ok(match invite {
            Some(invite) => self.store.account_register(&new, &invite, &actor).await?,
            None => self.store.account_insert(&new, Role::Viewer.as_str(), &actor).await?,
        })
    }

    async fn registration_check(&self, has_invite: bool) -> Result<(), Error> {
        let refused =
            |code, message: &'static str| Err(Error::new(ErrorKind::PermissionDenied, code, message));
        match self.registration().await?.effective {
            Registration::Closed => {
                refused("registration_closed", "nobody can register here; ask an administrator")
            }
            Registration::Invite if !has_invite => refused("invite_needed", "registration needs an invite"),
            Registration::Invite | Registration::Open => Ok(()),
        }
    }

    /// Makes a person's account with a role.
    ///
    /// # Errors
    /// When the name is taken, or name or password are not allowed.
    pub async fn account_create(
        &self,
        name: String,
        password: Password,
        role: Role,
        actor: &Actor,
    ) -> Result<AccountRow, Error> {
        let wish = AccountWish { name, role: Some(role), service: false, password: Some(password) };
        self.account_make(wish, actor).await
    }

    /// Makes an account for an administrator.
    ///
    /// # Errors
    /// When the name is taken, or name or password are not allowed; a person needs a
    /// password and a service has none.
    pub async fn account_make(&self, wish: AccountWish, actor: &Actor) -> Result<AccountRow, Error> {
        let AccountWish { name, role, service, password } = wish;
        let new = self.account_new(name, service, password).await?;
        Ok(self.store.account_insert(&new, role_name(role), actor).await?)
    }

    async fn account_new(
        &self,
        name: String,
        service: bool,
        password: Option<Password>,
    ) -> Result<AccountNew, Error> {
        let name = Name::parse(name).map_err(|e| Error::invalid_field("name", e.to_string()))?;
        // Paths take a name or an id, and an id wins.
        if Uuid::parse_str(name.as_str()).is_ok() {
            return Err(Error::invalid_field("name", "must not look like an id"));
        }
        let password_hash = match (service, password) {
            (false, Some(password)) => Some(self.new_password_hash(password).await?),
            (true, None) => None,
            (false, None) => return Err(Error::invalid_field("password", "is needed")),
            (true, Some(_)) => {
                return Err(Error::invalid_field("password", "must be left out: a service never signs in"));
            }
        };
        Ok(AccountNew {
            id: UserId::from_uuid(Uuid::now_v7()),
            name: name.to_string(),
            kind: if service { "service" } else { "user" },
            password_hash,
            email: None,
        })
    }

    /// Hashes what is to become somebody's password, if it may.
    pub(super) async fn new_password_hash(&self, password: Password) -> Result<String, Error> {
        match password.fault() {
            Some(fault) => Err(Error::invalid_field("password", fault.to_string())),
            None => self.identity.passwords.hash(password).await.map_err(hash_error),
        }
    }

    /// An account.
    ///
    /// # Errors
    /// When there is none.
    pub async fn account_get(&self, key: &AccountKey) -> Result<AccountRow, Error> {
        self.store.account_fetch(key).await?.ok_or_else(|| Error::not_found("account"))
    }

    /// Changes an account's role (`Some(None)` is none), or whether it may act; what
    /// is `None` stays. Either ends its sessions on every controller.
    ///
    /// # Errors
    /// When there is none, or it is the last enabled administrator's.
    pub async fn account_update(
        &self,
        id: UserId,
        role: Option<Option<Role>>,
        disabled: Option<bool>,
        actor: &Actor,
    ) -> Result<AccountRow, Error> {
        let change = AccountChange { role: role.map(role_name), disabled };
        Ok(self.store.account_update(id, &change, actor).await?)
    }

    /// Gives a person's account another password, without asking for the old one,
    /// and ends its sessions.
    ///
    /// # Errors
    /// When there is none, it is a service's, or the password is not allowed.
    pub async fn account_password_reset(
        &self,
        name: &str,
        password: Password,
        actor: &Actor,
    ) -> Result<(), Error> {
        let account = self.account_get(&AccountKey::Name(name.to_owned())).await?;
        if account.kind != "user" {
            return Err(Error::invalid_field("account", "must be a person's: a service never signs in"));
        }
        let hash = self.new_password_hash(password).await?;
        Ok(self.store.account_password_reset(account.id(), &hash, actor).await?)
    }
}
