//! Loads, stores and atomic operations.

use crate::arithmetic::{is_of_space, space_of};
use crate::convert::{extend, integer};
use crate::floats::{bits32, bits64, f32_of, f64_of};
use crate::kernel::CONST_START;
use crate::memory::{Global, is_aligned};
use crate::op::{Access, Atom, Inst, NONE, Space};
use crate::problem::Problem;
use crate::shared::{By, Kind, Shared};
use crate::warp::{Warp, lanes_of};

/// Memory that a block sees.
pub struct Spaces<'m> {
    pub global: Global<'m>,
    pub shared: Shared,
    pub arguments: &'m [u8],
    pub constants: &'m [u8],
    /// Copies that threads of the block started and did not wait for.
    pub copies: Vec<Pending>,
}

/// Asynchronous copy of 16 bytes to shared memory.
#[derive(Clone, Copy)]
pub struct Pending {
    thread: u32,
    to: u64,
    from: u64,
}

/// Result for a warp's lanes. An error holds the index of a lane, and the lane's problem.
pub type OfLane<T> = Result<T, (usize, Problem)>;

impl Spaces<'_> {
    #[inline(always)]
    fn read(&mut self, access: Access, address: u64, by: By, kind: Kind) -> Result<u128, Problem> {
        let bytes = access.bytes();
        let (space, address) = match access.space {
            Space::Generic => space_of(address),
            space => (space, address),
        };
        match space {
            Space::Shared => self.shared.read(address, bytes, by, kind),
            Space::Const => read_only(self.constants, CONST_START, address, bytes, space),
            Space::Param => read_only(self.arguments, 0, address, bytes, space),
            _ => self.global.read(address, bytes).map_err(|problem| explain(problem, address)),
        }
    }

    #[inline(always)]
    fn write(&mut self, access: Access, address: u64, value: u128, by: By, kind: Kind) -> Result<(), Problem> {
        let bytes = access.bytes();
        let (space, address) = match access.space {
            Space::Generic => space_of(address),
            space => (space, address),
        };
        match space {
            Space::Shared => self.shared.write(address, bytes, value, by, kind),
            Space::Const | Space::Param => Err(Problem::Outside { space: space.name(), address, bytes, write: true }),
            _ => self.global.write(address, bytes, value).map_err(|problem| explain(problem, address)),
        }
    }

    pub fn load(&mut self, w: &mut Warp, i: &Inst, access: Access, lanes: u32) -> OfLane<()> {
        // All lanes read the same parameter, so a single access reads it for all of them.
        let once = matches!(access.space, Space::Param);
        let size = 8 * access.of.bytes();
        for lane in lanes_of(lanes) {
            let address = address(w, i, access, lane);
            let by = By { thread: w.first + lane as u32, in_warp: w.passed };
            let value = self.read(access, address, by, Kind::Read).map_err(|problem| (lane, problem))?;
            for k in 0..access.count as usize {
                let element = extend((value >> (size * k)) as u64, access.of);
                let register = i.r[k] as usize;
                match (access.wide, once) {
                    (true, true) => w.put_wides(i.r[k], &[element; 32], lanes),
                    (false, true) => w.put_words(i.r[k], &[element as u32; 32], lanes),
                    (true, false) => w.wides[register][lane] = element,
                    (false, false) => w.words[register][lane] = element as u32,
                }
            }
            if once {
                break;
            }
        }
        Ok(())
    }

    pub fn store(&mut self, w: &mut Warp, i: &Inst, access: Access, lanes: u32) -> OfLane<()> {
        let size = 8 * access.of.bytes();
        let mask = if size == 64 { u64::MAX } else { (1 << size) - 1 };
        for lane in lanes_of(lanes) {
            let address = address(w, i, access, lane);
            let by = By { thread: w.first + lane as u32, in_warp: w.passed };
            let mut value = 0u128;
            for k in 0..access.count as usize {
                value |= u128::from(element(w, i.r[k], access, lane) & mask) << (size * k);
            }
            self.write(access, address, value, by, Kind::Write).map_err(|problem| (lane, problem))?;
        }
        Ok(())
    }

    /// Starts asynchronous copies. A copy takes place only when its thread waits for it. A thread that does not wait
    /// therefore reads shared memory that was not written.
    pub fn start_copy(&mut self, w: &mut Warp, i: &Inst, access: Access, lanes: u32) -> OfLane<()> {
        for lane in lanes_of(lanes) {
            let (to, from) = (address(w, i, access, lane), w.wides[i.r[0] as usize][lane]);
            self.copies.push(Pending { thread: w.first + lane as u32, to, from });
        }
        Ok(())
    }

    pub fn await_copies(&mut self, w: &mut Warp, lanes: u32) -> OfLane<()> {
        let first = w.first;
        let of_warp = |copy: &mut Pending| copy.thread / 32 == first / 32 && lanes >> (copy.thread - first) & 1 == 1;
        for Pending { thread, to, from } in self.copies.extract_if(.., of_warp) {
            let by = By { thread, in_warp: w.passed };
            let copied = self.global.read(from, 16).and_then(|value| self.shared.write(to, 16, value, by, Kind::Write));
            copied.map_err(|problem| ((thread - first) as usize, problem))?;
        }
        Ok(())
    }

    pub fn atom(&mut self, w: &mut Warp, i: &Inst, (atom, access): (Atom, Access), lanes: u32) -> OfLane<()> {
        let bits = 8 * access.of.bytes() as u32;
        for lane in lanes_of(lanes) {
            let address = address(w, i, access, lane);
            let by = By { thread: w.first + lane as u32, in_warp: w.passed };
            let old = self.read(access, address, by, Kind::Atomic).map_err(|problem| (lane, problem))? as u64;
            let operand = element(w, i.r[1], access, lane);
            let new = match atom {
                Atom::Int(op) => integer(op, old, operand, bits),
                Atom::Exch => operand,
                Atom::Cas if old == operand => element(w, i.r[2], access, lane),
                Atom::Cas => old,
                Atom::AddF32 => bits32(f32_of(old as u32) + f32_of(operand as u32)).into(),
                Atom::AddF64 => bits64(f64_of(old) + f64_of(operand), [old, operand, 0]),
            };
            self.write(access, address, new.into(), by, Kind::Atomic).map_err(|problem| (lane, problem))?;
            match (i.r[0], access.wide) {
                (NONE, _) => {}
                (register, true) => w.wides[register as usize][lane] = old,
                (register, false) => w.words[register as usize][lane] = old as u32,
            }
        }
        Ok(())
    }
}

#[inline(always)]
fn address(w: &Warp, i: &Inst, access: Access, lane: usize) -> u64 {
    match access.wide_address {
        true => w.wides[i.r[4] as usize][lane].wrapping_add(i.imm as u64),
        false => u64::from(w.words[i.r[4] as usize][lane].wrapping_add(i.imm as u32)),
    }
}

#[inline(always)]
fn element(w: &Warp, register: u32, access: Access, lane: usize) -> u64 {
    match access.wide {
        true => w.wides[register as usize][lane],
        false => w.words[register as usize][lane].into(),
    }
}

fn read_only(from: &[u8], start: u64, address: u64, bytes: usize, space: Space) -> Result<u128, Problem> {
    let space = space.name();
    if !is_aligned(address, bytes) {
        return Err(Problem::Misaligned { space, address, bytes });
    }
    let at = address.wrapping_sub(start) as usize;
    let outside = Problem::Outside { space, address, bytes, write: false };
    let found = at.checked_add(bytes).and_then(|end| from.get(at..end)).ok_or(outside)?;
    let mut value = [0; 16];
    value[..bytes].copy_from_slice(found);
    Ok(u128::from_le_bytes(value))
}

/// Replaces [`Problem::Outside`] with [`Problem::OtherSpace`] if the address belongs to shared or constant memory.
#[cold]
fn explain(problem: Problem, address: u64) -> Problem {
    match (&problem, is_of_space(address)) {
        (Problem::Outside { space, .. }, Some(of)) => Problem::OtherSpace { space, of: of.name(), address },
        _ => problem,
    }
}
