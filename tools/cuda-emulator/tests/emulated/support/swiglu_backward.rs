//! Cases for the gradients of swiglu.

use super::{Guarded, How};
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::swiglu_backward::launch;
use evenkeel_cuda_emulator::Emulator;

/// Operands of the same length, and their offsets from multiples of 16 bytes, in elements.
pub struct Inputs<'a, E> {
    pub gate: &'a [E],
    pub up: &'a [E],
    pub dy: &'a [E],
    pub shifts: [usize; 3],
}

/// Runs one case twice, with separate outputs and in place. Fails if the results differ from the CPU's.
pub fn case<E: DeviceElement>(emulator: &Emulator, inputs: &Inputs<'_, E>, how: How) -> Result<(), String> {
    let Inputs { gate, up, dy, shifts } = *inputs;
    let len = gate.len();
    let (dgate, dup) = evenkeel::swiglu_backward(gate, up, dy).unwrap();
    let describe = |found: String| format!("{len} {}, shifted by {shifts:?}, {how:?}: {found}", E::DTYPE);
    let mut from = [Guarded::of(gate, shifts[0]), Guarded::of(up, shifts[1]), Guarded::of(dy, shifts[2])];
    let mut apart = [Guarded::<E>::unwritten(len, how.shift), Guarded::unwritten(len, how.shift)];
    for in_place in [false, true] {
        let [gate, up, dy] = from.each_mut().map(Guarded::address);
        let [to_gate, to_up] = if in_place { [gate, up] } else { apart.each_mut().map(Guarded::address) };
        let planned = launch(E::DTYPE, [gate, up, dy, to_gate, to_up], len)
            .unwrap()
            .expect("gradients of a non-empty slice must launch a kernel");
        // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
        unsafe { how.run(emulator, planned) }.map_err(describe)?;
        let written = if in_place { &from[..2] } else { &apart[..] };
        for (name, got, expected) in [("dgate", &written[0], &dgate), ("dup", &written[1], &dup)] {
            got.compare(expected).map_err(|found| {
                let differs = (0..len).find(|&i| got.values()[i].bits() != expected[i].bits()).unwrap_or(0);
                let at = [inputs.gate[differs], inputs.up[differs], inputs.dy[differs]];
                describe(format!("{name} of {at:?}: {found}"))
            })?;
        }
    }
    Ok(())
}
