//! Who asks to be forgotten: by the cookie's value, by a click ID out of a link, or by an order.
//!
//! The cookie is the whole visitor. A click ID holds their key at one merchant; it becomes the whole visitor where a report
//! of theirs names the cookie, which its key proves.

use std::collections::BTreeSet;

use crate::attribution::OwnClick;
use crate::catalog::MerchantId;
use crate::click::{CLICK_ID_CHARACTERS, ClickId, Keys, VisitorId, VisitorKey};
use crate::store::ConversionRow;

/// What is known of one visitor.
#[derive(Clone, Debug, Default)]
pub struct Person {
    cookies: BTreeSet<String>,
    keys: BTreeSet<VisitorKey>,
    /// Named by the operator: theirs, whatever they say of the visitor.
    conversions: BTreeSet<String>,
}

impl Person {
    /// Of a cookie: its key at each merchant.
    pub fn add_cookie(&mut self, visitor: VisitorId, merchants: &[MerchantId], keys: &Keys) {
        self.cookies.insert(visitor.as_str().to_owned());
        self.keys.extend(merchants.iter().map(|merchant| visitor.key(*merchant, keys)));
    }

    pub fn add_click(&mut self, click_id: ClickId) {
        self.keys.insert(click_id.visitor_key());
    }

    /// An order of theirs: its own click, and the cookie that it names.
    pub fn add_order(&mut self, row: &ConversionRow, merchants: &[MerchantId], keys: &Keys) {
        self.conversions.insert(row.report.conversion_id.clone());
        if let OwnClick::Verified(click_id) = row.own_click {
            self.add_click(click_id);
        }
        if let Some(visitor) = cookie(row) {
            self.add_cookie(visitor, merchants, keys);
        }
    }

    /// Learns the cookie from a report whose merchant's key for it is one of theirs. Returns whether it was news.
    pub fn learn(&mut self, row: &ConversionRow, merchants: &[MerchantId], keys: &Keys) -> bool {
        let Some(visitor) = cookie(row) else { return false };
        let is_proved = self.keys.contains(&visitor.key(row.report.merchant_id, keys));
        if !is_proved || self.cookies.contains(visitor.as_str()) {
            return false;
        }
        self.add_cookie(visitor, merchants, keys);
        true
    }

    pub fn visitor_keys(&self) -> Vec<VisitorKey> {
        self.keys.iter().copied().collect()
    }

    /// Whether an order is theirs.
    pub fn bought(&self, row: &ConversionRow) -> bool {
        let named = row.report.visitor_id.as_ref().is_some_and(|visitor| self.cookies.contains(visitor));
        let clicked = matches!(row.own_click, OwnClick::Verified(click) if self.keys.contains(&click.visitor_key()));
        let touched = || row.clicks.touches.iter().any(|touch| self.keys.contains(&touch.0.visitor_key()));
        named || clicked || self.conversions.contains(&row.report.conversion_id) || touched()
    }

    /// Whether raw bytes, which may be no JSON at all, name them: by cookie, key or a click ID.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        bytes.split(|byte| !is_word(byte)).filter_map(|word| std::str::from_utf8(word).ok()).any(|word| {
            let key = || VisitorKey::from_hex(word).is_some_and(|key| self.keys.contains(&key));
            let click = || word.len() == CLICK_ID_CHARACTERS && ClickId::decode(word).is_some_and(|id| self.is_of(id));
            self.cookies.contains(word) || key() || click()
        })
    }

    fn is_of(&self, click_id: ClickId) -> bool {
        self.keys.contains(&click_id.visitor_key())
    }
}

fn cookie(row: &ConversionRow) -> Option<VisitorId> {
    row.report.visitor_id.as_deref().and_then(|text| VisitorId::parse(text.as_bytes()))
}
