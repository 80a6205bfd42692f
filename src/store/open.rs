//! Opening a store, wherever it is.

use super::{Connection, OpenError, Place, Reader, Store, database, file};

impl Store {
    /// Opens or makes the store and brings its tables up to date.
    pub fn open(place: &Place) -> Result<Store, OpenError> {
        let connection = match place {
            Place::Sqlite(path) => Connection::Sqlite(file::open(path)?),
            Place::Postgres(url) => Connection::Postgres(Box::new(database::open(url)?)),
        };
        Ok(Store { connection })
    }

    /// From here on the file may not grow beyond this: a disk that is full.
    #[cfg(test)]
    pub fn limit_pages(&self, pages: u32) {
        let sql = format!("PRAGMA max_page_count = {pages}");
        self.connection.file().unwrap().query_row(&sql, [], |row| row.get::<_, u32>(0)).unwrap();
    }
}

impl Reader {
    /// Opens an existing store of this version; changes nothing in it.
    pub fn open(place: &Place) -> Result<Reader, OpenError> {
        let connection = match place {
            Place::Sqlite(path) => Connection::Sqlite(file::open_to_read(path)?),
            Place::Postgres(url) => Connection::Postgres(Box::new(database::open_to_read(url)?)),
        };
        Ok(Reader { connection })
    }
}
