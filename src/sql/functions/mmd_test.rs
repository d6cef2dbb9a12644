//! `mmd_test(embedding, group)`: do the embeddings of two groups of rows have one distribution?

use datafusion_macros::user_doc;
use outskirt_exact::Vectors;

use super::embedding_samples::{EmbeddingTest, Test};
use crate::statistics::discrepancy::discrepancy;

#[user_doc(
    doc_section(label = "Drift"),
    description = "STRUCT(mmd2 DOUBLE, pvalue DOUBLE, effect_size DOUBLE), an aggregate: the kernel two-sample test of L2-normalised embeddings. `mmd2` is the unbiased estimate of the squared maximum mean discrepancy, about 0 where nothing differs, for the kernel exp(−‖x − y‖² / 2σ²), σ the median distance of two rows; `pvalue` is the share of 1,000 ways to deal the rows to the groups (as they are, and 999 drawn with a fixed seed) with one as large; `effect_size`, in [0, 1], is the share of the rows' variance in the kernel's space that lies between the groups, its bias taken off and not below 0. Of a group with more than 1,000 rows a sample of 1,000 is compared, drawn with a fixed seed by the order in which rows come. Gretton, Borgwardt, Rasch, Schölkopf, Smola: *A Kernel Two-Sample Test*, JMLR 2012; for drift: Rabanser, Günnemann, Lipton: *Failing Loudly*, NeurIPS 2019. NULL where a group has fewer than two rows.",
    syntax_example = "mmd_test(embedding, group)",
    sql_example = "```sql
SELECT mmd_test(my_net, dataset = 'camera_7') FROM images WHERE dataset IN ('camera_7', 'camera_8');
```",
    argument(
        name = "embedding",
        description = "A column of `images` named after its backbone, or any FLOAT[d] or list of d numbers. Rows where it is NULL do not count."
    ),
    argument(name = "group", description = "As for `ks_test`.")
)]
struct MmdTest;

pub(super) static FUNCTION: EmbeddingTest = EmbeddingTest {
    name: "mmd_test",
    documentation: || MmdTest.doc(),
    most_rows: 1_000,
    test: Test::Three(["mmd2", "pvalue", "effect_size"], mmd_test),
};

fn mmd_test(one: Vectors<'_>, other: Vectors<'_>) -> Option<[f64; 3]> {
    discrepancy(one, other).map(|found| [found.mmd2, found.pvalue, found.effect_size])
}
