//! Commands at the host: accounts and tokens, with database access alone.

use std::io::BufRead;

use domain::name::Labels;
use zeroize::Zeroizing;

use crate::{
    auth::password::Password,
    cli::{Admin, AdminApiToken, AdminCreate, AdminEnrolmentToken, AdminResetPassword},
    error::{Error, ErrorKind},
    service::{
        Services,
        identity::{
            account::{AccountWish, role_or_none},
            token::TokenWish,
        },
    },
};
use store::audit::{Actor, ActorKind};

/// Exit code for an account that is there already.
pub const EXISTS: u8 = 3;

/// What a command prints, alone on standard output; nothing where there is nothing to show.
pub type Shown = Option<Zeroizing<String>>;

fn actor() -> Actor {
    Actor::of(ActorKind::Host, "administrator at the host")
}

/// Carries a command out.
///
/// # Errors
/// As the use case says.
pub async fn run(services: &Services, command: Admin) -> Result<Shown, Error> {
    match command {
        Admin::Create(create) => account(services, create).await,
        Admin::ResetPassword(reset) => reset_password(services, reset).await,
        Admin::ApiToken(token) => api_token(services, token).await,
        Admin::EnrolmentToken(token) => enrolment_token(services, token).await,
        Admin::RotateSigningKey(rotate) => {
            let overlap = rotate.overlap_hours.map(|hours| std::time::Duration::from_secs(hours * 3600));
            Ok(Some(Zeroizing::new(services.signing_key_rotate(overlap, &actor()).await?)))
        }
    }
}

async fn account(services: &Services, create: AdminCreate) -> Result<Shown, Error> {
    let role = role_or_none(&create.role)?;
    let (password, shown) = password(create.password_stdin)?;
    let wish = AccountWish { name: create.name, role, service: false, password: Some(password) };
    services.account_make(wish, &actor()).await?;
    Ok(shown)
}

async fn reset_password(services: &Services, reset: AdminResetPassword) -> Result<Shown, Error> {
    let (password, shown) = password(reset.password_stdin)?;
    services.account_password_reset(&reset.account, password, &actor()).await?;
    Ok(shown)
}

/// A password from standard input, or one that is made up and to be shown.
fn password(stdin: bool) -> Result<(Password, Shown), Error> {
    if stdin {
        return Ok((first_line()?, None));
    }
    let made = Password::generate().map_err(Error::internal)?;
    let shown = Zeroizing::new(made.reveal().to_owned());
    Ok((made, Some(shown)))
}

fn first_line() -> Result<Password, Error> {
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().lock().read_line(&mut line).map_err(Error::internal)?;
    Ok(Password::new(line.trim_end_matches(['\r', '\n'])))
}

async fn api_token(services: &Services, token: AdminApiToken) -> Result<Shown, Error> {
    let account = services.store.account_fetch_by_name(&token.account).await?;
    let account = account.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "not_found", format!("there is no account {:?}", token.account))
    })?;
    let lifetime = token.expires_days.map(|days| std::time::Duration::from_secs(days * 24 * 3600));
    let scopes = if token.scopes.is_empty() { vec!["*".to_owned()] } else { token.scopes };
    let wish = TokenWish { name: token.name, scopes, lifetime };
    let made = services.api_token_create(account.id(), wish, &actor()).await?;
    Ok(Some(Zeroizing::new(made.text)))
}

async fn enrolment_token(services: &Services, token: AdminEnrolmentToken) -> Result<Shown, Error> {
    let labels: Labels = token.labels.iter().cloned().collect();
    let made = services.enrolment_token_create(labels, token.uses, token.lifetime(), &actor()).await?;
    Ok(Some(Zeroizing::new(made.text)))
}
