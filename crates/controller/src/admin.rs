//! Commands at the host: accounts and tokens, with database access alone.

use std::io::BufRead;

use domain::name::Labels;
use zeroize::Zeroizing;

use crate::{
    auth::{password::Password, role::Role},
    cli::{Admin, AdminApiToken, AdminCreate, AdminEnrolmentToken},
    error::{Error, ErrorKind},
    service::Services,
};
use store::event::Actor;

/// Exit code for an account that is there already.
pub const EXISTS: u8 = 3;

/// What a command prints, alone on standard output; nothing where there is nothing to show.
pub type Shown = Option<Zeroizing<String>>;

fn actor() -> Actor {
    Actor { name: "administrator at the host".to_owned(), ..Actor::system() }
}

/// Carries a command out.
///
/// # Errors
/// As the use case says.
pub async fn run(services: &Services, command: Admin) -> Result<Shown, Error> {
    match command {
        Admin::Create(create) => account(services, create).await,
        Admin::ApiToken(token) => api_token(services, token).await,
        Admin::EnrolmentToken(token) => enrolment_token(services, token).await,
    }
}

async fn account(services: &Services, create: AdminCreate) -> Result<Shown, Error> {
    let role = Role::parse(&create.role)
        .ok_or_else(|| Error::invalid_field("role", "must be admin, operator or viewer"))?;
    let (password, shown) = if create.password_stdin {
        (first_line()?, None)
    } else {
        let made = Password::generate().map_err(Error::internal)?;
        let shown = Zeroizing::new(made.reveal().to_owned());
        (made, Some(shown))
    };
    services.account_create(create.name, password, role, &actor()).await?;
    Ok(shown)
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
    let made = services.api_token_create(account.id(), &token.name, lifetime, &actor()).await?;
    Ok(Some(Zeroizing::new(made.text)))
}

async fn enrolment_token(services: &Services, token: AdminEnrolmentToken) -> Result<Shown, Error> {
    let labels: Labels = token.labels.iter().cloned().collect();
    let made = services.enrolment_token_create(labels, token.uses, token.lifetime(), &actor()).await?;
    Ok(Some(Zeroizing::new(made.text)))
}
