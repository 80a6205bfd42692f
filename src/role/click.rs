//! `afflux click ID`: what an ID says, and whether it is ours (contract P4).

use std::path::Path;

use serde_json::{Map, Value, json};

use super::printing::printed;
use super::{Exit, Failure, configured, keys};
use crate::click::{ClickId, PartialId, Verdict};
use crate::report::command;

pub fn click(config: Option<&Path>, text: &str) -> Result<Exit, Failure> {
    let config = configured(config)?;
    let keys = keys::read(&config).map_err(Failure::usage)?;
    let verified = matches!(ClickId::verify(text, &keys), Verdict::Verified(_));
    printed(|out| {
        writeln!(out, "{}", Value::Object(described(text, verified)))?;
        Ok(command::Verdict::good_if(verified))
    })
}

/// Everything that can be decoded, verified or not: of a text that is cut, the fields that are whole.
fn described(text: &str, verified: bool) -> Map<String, Value> {
    let mut shown = Map::new();
    let partial = PartialId::read(text);
    let known_bytes = partial.map_or(0, |partial| partial.known_bytes);
    let mut show = |name: &str, ends_at: usize, value: Value| {
        if ends_at <= known_bytes {
            shown.insert(name.into(), value);
        }
    };
    if let Some(PartialId { id, .. }) = partial {
        show("version", 1, id.version().into());
        show("key", 1, id.key_number().into());
    }
    // As it came: it may be anything.
    show("click_id", 0, text.into());
    if let Some(PartialId { id, .. }) = partial {
        show("clicked_at_ms", 7, json!(id.clicked_at()));
        show("offer_id", 11, json!(id.offer_id()));
        show("publisher_id", 15, json!(id.publisher_id()));
        show("visitor_key", 23, json!(id.visitor_key()));
        show("labels", 24, id.labels().into());
        show("random", 28, id.random().into());
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

    #[test]
    fn p4_of_a_cut_id_the_whole_fields_are_shown() {
        let shown = described("EAGiApnLkAAAAAwAA", false);
        let expected = json!({
            "version": 1, "key": 0, "click_id": "EAGiApnLkAAAAAwAA", "clicked_at_ms": 1_795_339_963_280_i64,
            "offer_id": 12, "verified": false
        });
        assert_eq!(Value::Object(shown), expected);
    }
}
