//! Who calls the API: a merchant or an operator, by token or signature (contract I18-I20, I26).
//!
//! Every credential that is presented must be right, and all must be one caller's. What can be refused by the headers is
//! refused before the body is read; nobody who is refused learns why.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;

use super::problem::Problem;
use super::rate::RateLimit;
use super::signature::Signature;
use crate::catalog::{Merchant, MerchantId, Snapshot};
use crate::clock::Clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Sees all, reports nothing.
    Operator,
    Merchant(MerchantId),
}

/// What it takes to tell callers apart; shared by all routes.
pub struct Access {
    catalog: Arc<ArcSwap<Snapshot>>,
    operator_tokens_sha256: Vec<[u8; 32]>,
    rate: Option<RateLimit>,
    clock: Arc<dyn Clock>,
}

/// What one request has proved so far.
pub struct Proof<'a> {
    access: &'a Access,
    catalog: &'a Snapshot,
    caller: Option<Caller>,
    /// Not yet compared with the body.
    signature: Option<(Signature, &'a Merchant)>,
}

impl Access {
    /// `requests_per_merchant_s` of `None` is no limit.
    pub fn new(
        catalog: Arc<ArcSwap<Snapshot>>,
        operator_tokens_sha256: Vec<[u8; 32]>,
        requests_per_merchant_s: Option<NonZeroU32>,
        clock: Arc<dyn Clock>,
    ) -> Access {
        Access { catalog, operator_tokens_sha256, rate: requests_per_merchant_s.map(RateLimit::new), clock }
    }

    /// The catalog as it is now; one request uses one.
    pub fn catalog(&self) -> Arc<Snapshot> {
        self.catalog.load_full()
    }

    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// The caller of a request without a body, such as every GET: its signature covers `t.`.
    pub fn caller(&self, catalog: &Snapshot, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Caller, Problem> {
        self.proof(catalog, headers)?.caller(b"", peer)
    }

    /// Checks what stands in the headers.
    pub fn proof<'a>(&'a self, catalog: &'a Snapshot, headers: &HeaderMap) -> Result<Proof<'a>, Problem> {
        let mut proof = Proof { access: self, catalog, caller: None, signature: None };
        if let Some(authorization) = only(headers, header::AUTHORIZATION.as_str())? {
            let token = bearer_token(authorization).ok_or_else(Problem::unauthorised)?;
            proof.add_bearer(token)?;
        }
        let named = match only(headers, "afflux-merchant")? {
            Some(text) => Some(merchant_id(text).ok_or_else(Problem::unauthorised)?),
            None => None,
        };
        if let Some(signature) = only(headers, "afflux-signature")? {
            proof.add_signature(signature, named)?;
        }
        // The header goes with a signature; beside a token it must at least not name somebody else.
        let contradicts = matches!((proof.caller, named), (Some(caller), Some(id)) if caller != Caller::Merchant(id));
        if contradicts { Err(Problem::unauthorised()) } else { Ok(proof) }
    }
}

impl Proof<'_> {
    /// A postback's token, from the query or the form (contract I28).
    pub fn add_postback_token(&mut self, token: &str) -> Result<(), Problem> {
        let hash = sha256(token);
        let owner = self.catalog.merchants.values().find(|merchant| holds(&merchant.postback_tokens_sha256, &hash));
        self.is_caller(owner.map(|merchant| Caller::Merchant(merchant.id)))
    }

    /// True when only the body can complete the proof.
    pub fn has_signature(&self) -> bool {
        self.signature.is_some()
    }

    /// The one caller whom everything presented proves. `body` is what was signed.
    pub fn caller(mut self, body: &[u8], peer: Option<IpAddr>) -> Result<Caller, Problem> {
        if let Some((signature, merchant)) = self.signature.take() {
            let right = signature.is_right(merchant.signing_secrets.iter().map(Vec::as_slice), body);
            self.is_caller(right.then_some(Caller::Merchant(merchant.id)))?;
        }
        let caller = self.caller.ok_or_else(Problem::unauthorised)?;
        if let Caller::Merchant(id) = caller {
            let merchant = self.catalog.merchant(id).ok_or_else(Problem::unauthorised)?;
            if !is_allowed(merchant, peer) {
                return Err(Problem::new(StatusCode::FORBIDDEN, "calls are not allowed from this network"));
            }
            if self.access.rate.as_ref().is_some_and(|rate| !rate.allows(id, self.access.clock.now())) {
                return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests of this merchant"));
            }
        }
        Ok(caller)
    }

    fn add_bearer(&mut self, token: &str) -> Result<(), Problem> {
        let hash = sha256(token);
        if holds(&self.access.operator_tokens_sha256, &hash) {
            return self.is_caller(Some(Caller::Operator));
        }
        let owner = self.catalog.merchants.values().find(|merchant| holds(&merchant.bearer_tokens_sha256, &hash));
        self.is_caller(owner.map(|merchant| Caller::Merchant(merchant.id)))
    }

    fn add_signature(&mut self, header: &str, named: Option<MerchantId>) -> Result<(), Problem> {
        let signature = Signature::parse(header, self.access.clock.now()).ok_or_else(Problem::unauthorised)?;
        let mut signing = self.catalog.merchants.values().filter(|merchant| !merchant.signing_secrets.is_empty());
        let merchant = match named {
            Some(id) => signing.find(|merchant| merchant.id == id),
            // Without a name the only merchant that signs is meant.
            None => signing.next().filter(|_| signing.next().is_none()),
        };
        self.signature = Some((signature, merchant.ok_or_else(Problem::unauthorised)?));
        Ok(())
    }

    fn is_caller(&mut self, found: Option<Caller>) -> Result<(), Problem> {
        let found = found.ok_or_else(Problem::unauthorised)?;
        if self.caller.is_some_and(|caller| caller != found) {
            return Err(Problem::unauthorised());
        }
        self.caller = Some(found);
        Ok(())
    }
}

/// The value of a header that may stand once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Problem::unauthorised()),
        _ => Err(Problem::unauthorised()),
    }
}

fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn merchant_id(text: &str) -> Option<MerchantId> {
    let digits_only = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits_only.then(|| text.parse().ok().map(MerchantId))?
}

fn sha256(token: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, token.as_bytes())
}

/// Constant time per hash; that a list is long or short is no secret.
fn holds(hashes: &[[u8; 32]], hash: &digest::Digest) -> bool {
    hashes.iter().any(|known| bool::from(known.ct_eq(hash.as_ref())))
}

fn is_allowed(merchant: &Merchant, peer: Option<IpAddr>) -> bool {
    let networks = &merchant.allow_networks;
    networks.is_empty() || peer.is_some_and(|peer| networks.iter().any(|network| network.contains(&peer)))
}
