//! `config/afflux.toml`: every key with its default, made from the types.

use super::keys::SECTIONS;

const HEAD: &str = "\
# Every key of Afflux with its default. Made from src/config/keys.rs; a test holds it equal.
# Relative paths start at this file. AFFLUX__SECTION__KEY in the environment sets any key: AFFLUX__SPOOL__KEEP_DAYS=30.
";

pub fn render() -> String {
    let mut text = HEAD.to_owned();
    for section in SECTIONS {
        text.push('\n');
        comment(&mut text, section.doc);
        text.push_str(&format!("[{}]\n", section.name));
        for key in section.keys {
            comment(&mut text, key.doc);
            match key.default {
                Some(default) => text.push_str(&format!("{} = {default}\n", key.key)),
                None => text.push_str(&format!("# {} = {}\n", key.key, key.example)),
            }
        }
    }
    text
}

fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("#{line}\n"));
    }
}
