//! Reasons why a module cannot be decoded, and faults of a kernel that runs.

use std::fmt;

/// Reason why a module or a kernel cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleError {
    /// The interpreter does not support an instruction or a directive.
    Unknown {
        kernel: String,
        line: u32,
        text: String,
    },
    /// No register, label or variable has this name.
    Undeclared {
        kernel: String,
        line: u32,
        name: String,
    },
    NoKernel(String),
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModuleError::Unknown { kernel, line, text } => {
                write!(f, "kernel '{kernel}', line {line}: the interpreter does not support '{text}'")
            }
            ModuleError::Undeclared { kernel, line, name } => {
                write!(f, "kernel '{kernel}', line {line}: no register, label or variable is named '{name}'")
            }
            ModuleError::NoKernel(name) => write!(f, "the module has no kernel '{name}'"),
        }
    }
}

impl std::error::Error for ModuleError {}

/// Fault of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The thread accessed memory that the kernel may not access.
    Outside {
        space: &'static str,
        address: u64,
        bytes: usize,
        write: bool,
    },
    /// The address is not a multiple of the number of bytes.
    Misaligned {
        space: &'static str,
        address: u64,
        bytes: usize,
    },
    /// The address belongs to memory of another space.
    OtherSpace {
        space: &'static str,
        of: &'static str,
        address: u64,
    },
    /// Two threads accessed shared memory with no barrier between them, and at least one wrote.
    Race {
        address: u64,
        write: bool,
        other: u32,
        other_wrote: bool,
    },
    /// The thread read shared memory that no thread wrote.
    Unwritten {
        address: u64,
    },
    /// The thread waits for lanes of its warp that never arrive.
    NeverArrives {
        missing: u32,
    },
    /// The thread waits at a barrier that some threads of the block never reach. Or the thread has ended, and others
    /// wait at a barrier.
    Barrier,
    /// The thread received a value from a lane that does not take part in the operation.
    NoSource {
        lane: u32,
    },
    /// The mask of the thread's operation lacks the thread's own lane.
    NotMember {
        mask: u32,
    },
    /// The block executed more than this number of instructions.
    Endless(u64),
    Trap,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = |write: bool| if write { "writes" } else { "reads" };
        match self {
            Problem::Outside { space, address, bytes, write } => {
                write!(f, "{} {bytes} bytes at {address:#x}, outside of its {space} memory", verb(*write))
            }
            Problem::Misaligned { space, address, bytes } => {
                write!(
                    f,
                    "accesses {bytes} bytes of {space} memory at {address:#x}, which is not a multiple of {bytes}"
                )
            }
            Problem::OtherSpace { space, of, address } => {
                write!(f, "uses {address:#x}, an address in {of} memory, as an address in {space} memory")
            }
            Problem::Race { address, write, other, other_wrote } => {
                let (own, other_did) = (verb(*write), verb(*other_wrote));
                write!(
                    f,
                    "{own} shared memory at {address:#x}, which thread {other} {other_did} with no barrier between"
                )
            }
            Problem::Unwritten { address } => {
                write!(f, "reads shared memory at {address:#x}, which no thread of the block has written")
            }
            Problem::NeverArrives { missing } => {
                write!(f, "waits for lanes of its warp that never arrive: {missing:#010x}")
            }
            Problem::Barrier => write!(f, "waits at a barrier, or ended, while other threads of the block do not"),
            Problem::NoSource { lane } => write!(f, "receives the value of lane {lane}, which does not take part"),
            Problem::NotMember { mask } => write!(f, "is not in the mask of its operation: {mask:#010x}"),
            Problem::Endless(most) => write!(f, "still runs after {most} instructions of its block"),
            Problem::Trap => write!(f, "executes a trap"),
        }
    }
}

/// Fault of a kernel that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kernel: String,
    /// Line of the module, from 1.
    pub line: u32,
    pub instruction: String,
    pub block: u32,
    pub thread: u32,
    pub problem: Problem,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { kernel, line, instruction, block, thread, problem } = self;
        write!(f, "kernel {kernel}, line {line}, '{instruction}': thread {thread} of block {block} {problem}")
    }
}

/// Reason why a launch did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchError {
    /// A block has no threads, or more than the kernel supports.
    Threads {
        kernel: String,
        threads: u32,
        most: u32,
    },
    /// The size of the arguments is not the size of the kernel's parameters.
    Arguments {
        kernel: String,
        bytes: usize,
        expected: usize,
    },
    Fault(Box<Fault>),
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaunchError::Threads { kernel, threads, most } => {
                write!(f, "kernel {kernel} must be launched with 1 to {most} threads per block, got {threads}")
            }
            LaunchError::Arguments { kernel, bytes, expected } => {
                write!(f, "kernel {kernel} was launched with {bytes} bytes of arguments instead of {expected}")
            }
            LaunchError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for LaunchError {}

impl From<Box<Fault>> for LaunchError {
    fn from(fault: Box<Fault>) -> Self {
        LaunchError::Fault(fault)
    }
}
