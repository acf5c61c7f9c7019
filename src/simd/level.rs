//! Choice of the instruction set. The default is the best one that the CPU has. `EVENKEEL_SIMD` or [`with_level`] can
//! select another.

use super::block::Isa;
#[cfg(any(feature = "portable", not(target_arch = "x86_64")))]
use super::portable::Portable;
use crate::error::{Error, Result};
use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::features::{enabled, with_avx2, with_avx512};
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// Environment variable that forces an instruction set.
const VARIABLE: &str = "EVENKEEL_SIMD";

/// Instruction set. All instruction sets give the same bits, at different speeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Plain Rust, which runs on every machine. On x86-64 it needs the feature `portable`.
    Portable,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, VL, BW and DQ. Kernels that AVX-512 hardly speeds up run their code for AVX2.
    Avx512,
}

impl Level {
    /// All levels, the slowest first.
    pub const ALL: &[Level] = &[Level::Portable, Level::Avx2, Level::Avx512];

    /// Returns whether this machine can run the level and this build has code for it.
    pub fn is_available(self) -> bool {
        Token::new(self).is_some()
    }

    /// Returns the level's name, as `EVENKEEL_SIMD` accepts it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    fn best() -> Self {
        *Self::ALL.iter().rev().find(|l| l.is_available()).unwrap_or(&Level::Portable)
    }

    fn require(self) -> Result<Token> {
        Token::new(self).ok_or_else(|| Error::Unavailable {
            backend: self.name().into(),
            reason: match self {
                Level::Portable => {
                    "this build needs a CPU with AVX2, FMA and F16C; enable the feature `portable` for other x86-64 CPUs"
                        .into()
                }
                Level::Avx2 | Level::Avx512 => {
                    format!(
                        "this machine does not support this instruction set; the best available one is {}",
                        Self::best()
                    )
                }
            },
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = Error;

    /// Parses `portable`, `avx2`, `avx512` or `auto` (the best this machine has).
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::best()),
            _ => Self::ALL.iter().copied().find(|l| l.name() == name).ok_or_else(|| {
                Error::unavailable(name, "unknown instruction set; it must be auto, portable, avx2 or avx512")
            }),
        }
    }
}

thread_local! {
    static FORCED: Cell<Option<Token>> = const { Cell::new(None) };
}

/// Returns the instruction set used by ops called from this thread. The innermost [`with_level`] selects the
/// instruction set. Without [`with_level`], `EVENKEEL_SIMD` selects the instruction set. Without either, ops use the
/// best instruction set that the machine has.
///
/// # Errors
/// [`Error::Unavailable`] if `EVENKEEL_SIMD` names an unknown or unavailable instruction set. Every op then returns
/// this error.
///
/// ```
/// println!("running on {}", evenkeel::simd::level()?);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn level() -> Result<Level> {
    Token::current().map(Token::level)
}

/// Runs `f`, and makes the ops that `f` calls from this thread use `level`. A large op uses `level` on all of its
/// threads. A thread that waits in a large op may run tasks of other requests. These tasks do not use `level`, just as
/// [`report::scope`](crate::report::scope()) does not count them.
///
/// # Errors
/// [`Error::Unavailable`] if [`Level::is_available`] is false; `f` is then not called.
///
/// ```
/// use evenkeel::simd::{Level, with_level};
/// // On x86-64 with the feature `portable`.
/// let a = with_level(Level::Portable, || evenkeel::exp(&[1.0f32, -2.5]))??;
/// let b = evenkeel::exp(&[1.0f32, -2.5])?;
/// assert_eq!(a, b); // the same bits
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn with_level<R>(level: Level, f: impl FnOnce() -> R) -> Result<R> {
    /// Restores the choice of the enclosing [`with_level`], even when `f` unwinds.
    struct Restore(Option<Token>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let token = level.require()?;
    let _restore = Restore(FORCED.replace(Some(token)));
    Ok(f())
}

/// Removes the choice of the innermost [`with_level`] from this thread and returns it.
#[cfg(feature = "parallel")]
pub(crate) fn take_forced() -> Option<Token> {
    FORCED.take()
}

/// Restores the choice that [`take_forced`] returned.
#[cfg(feature = "parallel")]
pub(crate) fn put_forced(forced: Option<Token>) {
    FORCED.set(forced);
}

/// Computation that is generic over the instruction set.
///
/// `run_portable`, `run_avx2` and `run_avx512` are methods of the trait, so that rustc puts their code into the codegen
/// unit of the kernel's module. The kernels of different modules can then be compiled in parallel.
pub trait Kernel: Sized {
    type Out;
    /// Whether the kernel is also compiled for AVX-512. Otherwise, CPUs with AVX-512 run the code for AVX2. The
    /// constant is false for kernels that AVX-512 hardly speeds up, because the additional code costs compile time and
    /// code size.
    const GAINS_FROM_AVX512: bool = true;

    /// Runs the kernel. Must be `#[inline(always)]`, like everything it calls: code that is not inlined is compiled
    /// without the vector instructions.
    fn run<I: Isa>(self, isa: I) -> Self::Out;

    #[cfg(any(feature = "portable", not(target_arch = "x86_64")))]
    #[inline(never)]
    fn run_portable(self, isa: Portable) -> Self::Out {
        self.run(isa)
    }

    #[cfg(target_arch = "x86_64")]
    with_avx2! { enabled
        /// # Safety
        /// The CPU must have the instructions, as the token proves.
        #[inline(never)]
        unsafe fn run_avx2(self, isa: Avx2) -> Self::Out {
            self.run(isa)
        }
    }

    #[cfg(target_arch = "x86_64")]
    with_avx512! { enabled
        /// # Safety
        /// The CPU must have the instructions, as the token proves.
        #[inline(never)]
        unsafe fn run_avx512(self, isa: Avx512) -> Self::Out {
            self.run(isa)
        }
    }
}

/// Returns the function, but hides its identity from the compiler, which therefore cannot inline it. rustc 1.95 ignores
/// `#[inline(never)]` on functions with target features.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn not_inlined<K, I, O>(function: unsafe fn(K, I) -> O) -> unsafe fn(K, I) -> O {
    #[cfg(not(miri))]
    {
        let mut function = function;
        // SAFETY: the assembly contains no instruction, so it does not use the pointer.
        #[allow(clippy::pointers_in_nomem_asm_block)]
        unsafe {
            std::arch::asm!("/* {} */", inout(reg) function, options(pure, nomem, nostack, preserves_flags))
        };
        function
    }
    #[cfg(miri)]
    function
}

/// Token of a level that is available on this machine.
#[derive(Clone, Copy)]
pub enum Token {
    #[cfg(any(feature = "portable", not(target_arch = "x86_64")))]
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Token {
    fn new(level: Level) -> Option<Self> {
        match level {
            #[cfg(any(feature = "portable", not(target_arch = "x86_64")))]
            Level::Portable => Some(Token::Portable(Portable)),
            #[cfg(not(any(feature = "portable", not(target_arch = "x86_64"))))]
            Level::Portable => None,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Avx2::detect().map(Token::Avx2),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Avx512::detect().map(Token::Avx512),
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => None,
        }
    }

    /// Returns the instruction set for ops called from this thread.
    pub fn current() -> Result<Self> {
        static CHOSEN: OnceLock<Result<Token>> = OnceLock::new();
        if let Some(forced) = FORCED.get() {
            return Ok(forced);
        }
        CHOSEN
            .get_or_init(|| match std::env::var_os(VARIABLE) {
                None => Level::best().require(),
                Some(name) => name.to_string_lossy().parse::<Level>().and_then(Level::require),
            })
            .clone()
            .map_err(|e| match e {
                Error::Unavailable { backend, reason } => Error::unavailable(format!("{VARIABLE}={backend}"), reason),
                other => other,
            })
    }

    fn level(self) -> Level {
        match self {
            #[cfg(any(feature = "portable", not(target_arch = "x86_64")))]
            Token::Portable(_) => Level::Portable,
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => Level::Avx512,
        }
    }

    /// Runs the kernel in code compiled for this level.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self {
            #[cfg(any(feature = "portable", not(target_arch = "x86_64")))]
            Token::Portable(isa) => isa.outline(kernel),
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(isa) => isa.outline(kernel),
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(isa) => isa.outline(kernel),
        }
    }
}
