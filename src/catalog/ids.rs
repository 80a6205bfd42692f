//! Numbers that operators give to merchants, offers and publishers: 1 to 4,294,967,295 (contract P23).

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

id! {
    /// Who pays.
    MerchantId
}
id! {
    /// What a merchant pays for.
    OfferId
}
id! {
    /// Who is paid.
    PublisherId
}
