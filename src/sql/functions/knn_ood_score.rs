//! `knn_ood_score(embedding, bank [, k] [, id])`: distance to the k-th nearest embedding of a bank.

use arrow::datatypes::{DataType, Field};
use datafusion_macros::user_doc;

use super::arguments::OF_SCORE;
use super::bank_function::{BankFunction, Compute};
use super::query_vectors::QueryVectors;
use crate::bank::Bank;
use crate::error::Result;
use crate::index::{Kth, Question};

#[user_doc(
    doc_section(label = "Scores"),
    description = "FLOAT in [0, 2], larger is more OOD: Euclidean distance, between L2-normalised vectors, to the k-th nearest embedding of the bank. Sun, Ming, Zhu, Li: *Out-of-distribution Detection with Deep Nearest Neighbors*, ICML 2022, whose score is −r_k.",
    syntax_example = "knn_ood_score(embedding, bank [, k] [, id])",
    sql_example = "```sql
SELECT uri, knn_ood_score(resnet18_cifar10, 'cifar10') AS score
FROM images WHERE dataset = 'camera_7' ORDER BY score DESC LIMIT 20;
```",
    argument(
        name = "embedding",
        description = "A column of `images` named after its backbone, or any FLOAT[d] or list of d numbers."
    ),
    argument(
        name = "bank",
        description = "A literal: the bank's name, or name and version of `images`, such as 'cifar10@12'."
    ),
    argument(
        name = "k",
        description = "A literal whole number from 1 to the bank's size; the bank's own where it is left out."
    ),
    argument(
        name = "id",
        description = "A UINT64 such as `images.id`: the row's own entry in the bank is left out, as for scoring training data. Copies of the image under other ids stay in."
    )
)]
struct KnnOodScore;

pub(crate) static FUNCTION: BankFunction = BankFunction {
    name: "knn_ood_score",
    parameters: OF_SCORE,
    documentation: || KnnOodScore.doc(),
    plan: |_| Ok(Field::new(FUNCTION.name, DataType::Float32, true)),
    compute: Compute::Score(knn_ood_score),
};

/// The distance of each query to its k-th nearest row, Euclidean.
fn knn_ood_score(bank: &Bank, queries: &QueryVectors, k: usize) -> Result<Vec<Option<f32>>> {
    let found = bank.find(queries.vectors(), Question { own: queries.excluded(), ..Question::all(k) })?;
    Ok(found.kth.into_iter().map(|kth| if let Kth::At(distance) = kth { Some(distance) } else { None }).collect())
}
