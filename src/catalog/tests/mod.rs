//! The catalog from outside: files in, a snapshot or violations out.

mod files;
mod random;
mod reload;
mod rules;

use tempfile::TempDir;

use super::load;
use super::{Current, Loaded, MerchantId, OfferId, PublisherId, changed_terms, watch};

/// Equal to the example of the contract but for its head; `p19_the_example_is_accepted_as_it_is` says what it means.
const EXAMPLE: &str = include_str!("../../../config/catalog.toml");

/// A directory with a catalog and what it refers to.
struct Home(TempDir);

impl Home {
    fn with(catalog: &str) -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        home.write("demo-shop.signing", "demo-signing-secret-1\n\n demo-2 \n");
        home.write("catalog.toml", catalog);
        home
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn load(&self, name: &str) -> Result<Loaded, String> {
        let home = format!("{}/", self.0.path().display());
        load(&self.path(name)).map_err(|violations| violations.to_string().replace(&home, ""))
    }
}

fn load_text(text: &str) -> Result<Loaded, String> {
    Home::with(text).load("catalog.toml")
}

fn loaded(result: Result<Loaded, String>) -> Loaded {
    result.unwrap_or_else(|violations| panic!("{violations}"))
}

fn violations(result: Result<Loaded, String>) -> String {
    result.err().unwrap_or_else(|| panic!("it was accepted"))
}
