//! `afflux click ID`: what an ID says, and whether it is ours (contract P4).

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Exit, Failure, configured, keys};
use crate::click::{ClickId, Verdict};

pub fn click(config: Option<&Path>, text: &str) -> Result<Exit, Failure> {
    let config = configured(config)?;
    let keys = keys::read(&config.keys_file())?;
    let verified = matches!(ClickId::verify(text, &keys), Verdict::Verified(_));
    println!("{}", Value::Object(described(text, verified)));
    Ok(if verified { Exit::Ok } else { Exit::Negative })
}

/// Everything that can be decoded, verified or not.
fn described(text: &str, verified: bool) -> Map<String, Value> {
    let mut shown = Map::new();
    if let Some(id) = ClickId::decode(text) {
        let fields = json!({
            "version": id.version(),
            "key": id.key_number(),
            "click_id": id,
            "clicked_at_ms": id.clicked_at(),
            "offer_id": id.offer_id(),
            "publisher_id": id.publisher_id(),
            "visitor_key": id.visitor_key(),
            "labels": id.labels(),
            "random": id.random(),
        });
        if let Value::Object(fields) = fields {
            shown.extend(fields);
        }
    } else {
        shown.insert("click_id".into(), text.into());
    }
    shown.insert("verified".into(), verified.into());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_what_cannot_be_decoded_is_shown_as_it_came() {
        let shown = described("short", false);
        assert_eq!(Value::Object(shown), json!({"click_id": "short", "verified": false}));
    }
}
