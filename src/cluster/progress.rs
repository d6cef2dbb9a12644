//! How far a query is, stage by stage: what the scheduler says with each answer about one, and whoever asked shows.

use std::fmt::Write;

/// The header of the scheduler's answers.
pub(super) const PROGRESS: &str = "x-progress";
/// What the word of a silent executor begins with.
const SILENT: char = '!';

/// How far a query is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// In the order in which they run.
    pub stages: Vec<Stage>,
    /// Executors that should have asked for work, by address, and for how many seconds they have not: one that is dead is
    /// missed so.
    pub silent: Vec<(String, u64)>,
}

/// How far a stage of a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// From 1.
    pub number: u64,
    /// Tasks that it is divided into.
    pub tasks: u64,
    /// Tasks that executors have at the moment.
    pub running: u64,
    /// Tasks that are done.
    pub done: u64,
}

impl Progress {
    /// As a header has it: a word for each stage, and one for each silent executor.
    pub(super) fn said(&self) -> String {
        let mut said = String::new();
        for Stage { number, tasks, running, done } in &self.stages {
            let _ = write!(said, "{number}:{done}+{running}/{tasks} ");
        }
        for (address, seconds) in &self.silent {
            let _ = write!(said, "{SILENT}{seconds}@{address} ");
        }
        said
    }

    /// Out of a header; what it does not say right is left out.
    pub(super) fn read(said: &str) -> Self {
        let stage = |word: &str| {
            let (number, rest) = word.split_once(':')?;
            let (given, tasks) = rest.split_once('/')?;
            let (done, running) = given.split_once('+')?;
            let [number, tasks, running, done] = [number, tasks, running, done].map(|number| number.parse().ok());
            Some(Stage { number: number?, tasks: tasks?, running: running?, done: done? })
        };
        let silent = |word: &str| {
            let (seconds, address) = word.strip_prefix(SILENT)?.split_once('@')?;
            Some((address.to_owned(), seconds.parse().ok()?))
        };
        let words = || said.split(' ');
        Self { stages: words().filter_map(stage).collect(), silent: words().filter_map(silent).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_query_is_what_is_read() {
        let stages = vec![
            Stage { number: 1, tasks: 16, running: 2, done: 14 },
            Stage { number: 2, tasks: 4, running: 0, done: 0 },
        ];
        let progress = Progress { stages, silent: vec![("[::1]:5051".to_owned(), 8), ("a.b:1".to_owned(), 12)] };
        assert_eq!(Progress::read(&progress.said()), progress);
        let right = Progress { stages: vec![Stage { number: 4, tasks: 2, running: 1, done: 0 }], silent: Vec::new() };
        assert_eq!(Progress::read("1:2/3 nothing 4:0+1/2 !x@y !7"), right);
    }
}
