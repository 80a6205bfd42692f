//! What must not have happened, by name; of many the first.

const MOST: usize = 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    named: Vec<String>,
    more: u64,
}

impl Problems {
    pub fn push(&mut self, problem: String) {
        if self.named.len() < MOST { self.named.push(problem) } else { self.more += 1 }
    }

    pub fn add(&mut self, other: Problems) {
        other.named.into_iter().for_each(|problem| self.push(problem));
        self.more += other.more;
    }

    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    pub fn into_lines(self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.named.into_iter().chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_named_and_all_are_counted() {
        let mut problems = Problems::default();
        (0..23).for_each(|number| problems.push(number.to_string()));
        let mut all = Problems::default();
        all.add(problems);
        let lines = all.into_lines();
        assert_eq!((lines.len(), lines[20].as_str()), (21, "and 3 more"));
    }
}
