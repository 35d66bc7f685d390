//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

/// The control plane daemon of Automator67.
#[derive(Parser)]
#[command(name = "automator67-controller", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Configuration file; without it /etc/automator67/controller.toml where that exists. The environment (A67_…) wins over it.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Serves REST and agents until a signal comes.
    Serve,
    /// Brings the database to this version's schema, and ends.
    Migrate,
    /// Prints the OpenAPI document.
    Openapi,
    /// Asks the controller on this host whether it is ready; exits 0 if so, else 1.
    Healthcheck,
    /// Does what needs no running controller: accounts and tokens.
    #[command(subcommand)]
    Admin(Admin),
    /// Moves what is sealed to another master key, or opens all of it.
    #[command(subcommand)]
    Vault(Vault),
}

/// What is done with the vault as a whole; also while controllers run.
#[derive(Subcommand)]
pub enum Vault {
    /// Seals everything anew with the key in master.key.next (or A67_MASTER_KEY_NEXT), which is made if it is not there, and puts it in the place of master.key. Run again after an interruption, it goes on.
    Rekey,
    /// Opens everything that is sealed, and says what does not open; exits 0 if all of it does, else 1.
    Verify,
}

/// What needs no running controller.
#[derive(Subcommand)]
pub enum Admin {
    /// Makes an account. Prints the password it made up, unless one is given.
    Create(AdminCreate),
    /// Gives an account another password and ends its sessions. Prints the password it made up, unless one is given.
    ResetPassword(AdminResetPassword),
    /// Makes an API token for an account, and prints it.
    ApiToken(AdminApiToken),
    /// Makes an enrolment token, and prints it.
    EnrolmentToken(AdminEnrolmentToken),
    /// Makes a new key for signing access tokens, and prints its id. Nobody is signed out.
    RotateSigningKey(AdminRotateSigningKey),
}

/// A new signing key.
#[derive(Args)]
pub struct AdminRotateSigningKey {
    /// For how long tokens signed with older keys stay good; without it, as long as they can last. 0 ends them at once: clients must refresh.
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=8_784))]
    pub overlap_hours: Option<u64>,
}

/// A new account.
#[derive(Args)]
pub struct AdminCreate {
    /// What to sign in with.
    #[arg(long)]
    pub name: String,
    /// admin, operator, viewer or none.
    #[arg(long, default_value = "admin")]
    pub role: String,
    /// Reads the password from the first line of standard input.
    #[arg(long)]
    pub password_stdin: bool,
}

/// Another password.
#[derive(Args)]
pub struct AdminResetPassword {
    /// Whose.
    #[arg(long)]
    pub account: String,
    /// Reads the password from the first line of standard input.
    #[arg(long)]
    pub password_stdin: bool,
}

/// A new API token.
#[derive(Args)]
pub struct AdminApiToken {
    /// Whose.
    #[arg(long)]
    pub account: String,
    /// What it is for.
    #[arg(long)]
    pub name: String,
    /// A permission that it has, such as deployments:read; again for more. Without one it has all of its account's.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// For how long; without it, for good.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub expires_days: Option<u64>,
}

/// A new enrolment token.
#[derive(Args)]
pub struct AdminEnrolmentToken {
    /// A label of the nodes that it makes; again for more.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// How many nodes it makes.
    #[arg(long, default_value_t = 1)]
    pub uses: u32,
    /// For how long it is good.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=43_200))]
    pub expires_minutes: u64,
}

impl AdminEnrolmentToken {
    /// For how long it is good.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        Duration::from_secs(self.expires_minutes * 60)
    }
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or("must be KEY=VALUE")
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn parsed(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(format!("automator67-controller {line}").split_whitespace()).map_err(|e| e.kind())
    }

    fn admin(line: &str) -> Result<Admin, ErrorKind> {
        match parsed(line)?.command {
            Command::Admin(admin) => Ok(admin),
            _ => panic!("{line} is not an admin command"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_file_may_stand_before_and_after_the_command() {
        for line in ["--config /c.toml serve", "serve --config /c.toml"] {
            let cli = parsed(line).ok().unwrap();
            assert_eq!(cli.config, Some(PathBuf::from("/c.toml")));
            assert!(matches!(cli.command, Command::Serve));
        }
        assert_eq!(parsed("migrate").ok().unwrap().config, None);
    }

    #[test]
    fn an_account_is_an_admin_unless_said_otherwise() {
        let Ok(Admin::Create(create)) = admin("admin create --name root") else { panic!() };
        assert_eq!((&*create.name, &*create.role, create.password_stdin), ("root", "admin", false));
        let line = "admin create --name eve --role viewer --password-stdin";
        let Ok(Admin::Create(create)) = admin(line) else { panic!() };
        assert_eq!((&*create.role, create.password_stdin), ("viewer", true));
    }

    #[test]
    fn an_api_token_lasts_for_good_unless_said_otherwise() {
        let Ok(Admin::ApiToken(token)) = admin("admin api-token --account root --name ci") else { panic!() };
        assert_eq!((&*token.account, &*token.name, token.expires_days), ("root", "ci", None));
        let line = "admin api-token --account root --name ci --expires-days 30";
        let Ok(Admin::ApiToken(token)) = admin(line) else { panic!() };
        assert_eq!(token.expires_days, Some(30));
    }

    #[test]
    fn an_api_token_has_all_scopes_unless_some_are_named() {
        let Ok(Admin::ApiToken(token)) = admin("admin api-token --account root --name ci") else { panic!() };
        assert_eq!(token.scopes, [""; 0]);
        let line = "admin api-token --account root --name ci --scope *:read --scope deployments:write";
        let Ok(Admin::ApiToken(token)) = admin(line) else { panic!() };
        assert_eq!(token.scopes, ["*:read", "deployments:write"]);
    }

    #[test]
    fn a_password_is_reset_to_one_that_is_made_up_unless_said_otherwise() {
        let Ok(Admin::ResetPassword(reset)) = admin("admin reset-password --account eve") else { panic!() };
        assert_eq!((&*reset.account, reset.password_stdin), ("eve", false));
        let line = "admin reset-password --account eve --password-stdin";
        let Ok(Admin::ResetPassword(reset)) = admin(line) else { panic!() };
        assert!(reset.password_stdin);
    }

    #[test]
    fn an_enrolment_token_takes_labels_uses_and_minutes() {
        let line =
            "admin enrolment-token --label zone=east --label a= --label b=c=d --uses 3 --expires-minutes 5";
        let Ok(Admin::EnrolmentToken(token)) = admin(line) else { panic!() };
        let labels: Vec<_> = token.labels.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(labels, [("zone", "east"), ("a", ""), ("b", "c=d")]);
        assert_eq!((token.uses, token.lifetime()), (3, Duration::from_secs(300)));
        let Ok(Admin::EnrolmentToken(token)) = admin("admin enrolment-token") else { panic!() };
        assert_eq!((token.uses, token.lifetime()), (1, Duration::from_secs(3_600)));
    }

    #[test]
    fn a_rotated_key_overlaps_as_long_as_tokens_last_unless_said_otherwise() {
        let overlap = |line| match admin(line) {
            Ok(Admin::RotateSigningKey(rotate)) => rotate.overlap_hours,
            _ => panic!("{line}"),
        };
        assert_eq!(overlap("admin rotate-signing-key"), None);
        assert_eq!(overlap("admin rotate-signing-key --overlap-hours 0"), Some(0));
        assert!(admin("admin rotate-signing-key --overlap-hours 8785").is_err());
    }

    #[test]
    fn the_vault_is_moved_and_verified() {
        for (line, moves) in [("vault rekey", true), ("vault verify", false)] {
            let Ok(Command::Vault(vault)) = parsed(line).map(|cli| cli.command) else { panic!("{line}") };
            assert_eq!(matches!(vault, Vault::Rekey), moves);
        }
        assert!(parsed("vault").is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "admin",
            "unknown",
            "serve --unknown",
            "admin create",
            "admin create --name",
            "admin reset-password",
            "admin reset-password --account eve --password secret",
            "admin api-token --account root --name ci --scope",
            "admin api-token --account root",
            "admin api-token --account root --name ci --expires-days 0",
            "admin api-token --account root --name ci --expires-days never",
            "admin enrolment-token --label zone",
            "admin enrolment-token --uses -1",
            "admin enrolment-token --expires-minutes 0",
        ] {
            assert!(parsed(line).is_err(), "{line:?}");
        }
        for line in ["--help", "admin create --help"] {
            assert_eq!(parsed(line).err(), Some(ErrorKind::DisplayHelp), "{line}");
        }
    }
}
