//! The index against a plain model: whatever is added, added again, wiped or set back to a snapshot, look-ups say what is
//! there and how far it goes.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

const CAP: u32 = 16;
const VISITORS: u64 = 4;
const DAYS: i64 = 3;

#[derive(Clone, Debug)]
enum Step {
    Add { from: From, touches: Vec<Click> },
    Flush,
    Save,
    Restore,
    Forget,
}

#[derive(Clone, Copy, Debug)]
enum From {
    Here,
    Nothing,
    /// The position before the last: as after a lost answer.
    Before,
    Elsewhere,
}

/// Visitor, day, number, and how long its label is.
type Click = (u64, i64, u32, usize);

#[derive(Clone, Default)]
struct Model {
    touches: BTreeMap<(u64, i64), BTreeMap<u32, usize>>,
    cut: BTreeSet<(u64, i64)>,
    stands: Option<Position>,
}

impl Model {
    fn add(&mut self, from: Option<Position>, to: Position, alone: bool, touches: &[Click]) -> Result<(), AddError> {
        let next = |position: Option<Position>| position.map_or(-1, |position| position.next);
        let ahead = !alone && next(self.stands) > next(from);
        if self.stands != from && self.stands != Some(to) && !ahead {
            return Err(AddError::Moved);
        }
        for (visitor, day, number, label) in touches {
            let known = self.touches.entry((*visitor, *day)).or_default();
            if known.contains_key(number) {
                continue;
            }
            if known.len() >= CAP as usize {
                self.cut.insert((*visitor, *day));
            } else {
                known.insert(*number, *label);
            }
        }
        if to.next >= next(self.stands) || (!alone && from.is_none()) {
            self.stands = Some(to);
        }
        Ok(())
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let touch = (0..VISITORS, 0..DAYS, 0u32..24, prop_oneof![3 => Just(0usize), 2 => 1usize..40, 1 => 100usize..250]);
    let from = prop_oneof![8 => Just(From::Here), 1 => Just(From::Nothing), 2 => Just(From::Before), 1 => Just(From::Elsewhere)];
    let add = (from, proptest::collection::vec(touch, 0..40)).prop_map(|(from, touches)| Step::Add { from, touches });
    let step = prop_oneof![
        12 => add, 1 => Just(Step::Flush), 2 => Just(Step::Save), 1 => Just(Step::Restore), 1 => Just(Step::Forget)
    ];
    proptest::collection::vec(step, 1..20)
}

struct World {
    server: Server,
    clicks: Clicks,
    today: i64,
}

impl World {
    /// Same number, same click.
    fn click(&self, (visitor, day, number, _): Click) -> ClickId {
        // In two buckets and in many groups.
        let visitor = (visitor << 32) | (visitor * 77);
        self.clicks.click(self.today - day * DAY_MS + i64::from(number), visitor, number)
    }

    fn check(&self, index: &mut SharedTouches, model: &Model) -> Result<(), TestCaseError> {
        let since = |day: i64| TimeMs(self.today - day * DAY_MS + 3);
        let asked: Vec<(u64, i64)> = (0..VISITORS).flat_map(|v| (0..DAYS).map(move |day| (v, day))).collect();
        let visitor = |v: u64| self.click((v, 0, 0, 0)).visitor_key();
        let wanted: Vec<_> = asked.iter().map(|(v, day)| (visitor(*v), since(*day))).collect();
        let looked = index.find(&wanted).unwrap();
        let positions: BTreeMap<i32, Position> = model.stands.map(|stands| (0, stands)).into_iter().collect();
        prop_assert_eq!(&looked.positions, &positions);
        prop_assert_eq!(index.positions().unwrap(), positions);
        for ((v, day), found) in asked.into_iter().zip(looked.found) {
            let of_visitor = model.touches.iter().filter(|((visitor, _), _)| *visitor == v);
            let all = of_visitor.flat_map(|((v, day), numbers)| numbers.keys().map(|n| self.click((*v, *day, *n, 0))));
            let expected: BTreeSet<ClickId> = all.filter(|id| id.clicked_at() >= since(day)).collect();
            prop_assert_eq!(found.click_ids.len(), expected.len());
            prop_assert_eq!(found.click_ids.into_iter().collect::<BTreeSet<_>>(), expected);
            prop_assert_eq!(found.cut, model.cut.iter().any(|(visitor, cut)| *visitor == v && *cut <= day));
        }
        let known =
            model.touches.iter().flat_map(|((v, day), numbers)| numbers.iter().map(|(n, l)| (*v, *day, *n, *l)));
        let known: Vec<Click> = known.collect();
        let labels = index.labels(&known.iter().map(|click| self.click(*click)).collect::<Vec<_>>()).unwrap();
        for (click, labels) in known.iter().zip(labels) {
            let sub1 = (click.3 > 0).then(|| "s".repeat(click.3));
            prop_assert_eq!(labels, Some(Labels { link: None, source: None, sub1 }));
        }
        Ok(())
    }
}

fn run(world: &mut World, buckets: u32, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut index = touches(world.server.link(), kept(buckets, CAP));
    index.at_once = 7;
    index.link.ask(&[::redis::cmd("FLUSHALL"), ::redis::cmd("SAVE")]).unwrap();
    let (mut model, mut saved) = (Model::default(), Model::default());
    let mut before = None;
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Add { from, touches } => {
                let from = match from {
                    From::Here => model.stands,
                    From::Nothing => None,
                    From::Before => before,
                    From::Elsewhere => Some(Position { next: 5, last: 5 }),
                };
                let to = position(from.map_or(0, |from| from.next) + touches.len() as i64 + number as i64 % 2);
                let labels: Vec<String> = touches.iter().map(|click| "s".repeat(click.3)).collect();
                let touched = touches
                    .iter()
                    .zip(&labels)
                    .map(|(click, label)| Touched { sub1: Some(label.as_str()), ..plain(world.click(*click)) });
                let added = index.add(0, from, to, &touched.collect::<Vec<_>>());
                let stood = model.stands;
                prop_assert_eq!(added, model.add(from, to, buckets == 1, &touches));
                before = stood;
            }
            Step::Flush => {
                index.link.ask(&[::redis::cmd("FLUSHALL")]).unwrap();
                model = Model::default();
            }
            Step::Save => {
                index.link.ask(&[::redis::cmd("SAVE")]).unwrap();
                saved = model.clone();
            }
            Step::Restore => {
                world.server.start_again();
                model = saved.clone();
            }
            Step::Forget => {
                index.forget(0).unwrap();
                model.stands = None;
            }
        }
        world.check(&mut index, &model)?;
    }
    Ok(())
}

#[test]
fn look_ups_say_what_is_there_whatever_happens_to_it() {
    let world = World { server: Server::start(&[]), clicks: Clicks::new(), today: today() };
    let world = std::cell::RefCell::new(world);
    for buckets in [1, 2] {
        let config = ProptestConfig { cases: 40, ..ProptestConfig::default() };
        let mut runner = TestRunner::new(config);
        runner.run(&steps(), |steps| run(&mut world.borrow_mut(), buckets, steps)).unwrap();
    }
}
