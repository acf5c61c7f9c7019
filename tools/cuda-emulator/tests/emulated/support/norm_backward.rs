//! Cases for the gradients of norms.

use super::norm::Operand;
use super::{Guarded, How};
use evenkeel::cuda::{DeviceElement, layer_norm_backward, rms_norm_backward};
use evenkeel::{DType, Element, FloatsMut, LayerNorm, RmsNorm, Rows, RowsMut};
use evenkeel_cuda_emulator::Emulator;
use half::{bf16, f16};

/// Norm whose gradients are tested.
#[derive(Clone, Copy, Debug)]
pub enum Norm {
    Rms(RmsNorm<'static>),
    Layer(LayerNorm<'static>),
}

/// Runs one case. Fails if its results differ from the CPU's. `of_operands` is the type of the gradients of weight
/// and bias. With `None`, these gradients are not computed.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    rows: [&[E]; 2],
    shape: (usize, usize),
    weight: Option<&Operand>,
    norm: Norm,
    (of_operands, how): (Option<DType>, How),
) -> Result<(), String> {
    let done = match of_operands {
        Some(DType::F16) => case_as::<E, f16>(emulator, rows, shape, weight, norm, (true, how)),
        Some(DType::BF16) => case_as::<E, bf16>(emulator, rows, shape, weight, norm, (true, how)),
        Some(_) => case_as::<E, f32>(emulator, rows, shape, weight, norm, (true, how)),
        None => case_as::<E, f32>(emulator, rows, shape, weight, norm, (false, how)),
    };
    done.map_err(|found| {
        let (types, (rows, cols)) = ((E::DTYPE, weight.map(|weight| weight.floats().dtype()), of_operands), shape);
        format!("gradients of {norm:?}, {types:?} {rows}x{cols}, {how:?}: {found}")
    })
}

fn case_as<E: DeviceElement, G: Element>(
    emulator: &Emulator,
    [x, dy]: [&[E]; 2],
    (rows, cols): (usize, usize),
    weight: Option<&Operand>,
    norm: Norm,
    (has_operands, how): (bool, How),
) -> Result<(), String> {
    let [mut x_at, mut dy_at] = [x, dy].map(|values| Guarded::of(values, how.shift));
    let mut dx_at = Guarded::<E>::unwritten(x.len(), how.shift);
    let mut weight_at = weight.map(|weight| weight.placed(how.shift));
    let mut of_operands = [Guarded::<G>::unwritten(cols, how.shift), Guarded::<G>::unwritten(cols, 0)];
    let addresses = [x_at.address(), dy_at.address(), dx_at.address()];
    let at = weight_at.as_mut().map(|weight| weight.at());
    let mut workspace = vec![f64::NAN; rms_norm_backward::workspace_len((rows, cols))];
    let gradient = |at: &mut Guarded<G>| evenkeel::cuda::TypedDevicePtr { address: at.address(), dtype: G::DTYPE };
    let [dweight_at, dbias_at] = of_operands.each_mut().map(|of| has_operands.then(|| gradient(of)));
    let mut columns = rms_norm_backward::Columns::default();
    (columns.dweight, columns.dbias) = (dweight_at, dbias_at);
    columns.workspace = workspace.as_mut_ptr() as u64;
    let floats = weight.map(|weight| weight.floats());
    let (mut dx, mut dweight, mut dbias) = (vec![E::ZERO; x.len()], vec![G::ZERO; cols], vec![G::ZERO; cols]);
    let [x, dy] = [x, dy].map(|values| Rows::new(values, rows, cols).unwrap());
    let to = RowsMut::new(&mut dx, rows, cols).unwrap();
    match norm {
        Norm::Rms(options) => {
            columns.dbias = None;
            let dweight = has_operands.then(|| FloatsMut::from(&mut dweight));
            let mut of_floats: RmsNorm = options;
            of_floats.weight = floats;
            evenkeel::rms_norm_backward_into(x, dy, to, dweight, &of_floats).unwrap();
        }
        Norm::Layer(options) => {
            let [dweight, dbias] = [&mut dweight, &mut dbias].map(|to| has_operands.then(|| FloatsMut::from(to)));
            let mut of_floats: LayerNorm = options;
            of_floats.weight = floats;
            evenkeel::layer_norm_backward_into(x, dy, to, dweight, dbias, &of_floats).unwrap();
        }
    }
    let run = |addresses: [u64; 3]| {
        let launches = match norm {
            Norm::Rms(options) => rms_norm_backward::launches(E::DTYPE, addresses, at, columns, (rows, cols), &options),
            Norm::Layer(options) => {
                layer_norm_backward::launches(E::DTYPE, addresses, at, columns, (rows, cols), &options)
            }
        };
        launches.unwrap().into_iter().try_for_each(|launch| {
            // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel runs.
            unsafe { how.run(emulator, launch) }
        })
    };
    run(addresses)?;
    dx_at.compare(&dx)?;
    // If no gradients of weight and bias are computed, dx may overwrite dy.
    if !has_operands {
        run([addresses[0], addresses[1], addresses[1]])?;
        dy_at.compare(&dx).map_err(|found| format!("at the address of dy, {found}"))?;
    }
    let [dweight_at, dbias_at] = of_operands;
    if has_operands {
        dweight_at.compare(&dweight).map_err(|found| format!("in dweight, {found}"))?;
        if let Norm::Layer(_) = norm {
            dbias_at.compare(&dbias).map_err(|found| format!("in dbias, {found}"))?;
        }
    }
    Ok(())
}
