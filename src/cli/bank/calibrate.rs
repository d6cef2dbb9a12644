//! `outskirt bank calibrate`.

use std::path::Path;

use crate::bank;
use crate::cli::console::Console;
use crate::cli::format::Format;
use crate::cli::plot::{Plots, Strip};
use crate::error::{Error, Result};
use crate::statistics::thresholds::rows_to_halve;

/// Of the threshold that is shown beside the plain one, and of the interval.
const CONFIDENCE: f64 = 0.95;

/// Arguments of `bank calibrate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  outskirt bank calibrate cifar10 --where \"dataset = 'cifar10' AND split = 'val'\"")]
pub struct Args {
    /// The bank
    name: String,
    /// SQL over images: held-out in-distribution images, none of them in the bank
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: String,
    /// Neighbours counted, where not the bank's own
    #[arg(long)]
    k: Option<usize>,
    #[command(flatten)]
    plots: Plots,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let drawing = args.plots.drawing(Format::Table, console)?;
    let store = console.open(db).await?;
    let bar = console.spinner("scoring held-out images");
    let made = bank::calibrate(&store, &args.name, &args.predicate, args.k).await;
    let own = match &made {
        Ok(made) => bank::own_threshold(&store, &args.name, made.k).await,
        Err(_) => Ok(None),
    };
    bar.finish_and_clear();
    let made = made?;
    let threshold = match made.threshold(0.95) {
        Ok(threshold) => {
            // of all such images, and not of these alone
            let surely =
                made.tolerance_limit(0.95, CONFIDENCE).map(|limit| format!(" ({limit:.6} with 95 % confidence)"));
            format!("threshold at 95 % TPR {threshold:.6}{}", surely.unwrap_or_default())
        }
        Err(reason) => format!("no threshold: {reason}"),
    };
    let images = made.scores.len();
    console.line(format!("bank {}: calibrated with {images} images at k = {}, {threshold}", made.bank, made.k))?;
    match made.threshold_interval(0.95, CONFIDENCE) {
        Ok((lower, upper)) => console.line(format!(
            "the threshold of all such images lies between {lower:.6} and {upper:.6} (95 % confidence); {} more images would \
             halve that",
            rows_to_halve(images)
        ))?,
        Err(Error::ConfidenceNeedsMore { needed, .. }) => {
            console.line(format!("where the threshold of all such images lies cannot be said yet: that takes {needed} images"))?;
        }
        Err(other) => return Err(other),
    }
    if let Some(drawing) = drawing {
        let scores: Vec<f64> = made.scores.iter().copied().map(f64::from).collect();
        let threshold = made.threshold(0.95).ok().map(f64::from);
        let strips = [Strip { name: "calibration".into(), scores: &scores }];
        console.line(format!("\n{}", drawing.histograms(&strips, threshold, "threshold at 95 % TPR")))?;
    }
    if let Some(own) = own?.filter(|own| made.is_unlike(*own)) {
        let further = made.scores.iter().filter(|score| **score > own).count();
        console.notice(format!(
            "{further} of these {images} images are further from the bank than 95 % of its own rows are from the others ({own:.6}): \
             are they such as the bank's? what is as far away as they are will not be OOD"
        ))?;
    }
    Ok(())
}
