//! Which rows a search may find.

/// A set of rows, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    rows: usize,
}

impl Bitmap {
    /// None of so many rows.
    pub fn new(rows: usize) -> Self {
        Self { words: vec![0; rows.div_ceil(64)], rows }
    }

    /// The rows for which `allows` says so, of so many.
    pub fn of(rows: usize, mut allows: impl FnMut(usize) -> bool) -> Self {
        let mut bitmap = Self::new(rows);
        (0..rows).filter(|&row| allows(row)).for_each(|row| bitmap.words[row / 64] |= 1 << (row % 64));
        bitmap
    }

    /// Add a row; says whether there is such a row.
    pub fn insert(&mut self, row: usize) -> bool {
        let is_there = row < self.rows;
        if is_there {
            self.words[row / 64] |= 1 << (row % 64);
        }
        is_there
    }

    /// Whether a row is in it.
    #[inline(always)]
    pub fn contains(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// For how many rows it was made.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many rows are in it.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }
}
