//! Database URLs: what `libpq` understands of TLS, for a client that does not.
//!
//! tokio-postgres knows only `disable`, `prefer` and `require`, and its TLS
//! connector always verifies. So `require` here already means what libpq calls
//! `verify-full`, and `prefer` is taken as `disable`: a connection that would
//! silently fall back to clear text is one that should not have been asked for.

use std::{path::PathBuf, str::FromStr};

/// A parsed URL.
pub(crate) struct DatabaseUrl {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: Option<TlsRoots>,
}

/// Where the trusted roots come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TlsRoots {
    /// The roots that browsers trust.
    WebPki,
    /// A PEM file: `sslrootcert=…`.
    File(PathBuf),
}

/// Why a database URL cannot be used. Never shows the URL, which holds a password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidUrl {
    #[error("sslmode must be disable, prefer, require, verify-ca or verify-full")]
    SslMode,
    #[error("it is not a PostgreSQL connection string")]
    Syntax(#[source] tokio_postgres::Error),
}

impl FromStr for DatabaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut roots, mut rest) = ("disable".to_owned(), TlsRoots::WebPki, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = value.to_owned(),
                Some(("sslrootcert", value)) => {
                    roots = TlsRoots::File(PathBuf::from(value.replace("%2F", "/")))
                }
                _ => rest.push(pair),
            }
        }
        let encrypted = match mode.as_str() {
            "disable" | "allow" | "prefer" => false,
            "require" | "verify-ca" | "verify-full" => true,
            _ => return Err(InvalidUrl::SslMode),
        };
        let bare = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config: tokio_postgres::Config = bare.parse().map_err(InvalidUrl::Syntax)?;
        config.ssl_mode(if encrypted {
            tokio_postgres::config::SslMode::Require
        } else {
            tokio_postgres::config::SslMode::Disable
        });
        Ok(Self { config, tls: encrypted.then_some(roots) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tls_words_of_libpq_are_understood_and_taken_out() {
        let parsed: DatabaseUrl =
            "postgres://u:p@db:5433/x?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&connect_timeout=3"
                .parse()
                .ok()
                .unwrap();
        assert_eq!(parsed.tls, Some(TlsRoots::File("/etc/ca.pem".into())));
        assert_eq!(parsed.config.get_dbname(), Some("x"));
        let parsed: DatabaseUrl = "postgres://u@%2Frun%2Fa67/x".parse().ok().unwrap();
        assert_eq!(parsed.tls, None);
    }

    #[test]
    fn an_unknown_sslmode_is_refused_and_the_password_is_not_shown() {
        let refused = "postgres://u:hunter2@db/x?sslmode=maybe".parse::<DatabaseUrl>().err().unwrap();
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }
}
