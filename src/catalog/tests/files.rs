//! Contract P19: a directory read as one, and links by the line.

use super::*;

const GOOD: &str = "{\"code\":\"a\",\"offer_id\":12,\"publisher_id\":34,\"url\":\"https://shop.example/x y\"}\n\n\
    {\"publisher_id\":34,\"offer_id\":12,\"code\":\"b\"}\n";

fn with_links(links: impl AsRef<[u8]>) -> Home {
    let home = Home::with(&format!("links_file = \"links.ndjson\"\n{EXAMPLE}"));
    home.write("links.ndjson", links);
    home
}

#[test]
fn p19_a_directory_is_read_as_one_in_name_order() {
    let home = Home(tempfile::tempdir().unwrap());
    let (first, rest) = EXAMPLE.split_at(EXAMPLE.find("[[publishers]]").unwrap());
    home.write("demo-shop.signing", "x");
    home.write("10-shop.toml", rest);
    home.write("20-offers.toml", format!("links_file = \"links.ndjson\"\n{first}"));
    home.write("notes.txt", "not read");
    home.write(".30-hidden.toml", "neither is this");
    std::fs::create_dir(home.path("40-directory.toml")).unwrap();
    home.write("links.ndjson", GOOD);
    assert_eq!(loaded(home.load("")).snapshot.links.len(), 3);

    home.write("50-more.toml", "[[publishers]]\nid = 34\nstatus = \"pending\"\n");
    let said = violations(home.load(""));
    assert_eq!(said, "50-more.toml:2: publishers.id: 34 stands twice, once is allowed");

    let empty = Home(tempfile::tempdir().unwrap());
    assert!(violations(empty.load("")).contains("the directory holds no *.toml"));
}

#[test]
fn p19_links_files_hold_a_link_a_line() {
    let links = loaded(with_links(GOOD).load("catalog.toml")).snapshot.links;
    assert_eq!(links.find(b"a").unwrap().url, Some("https://shop.example/x%20y"));
    assert_eq!(links.find(b"b").unwrap().url, None);
    // The last line needs no end, and a line may end as on other systems.
    let links = loaded(with_links(GOOD.trim_end().replace('\n', "\r\n")).load("catalog.toml")).snapshot.links;
    assert_eq!(links.len(), 3);
}

#[test]
fn p19_the_key_may_stand_where_the_example_shows_it() {
    let text = EXAMPLE.replace("# links_file", "links_file");
    assert!(text.ends_with("links_file = \"links.ndjson\"\n"));
    let home = Home::with(&text);
    home.write("links.ndjson", GOOD);
    assert_eq!(loaded(home.load("catalog.toml")).snapshot.links.len(), 3);
}

#[test]
fn p3_every_wrong_line_is_named() {
    let lines = [
        r#"{"code":"a","offer_id":12,"publisher_id":34}"#,
        r#"{"code":"phone","offer_id":12,"publisher_id":34}"#,
        r#"{"code":"c","offer_id":1,"publisher_id":34}"#,
        r#"{"code":"d","offer_id":12,"publisher_id":1}"#,
        r#"{"code":"e","offer_id":4294967296,"publisher_id":34}"#,
        r#"{"code":"f","offer_id":12,"publisher_id":34,"url":"https://other.example/"}"#,
        r#"{"code":"api","offer_id":12,"publisher_id":34}"#,
        r#"{"code":"g","offer_id":12,"publisher_id":34,"colour":1}"#,
        r#"{"code":"h","offer_id":12}"#,
        r#"{"code":"#,
        "\u{feff}",
    ];
    let said = violations(with_links(format!("{GOOD}{}\n", lines.join("\n"))).load("catalog.toml"));
    let expected = [
        "links.ndjson:4: code: \"a\": this code stands twice",
        "links.ndjson:5: code: \"phone\": this code stands twice",
        "links.ndjson:6: offer_id: no offer 1",
        "links.ndjson:7: publisher_id: no publisher 1",
        "links.ndjson:8: offer_id: 4294967296, a whole number from 1 to 4294967295",
        "links.ndjson:9: url: \"https://other.example/\": ",
        "links.ndjson:10: code: \"api\" is a path of the edge's own",
        "links.ndjson:11: colour: unknown key, allowed here: code, offer_id, publisher_id, url",
        "links.ndjson:12: publisher_id: missing, it is required",
        "links.ndjson:13: not a link: EOF",
        "links.ndjson:14: not a link: expected value",
    ];
    assert_eq!(said.lines().count(), expected.len(), "{said}");
    for (line, expected) in said.lines().zip(expected) {
        assert!(line.starts_with(expected), "{line}\nshould start\n{expected}");
    }
}

#[test]
fn p3_everything_that_is_wrong_with_a_line_is_told_in_our_words() {
    let lines = [
        r#"["arr",12,34,null]"#,
        r#"{"code":"click","offer_id":99,"publisher_id":98,"url":"https://shop.example/"}"#,
        r#"{"code":5,"offer_id":"a","zz":1}"#,
        r#"{"code":"u","offer_id":12,"publisher_id":34,"url":5}"#,
        r#"{"code":"v","offer_id":-1,"publisher_id":0,"code":"w"}"#,
        r#"{"code":"x","offer_id":1.5,"publisher_id":34,"url":null}"#,
        r#"{"code":"x","offer_id":12,"publisher_id":34}"#,
        "7",
    ];
    let said = violations(with_links(lines.join("\n")).load("catalog.toml"));
    let whole = "a whole number from 1 to 4294967295 is allowed";
    let object = "an object is allowed: {\"code\":\"x\",\"offer_id\":1,\"publisher_id\":1,\"url\":\"https://…\"}";
    let expected = [
        format!("1: a list, {object}"),
        "2: code: \"click\" is a path of the edge's own; another code is allowed".into(),
        "2: offer_id: no offer 99, one of the catalog is allowed".into(),
        "2: publisher_id: no publisher 98, one of the catalog is allowed".into(),
        "3: zz: unknown key, allowed here: code, offer_id, publisher_id, url".into(),
        "3: code: a number, a string is allowed".into(),
        format!("3: offer_id: a string, {whole}"),
        "3: publisher_id: missing, it is required".into(),
        "4: url: a number, a string is allowed".into(),
        "5: code: stands twice, once is allowed".into(),
        format!("5: offer_id: -1, {whole}"),
        format!("5: publisher_id: 0, {whole}"),
        format!("6: offer_id: 1.5, {whole}"),
        "7: code: \"x\": this code stands twice, once is allowed".into(),
        format!("8: a number, {object}"),
    ];
    let expected: Vec<String> = expected.iter().map(|line| format!("links.ndjson:{line}")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn lines_keep_their_numbers_across_blocks() {
    // More than a block and a round of them.
    let line = |number: usize| format!("{{\"code\":\"c{number}\",\"offer_id\":12,\"publisher_id\":34}}\n");
    let mut text = String::new();
    let count = 400_000;
    (0..count).for_each(|number| text.push_str(&line(number)));
    assert!(text.len() > 16 << 20);
    let home = with_links(&text);
    let links = loaded(home.load("catalog.toml")).snapshot.links;
    assert_eq!(links.len(), count + 1);
    assert!((0..count).all(|number| links.find(format!("c{number}").as_bytes()).is_some()));
    text.push_str(&line(7));
    text.push_str("nonsense");
    home.write("links.ndjson", &text);
    let said = violations(home.load("catalog.toml"));
    let expected = format!(
        "links.ndjson:{}: code: \"c7\": this code stands twice, once is allowed\nlinks.ndjson:{}: not a link: ",
        count + 1,
        count + 2
    );
    assert!(said.starts_with(&expected), "{said}");
}

#[test]
fn a_file_of_rubbish_is_refused_within_bounds() {
    let said = violations(with_links("x\n".repeat(100_000)).load("catalog.toml"));
    assert_eq!(said.lines().filter(|line| line.starts_with("links.ndjson:")).count(), 100, "{said}");
    let said = violations(with_links("x".repeat(9 << 20)).load("catalog.toml"));
    assert!(said.starts_with("links.ndjson:1: over 65536 bytes"), "{said}");
    let said = violations(with_links([0xff, 0xfe, b'\n']).load("catalog.toml"));
    assert!(said.starts_with("links.ndjson:1: not a link"), "{said}");
    let home = Home::with(&format!("links_file = \"none\"\n{EXAMPLE}"));
    assert!(violations(home.load("catalog.toml")).starts_with("catalog.toml:1: links_file: none: "));
}
