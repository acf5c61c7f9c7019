//! Ops on single elements: any shape, scalars too.

use crate::answer::Failure;
use crate::call::{Call, Result, Results};
use crate::tensors::{Input, Output, Values, each_type};

/// The same expression for the values of two inputs that are [`alike`].
macro_rules! each_pair {
    ($first:expr, $second:expr, |$x:ident, $y:ident| $e:expr) => {
        match ($first, $second) {
            (Values::F64($x), Values::F64($y)) => $e,
            (Values::F32($x), Values::F32($y)) => $e,
            (Values::F16($x), Values::F16($y)) => $e,
            (Values::BF16($x), Values::BF16($y)) => $e,
            _ => unreachable!("both were found to be of one type"),
        }
    };
}

macro_rules! elementwise {
    ($($op:ident $gradient:ident;)*) => {$(
        pub fn $op(call: &Call<'_>) -> Result<Results> {
            let (x, dy) = (call.float("x")?, call.optional_float("dy")?);
            let mut results = Vec::new();
            if let Some(dy) = dy {
                alike(call, &x, "dy", &dy)?;
                let dims = &x.shape;
                let dx = each_pair!(&x.values, &dy.values, |x, dy| Output::new(dims, &evenkeel::$gradient(x, dy)?));
                results.push(("dx", dx));
            }
            results.push(("y", each_type!(&x.values, values => Output::new(&x.shape, &evenkeel::$op(values)?))));
            Ok(results)
        }
    )*};
}
elementwise! {
    erf erf_backward;
    exp exp_backward;
    expm1 expm1_backward;
    gelu gelu_backward;
    gelu_tanh gelu_tanh_backward;
    log log_backward;
    log1p log1p_backward;
    log_sigmoid log_sigmoid_backward;
    rsqrt rsqrt_backward;
    sigmoid sigmoid_backward;
    silu silu_backward;
    softplus softplus_backward;
    sqrt sqrt_backward;
    tanh tanh_backward;
}

/// Refuses a second input of another type, then one of another shape.
fn alike(call: &Call<'_>, x: &Input, name: &str, other: &Input) -> Result<()> {
    let (dtype, needed) = (other.values.floats().dtype(), x.values.floats().dtype());
    if dtype != needed {
        return Err(Failure::dtype(format!("{}: {name} is {dtype}; {needed}, x's type, is taken", call.name())));
    }
    call.has_shape(name, &other.shape, &x.shape)
}
