//! Where a store is.

use std::fmt;
use std::path::PathBuf;

use ::postgres::config::{Host, SslMode};

/// A file of SQLite, or a database of PostgreSQL. Shown without a password.
#[derive(Clone, Debug)]
pub enum Place {
    Sqlite(PathBuf),
    Postgres(PostgresUrl),
}

/// postgresql://user:password@host:port/database, read. Never shown whole: it holds a password.
#[derive(Clone)]
pub struct PostgresUrl(Box<::postgres::Config>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongUrl {
    // What stands there instead may be the password.
    #[error("is no URL; postgresql://user:password@host:5432/database on one line is allowed")]
    NoUrl,
    #[error("asks for TLS, which is not spoken to PostgreSQL; sslmode=disable or prefer is allowed")]
    Tls,
}

impl PostgresUrl {
    pub fn parse(text: &str) -> Result<PostgresUrl, WrongUrl> {
        let is_url = text.starts_with("postgresql://") || text.starts_with("postgres://");
        if !is_url || text.contains(char::is_whitespace) {
            return Err(WrongUrl::NoUrl);
        }
        let config: ::postgres::Config = text.parse().map_err(|_| WrongUrl::NoUrl)?;
        match config.get_ssl_mode() {
            _ if config.get_hosts().is_empty() => Err(WrongUrl::NoUrl),
            SslMode::Disable | SslMode::Prefer => Ok(PostgresUrl(Box::new(config))),
            _ => Err(WrongUrl::Tls),
        }
    }

    pub(super) fn config(&self) -> &::postgres::Config {
        &self.0
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("postgresql://")?;
        for (number, host) in self.0.get_hosts().iter().enumerate() {
            out.write_str(if number == 0 { "" } else { "," })?;
            match host {
                Host::Tcp(name) => out.write_str(name)?,
                Host::Unix(path) => write!(out, "{}", path.display())?,
            }
            let ports = self.0.get_ports();
            if let Some(port) = ports.get(number).or(ports.first()) {
                write!(out, ":{port}")?;
            }
        }
        write!(out, "/{}", self.0.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Sqlite(path) => write!(out, "{}", path.display()),
            Place::Postgres(url) => url.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let url = PostgresUrl::parse("postgresql://afflux:hunter2@db.example:6432/books").unwrap();
        assert_eq!(url.to_string(), "postgresql://db.example:6432/books");
        assert_eq!(format!("{:?}", Place::Postgres(url)), "Postgres(postgresql://db.example:6432/books)");
    }

    #[test]
    fn a_wrong_url_is_refused_without_repeating_it() {
        let secret = "hunter2";
        for text in ["hunter2", "", "postgresql://", "host=hunter2", "postgresql://a:hunter2@b:x/c", "postgres://a b/c"]
        {
            let error = PostgresUrl::parse(text).unwrap_err();
            assert!(error == WrongUrl::NoUrl && !error.to_string().contains(secret), "{text}");
        }
        let tls = PostgresUrl::parse("postgresql://a:hunter2@b/c?sslmode=require");
        assert_eq!(tls.unwrap_err(), WrongUrl::Tls);
    }
}
