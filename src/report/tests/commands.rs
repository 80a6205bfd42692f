use serde_json::{Value, json};

use crate::attribution::consumer::tests::world::{ClickSketch, T0, World, click};
use crate::report::command::Verdict;
use crate::report::explain::{Which, explain};
use crate::report::ledger;
use crate::report::reconcile::{Asked, Disk, reconcile};
use crate::spool::Topic;
use crate::store::testing::{self, Home};
use crate::store::{Place, Reader};
use crate::time::{HOUR_MS, TimeMs};

const EMBEDDED: Asked = Asked { cluster: false, now: TimeMs(0) };

/// What the consumer of `serve` found out, in its file or copied to PostgreSQL.
struct Books {
    world: World,
    database: Option<Home>,
}

impl std::ops::Deref for Books {
    type Target = World;
    fn deref(&self) -> &World {
        &self.world
    }
}

impl Books {
    fn place(&self) -> Place {
        self.database.as_ref().map_or_else(|| self.world.place(), |home| home.place.clone())
    }

    /// Breaks what is stored.
    fn change(&self, sql: &str) {
        match &self.database {
            Some(home) => {
                let sql = sql.replace("entries_are_never_edited", "entries_are_never_edited ON entries");
                home.run(&sql.replace("x''", "''"));
            }
            None => rusqlite::Connection::open(self.path()).unwrap().execute_batch(sql).unwrap(),
        }
    }
}

fn both() -> [Books; 2] {
    let database = testing::database();
    let copied = world();
    testing::copy(&copied.place(), &database);
    [Books { world: world(), database: None }, Books { world: copied, database: Some(database) }]
}

/// Two orders: one shared by two publishers and refunded in part, one that nobody brought.
fn world() -> World {
    let mut world = World::new();
    for (at, publisher) in [(0, 1), (1, 2)] {
        let sketch = ClickSketch { offer: 13, ..click(T0 + at, 1, publisher) };
        world.append(1, Topic::Clicks, &world.click(&sketch));
    }
    let visitor = json!({"visitor_id": world.visitor(1).as_str()});
    world.append(2, Topic::Conversions, &world.report("A/1", T0 + HOUR_MS, visitor));
    world.append(2, Topic::Conversions, &world.report("A-2", T0 + HOUR_MS, json!({})));
    world.append(2, Topic::Conversions, &world.refund("R-1", "A/1", T0 + 2 * HOUR_MS, json!({"amount": 101})));
    world.append(2, Topic::Conversions, &world.refund("R-2", "A-3", T0, json!({})));
    world.round();
    world
}

fn reader(world: &Books) -> Reader {
    Reader::open(&world.place()).unwrap()
}

fn cat(world: &Books, until: Option<i64>) -> String {
    let mut out = Vec::new();
    assert_eq!(ledger::cat(&mut reader(world), until.map(TimeMs), &mut out).unwrap(), Verdict::Good);
    String::from_utf8(out).unwrap()
}

fn check(world: &Books) -> (Verdict, String) {
    let mut out = Vec::new();
    let verdict = ledger::check(&mut reader(world), &mut out).unwrap();
    (verdict, String::from_utf8(out).unwrap())
}

#[test]
fn ledger_cat_writes_balances_and_as_of_goes_back() {
    for world in both() {
        let id = world.conversion_id(1, "A/1", "sale");
        let line = |account: &str, amount: i64| {
            format!(
                "{{\"merchant_id\":1,\"order_id\":\"A/1\",\"type\":\"sale\",\"conversion_id\":\"{id}\",\
                 \"account\":\"{account}\",\"amount\":{amount},\"currency\":\"IRR\"}}\n"
            )
        };
        let books = |merchant, first, second| {
            line("merchant:1:receivable", merchant)
                + &line("publisher:1:pending", first)
                + &line("publisher:2:pending", second)
        };
        // 100 in halves; 101 of 1,000 back: 89.9 is 90, in halves.
        assert_eq!(cat(&world, None), books(90, -45, -45));
        assert_eq!(cat(&world, Some(T0 + HOUR_MS)), books(100, -50, -50));
        assert_eq!(cat(&world, Some(T0)), "");
    }
}

#[test]
fn ledger_check_finds_nothing_and_then_what_was_changed() {
    for world in both() {
        let (verdict, text) = check(&world);
        assert_eq!(
            (verdict, text.as_str()),
            (Verdict::Good, "2 conversions, 3 decisions, 6 entries: no invariant is broken\n")
        );
        for (change, words) in [
            ("DROP TRIGGER entries_are_never_edited; UPDATE entries SET amount = amount + 1 WHERE id = 1", "sum to"),
            (
                "UPDATE entries SET amount = amount - 1 WHERE id = 1; UPDATE shares SET commission = commission + 7",
                "other shares",
            ),
            ("DELETE FROM shares", "other shares"),
            ("UPDATE refunds SET waiting = 1", "waits for an order that is there"),
            ("UPDATE decisions SET decision = replace(decision, 'rounded', 'sounded')", "does not come out again"),
            (
                "UPDATE conversions SET touches = x'', report = replace(report, '1000', '1001')",
                "does not come out again",
            ),
            ("UPDATE click_rollups SET billable = clicks + 1", "more billable clicks than clicks"),
            ("DELETE FROM decisions", "was never decided"),
        ] {
            world.change(change);
            let (verdict, text) = check(&world);
            assert_eq!(verdict, Verdict::Bad, "{change}");
            assert!(text.contains(words), "{change}: {text}");
        }
    }
}

#[test]
fn p1_reconcile_counts_what_is_attributed_by_spool() {
    for world in both() {
        let mut out = Vec::new();
        assert_eq!(reconcile(Some(&mut reader(&world)), &Disk::default(), EMBEDDED, &mut out).unwrap(), Verdict::Good);
        let text = String::from_utf8(out).unwrap();
        // Two orders and two refunds in one spool; one order was earned by two, the other by nobody.
        let sums = "conversions: 4 answered = 4 spooled + 0 undurable; 4 spooled = 4 consumed + 0 lag; 1 attributed\n";
        assert!(text.contains(sums), "{text}");
        assert!(
            text.contains("clicks: 2 answered = 2 spooled + 0 undurable; 2 spooled = 2 consumed + 0 lag\n"),
            "{text}"
        );
    }
}

#[test]
fn explain_tells_it_in_words_and_as_json() {
    for world in both() {
        let id = world.conversion_id(1, "A/1", "sale");
        let run = |which: &Which, json_only| {
            let mut out = Vec::new();
            let verdict = explain(&mut reader(&world), which, json_only, &mut out).unwrap();
            (verdict, String::from_utf8(out).unwrap())
        };
        let (verdict, words) = run(&Which::Id(id.clone()), false);
        assert_eq!(verdict, Verdict::Good);
        let lines: Vec<&str> = words.lines().collect();
        assert_eq!(lines[1], "Order \"A/1\", sale: 1000 IRR, occurred at 2026-11-22T11:00:00.000Z");
        assert_eq!(lines[2], "Outcome: attributed, pending (revision 2)");
        assert!(words.contains("101") && words.contains("Posted"), "{words}");
        let told: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        assert_eq!(
            (&told["conversion_id"], &told["commission"], &told["revision"]),
            (&json!(id), &json!(90), &json!(2))
        );
        // By order, also with its type; JSON alone.
        for order in ["1/A/1", "1/A/1/sale"] {
            let (verdict, text) = run(&Which::order(order).unwrap(), true);
            assert_eq!(verdict, Verdict::Good, "{order}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), told, "{order}");
        }
        for which in [Which::Id("x".into()), Which::order("1/A/1/lead").unwrap(), Which::order("2/A-2").unwrap()] {
            assert_eq!(run(&which, false), (Verdict::Bad, String::new()), "{which:?}");
        }
    }
}
