//! Words of 64 bits that differ in few of them, found without comparing each with each.

/// Bits by which words may differ and still be looked up; beyond, parts are so short that most words share one.
pub const MOST_BITS: u32 = 10;

/// Words, to be asked which of them is nearest to another.
///
/// Cut into `distance + 1` parts, two words that differ in at most `distance` bits have one part in common (Manku, Jain, Das Sarma:
/// *Detecting Near-Duplicates for Web Crawling*, WWW 2007): only the words that share a part are compared.
#[derive(Debug)]
pub struct NearWords {
    distance: u32,
    words: Vec<u64>,
    /// Of each part: where it begins, its mask, and by its value the words that have it.
    parts: Vec<(u32, u64, Vec<Vec<u32>>)>,
}

impl NearWords {
    /// None yet; those that differ in at most `distance` bits will be found, 0 to [`MOST_BITS`]: more are taken for that.
    pub fn new(distance: u32) -> Self {
        let distance = distance.min(MOST_BITS);
        let count = distance + 1;
        let part = |at: u32| {
            let (from, to) = (64 * at / count, 64 * (at + 1) / count);
            // a part of 64 or 32 bits is a table too large: its lower 16 bits find the same words, and some more
            let bits = (to - from).min(16);
            (from, (1 << bits) - 1, vec![Vec::new(); 1 << bits])
        };
        Self { distance, words: Vec::new(), parts: (0..count).map(part).collect() }
    }

    /// Add one. Its place is how many there were.
    pub fn add(&mut self, word: u64) {
        let place = self.words.len() as u32;
        self.words.push(word);
        for (from, mask, table) in &mut self.parts {
            table[(word >> *from & *mask) as usize].push(place);
        }
    }

    /// The place of the nearest, the first added of several as near, and by how many bits it differs; none where all differ by more.
    pub fn nearest(&self, word: u64) -> Option<(usize, u32)> {
        let of_part = |(from, mask, table): &'_ (u32, u64, Vec<Vec<u32>>)| {
            let same = table[(word >> from & mask) as usize].iter();
            same.map(|&place| ((self.words[place as usize] ^ word).count_ones(), place)).min()
        };
        let (bits, place) = self.parts.iter().filter_map(of_part).min()?;
        (bits <= self.distance).then_some((place as usize, bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::sampling::mixed;

    #[test]
    fn the_nearest_are_those_of_comparing_all() {
        let word = |at: u64| mixed(at, 7);
        for distance in 0..=MOST_BITS {
            let mut near = NearWords::new(distance);
            let mut words: Vec<u64> = (0..300).map(word).collect();
            // and some that differ from those in 0 to 13 bits, wherever these are
            for at in 0..280u64 {
                let flips = (0..at % 14).fold(0u64, |flips, bit| flips | 1 << (mixed(at * 20 + bit, 3) % 64));
                words.push(words[at as usize] ^ flips);
            }
            words[250..].iter().for_each(|&word| near.add(word));
            let mut found = 0;
            for &asked in &words[..250] {
                let slow = words[250..].iter().map(|&word| (word ^ asked).count_ones());
                let slow =
                    slow.enumerate().map(|(place, bits)| (bits, place)).min().filter(|(bits, _)| *bits <= distance);
                assert_eq!(near.nearest(asked), slow.map(|(bits, place)| (place, bits)), "{distance} bits");
                found += usize::from(slow.is_some());
            }
            assert!(found >= 15, "{found} of 250 at {distance} bits");
        }
    }
}
