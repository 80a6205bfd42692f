//! What visitors saw of their clicks: how many were answered, by what the report can be asked for, and the ID of each.

use std::collections::BTreeMap;

use crate::click::{LABELS, Page};
use crate::click_id::ClickId;
use crate::market::Market;

/// Beyond it IDs are not kept, and a lost click is named by its publisher and label alone: 108 MB.
pub const MAX_IDS: usize = 3_000_000;

/// Up to so many links the report can be asked for each.
const MAX_LINKS: u64 = 20_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub answered: u32,
    /// Sent, and no answer came whole: it may be recorded, or not.
    pub doubtful: u32,
}

#[derive(Debug)]
pub struct Clicked {
    pub answered: u64,
    pub doubtful: u64,
    /// By publisher and label.
    labels: Vec<Count>,
    /// By link, the last for clicks without one; empty where there are too many.
    links: Vec<Count>,
    /// In pieces, so that no push ever copies a hundred megabytes.
    ids: Vec<Vec<ClickId>>,
    most_ids: usize,
}

const PIECE: usize = 4_096;

impl Clicked {
    /// `lanes` share the IDs that are kept.
    pub fn new(market: &Market, lanes: usize) -> Clicked {
        let links = if market.links_count() <= MAX_LINKS { market.links_count() as usize + 1 } else { 0 };
        Clicked {
            answered: 0,
            doubtful: 0,
            labels: vec![Count::default(); market.publishers.len() * LABELS],
            links: vec![Count::default(); links],
            ids: Vec::new(),
            most_ids: MAX_IDS / lanes.max(1),
        }
    }

    pub fn answer(&mut self, page: &Page, id: ClickId) {
        self.answered += 1;
        self.count(page, |count| count.answered += 1);
        if self.answered as usize <= self.most_ids {
            if self.ids.last().is_none_or(|piece| piece.len() == PIECE) {
                self.ids.push(Vec::with_capacity(PIECE));
            }
            self.ids.iter_mut().last().into_iter().for_each(|piece| piece.push(id));
        }
    }

    pub fn doubt(&mut self, page: &Page) {
        self.doubtful += 1;
        self.count(page, |count| count.doubtful += 1);
    }

    fn count(&mut self, page: &Page, add: impl Fn(&mut Count)) {
        add(&mut self.labels[page.publisher * LABELS + page.label]);
        if let Some(last) = self.links.len().checked_sub(1) {
            add(&mut self.links[page.link.map_or(last, |link| link as usize)]);
        }
    }

    pub fn add(&mut self, other: Clicked) {
        self.answered += other.answered;
        self.doubtful += other.doubtful;
        for (own, others) in [(&mut self.labels, other.labels), (&mut self.links, other.links)] {
            for (count, more) in own.iter_mut().zip(others) {
                count.answered += more.answered;
                count.doubtful += more.doubtful;
            }
        }
        self.ids.extend(other.ids);
        self.most_ids += other.most_ids;
    }

    /// Whether each answered click's ID is here.
    pub fn has_all_ids(&self) -> bool {
        self.ids.iter().map(|piece| piece.len() as u64).sum::<u64>() == self.answered
    }

    pub fn take_ids(&mut self) -> Vec<ClickId> {
        std::mem::take(&mut self.ids).concat()
    }

    /// By publisher and label, those with a click.
    pub fn by_label(&self, market: &Market) -> BTreeMap<(Option<u32>, usize), Count> {
        let named =
            |(index, count): (usize, &Count)| ((Some(market.publishers[index / LABELS]), index % LABELS), *count);
        self.labels.iter().enumerate().filter(|(_, count)| **count != Count::default()).map(named).collect()
    }

    /// By link, `None` for clicks without one; `None` where links are too many.
    pub fn by_link(&self) -> Option<BTreeMap<Option<u64>, Count>> {
        let last = self.links.len().checked_sub(1)?;
        let named = |(index, count): (usize, &Count)| ((index < last).then_some(index as u64), *count);
        Some(self.links.iter().enumerate().filter(|(_, count)| **count != Count::default()).map(named).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commission::tests::click;
    use crate::scenario;

    #[test]
    fn lanes_add_up() {
        let market = Market::made(&scenario::Catalog { links_count: 3, publishers_count: 2, file: None });
        let page = |link, publisher, label| Page { link, offer: 0, publisher, product: 0, label };
        let mut sum = Clicked::new(&market, 2);
        for lane in 0..2 {
            let mut clicked = Clicked::new(&market, 2);
            (0..5_000).for_each(|n| clicked.answer(&page(Some(2), 1, 19), click(lane * 10_000 + n, 1, 1)));
            clicked.doubt(&page(None, 0, 0));
            sum.add(clicked);
        }
        let (many, none) = (Count { answered: 10_000, doubtful: 0 }, Count { answered: 0, doubtful: 2 });
        assert_eq!(sum.by_label(&market), BTreeMap::from([((Some(102), 19), many), ((Some(101), 0), none)]));
        assert_eq!(sum.by_link(), Some(BTreeMap::from([(Some(2), many), (None, none)])));
        assert!(sum.has_all_ids());
        assert_eq!(sum.take_ids().len(), 10_000);
    }
}
