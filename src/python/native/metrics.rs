//! `outskirt.metrics`: the library's, on arrays.

use outskirt::statistics::{intervals, metrics, thresholds};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use crate::arrays::{Numbers, bytes};

type Given<'py> = Bound<'py, PyAny>;

/// Of ID and OOD scores (larger is more OOD): what of `auroc`, `aupr_in`, `aupr_out` and `detection_error` is named.
#[pyfunction]
pub(crate) fn metric(py: Python<'_>, name: &str, id: Given<'_>, ood: Given<'_>) -> PyResult<Option<f64>> {
    let of = match name {
        "auroc" => metrics::auroc,
        "aupr_in" => metrics::aupr_in,
        "aupr_out" => metrics::aupr_out,
        _ => metrics::detection_error,
    };
    let (id, ood) = (Numbers::of(&id)?, Numbers::of(&ood)?);
    Ok(py.detach(|| of(id.values(), ood.values())))
}

#[pyfunction]
pub(crate) fn fpr_at_tpr(py: Python<'_>, id: Given<'_>, ood: Given<'_>, tpr: f64) -> PyResult<Option<f64>> {
    let (id, ood) = (Numbers::of(&id)?, Numbers::of(&ood)?);
    Ok(py.detach(|| metrics::fpr_at_tpr(id.values(), ood.values(), tpr)))
}

/// Between what AUROC lies, or the FPR at a TPR.
#[pyfunction]
pub(crate) fn interval(
    py: Python<'_>,
    id: Given<'_>,
    ood: Given<'_>,
    tpr: Option<f64>,
    confidence: f64,
) -> PyResult<Option<(f64, f64)>> {
    let (id, ood) = (Numbers::of(&id)?, Numbers::of(&ood)?);
    let found = py.detach(|| match tpr {
        Some(tpr) => intervals::fpr_interval(id.values(), ood.values(), tpr, confidence),
        None => intervals::auroc_interval(id.values(), ood.values(), confidence),
    });
    Ok(found.map(|found| (found.lower, found.upper)))
}

/// p-values of scores (float32) beside held-out ID scores.
#[pyfunction]
pub(crate) fn pvalues<'py>(
    py: Python<'py>,
    calibration: Given<'py>,
    scores: Given<'py>,
) -> PyResult<Bound<'py, PyByteArray>> {
    let (calibration, scores) = (Numbers::of(&calibration)?, Numbers::<f32>::of(&scores)?);
    let found: Vec<f64> = py.detach(|| {
        let ascending = sorted(calibration.values());
        scores.values().iter().map(|score| thresholds::pvalue(&ascending, *score)).collect()
    });
    bytes(py, &found)
}

/// The largest p-value that Benjamini and Hochberg reject; `None`: none.
#[pyfunction]
pub(crate) fn bh_limit(py: Python<'_>, pvalues: Given<'_>, fdr: f64) -> PyResult<Option<f64>> {
    let pvalues = Numbers::<f64>::of(&pvalues)?;
    Ok(py.detach(|| {
        let mut ascending = pvalues.values().to_vec();
        ascending.sort_by(f64::total_cmp);
        thresholds::bh_limit(&ascending, fdr)
    }))
}

/// The score that a share `tpr` of held-out ID scores (float32) does not exceed, or `None` where they are too few; and how
/// many that rate takes.
#[pyfunction]
pub(crate) fn threshold(scores: Given<'_>, tpr: f64) -> PyResult<(Option<f32>, usize)> {
    let ascending = sorted(Numbers::of(&scores)?.values());
    let has = thresholds::supports_tpr(ascending.len(), tpr);
    Ok((has.then(|| thresholds::threshold(&ascending, tpr)), thresholds::rows_for_tpr(tpr)))
}

fn sorted(scores: &[f32]) -> Vec<f32> {
    let mut ascending = scores.to_vec();
    ascending.sort_by(f32::total_cmp);
    ascending
}
