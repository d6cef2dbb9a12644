//! Which edges of the program an input reaches, where it was built with a counter at each (`make fuzz`, tests/guided.sh).
//! Elsewhere there are none, and the fuzz test mutates blindly.

use std::sync::Mutex;

/// Counters of this process, by first and last address. The pass calls once per object file, with all of a binary each time.
static RANGES: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

#[cfg(guided)]
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    let range = (start.expose_provenance(), end.expose_provenance());
    let mut ranges = RANGES.lock().unwrap();
    if !ranges.contains(&range) {
        ranges.push(range);
    }
}

/// Edges that inputs have reached so far, each with the magnitudes of how many times.
pub struct Reached {
    ranges: Vec<(usize, usize)>,
    /// By counter, a bit per magnitude.
    seen: Vec<u8>,
}

impl Reached {
    pub fn nothing() -> Self {
        let ranges = RANGES.lock().unwrap().clone();
        let all = ranges.iter().map(|(start, end)| end - start).sum();
        Self { ranges, seen: vec![0; all] }
    }

    /// Whether there are counters.
    pub fn is_guided(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Before an input.
    pub fn clear(&self) {
        for &(start, end) in &self.ranges {
            // SAFETY: the pass gave this range of counters, which are bytes and stay for as long as the process; what another
            // thread counts meanwhile may be lost, and nothing else rests on it.
            unsafe { std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(start), 0, end - start) }
        }
    }

    /// After it: whether it reached an edge that none did before, or one another number of times.
    pub fn is_new(&mut self) -> bool {
        let (mut first, mut is_new) = (0, false);
        for &(start, end) in &self.ranges {
            let mut counts = vec![0u8; end - start];
            // SAFETY: as above.
            unsafe {
                let from = std::ptr::with_exposed_provenance::<u8>(start);
                std::ptr::copy_nonoverlapping(from, counts.as_mut_ptr(), counts.len());
            }
            for (chunk, counts) in counts.chunks(64).enumerate() {
                // most are zero
                if *counts == [0; 64][..counts.len()] {
                    continue;
                }
                for (at, &count) in counts.iter().enumerate() {
                    let magnitude = match count {
                        0 => continue,
                        1..=3 => 1 << (count - 1),
                        4..=7 => 8,
                        8..=15 => 16,
                        16..=31 => 32,
                        32..=127 => 64,
                        _ => 128,
                    };
                    let seen = &mut self.seen[first + 64 * chunk + at];
                    is_new |= *seen & magnitude == 0;
                    *seen |= magnitude;
                }
            }
            first += end - start;
        }
        is_new
    }

    pub fn edges(&self) -> usize {
        self.seen.iter().filter(|&&seen| seen > 0).count()
    }
}
