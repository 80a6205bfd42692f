//! What a merchant said beyond our fields (contract I5): an object's JSON text, so that a number stays as it was written,
//! however many digits it has.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Extra(Box<RawValue>);

impl Extra {
    /// `None` when `text` is no JSON.
    pub fn of(text: String) -> Option<Extra> {
        RawValue::from_string(text).ok().map(Extra)
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Extra {
    fn eq(&self, other: &Extra) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Extra {}
