//! A visitor who clicks, or is made to click, far more often than a person does.

use serde_json::json;

use super::world::{ClickSketch, T0, World, click};
use crate::catalog::OfferId;
use crate::catalog::rulebook::Model;
use crate::spool::Topic;
use crate::time::{DAY_MS, HOUR_MS};

const CLICKS: u64 = 1;
const ORDERS: u64 = u64::MAX;

fn hidden(at: i64, publisher: u32) -> ClickSketch {
    ClickSketch { non_navigation: true, ..click(at, 1, publisher) }
}

fn order(world: &mut World, order: &str, at: i64) {
    let visitor = json!({"visitor_id": world.visitor(1).as_str()});
    world.append(ORDERS, Topic::Conversions, &world.report(order, at, visitor));
}

#[test]
fn m4_a_flood_of_hidden_images_does_not_push_out_a_click() {
    let mut world = World::new();
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0, 1, 1)));
    for n in 1..1_100 {
        world.append(CLICKS, Topic::Clicks, &world.click(&hidden(T0 + n, 2)));
    }
    order(&mut world, "A-1", T0 + HOUR_MS);
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 120)]));
    assert_eq!(world.metrics.cut_lookups.value(), 0);
    // Two touches, whose clicks are not told one by one.
    let explanation = world.decision("A-1")["explanation"].to_string();
    assert!(explanation.contains("only those are told which may be kept"), "{explanation}");
    let id = world.conversion_id(1, "A-1", "sale");
    assert_eq!(world.look(|view| Ok(view.conversion(&id)?.unwrap().clicks.touches.len())), 2);
}

#[test]
fn m4_the_first_click_stays_the_first_behind_a_flood() {
    let mut world = World::new();
    world.load(|book| book.offers.get_mut(&OfferId(12)).unwrap().terms[0].model = Model::FirstClick);
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0, 1, 1)));
    for n in 1..1_100 {
        world.append(CLICKS, Topic::Clicks, &world.click(&click(T0 + n * 20_000, 1, 2)));
    }
    order(&mut world, "A-1", T0 + DAY_MS);
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 120)]));
}

/// All orders end alike: the flood before the order, behind it, or in between in another spool.
#[test]
fn m50_a_flood_that_comes_late_is_grouped_as_if_it_had_been_there() {
    let sketches: Vec<ClickSketch> = (0..600)
        .map(|n| ClickSketch { random: n as u32, ..hidden(T0 + n * 3_000, 1 + (n % 2) as u32) })
        .chain([click(T0 + 2_000, 1, 3)])
        .collect();
    let decided = |late: &dyn Fn(usize) -> bool| {
        let mut world = World::new();
        let place = |world: &mut World, is_late: bool| {
            for (number, sketch) in sketches.iter().enumerate().filter(|(number, _)| late(*number) == is_late) {
                world.append(if late(number) { 3 } else { CLICKS }, Topic::Clicks, &world.click(sketch));
            }
        };
        place(&mut world, false);
        order(&mut world, "A-1", T0 + HOUR_MS);
        world.round();
        place(&mut world, true);
        world.round();
        (world.decision("A-1"), world.books())
    };
    let at_once = decided(&|_| false);
    assert_eq!(at_once.0["shares"][0]["publisher_id"], 3);
    assert_eq!(decided(&|_| true), at_once);
    assert_eq!(decided(&|number| number % 3 == 1), at_once);
    assert_eq!(decided(&|number| number < 300), at_once);
}

#[test]
fn m50_a_late_click_reaches_every_conversion_of_its_visitor() {
    let mut world = World::new();
    for n in 0..150 {
        order(&mut world, &format!("A-{n}"), T0 + HOUR_MS + n);
    }
    world.round();
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0, 1, 2)));
    world.round();
    for n in 0..150 {
        assert_eq!(world.verdict(&format!("A-{n}")).1, [(2, 120)], "{n}");
    }
}

#[test]
fn m50_a_late_click_reaches_as_far_as_the_terms_of_the_first_decision() {
    let mut world = World::new();
    world.load(|book| book.offers.get_mut(&OfferId(13)).unwrap().terms[0].window_days = 90);
    order(&mut world, "A-1", T0 + 80 * DAY_MS);
    world.round();
    // The offer with the long window is removed; the order was decided while it was there.
    world.load(|book| drop(book.offers.remove(&OfferId(13))));
    let late = ClickSketch { offer: 13, ..click(T0, 1, 2) };
    world.append(CLICKS, Topic::Clicks, &world.click(&late));
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(2, 100)]));
}

#[test]
fn m3_a_click_after_the_report_still_makes_its_touch_a_navigated_one() {
    let mut world = World::new();
    // Two publishers' hidden clicks at the end of the skew. The earlier touch is navigated by a click behind it.
    world.append(CLICKS, Topic::Clicks, &world.click(&hidden(T0 + 119_000, 1)));
    world.append(CLICKS, Topic::Clicks, &world.click(&hidden(T0 + 119_100, 2)));
    order(&mut world, "A-1", T0);
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(2, 120)]));
    // A touch of its own that begins there is none of this order.
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0 + 128_999, 1, 3)));
    world.round();
    assert_eq!((world.verdict("A-1").1, world.metrics.late_clicks.value()), (vec![(2, 120)], 0));
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0 + 128_999, 1, 1)));
    world.round();
    assert_eq!((world.verdict("A-1").1, world.metrics.late_clicks.value()), (vec![(1, 120)], 1));
}
