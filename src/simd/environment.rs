//! The floating-point environment: rounding mode, treatment of subnormals, traps.
//!
//! Results are defined for the default environment: round to nearest even, subnormals kept, exceptions masked. A host
//! may run its threads in another environment. For example, programs linked with `-ffast-math` flush subnormals. A new
//! thread inherits the environment of its creator. All float computations therefore run through [`in_default`]. If the
//! environment is not the default, [`in_default`] sets the default and restores the caller's environment at the end,
//! even when unwinding.
//!
//! If the environment is the default already, [`in_default`] only reads it and compares it with the default. This
//! happens once for each call of an op, and once for each part of a call that is spread over threads.
//!
//! Sticky exception flags are not part of the results. In the default environment, operations add their flags to the
//! caller's flags. Calls from any other environment restore the caller's flags unchanged.

use register::{DEFAULT, FLAGS, Word};
use std::cell::Cell;

thread_local! {
    /// Environment of the caller, if this module has set the default environment on this thread.
    static CALLERS: Cell<Option<Word>> = const { Cell::new(None) };
}

/// Runs `f` in the default environment, then restores the caller's environment.
#[inline]
pub(crate) fn in_default<R>(f: impl FnOnce() -> R) -> R {
    let _entered = enter();
    // Float operations have no side effects, so the compiler could move one across the assembly that changes the
    // register. `opaque` prevents this: the compiler must assume that the assembly in `opaque` reads and writes the
    // data that `f` uses.
    let mut f = f;
    opaque(&mut f);
    let mut result = f();
    opaque(&mut result);
    result
}

/// Sets the default floating-point environment until the returned guard is dropped. Returns `None` if it is already
/// set. The compiler may move float operations across this call, but not calls of functions that it does not inline,
/// such as those of [`super::level::Kernel`]. Float operations outside of such functions need [`in_default`] instead.
#[inline]
pub(crate) fn enter() -> Option<Entered> {
    let callers = register::read();
    (callers & !FLAGS != DEFAULT).then(|| Entered::new(callers))
}

/// Guard of a scope that runs in the default environment. Dropping the guard restores the caller's environment, even
/// when unwinding.
pub(crate) struct Entered {
    callers: Word,
    /// Environment that the enclosing guard restores, if guards are nested.
    outer: Option<Word>,
}

impl Entered {
    #[cold]
    #[inline(never)]
    fn new(callers: Word) -> Self {
        let entered = Entered { callers, outer: CALLERS.replace(Some(callers)) };
        register::set(DEFAULT);
        entered
    }
}

impl Drop for Entered {
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        CALLERS.set(self.outer);
        register::set(self.callers);
    }
}

/// Keeps the compiler from assuming anything about the value, or about the data it points to.
#[inline(always)]
fn opaque<T>(value: &mut T) {
    #[cfg(all(
        any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64", target_arch = "riscv64"),
        not(miri)
    ))]
    // SAFETY: the assembly contains no instruction.
    unsafe {
        std::arch::asm!("/* {} */", in(reg) &raw mut *value, options(nostack, preserves_flags))
    };
    // On other machines the environment is never changed.
    #[cfg(not(all(
        any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64", target_arch = "riscv64"),
        not(miri)
    )))]
    let _ = value;
}

/// Restores the caller's environment while this thread waits, because the thread may run tasks of other code meanwhile.
#[cfg(feature = "parallel")]
pub(crate) fn leave() -> Left {
    let callers = CALLERS.take();
    if let Some(callers) = callers {
        register::set(callers);
    }
    Left(callers)
}

/// Guard of a scope that runs in the caller's float environment. Dropping the guard sets the default environment
/// again.
#[cfg(feature = "parallel")]
pub(crate) struct Left(Option<Word>);

#[cfg(feature = "parallel")]
impl Drop for Left {
    fn drop(&mut self) {
        if self.0.is_some() {
            CALLERS.set(self.0);
            register::set(DEFAULT);
        }
    }
}

// Why `set` is sound on every machine: Rust code assumes the default environment. This crate sets the default
// environment before its first float operation, and restores the host's environment after its last float operation. A
// host that runs in another environment is responsible for its own code.

/// Register access on x86: MXCSR.
#[cfg(all(any(target_arch = "x86_64", all(target_arch = "x86", target_feature = "sse2")), not(miri)))]
mod register {
    use std::arch::asm;

    pub type Word = u32;
    /// Round to nearest even, with all exceptions masked.
    pub const DEFAULT: Word = 0x1f80;
    pub const FLAGS: Word = 0x3f;

    #[inline(always)]
    pub fn read() -> Word {
        let mut word = 0;
        // SAFETY: the instruction writes the four bytes of `word` and changes no flags.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        word
    }

    #[inline(always)]
    pub fn set(word: Word) {
        // SAFETY: see the comment before the modules. The instruction reads the four bytes of `word`. The reserved bits
        // of `word` are zero, as they were when it was read.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack)) };
    }
}

/// Register access on AArch64: FPCR. The sticky flags are in another register.
#[cfg(all(target_arch = "aarch64", not(miri)))]
mod register {
    use std::arch::asm;

    pub type Word = u64;
    pub const DEFAULT: Word = 0;
    pub const FLAGS: Word = 0;

    #[inline(always)]
    pub fn read() -> Word {
        let word;
        // SAFETY: any program may read the register.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    #[inline(always)]
    pub fn set(word: Word) {
        // SAFETY: any program may write the register; see the comment before the modules.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack)) };
    }
}

/// Register access on RISC-V: the rounding mode, which is the whole environment there.
#[cfg(all(target_arch = "riscv64", not(miri)))]
mod register {
    use std::arch::asm;

    pub type Word = u64;
    pub const DEFAULT: Word = 0;
    pub const FLAGS: Word = 0;

    #[inline(always)]
    pub fn read() -> Word {
        let word;
        // SAFETY: any program may read the register.
        unsafe { asm!("frrm {}", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    #[inline(always)]
    pub fn set(word: Word) {
        // SAFETY: any program may write the register; see the comment before the modules.
        unsafe { asm!("fsrm {}", in(reg) word, options(nostack)) };
    }
}

/// Machines without a floating-point environment, such as WebAssembly, and machines whose environment is not managed
/// here.
#[cfg(any(
    miri,
    not(any(
        target_arch = "x86_64",
        all(target_arch = "x86", target_feature = "sse2"),
        target_arch = "aarch64",
        target_arch = "riscv64"
    ))
))]
mod register {
    pub type Word = u32;
    pub const DEFAULT: Word = 0;
    pub const FLAGS: Word = 0;

    #[inline(always)]
    pub fn read() -> Word {
        DEFAULT
    }

    #[inline(always)]
    pub fn set(_: Word) {}
}
