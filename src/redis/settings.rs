//! Where Redis is, and who we are to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::redis::{ConnectionInfo, IntoConnectionInfo};

/// A password file is one line; more is another file named by mistake.
const MAX_PASSWORD_BYTES: usize = 4_096;

/// Debug shows no password: the client's own redacts it.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    pub(super) server: ConnectionInfo,
    /// How long one question may take, the wait for a connection included.
    pub(super) timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The URL is not shown: somebody may have written a password into it.
    #[error("redis.url is no redis://HOST:PORT/DATABASE")]
    Url,
    #[error("redis.url has a user or password in it; they stand in redis.password_file")]
    PasswordInUrl,
    #[error("{}: {error}", file.display())]
    PasswordFile { file: PathBuf, error: std::io::Error },
    #[error("{} is not one line PASSWORD or USER:PASSWORD", .0.display())]
    Password(PathBuf),
}

impl LinkSettings {
    /// `redis.url` and `redis.password_file`.
    pub fn read(url: &str, password_file: Option<&Path>, timeout: Duration) -> Result<LinkSettings, SettingsError> {
        let Some(file) = password_file else { return LinkSettings::new(url, None, timeout) };
        let unreadable = |error| SettingsError::PasswordFile { file: file.to_owned(), error };
        let bytes = std::fs::read(file).map_err(unreadable)?;
        let wrong = || SettingsError::Password(file.to_owned());
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let line = text.trim_end_matches(['\r', '\n']);
        let right = !line.is_empty() && line.len() <= MAX_PASSWORD_BYTES && !line.contains(['\r', '\n']);
        LinkSettings::new(url, Some(line).filter(|_| right).ok_or_else(wrong)?.into(), timeout)
    }

    /// `password`: PASSWORD or USER:PASSWORD.
    pub fn new(url: &str, password: Option<&str>, timeout: Duration) -> Result<LinkSettings, SettingsError> {
        let server = url.into_connection_info().map_err(|_| SettingsError::Url)?;
        let said = server.redis_settings();
        if said.password().is_some() || said.username().is_some() {
            return Err(SettingsError::PasswordInUrl);
        }
        let mut to_say = said.clone().set_skip_set_lib_name();
        if let Some(password) = password {
            let (user, password) = password.split_once(':').map_or((None, password), |(user, rest)| (Some(user), rest));
            to_say = to_say.set_password(password);
            if let Some(user) = user.filter(|user| !user.is_empty()) {
                to_say = to_say.set_username(user);
            }
        }
        // A zero would be no timeout at all.
        Ok(LinkSettings { server: server.set_redis_settings(to_say), timeout: timeout.max(Duration::from_millis(1)) })
    }

    pub fn with_timeout(self, timeout: Duration) -> LinkSettings {
        LinkSettings { timeout: timeout.max(Duration::from_millis(1)), ..self }
    }
}
