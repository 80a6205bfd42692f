//! The people of one lane: who comes next, what they click, and who comes back.
//!
//! A visitor with a cookie does one thing at a time, and rests for a while after an order. So what they clicked before an
//! order is known without doubt, and with it what the order must earn. A visitor whose click may have been recorded without
//! an answer does not come back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agents::Agents;
use crate::click::{Answer, Click, Cookie, LABELS, Page};
use crate::click_id::ClickId;
use crate::market::Market;
use crate::problems::Problems;
use crate::random::Random;
use crate::scenario::Mix;
use crate::zipf::Zipf;

/// Who could come back; beyond it newcomers do not.
const MAX_VISITORS: usize = 20_000;

/// Clicks of one visitor, who then does not come back.
const MAX_CLICKS: usize = 8;

/// After an order: longer than any two clocks here could differ.
const REST: Duration = Duration::from_secs(2);

pub struct Visitor {
    cookie: Cookie,
    agent: usize,
    last: Page,
    pub clicks: Vec<ClickId>,
}

pub struct Crowd {
    market: Arc<Market>,
    agents: Arc<Agents>,
    mix: Mix,
    random: Random,
    links: Zipf,
    publishers: Zipf,
    visitors: Vec<Visitor>,
    idle: Vec<usize>,
    resting: VecDeque<(Instant, usize)>,
    /// Places of visitors who do not come back.
    free: Vec<usize>,
    /// What no answer may do.
    pub problems: Problems,
}

impl Crowd {
    pub fn new(market: Arc<Market>, agents: Arc<Agents>, mix: &Mix, seed: u64) -> Crowd {
        Crowd {
            links: Zipf::new(market.links_count(), mix.links_exponent),
            publishers: Zipf::new(market.publishers.len() as u64, mix.publishers_exponent),
            mix: mix.clone(),
            market,
            agents,
            random: Random::new(seed),
            visitors: Vec::new(),
            idle: Vec::new(),
            resting: VecDeque::new(),
            free: Vec::new(),
            problems: Problems::default(),
        }
    }

    pub fn next(&mut self, now: Instant) -> Click {
        while self.resting.front().is_some_and(|(until, _)| *until <= now) {
            self.idle.extend(self.resting.pop_front().map(|(_, visitor)| visitor));
        }
        let is_bot = self.random.percent(self.mix.bot_percent);
        let is_prefetch = !is_bot && self.random.percent(self.mix.prefetch_percent);
        if !is_bot && self.random.percent(self.mix.returning_percent) && !self.idle.is_empty() {
            let index = self.random.below(self.idle.len() as u64) as usize;
            let visitor = self.idle.swap_remove(index);
            return self.returning(visitor, is_prefetch);
        }
        let agents = if is_bot { &self.agents.bots } else { &self.agents.browsers };
        let agent = self.random.below(agents.len() as u64) as usize;
        Click { page: self.page(), visitor: None, cookie: None, is_bot, is_prefetch, agent }
    }

    fn returning(&mut self, visitor: usize, is_prefetch: bool) -> Click {
        let repeats = self.random.percent(self.mix.repeat_percent);
        let page = if repeats { self.visitors[visitor].last } else { self.page() };
        let known = &mut self.visitors[visitor];
        known.last = page;
        let (cookie, agent) = (Some(known.cookie), known.agent);
        Click { page, visitor: Some(visitor), cookie, is_bot: false, is_prefetch, agent }
    }

    fn page(&mut self) -> Page {
        let random = &mut self.random;
        let label = random.below(LABELS as u64) as usize;
        if random.percent(self.mix.deep_link_percent) {
            let offer = random.below(self.market.offers.len() as u64) as usize;
            let publisher = self.publishers.draw(random) as usize;
            return Page { link: None, offer, publisher, product: random.below(20_000), label };
        }
        let link = self.links.draw(random);
        let (offer, publisher) = self.market.link(link);
        Page { link: Some(link), offer, publisher, product: 0, label }
    }

    /// The visitor who is going to buy, and does nothing else until `bought`.
    pub fn answered(&mut self, click: &Click, answer: &Answer) -> Option<usize> {
        let id = answer.click_id?;
        let visitor = match (click.visitor, answer.cookie) {
            (Some(visitor), None) => {
                self.visitors[visitor].clicks.push(id);
                visitor
            }
            (Some(visitor), Some(_)) => {
                self.problems.push(format!("click {id}: a visitor who brought a cookie was given another one"));
                self.free.push(visitor);
                return None;
            }
            (None, None) => {
                self.problems.push(format!("click {id}: a visitor without a cookie was given none"));
                return None;
            }
            (None, Some(_)) if click.is_bot => return None,
            (None, Some(cookie)) => {
                self.settle(Visitor { cookie, agent: click.agent, last: click.page, clicks: vec![id] })?
            }
        };
        if self.random.percent(self.mix.conversion_percent) {
            return Some(visitor);
        }
        self.let_go(visitor);
        None
    }

    fn settle(&mut self, visitor: Visitor) -> Option<usize> {
        if let Some(place) = self.free.pop() {
            self.visitors[place] = visitor;
            return Some(place);
        }
        if self.visitors.len() >= MAX_VISITORS {
            return None;
        }
        self.visitors.push(visitor);
        Some(self.visitors.len() - 1)
    }

    fn let_go(&mut self, visitor: usize) {
        let done = self.visitors[visitor].clicks.len() >= MAX_CLICKS;
        if done { self.free.push(visitor) } else { self.idle.push(visitor) }
    }

    /// No 302 came. `doubtful`: the click may be recorded all the same.
    pub fn failed(&mut self, click: &Click, doubtful: bool) {
        match click.visitor {
            Some(visitor) if doubtful => self.free.push(visitor),
            Some(visitor) => self.idle.push(visitor),
            None => {}
        }
    }

    pub fn visitor(&self, visitor: usize) -> &Visitor {
        &self.visitors[visitor]
    }

    /// The order was accepted, or given up.
    pub fn bought(&mut self, visitor: usize, now: Instant) {
        if self.visitors[visitor].clicks.len() >= MAX_CLICKS {
            self.free.push(visitor);
        } else {
            self.resting.push_back((now + REST, visitor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commission::tests::click as click_id;
    use crate::scenario;

    fn crowd(mix: Mix, seed: u64) -> Crowd {
        let market = Arc::new(Market::made(&scenario::Catalog::default()));
        Crowd::new(market, Arc::new(Agents::new()), &mix, seed)
    }

    fn answer(cookie: bool) -> Answer {
        let cookie = cookie.then_some([b'v'; 22]);
        Answer { status: 302, click_id: Some(click_id(1, 11, 101)), cookie, closes: false }
    }

    #[test]
    fn the_same_seed_brings_the_same_people() {
        let pages = |seed| {
            let mut crowd = crowd(Mix::default(), seed);
            (0..50).map(|_| crowd.next(Instant::now()).page).collect::<Vec<_>>()
        };
        assert_eq!(pages(5), pages(5));
        assert_ne!(pages(5), pages(6));
    }

    #[test]
    fn the_mix_is_as_the_scenario_says() {
        let mut crowd = crowd(Mix { bot_percent: 10.0, deep_link_percent: 25.0, ..Mix::default() }, 1);
        let clicks: Vec<Click> = (0..20_000).map(|_| crowd.next(Instant::now())).collect();
        let count = |is: &dyn Fn(&Click) -> bool| clicks.iter().filter(|click| is(click)).count();
        assert!((1_800..2_200).contains(&count(&|click| click.is_bot)));
        assert!((4_700..5_300).contains(&count(&|click| click.page.link.is_none())));
        // The first link by Zipf's law over a thousand: 13 %.
        assert!((1_700..2_200).contains(&count(&|click| click.page.link == Some(0))));
    }

    #[test]
    fn a_visitor_does_one_thing_at_a_time() {
        let mix = Mix { returning_percent: 100.0, bot_percent: 0.0, conversion_percent: 0.0, ..Mix::default() };
        let mut crowd = crowd(mix, 1);
        let now = Instant::now();
        let first = crowd.next(now);
        assert_eq!(first.visitor, None);
        assert_eq!(crowd.answered(&first, &answer(true)), None);
        let again = crowd.next(now);
        assert_eq!((again.visitor, again.cookie), (Some(0), Some([b'v'; 22])));
        // While that click is under way, whoever comes is somebody else.
        assert_eq!(crowd.next(now).visitor, None);
        // Nobody knows whether this click counted: the visitor does not come back.
        crowd.failed(&again, true);
        assert_eq!(crowd.next(now).visitor, None);
    }

    #[test]
    fn who_buys_rests_before_the_next_click() {
        let mix = Mix { returning_percent: 100.0, bot_percent: 0.0, conversion_percent: 100.0, ..Mix::default() };
        let mut crowd = crowd(mix, 1);
        let now = Instant::now();
        let first = crowd.next(now);
        assert_eq!(crowd.answered(&first, &answer(true)), Some(0));
        assert_eq!(crowd.next(now).visitor, None);
        crowd.bought(0, now);
        assert_eq!(crowd.next(now + REST / 2).visitor, None);
        assert_eq!(crowd.next(now + REST).visitor, Some(0));
    }

    #[test]
    fn a_known_visitor_with_another_cookie_is_a_problem() {
        let mix = Mix { returning_percent: 100.0, bot_percent: 0.0, conversion_percent: 0.0, ..Mix::default() };
        let mut crowd = crowd(mix, 1);
        let first = crowd.next(Instant::now());
        crowd.answered(&first, &answer(true));
        let again = crowd.next(Instant::now());
        crowd.answered(&again, &answer(true));
        assert_eq!(crowd.problems.into_lines().len(), 1);
    }
}
