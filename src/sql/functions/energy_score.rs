//! `energy_score(logits [, T])`: the free energy of the classifier's output.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_macros::user_doc;

use super::{arguments, logits};

const NAME: &str = "energy_score";

/// DOUBLE, −T·logsumexp(logits / T).
#[user_doc(
    doc_section(label = "Baselines"),
    description = "DOUBLE, larger is more OOD: −T · log(Σ exp(logits / T)), the free energy. Liu, Wang, Owens, Li: *Energy-based Out-of-distribution Detection*, NeurIPS 2020, whose score is the negative of it.",
    syntax_example = "energy_score(logits [, T])",
    argument(name = "logits", description = "As for `msp_score`."),
    argument(name = "T", description = "The temperature, a literal number greater than 0; 1 where it is left out.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct EnergyScore {
    signature: Signature,
}

impl EnergyScore {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for EnergyScore {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [given] => Ok(vec![logits::coerce(NAME, given)?]),
            // a literal must stay one: no cast is put around it
            [given, t] if t.is_numeric() => Ok(vec![logits::coerce(NAME, given)?, t.clone()]),
            [_, t] => plan_err!("{NAME}: T must be a number, got {t}"),
            _ => plan_err!("{NAME} takes (logits [, T]), got {} arguments", types.len()),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{NAME}: planned by its arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        logits::check(NAME, &args.arg_fields[0])?;
        temperature(args.arg_fields.len() > 1, args.scalar_arguments.get(1).copied().flatten())?;
        Ok(arguments::result_field(NAME, DataType::Float64))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let t = temperature(args.args.len() > 1, arguments::literal(&args.args, 1))?;
        logits::each_row(&args, |logits| energy(logits, t))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// T: the literal, or 1 where it is left out.
fn temperature(given: bool, literal: Option<&ScalarValue>) -> Result<f64> {
    if !given {
        return Ok(1.0);
    }
    match literal.map(|value| value.cast_to(&DataType::Float64)).transpose()? {
        Some(ScalarValue::Float64(Some(t))) if t > 0.0 && t.is_finite() => Ok(t),
        Some(ScalarValue::Float64(Some(t))) => plan_err!("{NAME}: T = {t} must be greater than 0"),
        _ => plan_err!("{NAME}: T must be a literal number, such as 1"),
    }
}

/// −T·logsumexp(logits / T) of finite logits, at least one.
fn energy(logits: &[f32], t: f64) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(f64::from(logit)));
    let sum: f64 = logits.iter().map(|&logit| ((f64::from(logit) - largest) / t).exp()).sum();
    -(largest + t * sum.ln())
}

#[cfg(test)]
mod tests {
    use super::energy;

    /// `-T * torch.logsumexp(torch.tensor(l, dtype=torch.float64) / T, 0)`
    #[test]
    fn equals_pytorch() {
        let check = |logits: &[f32], t: f64, expected: f64| {
            let found = energy(logits, t);
            assert!((found - expected).abs() <= 1e-14 * expected.abs(), "{found}, {expected}");
        };
        check(&[1.0, 2.0, 3.0], 1.0, -3.4076059644443806);
        check(&[1.0, 2.0, 3.0], 2.0, -4.360539341283469);
        check(&[-700.0, 900.0, 898.5], 1.0, -900.2014132779827);
        check(&[-700.0, 900.0, 898.5], 0.5, -900.0242936757869);
    }
}
