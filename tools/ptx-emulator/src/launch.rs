//! Runs the blocks of a launch, and the warps of a block from barrier to barrier.

use crate::access::Spaces;
use crate::arithmetic;
use crate::exchange::{self, Met};
use crate::kernel::Kernel;
use crate::memory::{Global, Memory};
use crate::op::Op;
use crate::problem::{Fault, LaunchError, Problem};
use crate::shared::Shared;
use crate::warp::{Warp, lanes_of};

/// Order in which blocks and warps run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forward,
    Backward,
    /// A random order of warps that depends on this seed.
    Random(u32),
}

/// A one-dimensional launch configuration.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    pub blocks: u32,
    pub threads: u32,
    /// Number of bytes of dynamic shared memory.
    pub shared: u32,
    pub order: Order,
}

/// Number of instructions after which a block counts as endless. An instruction that a warp executes counts once, not
/// once per lane.
pub const MOST_INSTRUCTIONS: u64 = 1 << 26;

/// Reason why a warp stopped.
enum Stop {
    Ended,
    /// The running lanes wait at a barrier or at an operation of the warp.
    Waits,
}

struct Runner<'k> {
    kernel: &'k Kernel,
    spaces: Spaces<'k>,
    block: u32,
    steps: u64,
    /// Number of times that a warp executed each instruction.
    counts: Vec<u64>,
}

impl Kernel {
    /// Runs the kernel, and returns how many times a warp executed each instruction. An instruction whose guard holds
    /// in no lane counts too.
    ///
    /// # Safety
    /// All ranges of `memory` are valid memory that no other thread accesses.
    ///
    /// # Errors
    /// [`LaunchError`] if the launch does not fit the kernel, or if a fault was found. The error holds the first fault.
    pub unsafe fn run(&self, grid: Grid, arguments: &[u8], memory: &Memory) -> Result<Vec<u64>, LaunchError> {
        let kernel = || self.name.clone();
        if grid.threads == 0 || grid.threads > self.most_threads {
            return Err(LaunchError::Threads { kernel: kernel(), threads: grid.threads, most: self.most_threads });
        }
        if arguments.len() != self.parameter_bytes {
            let (bytes, expected) = (arguments.len(), self.parameter_bytes);
            return Err(LaunchError::Arguments { kernel: kernel(), bytes, expected });
        }
        let mut memory = std::borrow::Cow::Borrowed(memory);
        for variable in self.globals.iter() {
            let range = variable.range();
            memory.to_mut().add(range.start, (range.end - range.start) as usize, true);
        }
        // SAFETY: the caller guarantees that the ranges are valid. The kernel's own variables are always valid.
        let global = unsafe { Global::new(&memory) };
        let shared = Shared::new(self.shared_bytes + grid.shared as usize, self.grain());
        let spaces = Spaces { global, shared, arguments, constants: &self.constants, copies: Vec::new() };
        let counts = vec![0; self.code.len()];
        let mut runner = Runner { kernel: self, spaces, block: 0, steps: 0, counts };
        let mut warps: Vec<Warp> = (0..grid.threads.div_ceil(32)).map(|_| Warp::new(self)).collect();
        let mut random = match grid.order {
            Order::Random(seed) => u64::from(seed),
            _ => 0,
        };
        for i in 0..grid.blocks {
            runner.block = if grid.order == Order::Backward { grid.blocks - 1 - i } else { i };
            runner.steps = 0;
            runner.run_block(&mut warps, grid, &mut random)?;
        }
        Ok(runner.counts)
    }
}

impl Runner<'_> {
    fn run_block(&mut self, warps: &mut [Warp], grid: Grid, random: &mut u64) -> Result<(), Box<Fault>> {
        self.spaces.shared.begin();
        self.spaces.copies.clear();
        for (i, warp) in warps.iter_mut().enumerate() {
            warp.start(self.kernel, 32 * i as u32, grid, self.block);
        }
        loop {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let count = warps.len();
            let mut ended = true;
            for i in 0..count {
                let i = match grid.order {
                    Order::Forward => i,
                    Order::Backward => count - 1 - i,
                    Order::Random(_) => (i + (*random >> 33) as usize) % count,
                };
                ended &= matches!(self.run_warp(&mut warps[i])?, Stop::Ended);
            }
            if ended {
                return Ok(());
            }
            // All warps have stopped. All lanes of each warp must wait at a barrier.
            for warp in warps.iter_mut() {
                self.check_barrier(warp)?;
            }
            warps.iter_mut().for_each(Warp::pass);
            self.spaces.shared.barrier();
        }
    }

    /// Checks that all lanes of a warp wait at the same barrier.
    fn check_barrier(&self, warp: &Warp) -> Result<(), Box<Fault>> {
        let whole = if warp.live == 0 { None } else { warp.waiting() };
        // A warp that has ended never reaches the barrier at which the others wait.
        let Some((at, lanes)) = whole else {
            return Err(self.fault(warp, self.kernel.code.len() - 1, 0, Problem::Barrier));
        };
        let thread = lanes.trailing_zeros() as usize;
        match self.kernel.code[at].op {
            Op::Bar if lanes == warp.all => Ok(()),
            Op::Bar => Err(self.fault(warp, at, thread, Problem::NeverArrives { missing: warp.all & !lanes })),
            _ => {
                let masks = self.kernel.code[at].r.iter().rev().find(|&&r| r != crate::op::NONE);
                let mask = masks.map_or(0, |&r| warp.words[r as usize][thread]);
                Err(self.fault(warp, at, thread, Problem::NeverArrives { missing: mask & !lanes }))
            }
        }
    }

    #[cold]
    fn fault(&self, warp: &Warp, at: usize, lane: usize, problem: Problem) -> Box<Fault> {
        let (line, instruction) = &self.kernel.origins[at];
        Box::new(Fault {
            kernel: self.kernel.name.clone(),
            line: *line,
            instruction: instruction.to_string(),
            block: self.block,
            thread: warp.first + lane as u32,
            problem,
        })
    }

    fn run_warp(&mut self, warp: &mut Warp) -> Result<Stop, Box<Fault>> {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: the CPU has the instructions.
            return unsafe { self.run_warp_avx2(warp) };
        }
        self.run_lanes(warp)
    }

    /// Runs a warp with code compiled for AVX2, which computes eight lanes at a time.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn run_warp_avx2(&mut self, warp: &mut Warp) -> Result<Stop, Box<Fault>> {
        self.run_lanes(warp)
    }

    /// Runs a warp until each of its lanes has ended or waits.
    #[inline(always)]
    fn run_lanes(&mut self, w: &mut Warp) -> Result<Stop, Box<Fault>> {
        let code = &self.kernel.code;
        while w.lanes != 0 {
            if w.at >= w.until {
                w.choose();
            }
            self.steps += 1;
            self.counts[w.at] += 1;
            if self.steps > MOST_INSTRUCTIONS {
                let lane = w.lanes.trailing_zeros() as usize;
                return Err(self.fault(w, w.at, lane, Problem::Endless(MOST_INSTRUCTIONS)));
            }
            let inst = &code[w.at];
            let lanes = match inst.guard {
                crate::op::NONE => w.lanes,
                guard => w.lanes & w.guard(guard, inst.guard_not),
            };
            if lanes == 0 {
                w.at += 1;
                continue;
            }
            if arithmetic::run(w, inst, lanes) {
                w.at += 1;
                continue;
            }
            let done = match inst.op {
                Op::Bra => {
                    w.branch(inst.imm as usize, lanes);
                    continue;
                }
                Op::Ret => {
                    w.end(lanes);
                    continue;
                }
                Op::Load(access) => self.spaces.load(w, inst, access, lanes),
                Op::Store(access) => self.spaces.store(w, inst, access, lanes),
                Op::Atom(atom, access) => self.spaces.atom(w, inst, (atom, access), lanes),
                Op::StartCopy(access) => self.spaces.start_copy(w, inst, access, lanes),
                Op::AwaitCopies => self.spaces.await_copies(w, lanes),
                Op::Bar if lanes == w.lanes => {
                    // The barrier opens once all warps of the block wait.
                    w.wait();
                    continue;
                }
                Op::Bar => Err((lanes_of(lanes).next().unwrap_or(0), Problem::Barrier)),
                Op::Trap => Err((lanes_of(lanes).next().unwrap_or(0), Problem::Trap)),
                _ => match self.together(w, lanes) {
                    Ok(Met::All) => Ok(()),
                    Ok(Met::Waiting) => {
                        w.wait();
                        continue;
                    }
                    Err(problem) => Err(problem),
                },
            };
            if let Err((lane, problem)) = done {
                return Err(self.fault(w, w.at, lane, problem));
            }
            w.at += 1;
        }
        Ok(if w.live == 0 { Stop::Ended } else { Stop::Waits })
    }

    /// Runs an operation of several lanes, such as a shuffle, if all of its lanes have arrived.
    fn together(&self, w: &mut Warp, lanes: u32) -> crate::access::OfLane<Met> {
        let inst = &self.kernel.code[w.at];
        let masks = match inst.op {
            Op::Shfl(_) => inst.r[5],
            Op::BarWarp => inst.r[0],
            _ => inst.r[2],
        };
        let masks = w.words[masks as usize];
        if exchange::meet(w, &masks, lanes)? == Met::Waiting {
            return Ok(Met::Waiting);
        }
        match inst.op {
            Op::Shfl(mode) => exchange::shuffle(w, inst, mode, lanes)?,
            Op::Redux(redux) => exchange::redux(w, inst, redux, lanes),
            Op::Vote(vote) => exchange::vote(w, inst, vote, lanes),
            Op::BarWarp => w.passed += 1,
            other => unreachable!("only shfl, redux, vote and bar.warp wait for other lanes, got {other:?}"),
        }
        Ok(Met::All)
    }
}
