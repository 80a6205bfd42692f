//! Where the store is that a role or a command reads: PostgreSQL where the config names one, else the file of `serve`.

use super::preflight;
use crate::config::Config;
use crate::store::{Place, PostgresUrl};
use crate::toml_reader::Violation;

/// Both are read alike.
pub fn place(config: &Config) -> Result<Place, Violation> {
    Ok(postgres(config)?.map_or_else(|| file(config), Place::Postgres))
}

/// The store of `serve`, whatever else is configured.
pub fn file(config: &Config) -> Place {
    Place::Sqlite(config.store.path.clone())
}

/// The URL in `postgresql.url_file`. Never printed: a password stands in it.
pub fn postgres(config: &Config) -> Result<Option<PostgresUrl>, Violation> {
    const KEY: &str = "postgresql.url_file";
    let Some(path) = &config.postgresql.url_file else { return Ok(None) };
    let text = preflight::text_of(config, KEY, path)?;
    let url = PostgresUrl::parse(text.trim());
    url.map(Some).map_err(|wrong| config.violation(KEY, format!("{}: {wrong}", path.display())))
}

/// Where a role needs PostgreSQL.
pub fn required(config: &Config) -> Result<Place, Violation> {
    let missing = || {
        let message =
            "not set; a file with the URL of the database that all attributions and consoles share is allowed";
        config.violation("postgresql.url_file", message)
    };
    postgres(config)?.map(Place::Postgres).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(url: &str) -> (tempfile::TempDir, Config) {
        let directory = tempfile::tempdir().unwrap();
        let (file, config) = (directory.path().join("url"), directory.path().join("afflux.toml"));
        std::fs::write(&file, url).unwrap();
        std::fs::write(&config, "[postgresql]\n\nurl_file = \"url\"\n").unwrap();
        let config = Config::load(Some(&config), []).unwrap();
        (directory, config)
    }

    #[test]
    fn a_url_file_makes_postgresql_the_store() {
        let (_directory, config) = configured("postgresql://afflux:hunter2@db.example/books\n");
        assert_eq!(place(&config).unwrap().to_string(), "postgresql://db.example:5432/books");
        assert!(file(&config).to_string().ends_with("data/afflux.sqlite"));
        let config = Config::load(None, []).unwrap();
        assert!(matches!(place(&config), Ok(Place::Sqlite(_))));
    }

    #[test]
    fn p3_a_wrong_url_names_the_key_and_never_itself() {
        for url in ["hunter2", "postgresql://a:hunter2@b/c d", "postgresql://a:hunter2@b:port/c", ""] {
            let (directory, config) = configured(url);
            let said = place(&config).unwrap_err().to_string();
            assert!(said.contains("afflux.toml:3: postgresql.url_file: ") && !said.contains("hunter2"), "{said}");
            std::fs::remove_file(directory.path().join("url")).unwrap();
            let said = place(&config).unwrap_err().to_string();
            assert!(said.contains("postgresql.url_file: ") && said.contains("a file that can be read"), "{said}");
        }
    }
}
