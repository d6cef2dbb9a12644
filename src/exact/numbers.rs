//! Which row: by where it lies, or by the number that the caller knows it by.

/// The number of a row: how many were given before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct RowNumber(pub u32);

/// Where a row lies in a bank: how many lie before it, cell by cell, and in a cell by radius.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub(crate) struct Position(pub(crate) u32);

impl RowNumber {
    /// Where a row was taken out.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

impl Position {
    /// Of a row that is not there.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn new(position: usize) -> Self {
        Self(position as u32)
    }

    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}
