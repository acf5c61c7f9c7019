//! Modules, and their kernels as decoded instructions.

use crate::decode::Decoder;
use crate::op::{Bank, Inst, Op, Space};
use crate::problem::ModuleError;
use crate::text::{self, Entry, Variable};
use std::collections::HashMap;
use std::sync::Arc;

/// Address of the first variable in shared memory. It is not 0, so that small numbers are not valid addresses.
pub const SHARED_START: u64 = 1 << 10;
/// Number of multiprocessors of the device.
pub const MULTIPROCESSORS: u32 = 4;
/// Address of the first variable in constant memory.
pub const CONST_START: u64 = 1 << 20;

/// A module of PTX.
#[derive(Clone, Debug)]
pub struct Module {
    text: Arc<str>,
    entries: HashMap<String, Entry>,
    variables: Vec<Variable>,
    /// Addresses of the variables outside of kernels.
    symbols: HashMap<String, (Space, u64)>,
    constants: Arc<[u8]>,
    globals: Arc<[GlobalMemory]>,
}

/// Memory of a variable in global memory. It is aligned to 16 bytes, because kernels may access vectors of this size.
#[derive(Debug)]
pub struct GlobalMemory {
    memory: Vec<std::cell::UnsafeCell<u128>>,
    bytes: usize,
}

// SAFETY: only kernels access the memory. Callers of kernels guarantee that kernels that write the same memory run one
// after another.
unsafe impl Sync for GlobalMemory {}

impl GlobalMemory {
    fn of(variable: &Variable) -> Self {
        let mut bytes = variable.initial.clone();
        bytes.resize(variable.bytes.next_multiple_of(16), 0);
        let number =
            |part: &[u8]| u128::from_le_bytes(part.try_into().expect("each chunk of the variable must have 16 bytes"));
        let memory = bytes.chunks(16).map(|part| number(part).into()).collect();
        GlobalMemory { memory, bytes: variable.bytes }
    }

    pub fn range(&self) -> std::ops::Range<u64> {
        let start = self.memory.as_ptr() as u64;
        start..start + self.bytes as u64
    }
}

impl Module {
    /// Parses the text of a module. Kernels are decoded by [`Module::kernel`].
    ///
    /// # Errors
    /// [`ModuleError`] if the text outside of kernels cannot be parsed.
    pub fn parse(text: &str) -> Result<Self, ModuleError> {
        let (variables, entries) = text::parse(text)?;
        let mut symbols = HashMap::new();
        let (mut constants, mut globals) = (Vec::<u8>::new(), Vec::new());
        for variable in &variables {
            let address = match variable.space {
                Space::Const => {
                    constants.resize(constants.len().next_multiple_of(variable.align), 0);
                    let at = constants.len();
                    constants.extend_from_slice(&variable.initial);
                    constants.resize(at + variable.bytes, 0);
                    CONST_START + at as u64
                }
                Space::Global => {
                    globals.push(GlobalMemory::of(variable));
                    globals[globals.len() - 1].range().start
                }
                _ => continue,
            };
            symbols.insert(variable.name.clone(), (variable.space, address));
        }
        Ok(Module {
            text: text.into(),
            entries,
            variables,
            symbols,
            constants: constants.into(),
            globals: globals.into(),
        })
    }

    /// Returns the names of the kernels.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Decodes a kernel.
    ///
    /// # Errors
    /// [`ModuleError`] if there is no such kernel, or if it has an instruction that the interpreter does not support.
    pub fn kernel(&self, name: &str) -> Result<Kernel, ModuleError> {
        let entry = self.entries.get(name).ok_or_else(|| ModuleError::NoKernel(name.to_string()))?;
        let statements = text::statements(&self.text[entry.body.clone()], entry.line);
        let mut decoder = Decoder::new(name, self.symbols.clone());
        for (parameter, _, offset) in &entry.parameters {
            decoder.symbol(parameter, Space::Param, *offset as u64);
        }
        // Each kernel that names one of the module's shared variables reserves memory for that variable.
        let body = &self.text[entry.body.clone()];
        for variable in &self.variables {
            if variable.space == Space::Shared && variable.bytes > 0 && body.contains(&variable.name) {
                decoder.shared(variable);
            }
        }
        for statement in &statements {
            decoder.declare(*statement)?;
        }
        // Dynamic shared memory follows all other variables.
        for variable in self.variables.iter().filter(|of| of.space == Space::Shared && of.bytes == 0) {
            decoder.shared(variable);
        }
        for statement in &statements {
            decoder.statement(*statement)?;
        }
        let mut kernel = decoder.finish()?;
        kernel.parameter_bytes = entry.parameter_bytes;
        kernel.most_threads = entry.most_threads;
        kernel.constants = self.constants.clone();
        kernel.globals = self.globals.clone();
        Ok(kernel)
    }
}

/// Register whose value the launch determines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    Tid,
    Ntid,
    Ctaid,
    Nctaid,
    /// Number of bytes of dynamic shared memory.
    DynamicShared,
    LaneId,
    /// Multiprocessor of the block.
    Smid,
    /// Mask of the lanes before a lane if the first flag is set, otherwise of the lanes after it. If the second flag is
    /// set, the mask includes the lane itself.
    LaneMask(bool, bool),
    /// A constant, such as the index 0 of a dimension that is not used.
    Always(u32),
}

/// A decoded kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub name: String,
    pub(crate) code: Vec<Inst>,
    /// Line and text of each instruction.
    pub(crate) origins: Vec<(u32, Box<str>)>,
    pub(crate) words: usize,
    pub(crate) wides: usize,
    pub(crate) predicates: usize,
    pub(crate) immediates: Vec<(Bank, u32, u64)>,
    pub(crate) specials: Vec<(Special, u32)>,
    pub(crate) shared_bytes: usize,
    pub(crate) constants: Arc<[u8]>,
    pub(crate) globals: Arc<[GlobalMemory]>,
    pub(crate) parameter_bytes: usize,
    pub(crate) most_threads: u32,
}

impl Kernel {
    /// Returns the number of instructions.
    pub fn len(&self) -> usize {
        self.code.len()
    }

    pub fn is_empty(&self) -> bool {
        self.code.is_empty()
    }

    /// Returns the number of bytes of the arguments.
    pub fn argument_bytes(&self) -> usize {
        self.parameter_bytes
    }

    /// Returns the size in bytes of the smallest access to shared memory. The sizes of all accesses are multiples of
    /// it.
    pub(crate) fn grain(&self) -> usize {
        let sizes = self.code.iter().filter_map(|inst| match inst.op {
            Op::Load(access) | Op::Store(access) | Op::Atom(_, access)
                if matches!(access.space, Space::Shared | Space::Generic) =>
            {
                Some(access.bytes())
            }
            _ => None,
        });
        sizes.min().unwrap_or(16)
    }
}
