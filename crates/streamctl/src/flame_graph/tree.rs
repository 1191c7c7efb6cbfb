//! Folded stacks, merged into a tree of functions.

use std::collections::BTreeMap;

/// A function in the place where it was called, and what it called.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// How often it, or what it called, was seen at work.
    pub samples: u64,
    /// What it called, by name.
    pub called: BTreeMap<String, Frame>,
}

impl Frame {
    /// Adds folded stacks: lines of frames from the outermost on, parted by `;`, a blank, and how often. With a base, that is below them
    /// all. A line that is none is left out.
    pub fn add(&mut self, folded: &str, base: Option<&str>) {
        for (stack, count) in folded.lines().filter_map(|line| line.rsplit_once(' ')) {
            let Ok(count) = count.parse::<u64>() else { continue };
            self.samples += count;
            let mut frame = &mut *self;
            for name in base.into_iter().chain(stack.split(';')) {
                frame = frame.called.entry(name.to_owned()).or_default();
                frame.samples += count;
            }
        }
    }

    /// How many frames are above each other, this one not counted.
    pub fn depth(&self) -> usize {
        self.called.values().map(|called| called.depth() + 1).max().unwrap_or(0)
    }

    /// The stacks, folded again.
    pub fn folded(&self) -> String {
        let mut lines = String::new();
        self.fold_into(&mut lines, &mut Vec::new());
        lines
    }

    fn fold_into<'a>(&'a self, lines: &mut String, above: &mut Vec<&'a str>) {
        let inside: u64 = self.called.values().map(|called| called.samples).sum();
        if self.samples > inside && !above.is_empty() {
            lines.push_str(&format!("{} {}\n", above.join(";"), self.samples - inside));
        }
        for (name, called) in &self.called {
            above.push(name);
            called.fold_into(lines, above);
            above.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_with_a_common_beginning_are_one_branch() {
        let mut all = Frame::default();
        all.add(
            "slot-0;turn;process 2\nslot-0;turn 3\nno stack\nslot-0;turn;emit 1\n",
            None,
        );
        assert_eq!((all.samples, all.depth()), (6, 3));
        let turn = &all.called["slot-0"].called["turn"];
        assert_eq!((turn.samples, turn.called["process"].samples), (6, 2));
        assert_eq!(
            all.folded(),
            "slot-0;turn 3\nslot-0;turn;emit 1\nslot-0;turn;process 2\n"
        );
    }

    #[test]
    fn workers_stay_apart_where_each_has_a_base() {
        let mut all = Frame::default();
        all.add("slot-0 2\n", Some("worker-1"));
        all.add("slot-0 1\n", Some("worker-2"));
        assert_eq!(all.folded(), "worker-1;slot-0 2\nworker-2;slot-0 1\n");
    }
}
