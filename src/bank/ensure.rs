//! A bank that is there as it is asked for.

use super::{BankSpec, Definition, create, drop_bank, list};
use crate::error::Result;
use crate::store::Store;

/// The bank of that name where it has the same backbone, predicate, k and sampling; otherwise it is dropped, and made of the
/// current version of `images`.
///
/// Errors: those of [`create`].
pub async fn ensure(store: &Store, spec: &BankSpec) -> Result<Definition> {
    if let Some(there) = list(store).await?.into_iter().find(|bank| bank.name == spec.name) {
        let same = (&there.backbone, &there.predicate, there.k, there.alpha, there.seed)
            == (&spec.backbone, &spec.predicate, spec.k, spec.alpha, spec.seed);
        if same {
            return Ok(there);
        }
        drop_bank(store, &spec.name).await?;
    }
    create(store, spec).await
}
