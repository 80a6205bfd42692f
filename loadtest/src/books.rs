//! The books: what visitors and merchants saw beside what the public interface says. Pure; `ledger.rs` asks.

use std::collections::{BTreeMap, BTreeSet};

use crate::clicked::{Clicked, Count};
use crate::market::Market;
use crate::orders::Due;
use crate::outcome::{Books, Money};
use crate::problems::Problems;

/// What the report and the metrics say; as a difference of two looks, what a run did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reported {
    /// Clicks by publisher and label.
    pub labels: BTreeMap<(Option<u32>, Option<String>), i64>,
    /// Clicks by the code of a link, where there are not too many.
    pub links: Option<BTreeMap<Option<String>, i64>>,
    /// Conversions and commission by publisher and currency.
    pub publishers: BTreeMap<(Option<u32>, String), (i64, i64)>,
    /// Conversions, amount and commission by currency.
    pub currencies: BTreeMap<String, (i64, i64, i64)>,
    /// Records of clicks that edges have made, where they tell.
    pub recorded: Option<i64>,
    /// Clicks that edges say they answered without a record.
    pub unrecorded: i64,
}

impl Reported {
    pub fn clicks(&self) -> i64 {
        self.labels.values().sum()
    }

    pub fn conversions(&self) -> i64 {
        self.currencies.values().map(|(conversions, ..)| conversions).sum()
    }

    /// What came after `before`.
    pub fn since(mut self, before: &Reported) -> Reported {
        for (key, clicks) in &before.labels {
            *self.labels.entry(key.clone()).or_default() -= clicks;
        }
        if let (Some(links), Some(earlier)) = (&mut self.links, &before.links) {
            for (key, clicks) in earlier {
                *links.entry(key.clone()).or_default() -= clicks;
            }
        }
        for (key, (conversions, commission)) in &before.publishers {
            let sum = self.publishers.entry(key.clone()).or_default();
            *sum = (sum.0 - conversions, sum.1 - commission);
        }
        for (key, (conversions, amount, commission)) in &before.currencies {
            let sum = self.currencies.entry(key.clone()).or_default();
            *sum = (sum.0 - conversions, sum.1 - amount, sum.2 - commission);
        }
        self.recorded = self.recorded.zip(before.recorded).map(|(now, then)| now - then);
        self.unrecorded -= before.unrecorded;
        self
    }
}

/// `recorded` is what the spools hold, where somebody could look; else what the metrics say.
pub fn compare(
    clicked: &Clicked,
    due: &Due,
    reported: &Reported,
    market: &Market,
    recorded: Option<u64>,
) -> (Books, Problems) {
    let mut problems = Problems::default();
    compare_clicks(clicked, reported, market, &mut problems);
    let recorded = recorded.map(|count| count as i64).or(reported.recorded).unwrap_or(reported.clicks());
    let most = clicked.answered + clicked.doubtful;
    if recorded < clicked.answered as i64 || recorded > most as i64 {
        problems.push(format!(
            "{} clicks were answered and {recorded} are recorded; {} more were sent without an answer that came whole",
            clicked.answered, clicked.doubtful
        ));
    }
    if recorded != reported.clicks() {
        problems.push(format!("{recorded} clicks are recorded, and the report has {}", reported.clicks()));
    }
    if reported.unrecorded != 0 {
        problems
            .push(format!("the edges say of {} clicks that they were answered without a record", reported.unrecorded));
    }
    let money = compare_money(due, reported, &mut problems);
    let books = Books {
        answered: clicked.answered,
        recorded: recorded.max(0) as u64,
        reported: reported.clicks().max(0) as u64,
        money,
        problems: Vec::new(),
    };
    (books, problems)
}

fn compare_clicks(clicked: &Clicked, reported: &Reported, market: &Market, problems: &mut Problems) {
    let label = |label: usize| format!("s{label:02}");
    let expected = clicked.by_label(market);
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|((publisher, number), count)| ((publisher, Some(label(number))), count)).collect();
    for key in expected.keys().chain(reported.labels.keys()).collect::<BTreeSet<_>>() {
        let (publisher, label) = key;
        let place = || format!("publisher {}, sub1 {}", shown(publisher), shown(label));
        compare_count(expected.get(key), reported.labels.get(key), place, problems);
    }
    let (Some(expected), Some(links)) = (clicked.by_link(), &reported.links) else { return };
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(link, count)| (link.map(|link| code(market, link)), count)).collect();
    for key in expected.keys().chain(links.keys()).collect::<BTreeSet<_>>() {
        compare_count(expected.get(key), links.get(key), || format!("link {}", shown(key)), problems);
    }
}

fn code(market: &Market, link: u64) -> String {
    let mut code = Vec::new();
    market.write_code(link, &mut code);
    String::from_utf8_lossy(&code).into_owned()
}

fn shown<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or("none".into(), T::to_string)
}

fn compare_count(
    expected: Option<&Count>,
    reported: Option<&i64>,
    place: impl Fn() -> String,
    problems: &mut Problems,
) {
    let (expected, reported) = (expected.copied().unwrap_or_default(), reported.copied().unwrap_or(0));
    let (least, most) = (i64::from(expected.answered), i64::from(expected.answered) + i64::from(expected.doubtful));
    if reported < least {
        problems.push(format!("{}: {} of {least} answered clicks are lost", place(), least - reported));
    } else if reported > most {
        problems.push(format!("{}: {} clicks more than the {most} that were sent", place(), reported - most));
    }
}

fn compare_money(due: &Due, reported: &Reported, problems: &mut Problems) -> Vec<Money> {
    let own: BTreeMap<(Option<u32>, String), (i64, i64)> = due
        .publishers
        .iter()
        .map(|((publisher, currency), sum)| ((Some(*publisher), currency.clone()), *sum))
        .collect();
    for key in own.keys().chain(reported.publishers.keys()).collect::<BTreeSet<_>>() {
        let (expected, found) =
            (own.get(key).copied().unwrap_or_default(), reported.publishers.get(key).copied().unwrap_or_default());
        if expected != found {
            problems.push(format!(
                "publisher {}: {} conversions that earn {} {} are due, and the report has {} and {}",
                shown(&key.0),
                expected.0,
                expected.1,
                key.1,
                found.0,
                found.1
            ));
        }
    }
    let mut money = Vec::new();
    for currency in due.currencies.keys().chain(reported.currencies.keys()).collect::<BTreeSet<_>>() {
        let expected = due.currencies.get(currency).copied().unwrap_or_default();
        let found = reported.currencies.get(currency).copied().unwrap_or_default();
        if (expected.0, expected.1) != (found.0, found.1) {
            problems.push(format!(
                "{} orders of {} {currency} in all were accepted, and the report has {} of {}",
                expected.0, expected.1, found.0, found.1
            ));
        }
        if expected != (0, 0, 0) || found != (0, 0, 0) {
            money.push(Money { currency: currency.clone(), expected: expected.2, reported: found.2 });
        }
    }
    money
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::click::Page;
    use crate::commission::tests::click;
    use crate::scenario;

    fn market() -> Market {
        Market::made(&scenario::Catalog { links_count: 5, publishers_count: 3, file: None })
    }

    /// Three answered clicks and one without an answer, and one order that earns 12.
    fn seen() -> (Clicked, Due) {
        let mut clicked = Clicked::new(&market(), 1);
        let page = |publisher, link| Page { link, offer: 0, publisher, product: 0, label: 7 };
        clicked.answer(&page(0, Some(4)), click(1, 11, 101));
        clicked.answer(&page(0, None), click(2, 11, 101));
        clicked.answer(&page(2, None), click(3, 11, 103));
        clicked.doubt(&page(2, None));
        let due = Due {
            publishers: BTreeMap::from([((101, "IRR".into()), (1, 12))]),
            currencies: BTreeMap::from([("IRR".into(), (1, 100, 12))]),
        };
        (clicked, due)
    }

    fn right() -> Reported {
        let label = |publisher| (Some(publisher), Some("s07".to_owned()));
        Reported {
            labels: BTreeMap::from([(label(101), 2), (label(103), 1)]),
            links: Some(BTreeMap::from([(Some("l4".into()), 1), (None, 2)])),
            publishers: BTreeMap::from([((Some(101), "IRR".into()), (1, 12)), ((Some(103), "IRR".into()), (0, 0))]),
            currencies: BTreeMap::from([("IRR".into(), (1, 100, 12))]),
            recorded: Some(3),
            unrecorded: 0,
        }
    }

    fn problems(reported: &Reported, recorded: Option<u64>) -> Vec<String> {
        let (clicked, due) = seen();
        compare(&clicked, &due, reported, &market(), recorded).1.into_lines()
    }

    #[test]
    fn right_books_are_right_with_and_without_the_click_nobody_knows_of() {
        assert_eq!(problems(&right(), None), [""; 0]);
        let mut counted = right();
        counted.labels.insert((Some(103), Some("s07".into())), 2);
        counted.links.as_mut().unwrap().insert(None, 3);
        counted.recorded = Some(4);
        assert_eq!(problems(&counted, None), [""; 0]);
        let (clicked, due) = seen();
        let (books, _) = compare(&clicked, &due, &right(), &market(), Some(3));
        assert_eq!((books.answered, books.recorded, books.reported), (3, 3, 3));
        assert_eq!(books.money, [Money { currency: "IRR".into(), expected: 12, reported: 12 }]);
    }

    #[test]
    fn a_lost_click_is_found_and_named() {
        let mut lost = right();
        lost.labels.insert((Some(101), Some("s07".into())), 1);
        lost.links.as_mut().unwrap().remove(&Some("l4".into()));
        let told = problems(&lost, None);
        assert_eq!(told[0], "publisher 101, sub1 s07: 1 of 2 answered clicks are lost");
        assert_eq!(told[1], "link l4: 1 of 1 answered clicks are lost");
        assert_eq!(told[2], "3 clicks are recorded, and the report has 2");
        assert_eq!(problems(&right(), Some(2)).len(), 2);
    }

    #[test]
    fn a_doubled_click_is_found_and_named() {
        let mut doubled = right();
        doubled.labels.insert((Some(101), Some("s07".into())), 3);
        doubled.recorded = Some(4);
        assert_eq!(problems(&doubled, None), ["publisher 101, sub1 s07: 1 clicks more than the 2 that were sent"]);
    }

    #[test]
    fn a_cent_too_much_is_found_and_named() {
        let mut wrong = right();
        wrong.publishers.insert((Some(101), "IRR".into()), (1, 13));
        let told = problems(&wrong, None);
        assert_eq!(told, ["publisher 101: 1 conversions that earn 12 IRR are due, and the report has 1 and 13"]);
        let mut twice = right();
        twice.currencies.insert("IRR".into(), (2, 200, 12));
        assert_eq!(problems(&twice, None), ["1 orders of 100 IRR in all were accepted, and the report has 2 of 200"]);
        let mut another = right();
        another.publishers.insert((None, "IRR".into()), (1, 0));
        assert!(problems(&another, None)[0].starts_with("publisher none: 0 conversions"));
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let mut now = right();
        now.labels.insert((Some(9), None), 4);
        let mut before = Reported { recorded: Some(0), links: Some(BTreeMap::new()), ..Reported::default() };
        before.labels.insert((Some(9), None), 4);
        let since = now.since(&before);
        assert_eq!(problems(&since, None), [""; 0]);
    }
}
