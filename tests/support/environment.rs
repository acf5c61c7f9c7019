//! Non-default floating-point environments, as a host program may set them on its threads.

#![allow(unsafe_code)]
// Unused items are allowed, because each test program uses only a part of this module.
#![allow(dead_code)]

use std::arch::asm;
use std::hint::black_box;

/// Floating-point setting that a host program changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Environment {
    /// FTZ: subnormal results become 0.
    FlushToZero,
    /// DAZ: subnormal operands are read as 0.
    DenormalsAreZero,
    /// FTZ and DAZ, as set by `-ffast-math`.
    NoSubnormals,
    Downward,
    Upward,
    TowardZero,
    /// Unmasked exceptions: any operation that rounds ends the program.
    Trapping,
}

impl Environment {
    /// Environments that change the results of ordinary arithmetic.
    #[cfg(target_arch = "x86_64")]
    pub const ALL: [Environment; 6] = [
        Environment::FlushToZero,
        Environment::DenormalsAreZero,
        Environment::NoSubnormals,
        Environment::Downward,
        Environment::Upward,
        Environment::TowardZero,
    ];

    /// Environments that change the results of ordinary arithmetic. On this architecture, one bit (FZ) has the effects
    /// of both FTZ and DAZ.
    #[cfg(target_arch = "aarch64")]
    pub const ALL: [Environment; 4] =
        [Environment::NoSubnormals, Environment::Downward, Environment::Upward, Environment::TowardZero];

    /// Returns the value of the MXCSR register in this environment.
    #[cfg(target_arch = "x86_64")]
    fn word(self) -> u64 {
        match self {
            Environment::FlushToZero => 0x9f80,
            Environment::DenormalsAreZero => 0x1fc0,
            Environment::NoSubnormals => 0x9fc0,
            Environment::Downward => 0x3f80,
            Environment::Upward => 0x5f80,
            Environment::TowardZero => 0x7f80,
            Environment::Trapping => 0,
        }
    }

    /// Returns the value of the FPCR register in this environment.
    #[cfg(target_arch = "aarch64")]
    fn word(self) -> u64 {
        match self {
            Environment::FlushToZero | Environment::DenormalsAreZero | Environment::NoSubnormals => 1 << 24,
            Environment::Downward => 2 << 22,
            Environment::Upward => 1 << 22,
            Environment::TowardZero => 3 << 22,
            Environment::Trapping => 0x1f << 8,
        }
    }

    /// Runs `f` in this environment. `f` must only call the library, because the environment would also change
    /// arithmetic in `f` itself.
    #[inline(never)]
    pub fn run<R>(self, f: impl FnOnce() -> R) -> R {
        struct GiveBack(u64);
        impl Drop for GiveBack {
            fn drop(&mut self) {
                set(self.0);
            }
        }
        let f = black_box(f);
        let give_back = GiveBack(control());
        set(self.word());
        let result = black_box(black_box(f)());
        drop(give_back);
        result
    }

    /// Returns whether the thread is in this environment.
    pub fn is_set(self) -> bool {
        control() == self.word()
    }
}

/// Returns whether the thread is in the default environment.
pub fn is_default() -> bool {
    control() == if cfg!(target_arch = "x86_64") { 0x1f80 } else { 0 }
}

/// Reads the control register without its sticky flags.
#[cfg(target_arch = "x86_64")]
fn control() -> u64 {
    let mut word = 0u32;
    // SAFETY: the instruction writes four bytes, the size of `word`.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
    u64::from(word & !0x3f)
}

#[cfg(target_arch = "x86_64")]
fn set(word: u64) {
    let word = word as u32;
    // SAFETY: the instruction reads four bytes, the size of `word`. `Environment::run` restricts the code that runs in
    // the environment.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack)) };
}

#[cfg(target_arch = "aarch64")]
fn control() -> u64 {
    let word;
    // SAFETY: any program may read the register.
    unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nostack, preserves_flags)) };
    word
}

#[cfg(target_arch = "aarch64")]
fn set(word: u64) {
    // SAFETY: any program may write the register. `Environment::run` restricts the code that runs in the environment.
    unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack)) };
}
