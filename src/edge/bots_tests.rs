//! The rates that docs/labels.md promises, on agents that nothing was built from, and tables of real agents by name.

use super::*;

const CRAWLERS: &str = include_str!("../../tests/fixtures/agents/crawlers.txt");
const BROWSERS: &str = include_str!("../../tests/fixtures/agents/browsers.txt");

/// Of two halves of a collection the one was read while the rules were written, the other never.
fn is_judge(text: &str) -> bool {
    crc32c::crc32c(text.as_bytes()) >> 16 & 1 == 1
}

/// Crawlers by their pattern in the collection, and agents of each: all agents of a crawler lie in one half.
fn crawlers() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut crawler = "";
    CRAWLERS.lines().filter_map(move |line| match line.strip_prefix('\t') {
        Some(agent) => Some((crawler, agent)),
        None => {
            crawler = line;
            None
        }
    })
}

/// The general rules alone: the one name in this list stands in no agent.
fn rules() -> Bots {
    Bots::parse("no agent says this").unwrap()
}

fn found<'a>(bots: &Bots, agents: &[&'a str]) -> (f64, Vec<&'a str>) {
    let (bot, other): (Vec<&str>, Vec<&str>) = agents.iter().partition(|agent| bots.matches(agent.as_bytes()));
    (bot.len() as f64 / agents.len() as f64, other)
}

#[test]
fn e27_of_crawlers_that_no_list_names_95_percent_are_found_and_of_unseen_browsers_half_a_percent_at_most() {
    let unseen: Vec<&str> = crawlers().filter(|(crawler, _)| is_judge(crawler)).map(|(_, agent)| agent).collect();
    assert!(unseen.len() > 900, "{}", unseen.len());
    let (by_rules, missed) = found(&rules(), &unseen);
    println!("crawlers, by rules alone: {:.2} % of {}", 100.0 * by_rules, unseen.len());
    assert!(by_rules >= 0.95, "{by_rules}: {missed:#?}");

    let browsers: Vec<&str> = BROWSERS.lines().filter(|agent| is_judge(agent)).collect();
    assert!(browsers.len() > 400, "{}", browsers.len());
    let list = Bots::built_in().unwrap();
    let (flagged, _) = found(&list, &browsers);
    println!("browsers: {:.2} % of {}", 100.0 * flagged, browsers.len());
    let wrong: Vec<&&str> = browsers.iter().filter(|agent| list.matches(agent.as_bytes())).collect();
    assert!(flagged <= 0.005, "{wrong:#?}");

    // Not unseen, and no promise: what the list adds to the rules.
    let all: Vec<&str> = crawlers().map(|(_, agent)| agent).collect();
    let (with_names, missed) = found(&list, &all);
    println!("crawlers, with the list: {:.2} % of {}", 100.0 * with_names, all.len());
    assert!(with_names >= by_rules, "{missed:#?}");
}

/// The mistake that the split guards against would be silent: a fixture that lost its headings has one half alone.
#[test]
fn the_halves_of_the_collections_are_halves() {
    let (crawlers, browsers): (Vec<_>, Vec<_>) = (crawlers().collect(), BROWSERS.lines().collect());
    for judged in [
        crawlers.iter().filter(|(crawler, _)| is_judge(crawler)).count() as f64 / crawlers.len() as f64,
        browsers.iter().filter(|agent| is_judge(agent)).count() as f64 / browsers.len() as f64,
    ] {
        assert!((0.4..0.6).contains(&judged), "{judged}");
    }
}

fn table(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn e27_named_browsers_and_browsers_inside_of_apps_are_no_bots() {
    let (list, rules) = (Bots::built_in().unwrap(), rules());
    for agent in table(include_str!("../../tests/fixtures/agents/visitors.txt")) {
        assert!(!list.matches(agent.as_bytes()) && !rules.matches(agent.as_bytes()), "{agent}");
    }
}

#[test]
fn e27_named_previews_scanners_crawlers_and_watchers_are_bots() {
    let list = Bots::built_in().unwrap();
    for agent in table(include_str!("../../tests/fixtures/agents/bots.txt")) {
        assert!(list.matches(agent.as_bytes()), "{agent}");
    }
}

/// Otherwise the short way would let somebody through whom the rules do not.
#[test]
fn the_short_way_and_the_long_way_agree() {
    let shape = Shape::build().unwrap();
    let visitors = table(include_str!("../../tests/fixtures/agents/visitors.txt"));
    for agent in BROWSERS.lines().chain(visitors).chain(crawlers().map(|(_, agent)| agent)) {
        // Only the long way is open to what begins otherwise, and it asks for no beginning of these.
        if agent.starts_with("Mozilla/5.0 (") {
            assert_eq!(shape.is_browser(agent.as_bytes()), shape.is_browser(format!(" {agent}").as_bytes()), "{agent}");
        }
    }
}

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

fn matches(list: &str, tail: &str) -> bool {
    Bots::parse(list).unwrap().matches(format!("{BROWSER} {tail}").as_bytes())
}

#[test]
fn e27_a_list_names_bots_anywhere_at_the_start_and_by_exception() {
    assert!(matches("ACME\n", "acme/1"));
    assert!(!matches("acme\n", "other/1"));
    assert!(!matches("^acme\n", "acme/1"));
    assert!(matches("^mozilla/5.0 (x11\n", "other/1"));
    // An exception covers the name inside of it, and nothing else of the agent.
    assert!(!matches("acme\n!acmephone\n", "AcmePhone/1"));
    assert!(matches("acme\n!acmephone\n", "AcmePhone/1 acme"));
    assert!(!matches("nobody\n!site checker\n", "Site Checker/1"));
    assert!(matches("nobody\n", "site checker/1"));
    // It also lets an app through that looks like no browser, unless a name or a word is in it.
    let app = |list: &str, agent: &str| Bots::parse(list).unwrap().matches(agent.as_bytes());
    assert!(app("nobody\n", "OurApp/1") && !app("!OurApp/\n", "OurApp/1") && app("!OurApp/\n", "OurApp/1 somebot/1"));
    assert!(app("!OurApp/\n", "Robotic/1"), "exceptions of ours are for words alone");
    // Words and rules hold with every list.
    for tail in
        ["somebot/1", "SomeBot", "some bot 1", "(https://acme.example)", "ops@acme.example", "(compatible; Some)"]
    {
        assert!(matches("nobody\n", tail), "{tail}");
    }
    for tail in ["CUBOT", "Cubot/1", "(Ecosia ios@9.2.3.1367)", "Abbott/1", "Turbotab/1"] {
        assert!(!matches("nobody\n", tail), "{tail}");
    }
}

#[test]
fn a_bad_list_is_told_with_its_line() {
    let long = "x".repeat(NAME_BYTES + 1);
    for wrong in ["^", "!", "a\u{1}b", &long] {
        let error = Bots::parse(&format!("# names\n\n{wrong}\n")).err().unwrap();
        assert_eq!(error.line(), 3, "{error}");
    }
    assert!(matches!(Bots::parse("# none\n").err(), Some(BadBots::Empty)));
    assert!(matches!(Bots::parse(&"name\n".repeat(MOST_NAMES + 1)).err(), Some(BadBots::TooMany)));
    // A long list is searched another way, with the same result.
    let many: String = (0..5_000).map(|number| format!("name-{number}\n")).collect();
    assert!(matches(&many, "name-4999"));
    assert!(!matches(&many, "name"));
}
