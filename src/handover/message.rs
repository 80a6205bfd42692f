//! What is said. Lines of words, each read strictly: between two versions of the program nothing may be guessed.

use super::DoorName;

/// Changed when an old process would misunderstand a new one. It is the first thing said.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// By the new process.
    Hello { version: u32, role: String },
    /// So many sockets come with it.
    Sockets { door: DoorName, count: usize },
    /// There are no more; so many were sent.
    All { count: usize },
    /// By the new process: it answers.
    Ready,
    /// The old one has stopped accepting, or is about to.
    Draining,
    /// Nothing is handed over.
    Refused { why: String },
}

impl Message {
    pub fn text(&self) -> String {
        match self {
            Message::Hello { version, role } => format!("afflux takeover {version} {role}"),
            Message::Sockets { door, count } => format!("sockets {} {count}", door.word()),
            Message::All { count } => format!("all {count}"),
            Message::Ready => "ready".to_owned(),
            Message::Draining => "draining".to_owned(),
            Message::Refused { why } => format!("refused {why}"),
        }
    }

    pub fn parse(text: &str) -> Option<Message> {
        if let Some(why) = text.strip_prefix("refused ") {
            return Some(Message::Refused { why: why.chars().filter(|letter| !letter.is_control()).collect() });
        }
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            ["afflux", "takeover", version, role] => {
                Some(Message::Hello { version: number(version)?, role: role.to_owned() })
            }
            ["sockets", door, count] => {
                Some(Message::Sockets { door: DoorName::parse(door)?, count: count_of(count)? })
            }
            ["all", count] => Some(Message::All { count: count_of(count)? }),
            ["ready"] => Some(Message::Ready),
            ["draining"] => Some(Message::Draining),
            _ => None,
        }
    }
}

/// Digits alone.
fn number(word: &str) -> Option<u32> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}

fn count_of(word: &str) -> Option<usize> {
    number(word).and_then(|count| usize::try_from(count).ok())
}
