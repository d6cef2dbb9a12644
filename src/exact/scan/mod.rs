//! One cell and the queries that visit it: candidates by low-precision products, then exact distances.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod matrix;

use crate::best::Best;
use crate::layout::Exact;
use crate::path::Path;
use crate::queries::Queries;
use crate::work::Work;

/// Show the rows of a cell to its visitors: (query, squared distance to the cell's centroid).
pub(crate) fn scan(
    bank: &Exact,
    cell: usize,
    visitors: &[(u32, f32)],
    queries: &Queries<'_>,
    bests: &mut [Best],
    work: &mut Work,
) {
    match bank.path {
        // SAFETY: a path is only used where the processor has its features.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Vnni => unsafe { avx512::scan(bank, cell, visitors, queries, bests, work) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { matrix::scan_avx2(bank, cell, visitors, queries, bests, work) },
        _ => matrix::scan(bank, cell, visitors, queries, bests, work),
    }
}
