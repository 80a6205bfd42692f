//! The ledger's entries: appended, never edited (triggers hold that), unique by their ID.
