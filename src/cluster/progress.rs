//! How far a query is, stage by stage: what the scheduler says with each answer about one, and whoever asked shows.

use std::fmt::Write;

/// The header of the scheduler's answers.
pub(super) const STAGES: &str = "x-stages";

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

impl Stage {
    /// Stages as a header has them.
    pub(super) fn said(stages: &[Self]) -> String {
        stages.iter().fold(String::new(), |mut said, Self { number, tasks, running, done }| {
            let _ = write!(said, "{number}:{done}+{running}/{tasks} ");
            said
        })
    }

    /// Stages out of a header; what it does not say right is left out.
    pub(super) fn read(said: &str) -> Vec<Self> {
        let stage = |word: &str| {
            let (number, rest) = word.split_once(':')?;
            let (given, tasks) = rest.split_once('/')?;
            let (done, running) = given.split_once('+')?;
            let [number, tasks, running, done] = [number, tasks, running, done].map(|number| number.parse().ok());
            Some(Self { number: number?, tasks: tasks?, running: running?, done: done? })
        };
        said.split(' ').filter_map(stage).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_stages_is_what_is_read() {
        let stages =
            [Stage { number: 1, tasks: 16, running: 2, done: 14 }, Stage { number: 2, tasks: 4, running: 0, done: 0 }];
        assert_eq!(Stage::read(&Stage::said(&stages)), stages);
        assert_eq!(Stage::read("1:2/3 nothing 4:0+1/2"), [Stage { number: 4, tasks: 2, running: 1, done: 0 }]);
    }
}
