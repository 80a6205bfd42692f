//! Rulebooks under their hash. A decision names the one it was made with, so it can be made again.

use super::value::params;
use super::{Batch, StoreError, View, read_json};
use crate::catalog::Rulebook;

impl Batch<'_> {
    /// Keeps the rulebook and makes it the active one.
    pub fn activate_catalog(&self, hash: &str, rulebook: &Rulebook) -> Result<(), StoreError> {
        self.execute("UPDATE catalogs SET active = 0 WHERE active = 1 AND hash <> ?1", params![hash])?;
        self.execute(
            "INSERT INTO catalogs (hash, rulebook, active) VALUES (?1, ?2, 1)
             ON CONFLICT (hash) DO UPDATE SET active = 1",
            params![hash, rulebook.canonical_json()],
        )?;
        Ok(())
    }
}

impl View<'_> {
    pub fn active_catalog(&self) -> Result<Option<String>, StoreError> {
        let sql = "SELECT hash FROM catalogs WHERE active = 1";
        self.connection.first(sql, &[], |row| row.get(0))
    }

    pub fn rulebook(&self, hash: &str) -> Result<Option<Rulebook>, StoreError> {
        let sql = "SELECT rulebook FROM catalogs WHERE hash = ?1";
        self.connection.first(sql, params![hash], |row| read_json("catalog", row.text(0)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::MerchantId;
    use crate::catalog::rulebook::{MerchantRules, Unit};
    use crate::money::Currency;
    use crate::store::{Store, testing};

    #[test]
    fn exactly_one_catalog_is_active_and_all_are_kept() {
        for home in testing::homes() {
            let mut store = Store::open(&home.place).unwrap();
            assert_eq!(store.view().active_catalog().unwrap(), None);
            let mut book = Rulebook::default();
            let batch = store.begin().unwrap();
            batch.activate_catalog("a", &book).unwrap();
            let rules = MerchantRules { currency: Currency::parse("EUR").unwrap(), unit: Unit::Rial };
            book.merchants.insert(MerchantId(1), rules);
            batch.activate_catalog("b", &book).unwrap();
            batch.activate_catalog("b", &book).unwrap();
            batch.commit().unwrap();
            assert_eq!(store.view().active_catalog().unwrap().as_deref(), Some("b"));
            assert_eq!(store.view().rulebook("b").unwrap(), Some(book));
            assert_eq!(store.view().rulebook("a").unwrap(), Some(Rulebook::default()));
            assert_eq!(store.view().rulebook("c").unwrap(), None);
        }
    }
}
