//! Training of the demo's small network: plain supervised cross-entropy by stochastic gradient descent.

use std::path::Path;

use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

use super::layers::Weight;
use crate::backbone::layers::Linear;
use crate::backbone::resnet::{Form, ResNet};
use crate::backbone::training::Training;
use crate::error::{Error, Result};

pub(in crate::backbone) fn train(
    what: &Training<'_>,
    file: &Path,
    mut report: impl FnMut(usize, f64, f64),
) -> Result<()> {
    outskirt_libtorch::load()?;
    tch::manual_seed(what.seed);
    let images = |values: &[f32]| Tensor::f_from_slice(values).and_then(|all| all.f_view([-1, 3, 32, 32]));
    let (pictures, labels) = (images(what.pictures)?, Tensor::f_from_slice(what.labels)?);
    let (held_out, held_out_labels) = (images(what.held_out.0)?, Tensor::f_from_slice(what.held_out.1)?);

    let mut vars = nn::VarStore::new(Device::Cpu);
    let root = vars.root();
    let form =
        Form::of(what.architecture).ok_or_else(|| Error::UnknownArchitecture { name: what.architecture.into() })?;
    let mut make = |name: &str, shape: &[i64]| -> Result<Weight> {
        let mut parts: Vec<&str> = name.split('.').collect();
        let last = parts.pop().unwrap_or(name);
        let at = parts.iter().fold(root.clone(), |path, part| path / *part);
        let tensor = match (last, shape.len()) {
            ("running_mean", _) => at.f_zeros_no_train(last, shape)?,
            ("running_var", _) => at.f_ones_no_train(last, shape)?,
            ("bias", _) => at.f_zeros(last, shape)?,
            ("weight", 1) => at.f_ones(last, shape)?,
            _ => at.f_kaiming_normal(last, shape)?,
        };
        Ok(tensor.into())
    };
    let network = ResNet::build(form, "shortcut", &mut make)?;
    let classifier = Linear::load(&mut make, "linear", (form.dimension(), what.classes))?;

    const BATCH: i64 = 128;
    let n = what.labels.len() as i64;
    let steps = (n / BATCH).max(1) * what.epochs as i64;
    let mut optimizer = nn::Sgd { momentum: 0.9, dampening: 0.0, wd: 5e-4, nesterov: true }.build(&vars, 0.1)?;
    let mut step = 0;
    for epoch in 1..=what.epochs {
        let order = Tensor::f_randperm(n, (Kind::Int64, Device::Cpu))?;
        let mut losses = 0.0;
        let batches = (n / BATCH).max(1);
        for batch in 0..batches {
            // cosine from 0.1 to 0
            let progress = step as f64 / steps as f64;
            optimizer.set_lr(0.05 * (1.0 + (std::f64::consts::PI * progress).cos()));
            step += 1;
            let rows = order.f_narrow(0, batch * BATCH, BATCH.min(n - batch * BATCH))?;
            let logits = classifier.forward(&network.embed(&pictures.f_index_select(0, &rows)?, true)?)?;
            let loss = logits.f_cross_entropy_loss(
                &labels.f_index_select(0, &rows)?,
                None::<&Tensor>,
                tch::Reduction::Mean,
                -100,
                0.0,
            )?;
            optimizer.backward_step(&loss);
            losses += loss.double_value(&[]);
        }
        let _no_grad = tch::no_grad_guard();
        let guessed = classifier.forward(&network.embed(&held_out, false)?)?.f_argmax(1, false)?;
        let right = guessed.f_eq_tensor(&held_out_labels)?.f_to_kind(Kind::Float)?.f_mean(Kind::Float)?;
        report(epoch, losses / batches as f64, right.double_value(&[]));
    }
    vars.freeze();
    vars.save(file).map_err(Error::from)
}
