//! The spools themselves, read by `afflux spool cat`: names the very clicks that were answered and are not there, or twice.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::click_id::{ClickId, LENGTH};
use crate::problems::Problems;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub clicks: u64,
    /// Answered, and not there.
    pub lost: u64,
}

/// Reads what the command prints. `ids` are those that were answered.
pub fn check(mut command: Command, ids: Vec<ClickId>, problems: &mut Problems) -> anyhow::Result<Found> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("afflux spool cat")?;
    let output = child.stdout.take().context("a pipe")?;
    let mut known = Known::new(ids, problems);
    let clicks = known.read(BufReader::with_capacity(1 << 20, output))?;
    let mut said = String::new();
    child.stderr.take().context("a pipe")?.read_to_string(&mut said)?;
    ensure!(child.wait()?.success(), "afflux spool cat: {said}");
    known.tell(problems);
    Ok(Found { clicks, lost: known.seen.iter().filter(|seen| **seen == 0).count() as u64 })
}

struct Known {
    /// Sorted, each once.
    ids: Vec<ClickId>,
    seen: Vec<u8>,
}

impl Known {
    fn new(mut ids: Vec<ClickId>, problems: &mut Problems) -> Known {
        ids.sort_unstable();
        ids.windows(2).filter(|pair| pair[0] == pair[1]).for_each(|pair| {
            problems.push(format!("click {}: two visitors were given this ID", pair[0]));
        });
        ids.dedup();
        let seen = vec![0; ids.len()];
        Known { ids, seen }
    }

    fn read(&mut self, mut lines: impl BufRead) -> std::io::Result<u64> {
        let (mut clicks, mut line) = (0, Vec::new());
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Some(id) = click_id(&line) {
                clicks += 1;
                if let Ok(index) = self.ids.binary_search(&id) {
                    self.seen[index] = self.seen[index].saturating_add(1);
                }
            }
            line.clear();
        }
        Ok(clicks)
    }

    fn tell(&self, problems: &mut Problems) {
        for (id, seen) in self.ids.iter().zip(&self.seen) {
            match seen {
                0 => problems.push(format!("click {id}: was answered, and no spool holds it")),
                1 => {}
                more => problems.push(format!("click {id}: was answered once, and spools hold it {more} times")),
            }
        }
    }
}

/// Of a line that is a click. What users sent has its quotes escaped, so it cannot look like a field.
fn click_id(line: &[u8]) -> Option<ClickId> {
    memchr::memmem::find(line, b"\"event\":\"click\"")?;
    let field = b"\"click_id\":\"";
    let at = memchr::memmem::find(line, field)? + field.len();
    ClickId::parse(line.get(at..at + LENGTH)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commission::tests::click;

    #[test]
    fn a_click_that_is_missing_or_twice_there_is_named() {
        let [one, two, three] = [click(1, 1, 1), click(2, 1, 1), click(3, 1, 1)];
        let line = |event: &str, id: ClickId| format!("{{\"schema\":1,\"event\":\"{event}\",\"click_id\":\"{id}\"}}\n");
        let text = [line("click", one), line("conversion", two), line("click", three), line("click", three)].concat();
        let mut problems = Problems::default();
        let mut known = Known::new(vec![three, one, two, one], &mut problems);
        assert_eq!(known.read(text.as_bytes()).unwrap(), 3);
        known.tell(&mut problems);
        let expected = [
            format!("click {one}: two visitors were given this ID"),
            format!("click {two}: was answered, and no spool holds it"),
            format!("click {three}: was answered once, and spools hold it 2 times"),
        ];
        assert_eq!(problems.into_lines(), expected);
    }

    #[test]
    fn a_command_that_fails_is_an_error() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo damage >&2; exit 1"]);
        let error = check(command, Vec::new(), &mut Problems::default()).unwrap_err();
        assert!(error.to_string().contains("damage"), "{error}");
    }
}
