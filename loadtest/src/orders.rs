//! The orders of one lane: what merchants report, report once more, and take back; and what each must earn.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::click_id::ClickId;
use crate::commission::{self, Share};
use crate::market::Market;
use crate::problems::Problems;
use crate::random::Random;
use crate::scenario::Mix;

/// Of one lane; visitors beyond it do not buy, and are counted.
pub const MAX_ORDERS: usize = 500_000;

/// Before a report is sent again that was not accepted.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub order_id: String,
    /// Where it stands in the market.
    pub merchant: usize,
    pub amount: i64,
    /// The commission before anything came back, in millionths of a minor unit.
    pub total_millionths: i128,
    pub shares: Vec<Share>,
    /// What the merchant was answered.
    pub conversion_id: Option<String>,
    /// What came back of the amount, once that was accepted.
    pub refunded: Option<i64>,
}

impl Order {
    /// What each share earns now.
    pub fn commissions(&self) -> Vec<i64> {
        let kept = commission::kept(self.total_millionths, self.amount, self.refunded.unwrap_or(0));
        commission::split(commission::rounded(kept), &self.shares)
    }

    pub fn kept_amount(&self) -> i64 {
        self.amount - self.refunded.unwrap_or(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Report,
    /// Of so much.
    Refund(i64),
}

/// Something that a merchant wants to tell, until it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    pub kind: Kind,
    /// Where the order stands.
    pub order: usize,
    /// Told once more, though it was accepted.
    pub is_again: bool,
    pub body: Arc<str>,
    /// When it was first to be told.
    pub planned: Instant,
    /// Who waits for it.
    pub visitor: Option<usize>,
    next: Instant,
    serial: u64,
}

impl Ord for Post {
    fn cmp(&self, other: &Post) -> Ordering {
        (self.next, self.serial).cmp(&(other.next, other.serial))
    }
}

impl PartialOrd for Post {
    fn partial_cmp(&self, other: &Post) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

pub struct Orders {
    market: Arc<Market>,
    mix: Mix,
    random: Random,
    /// Makes order numbers of different runs and lanes different.
    prefix: String,
    pub orders: Vec<Order>,
    waiting: BinaryHeap<Reverse<Post>>,
    /// Told, or to be told, and not accepted.
    pub open: usize,
    serial: u64,
    /// Visitors who would have bought.
    pub left_out: u64,
    /// Reports that were not accepted at first, and told again.
    pub told_again: u64,
    pub problems: Problems,
}

impl Orders {
    pub fn new(market: Arc<Market>, mix: &Mix, seed: u64, prefix: String) -> Orders {
        Orders {
            market,
            mix: mix.clone(),
            random: Random::new(seed),
            prefix,
            orders: Vec::new(),
            waiting: BinaryHeap::new(),
            open: 0,
            serial: 0,
            left_out: 0,
            told_again: 0,
            problems: Problems::default(),
        }
    }

    /// Of a visitor who clicked this and nothing else. False: there is no room for one more order.
    pub fn place(&mut self, visitor: usize, clicks: &[ClickId], now: Instant) -> bool {
        let Some(order) = self.order(clicks).filter(|_| self.orders.len() < MAX_ORDERS) else {
            self.left_out += 1;
            return false;
        };
        let (order, body) = order;
        self.orders.push(order);
        let planned = now + self.delay();
        self.tell(Kind::Report, self.orders.len() - 1, false, body.into(), planned, Some(visitor));
        true
    }

    fn order(&mut self, clicks: &[ClickId]) -> Option<(Order, String)> {
        let market = self.market.clone();
        let merchant_of = |click: &ClickId| market.offer(click.offer_id()).map(|offer| offer.merchant);
        let merchant = merchant_of(clicks.last()?)?;
        let own: Vec<ClickId> = clicks.iter().filter(|click| merchant_of(click) == Some(merchant)).copied().collect();
        let model = |id| market.offer(id).map_or(commission::Model::LastClick, |offer| offer.model);
        let (offer_id, shares) = commission::shares(&own, model)?;
        let offer = market.offer(offer_id)?;
        // The merchant knows one of the clicks, often not the last.
        let click = own[self.random.below(own.len() as u64) as usize];
        let order_id = format!("{}-{}", self.prefix, self.orders.len());
        // The first line has no category: there is always one that earns something.
        let mut items = Vec::new();
        let (mut amount, mut total_millionths) = (0i64, 0i128);
        for line in 0..=self.random.below(3) {
            let rate = &offer.rates[self.random.below(offer.rates.len().max(1) as u64) as usize..].first();
            let (category, rate) = match rate {
                Some((category, rate)) if line > 0 => (format!("\"category\":{category:?},"), *rate),
                _ => (String::new(), offer.default_rate),
            };
            let (quantity, unit) = (1 + self.random.below(3) as i64, 1_000 + self.random.below(500_000) as i64);
            let discount = if self.random.percent(20.0) { self.random.below(1_000) as i64 } else { 0 };
            let own = quantity * unit - discount;
            amount += own;
            total_millionths += i128::from(own) * i128::from(rate);
            items.push(format!(
                "{{\"sku\":\"p{line}\",{category}\"quantity\":{quantity},\"unit_amount\":{unit},\"discount\":{discount}}}"
            ));
        }
        let body = format!(
            "{{\"order_id\":\"{order_id}\",\"type\":\"sale\",\"click_id\":\"{click}\",\"amount\":{amount},\"items\":[{}]}}",
            items.join(",")
        );
        let order = Order { order_id, merchant, amount, total_millionths, shares, conversion_id: None, refunded: None };
        Some((order, body))
    }

    fn delay(&mut self) -> Duration {
        let (from, to) = (self.mix.conversion_delay_min_ms, self.mix.conversion_delay_max_ms);
        Duration::from_millis(from + self.random.below(to - from + 1))
    }

    fn tell(
        &mut self,
        kind: Kind,
        order: usize,
        is_again: bool,
        body: Arc<str>,
        planned: Instant,
        visitor: Option<usize>,
    ) {
        self.serial += 1;
        self.open += 1;
        let serial = self.serial;
        self.waiting.push(Reverse(Post { kind, order, is_again, body, planned, visitor, next: planned, serial }));
    }

    /// The next that is due.
    pub fn due(&mut self, now: Instant) -> Option<Post> {
        if self.waiting.peek()?.0.next > now {
            return None;
        }
        self.waiting.pop().map(|Reverse(post)| post)
    }

    /// Answered with 202, or with what that was when it came again.
    pub fn accepted(&mut self, post: &Post, conversion_id: &str, now: Instant) {
        self.open -= 1;
        let order = &mut self.orders[post.order];
        match &order.conversion_id {
            Some(known) if known != conversion_id => {
                let told = format!("order {}: {known} first, {conversion_id} later", order.order_id);
                self.problems.push(told);
            }
            Some(_) => {}
            None => order.conversion_id = Some(conversion_id.to_owned()),
        }
        if let Kind::Refund(amount) = post.kind {
            order.refunded = Some(amount);
        }
        if post.is_again {
            return;
        }
        if self.random.percent(self.mix.reported_again_percent) {
            let planned = now + self.delay();
            self.tell(post.kind, post.order, true, post.body.clone(), planned, None);
        }
        if post.kind == Kind::Report && self.random.percent(self.mix.refund_percent) {
            self.send_back(post.order, now);
        }
    }

    /// A part, or all of it.
    fn send_back(&mut self, index: usize, now: Instant) {
        let order = &self.orders[index];
        let (order_id, whole) = (order.order_id.clone(), order.amount);
        let part = self.random.percent(70.0).then(|| 1 + self.random.below(whole as u64) as i64);
        let amount = part.map_or(String::new(), |part| format!("\"amount\":{part},"));
        let body = format!(
            "{{\"refund_id\":\"R-{order_id}\",\"order_id\":\"{order_id}\",{amount}\"type\":\"sale\",\"reason\":\"return\"}}"
        );
        let planned = now + self.delay();
        self.tell(Kind::Refund(part.unwrap_or(whole)), index, false, body.into(), planned, None);
    }

    /// Told 503, or nothing: the merchant does what merchants do.
    pub fn again(&mut self, mut post: Post, now: Instant) {
        self.told_again += 1;
        post.next = now + PAUSE;
        self.waiting.push(Reverse(post));
    }

    /// Told that it is wrong, which nothing here is.
    pub fn refused(&mut self, post: &Post, answer: &str) {
        self.open -= 1;
        self.problems.push(format!("order {}: {answer}", self.orders[post.order].order_id));
    }

    /// Names what was never accepted.
    pub fn give_up(&mut self) {
        if self.open > 0 {
            let unheard = self.orders.iter().find(|order| order.conversion_id.is_none());
            let named =
                unheard.map_or("none of them a first report".into(), |order| format!("order {} too", order.order_id));
            self.problems.push(format!("{} reports of orders and refunds were never accepted: {named}", self.open));
        }
    }
}

/// What the report must say of orders.
#[derive(Debug, Default, PartialEq)]
pub struct Due {
    /// Conversions and commission by publisher and currency.
    pub publishers: BTreeMap<(u32, String), (i64, i64)>,
    /// Conversions, amount and commission by currency.
    pub currencies: BTreeMap<String, (i64, i64, i64)>,
}

impl Due {
    pub fn of(orders: &[Order], market: &Market) -> Due {
        let mut due = Due::default();
        for order in orders.iter().filter(|order| order.conversion_id.is_some()) {
            let currency = &market.merchants[order.merchant].currency;
            let commissions = order.commissions();
            for (share, commission) in order.shares.iter().zip(&commissions) {
                let sum = due.publishers.entry((share.publisher_id, currency.clone())).or_default();
                *sum = (sum.0 + 1, sum.1 + commission);
            }
            let sum = due.currencies.entry(currency.clone()).or_default();
            *sum = (sum.0 + 1, sum.1 + order.kept_amount(), sum.2 + commissions.iter().sum::<i64>());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commission::tests::click;
    use crate::scenario;

    fn orders(mix: Mix) -> Orders {
        Orders::new(Arc::new(Market::made(&scenario::Catalog::default())), &mix, 1, "T".into())
    }

    #[test]
    fn an_order_is_told_until_it_is_accepted_then_once_more_and_sent_back() {
        let mix = Mix { refund_percent: 100.0, reported_again_percent: 100.0, ..Mix::default() };
        let (mut orders, now) = (orders(mix), Instant::now());
        assert!(orders.place(4, &[click(1, 21, 101), click(2, 11, 102)], now));
        assert_eq!(orders.due(now), None);
        let later = now + Duration::from_secs(3);
        let post = orders.due(later).unwrap();
        assert_eq!((post.kind, post.visitor, orders.open), (Kind::Report, Some(4), 1));
        orders.again(post, later);
        assert_eq!(orders.due(later), None);
        let post = orders.due(later + PAUSE).unwrap();
        orders.accepted(&post, "c-1", later);
        let latest = later + Duration::from_secs(3);
        let mut next = [orders.due(latest).unwrap(), orders.due(latest).unwrap()];
        next.sort_by_key(|post| post.is_again);
        let [refund, again] = next;
        assert!(matches!(refund.kind, Kind::Refund(_)) && again.is_again && again.body == post.body);
        orders.accepted(&refund, "c-1", latest);
        orders.accepted(&again, "c-2", latest);
        assert_eq!(std::mem::take(&mut orders.problems).into_lines(), ["order T-0: c-1 first, c-2 later"]);
        // The refund comes once more; an again does not.
        assert_eq!((orders.open, orders.due(latest + Duration::from_secs(3)).unwrap().is_again), (1, true));
        assert_eq!(
            orders.orders[0].refunded,
            Some(match refund.kind {
                Kind::Refund(amount) => amount,
                Kind::Report => 0,
            })
        );
    }

    #[test]
    fn the_sum_of_an_order_is_that_of_its_lines() {
        let mut orders = orders(Mix::default());
        for _ in 0..50 {
            let (order, body) = orders.order(&[click(1, 11, 101)]).unwrap();
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            let (mut amount, mut total) = (0, 0);
            for item in body["items"].as_array().unwrap() {
                let number = |name: &str| item[name].as_i64().unwrap();
                let line = number("quantity") * number("unit_amount") - number("discount");
                let rate = match item["category"].as_str() {
                    None => 120_000,
                    Some("mobile") => 20_000,
                    Some("fashion") => 200_000,
                    Some(_) => 0,
                };
                amount += line;
                total += line * rate;
            }
            assert_eq!((order.amount, order.total_millionths), (amount, i128::from(total)));
            assert_eq!(body["amount"].as_i64(), Some(amount));
        }
    }

    #[test]
    fn what_is_due_is_the_sum_of_what_was_accepted() {
        let market = Market::made(&scenario::Catalog::default());
        let half = |publisher_id| Share { publisher_id, parts: 500_000 };
        let order = |number: &str, shares: Vec<Share>, refunded| Order {
            order_id: number.into(),
            merchant: 0,
            amount: 1_000,
            total_millionths: 101_000_000,
            shares,
            conversion_id: Some("c".into()),
            refunded,
        };
        let unheard = Order { conversion_id: None, ..order("3", vec![half(1)], None) };
        let one = Share { publisher_id: 1, parts: 1_000_000 };
        let all = [order("1", vec![half(2), half(1)], None), order("2", vec![one], Some(1_000)), unheard];
        let due = Due::of(&all, &market);
        let irr = || "IRR".to_owned();
        assert_eq!(due.publishers, BTreeMap::from([((1, irr()), (2, 50)), ((2, irr()), (1, 51))]));
        assert_eq!(due.currencies, BTreeMap::from([(irr(), (2, 1_000, 101))]));
    }
}
