//! Ops on single elements: any shape, scalars too.

use crate::call::{Call, Result, Results};
use crate::tensors::{Output, each_type};

macro_rules! elementwise {
    ($($op:ident)*) => {$(
        pub fn $op(call: &Call<'_>) -> Result<Results> {
            let x = call.float("x")?;
            let y = each_type!(&x.values, values => Output::new(&x.shape, &evenkeel::$op(values)?));
            Ok(vec![("y", y)])
        }
    )*};
}
elementwise!(exp log sigmoid silu expm1 log1p tanh log_sigmoid softplus sqrt rsqrt erf gelu gelu_tanh);
