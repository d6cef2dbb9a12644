//! `nnguide_score(embedding, logits, bank [, k])`: the classifier's energy, guided by neighbours.

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::{DataType, Field};
use datafusion_macros::user_doc;

use super::arguments::Parameter;
use super::bank_function::{BankFunction, Compute};
use super::query_vectors::QueryVectors;
use crate::error::Error;
use crate::statistics::guidance::Guide;

#[user_doc(
    doc_section(label = "Baselines"),
    description = "DOUBLE, larger is more OOD: −LSE(logits) · mean of the k largest of LSE(logits_i) · ⟨z, z_i⟩ over the bank's images i, where LSE is log Σ exp and z are L2-normalised embeddings: a classifier that is sure where no image of the bank is near is not believed. Park, Jung, Teoh: *Nearest Neighbor Guidance for Out-of-Distribution Detection*, ICCV 2023, whose score is the negative of it. Every image of the bank must have logits. They are read when the first row asks, and each row is compared with all of them: in n · d steps, exactly, on the processor.",
    syntax_example = "nnguide_score(embedding, logits, bank [, k])",
    sql_example = "```sql
SELECT auroc(nnguide_score(my_net, my_net_logits, 'shop', 100), dataset = 'ood') FROM images WHERE split = 'test';
```",
    argument(name = "embedding", description = "As for `knn_ood_score`."),
    argument(
        name = "logits",
        description = "The same image's, as for `msp_score`, of the backbone that the bank is of, as many as its images have. NULL gives NULL."
    ),
    argument(name = "bank", description = "As for `knn_ood_score`; it need not be calibrated."),
    argument(
        name = "k",
        description = "As for `knn_ood_score`. The paper takes 100, or 10 where the bank is 1 % of the images."
    )
)]
struct NnguideScore;

pub(super) static FUNCTION: BankFunction = BankFunction {
    name: "nnguide_score",
    parameters: &[Parameter::Embedding, Parameter::Logits, Parameter::Bank, Parameter::K],
    documentation: || NnguideScore.doc(),
    plan: |_| Ok(Field::new(FUNCTION.name, DataType::Float64, true)),
    compute: Compute::Column(|call, queries, options| {
        let guide = call.guide(options)?;
        if let Some(&found) = queries.classes().iter().find(|&&found| found != guide.classes()) {
            let (bank, expected) = (call.bank.name.clone(), guide.classes());
            return Err(Error::WrongClasses { found, bank, expected }.into());
        }
        let found = nnguide_score(&guide, queries, call.k);
        Ok(Arc::new(queries.scatter(found).collect::<Float64Array>()))
    }),
};

/// The negative energy of each query times its guidance; `None` where its logits are NULL.
fn nnguide_score(guide: &Guide, queries: &QueryVectors, k: usize) -> Vec<Option<f64>> {
    let guidance = guide.mean_of_largest(queries.vectors(), k);
    queries.log_sum_exps().iter().zip(guidance).map(|(energy, guidance)| Some(-(*energy)? * guidance)).collect()
}
