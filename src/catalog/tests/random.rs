//! A catalog with anything in it: accepted or refused with a place, never a panic.

use proptest::prelude::*;

use super::*;

/// What a slip of the hand or a script may leave.
const SCRAPS: [&str; 20] = [
    "",
    "\"",
    "\"\"",
    "-1",
    "0",
    "1.5",
    "99999999999999999999",
    "true",
    "[]",
    "{}",
    "[[",
    "]]",
    "=",
    "\n",
    "# ",
    "\u{0}",
    "\u{feff}",
    "1979-05-27T07:32:00Z",
    "\"{click_id}%zz//\\\\@:é\"",
    "\"100.00001%\"",
];

#[derive(Clone, Debug)]
enum Edit {
    Remove(usize),
    Repeat(usize, usize),
    /// Replaces the part behind the first `=` of a line.
    Value(usize, usize),
    /// Puts a scrap somewhere into the text.
    Insert(usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let (line, scrap) = (0..EXAMPLE.lines().count(), 0..SCRAPS.len());
    let edit = prop_oneof![
        line.clone().prop_map(Edit::Remove),
        (line.clone(), line.clone()).prop_map(|(from, to)| Edit::Repeat(from, to)),
        (line, scrap.clone()).prop_map(|(line, scrap)| Edit::Value(line, scrap)),
        (0..EXAMPLE.len(), scrap).prop_map(|(at, scrap)| Edit::Insert(at, scrap)),
    ];
    proptest::collection::vec(edit, 1..6)
}

fn edited(edits: &[Edit]) -> String {
    let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
    for edit in edits {
        match *edit {
            Edit::Remove(line) => lines[line].clear(),
            Edit::Repeat(from, to) => lines[to] = format!("{}\n{}", lines[to], lines[from]),
            Edit::Value(line, scrap) => {
                if let Some((key, _)) = lines[line].clone().split_once('=') {
                    lines[line] = format!("{key}= {}", SCRAPS[scrap]);
                }
            }
            Edit::Insert(..) => {}
        }
    }
    let mut text = lines.join("\n");
    for edit in edits {
        if let Edit::Insert(at, scrap) = *edit {
            let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.insert_str(at, SCRAPS[scrap]);
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_edited_catalog_panics(edits in edits()) {
        if let Err(said) = load_text(&edited(&edits)) {
            for line in said.lines() {
                let place = line.strip_prefix("catalog.toml:").and_then(|rest| rest.split_once(": "));
                let number = place.and_then(|(number, _)| number.parse::<usize>().ok());
                prop_assert!(number.is_some_and(|number| number >= 1), "no place: {said}");
            }
        }
    }
}
