//! The order index in Redis, where several edges share it, and the one thread that speaks to it.
//!
//! Marks are keys with a time to live. A claim is a key of 60 seconds with a token in it, so that who gives it up deletes
//! no claim but its own; one that dies with its process is over by then, and nobody waits that long for it.

use std::time::Duration;

use ::redis::{Cmd, Value};
use tokio::sync::{mpsc, oneshot};

use super::database::{KEEP_KEYS_DAYS, KEEP_ORDERS_DAYS, status_code, status_of_code, unpack};
use super::{KeyMark, Mark, MarkKey, Question};
use crate::redis::Link;

/// How long a question may take: less than the second that an asker waits, so that those behind it get their answer.
pub const TIMEOUT: Duration = Duration::from_millis(400);

/// Questions asked at once.
const BATCH: usize = 256;
const CLAIM_MS: i64 = 60_000;
const DAY_S: i64 = 86_400;

/// A claim is given up only by who holds it.
const RELEASE: &str = "for at = 1, #KEYS do
  if redis.call('GET', KEYS[at]) == ARGV[1] then
    redis.call('DEL', KEYS[at])
  end
end
return 0";

/// Takes the answers to a question's commands and sends what they say.
type Reply = Box<dyn FnOnce(&mut dyn Iterator<Item = Value>)>;

/// Answers until all askers are gone. What cannot be answered is dropped: the asker does without.
pub fn run(mut link: Link, mut questions: mpsc::Receiver<Question>) {
    while let Some(first) = questions.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = questions.try_recv()
        {
            batch.push(next);
        }
        answer(&mut link, batch);
    }
}

/// Runs of what reads and of what writes are asked apart, in their order: a Redis that is full still answers who reads.
fn answer(link: &mut Link, batch: Vec<Question>) {
    let mut rest = batch.into_iter().peekable();
    while let Some(writes) = rest.peek().map(Question::writes) {
        let (mut commands, mut replies) = (Vec::new(), Vec::new());
        while let Some(question) = rest.next_if(|question| question.writes() == writes) {
            replies.push(question.ask(&mut commands));
        }
        // Without answers the askers are dropped with their replies.
        let answers = if commands.is_empty() { Ok(Vec::new()) } else { link.ask(&commands) };
        let Ok(answers) = answers else { continue };
        let mut answers = answers.into_iter();
        replies.into_iter().for_each(|reply| reply(&mut answers));
    }
}

impl Question {
    fn writes(&self) -> bool {
        !matches!(self, Question::Look(..) | Question::LookKey(..))
    }

    /// Adds its commands; the reply takes as many answers. An asker that no longer waits is no error.
    fn ask(self, commands: &mut Vec<Cmd>) -> Reply {
        match self {
            Question::Look(keys, answer) => {
                let count = keys.len();
                commands.extend(keys.iter().map(|key| get(&mark_name(key))));
                Box::new(move |answers| drop(answer.send(answers.take(count).map(read_mark).collect())))
            }
            Question::Remember(marks, _, answer) => {
                let count = marks.len();
                let set = |(key, mark): &(MarkKey, Mark)| set(&mark_name(key), write_mark(mark), KEEP_ORDERS_DAYS);
                commands.extend(marks.iter().map(set));
                Box::new(move |answers| done(answer, answers, count))
            }
            Question::LookKey(key, answer) => {
                commands.push(get(&key_name(&key)));
                Box::new(move |answers| drop(answer.send(answers.next().and_then(read_key_mark))))
            }
            Question::RememberKey(key, mark, _, answer) => {
                commands.push(set(&key_name(&key), write_key_mark(&mark), KEEP_KEYS_DAYS));
                Box::new(move |answers| done(answer, answers, 1))
            }
            Question::Claim(keys, token, answer) => {
                let count = keys.len();
                commands.extend(keys.iter().map(|key| claim(key, &token)));
                Box::new(move |answers| {
                    // Nothing stood there, or ours: the question was sent twice.
                    let mut ours = |stood| match stood {
                        Value::BulkString(other) => other == token.as_bytes(),
                        _ => true,
                    };
                    drop(answer.send(answers.take(count).map(&mut ours).collect()));
                })
            }
            // Not done it is over by itself.
            Question::Release(keys, token) => {
                commands.push(release(&keys, &token));
                Box::new(|answers| drop(answers.next()))
            }
        }
    }
}

fn done(answer: oneshot::Sender<()>, answers: &mut dyn Iterator<Item = Value>, count: usize) {
    answers.take(count).for_each(drop);
    answer.send(()).unwrap_or(());
}

fn mark_name(key: &MarkKey) -> Vec<u8> {
    [b"o:m:", key.as_bytes()].concat()
}

fn key_name(key: &MarkKey) -> Vec<u8> {
    [b"o:k:", key.as_bytes()].concat()
}

fn claim_name(key: &MarkKey) -> Vec<u8> {
    [b"o:c:", key.as_bytes()].concat()
}

fn get(name: &[u8]) -> Cmd {
    let mut command = ::redis::cmd("GET");
    command.arg(name);
    command
}

fn set(name: &[u8], text: Vec<u8>, keep_days: i64) -> Cmd {
    let mut command = ::redis::cmd("SET");
    command.arg(name).arg(text).arg("EX").arg(keep_days * DAY_S);
    command
}

fn claim(key: &MarkKey, token: &str) -> Cmd {
    let mut command = ::redis::cmd("SET");
    command.arg(claim_name(key)).arg(token).arg("NX").arg("GET").arg("PX").arg(CLAIM_MS);
    command
}

/// As its text and not by its hash: a server that does not know the hash would have to be told in between.
fn release(keys: &[MarkKey], token: &str) -> Cmd {
    let mut command = ::redis::cmd("EVAL");
    command.arg(RELEASE).arg(keys.len());
    for key in keys {
        command.arg(claim_name(key));
    }
    command.arg(token);
    command
}

/// Status, how many hashes, the hashes, the conversion ID.
fn write_mark(mark: &Mark) -> Vec<u8> {
    let mut text = vec![mark.status.map_or(0, status_code) as u8, mark.hashes.len() as u8];
    text.extend(mark.hashes.iter().flat_map(|hash| hash.to_be_bytes()));
    text.extend_from_slice(mark.conversion_id.as_bytes());
    text
}

/// What cannot be read is none.
fn read_mark(answer: Value) -> Option<Mark> {
    let Value::BulkString(text) = answer else { return None };
    let ([status, count], rest) = text.split_first_chunk()?;
    let (hashes, conversion_id) = rest.split_at_checked(usize::from(*count) * 8)?;
    Some(Mark {
        hashes: unpack(hashes),
        conversion_id: String::from_utf8(conversion_id.to_vec()).ok()?,
        status: status_of_code(i64::from(*status)),
    })
}

/// What it came with, whether there is an answer, the answer.
fn write_key_mark(mark: &KeyMark) -> Vec<u8> {
    let answer = mark.answer.as_deref();
    [mark.about.as_bytes(), &[u8::from(answer.is_some())], answer.unwrap_or_default().as_bytes()].concat()
}

fn read_key_mark(answer: Value) -> Option<KeyMark> {
    let Value::BulkString(text) = answer else { return None };
    let (about, rest) = text.split_first_chunk()?;
    let (answered, answer) = rest.split_first()?;
    let answer = String::from_utf8(answer.to_vec()).ok()?;
    Some(KeyMark { about: MarkKey(*about), answer: (*answered == 1).then_some(answer) })
}
