//! How long the stages of a command take, as a table.

use std::time::{Duration, Instant};

use super::table;

/// One line of the table.
struct Stage {
    name: String,
    time: Duration,
    /// Images that went through it; 0 where that says nothing.
    images: usize,
}

/// Seconds and images per second of each stage, in the order in which they were added.
#[derive(Default)]
pub(super) struct Stages(Vec<Stage>);

impl Stages {
    /// A stage that began at `start` and ends now.
    pub(super) fn add(&mut self, name: &str, start: Instant, images: usize) {
        self.add_busy(name, start.elapsed(), images);
    }

    /// A stage whose time was measured elsewhere, such as one that is summed over threads.
    pub(super) fn add_busy(&mut self, name: &str, time: Duration, images: usize) {
        self.0.push(Stage { name: name.into(), time, images });
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let row = |Stage { name, time, images }: &Stage| {
            let seconds = time.as_secs_f64();
            let (count, rate) = match images {
                0 => (String::new(), String::new()),
                images => (images.to_string(), format!("{:.0}", *images as f64 / seconds)),
            };
            vec![name.clone(), format!("{seconds:.2}"), count, rate]
        };
        let rows: Vec<Vec<String>> = self.0.iter().map(row).collect();
        table::render(&["stage", "seconds", "images", "images/s"], &rows, &[1, 2, 3])
    }
}
