//! Registers and lanes of a warp. Lanes whose branches differ form groups. The group at the earliest instruction runs
//! first, so that groups meet again where their paths join.

use crate::kernel::{Kernel, MULTIPROCESSORS, Special};
use crate::launch::Grid;
use crate::op::{Bank, LANES};

pub const ALL: u32 = u32::MAX;

pub type Words = [u32; LANES];
pub type Wides = [u64; LANES];

/// Lanes that are at the same instruction.
#[derive(Clone, Copy, Debug)]
struct Group {
    at: usize,
    lanes: u32,
    /// Whether the lanes wait for others at a barrier or at an operation of the warp.
    waits: bool,
}

pub struct Warp {
    pub words: Vec<Words>,
    pub wides: Vec<Wides>,
    /// Predicates. Each is a mask with the predicate of every lane.
    pub predicates: Vec<u32>,
    /// First thread of the warp.
    pub first: u32,
    /// Mask of the lanes that have not ended (`live`), and mask of all lanes of the warp (`all`).
    pub live: u32,
    pub all: u32,
    /// Mask of the running lanes, and their instruction.
    pub lanes: u32,
    pub at: usize,
    /// Instruction at which other lanes may join the running lanes.
    pub until: usize,
    /// Number of warp barriers passed.
    pub passed: u32,
    others: Vec<Group>,
}

impl Warp {
    pub fn new(kernel: &Kernel) -> Self {
        let mut warp = Warp {
            // Registers hold arbitrary values until they are written.
            words: vec![[0xdead_beef; LANES]; kernel.words],
            wides: vec![[0xdead_beef_dead_beef; LANES]; kernel.wides],
            predicates: vec![0; kernel.predicates],
            first: 0,
            live: 0,
            all: 0,
            lanes: 0,
            at: 0,
            until: usize::MAX,
            passed: 0,
            others: Vec::new(),
        };
        for &(bank, register, value) in &kernel.immediates {
            match bank {
                Bank::Pred => warp.predicates[register as usize] = if value == 1 { ALL } else { 0 },
                Bank::Word => warp.words[register as usize] = [value as u32; LANES],
                Bank::Wide => warp.wides[register as usize] = [value; LANES],
            }
        }
        warp
    }

    /// Sets the registers and lanes to their values at the start of a block.
    pub fn start(&mut self, kernel: &Kernel, first: u32, grid: Grid, block: u32) {
        let Grid { blocks, threads, shared, .. } = grid;
        self.first = first;
        self.live = if threads - first >= 32 { ALL } else { (1 << (threads - first)) - 1 };
        self.all = self.live;
        (self.lanes, self.at, self.until, self.passed) = (self.live, 0, usize::MAX, 0);
        self.others.clear();
        for &(special, register) in &kernel.specials {
            let value = |lane: u32| match special {
                Special::Tid => first + lane,
                Special::Ntid => threads,
                Special::Ctaid => block,
                Special::Nctaid => blocks,
                Special::DynamicShared => shared,
                Special::LaneId => lane,
                Special::Smid => block % MULTIPROCESSORS,
                Special::LaneMask(before, own) => {
                    let below = (1 << lane) - 1;
                    let of = if before { below } else { !below & !(1 << lane) };
                    if own { of | 1 << lane } else { of }
                }
                Special::Always(value) => value,
            };
            self.words[register as usize] = std::array::from_fn(|lane| value(lane as u32));
        }
    }

    /// Moves the running lanes in `taken` to the instruction `target`, and the other running lanes to the next
    /// instruction.
    #[inline(always)]
    pub fn branch(&mut self, target: usize, taken: u32) {
        if taken == self.lanes && self.others.is_empty() {
            self.at = target;
            return;
        }
        if taken != self.lanes {
            let rest = Group { at: self.at + 1, lanes: self.lanes & !taken, waits: false };
            if rest.lanes == self.lanes {
                self.at += 1;
                return;
            }
            self.others.push(rest);
        }
        (self.lanes, self.at) = (taken, target);
        self.choose();
    }

    /// Ends these lanes, which must be running.
    pub fn end(&mut self, lanes: u32) {
        self.live &= !lanes;
        self.lanes &= !lanes;
        self.at += 1;
        self.choose();
    }

    /// Makes the running lanes wait at their instruction.
    pub fn wait(&mut self) {
        self.others.push(Group { at: self.at, lanes: self.lanes, waits: true });
        self.lanes = 0;
        self.choose();
    }

    /// Joins groups at the same instruction. Of the groups that do not wait, the first runs next. If all groups wait,
    /// no lane runs.
    #[cold]
    pub fn choose(&mut self) {
        if self.lanes != 0 {
            self.others.push(Group { at: self.at, lanes: self.lanes, waits: false });
        }
        self.others.sort_by_key(|group| group.at);
        let mut joined: Vec<Group> = Vec::with_capacity(self.others.len());
        for group in self.others.drain(..) {
            match joined.last_mut().filter(|last| last.at == group.at) {
                Some(last) => {
                    last.lanes |= group.lanes;
                    last.waits &= group.waits;
                }
                None => joined.push(group),
            }
        }
        self.others = joined;
        self.lanes = 0;
        if let Some(next) = self.others.iter().position(|group| !group.waits) {
            let group = self.others.remove(next);
            (self.lanes, self.at) = (group.lanes, group.at);
        }
        let after = self.others.iter().map(|group| group.at).filter(|&at| at > self.at);
        self.until = after.min().unwrap_or(usize::MAX);
    }

    /// Returns the first instruction at which lanes wait, and a mask of the lanes that wait there. The caller
    /// guarantees that no lane runs.
    pub fn waiting(&self) -> Option<(usize, u32)> {
        self.others.first().map(|group| (group.at, group.lanes))
    }

    /// Moves all waiting lanes past their barrier.
    pub fn pass(&mut self) {
        for group in &mut self.others {
            (group.at, group.waits) = (group.at + 1, false);
        }
        self.choose();
    }

    /// Returns a mask of the lanes in which a predicate holds, or does not hold if `not` is set.
    #[inline(always)]
    pub fn guard(&self, predicate: u32, not: bool) -> u32 {
        let lanes = self.predicates[predicate as usize];
        if not { !lanes } else { lanes }
    }

    /// Stores a result. This function is not inlined, so that the code of all instructions stays small.
    #[inline(never)]
    pub fn put_words(&mut self, register: u32, values: &Words, lanes: u32) {
        let to = &mut self.words[register as usize];
        if lanes == ALL {
            *to = *values;
        } else {
            for lane in 0..LANES {
                to[lane] = if lanes >> lane & 1 == 1 { values[lane] } else { to[lane] };
            }
        }
    }

    #[inline(never)]
    pub fn put_wides(&mut self, register: u32, values: &Wides, lanes: u32) {
        let to = &mut self.wides[register as usize];
        if lanes == ALL {
            *to = *values;
        } else {
            for lane in 0..LANES {
                to[lane] = if lanes >> lane & 1 == 1 { values[lane] } else { to[lane] };
            }
        }
    }

    #[inline(always)]
    pub fn put_predicate(&mut self, register: u32, values: u32, lanes: u32) {
        let to = &mut self.predicates[register as usize];
        *to = *to & !lanes | values & lanes;
    }
}

/// Returns the numbers of the lanes in a mask.
pub fn lanes_of(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}
