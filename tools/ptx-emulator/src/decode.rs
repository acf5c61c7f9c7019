//! Decodes the statements of a kernel: registers, labels and operands. `mnemonic.rs` decodes what an instruction does.

use crate::kernel::{Kernel, MULTIPROCESSORS, SHARED_START, Special};
use crate::mnemonic;
use crate::op::{Bank, Inst, LANES, NONE, Op, Space, Type};
use crate::problem::ModuleError;
use crate::text::{Statement, Variable, is_of_name, number, variable};
use std::collections::HashMap;

pub type Result<T> = std::result::Result<T, ModuleError>;

/// Registers of one declaration.
#[derive(Clone, Copy)]
struct Declared {
    bank: Bank,
    first: u32,
}

pub struct Decoder {
    kernel: String,
    symbols: HashMap<String, (Space, u64)>,
    shared_bytes: usize,
    /// Registers by name, for each open scope.
    scopes: Vec<HashMap<String, Declared>>,
    counts: [u32; 3],
    immediates: HashMap<(Bank2, u64), u32>,
    specials: HashMap<Special, u32>,
    labels: HashMap<String, usize>,
    /// Index of each branch in `code`, and its label. The target is set at the end, because labels may follow branches.
    branches: Vec<(usize, String)>,
    code: Vec<Inst>,
    origins: Vec<(u32, Box<str>)>,
    line: u32,
    text: String,
}

/// A [`Bank`] as a part of a map's key.
type Bank2 = u8;

impl Decoder {
    pub fn new(kernel: &str, symbols: HashMap<String, (Space, u64)>) -> Self {
        Decoder {
            kernel: kernel.to_string(),
            symbols,
            shared_bytes: 0,
            scopes: vec![HashMap::new()],
            counts: [0; 3],
            immediates: HashMap::new(),
            specials: HashMap::new(),
            labels: HashMap::new(),
            branches: Vec::new(),
            code: Vec::new(),
            origins: Vec::new(),
            line: 0,
            text: String::new(),
        }
    }

    pub fn symbol(&mut self, name: &str, space: Space, address: u64) {
        self.symbols.insert(name.to_string(), (space, address));
    }

    /// Adds a variable in shared memory.
    pub fn shared(&mut self, variable: &Variable) {
        let at = self.shared_bytes.next_multiple_of(variable.align);
        self.shared_bytes = at + variable.bytes;
        self.symbol(&variable.name, Space::Shared, SHARED_START + at as u64);
    }

    /// Returns the error that the current statement is not supported.
    pub fn unknown(&self) -> ModuleError {
        ModuleError::Unknown { kernel: self.kernel.clone(), line: self.line, text: self.text.clone() }
    }

    fn undeclared(&self, name: &str) -> ModuleError {
        ModuleError::Undeclared { kernel: self.kernel.clone(), line: self.line, name: name.to_string() }
    }

    fn at(&mut self, statement: Statement<'_>) {
        self.line = statement.line;
        self.text = statement.text.to_string();
    }

    /// Declares the shared variable of a statement, if it declares one. All variables are declared before the first
    /// instruction is decoded, because an instruction may precede the declaration.
    pub fn declare(&mut self, statement: Statement<'_>) -> Result<()> {
        self.at(statement);
        if statement.text.starts_with(".shared") {
            let of = variable(statement.text).ok_or_else(|| self.unknown())?;
            self.shared(&of);
        }
        Ok(())
    }

    pub fn statement(&mut self, statement: Statement<'_>) -> Result<()> {
        self.at(statement);
        let text = statement.text;
        match text {
            "{" => self.scopes.push(HashMap::new()),
            "}" => {
                self.scopes.pop();
            }
            _ if text.ends_with(':') => {
                self.labels.insert(text.trim_end_matches(':').to_string(), self.code.len());
            }
            _ if text.starts_with(".reg") => self.registers(text)?,
            _ if text.starts_with(".shared") || text.starts_with(".pragma") || text.starts_with(".loc") => {}
            _ if text.starts_with('.') => return Err(self.unknown()),
            _ => {
                let inst = self.instruction(text)?;
                self.code.push(inst);
                self.origins.push((statement.line, text.split_whitespace().collect::<Vec<_>>().join(" ").into()));
            }
        }
        Ok(())
    }

    fn registers(&mut self, text: &str) -> Result<()> {
        let (of, names) = text[".reg".len()..].trim().split_once(' ').ok_or_else(|| self.unknown())?;
        let of = of.strip_prefix('.').and_then(Type::parse).ok_or_else(|| self.unknown())?;
        for name in names.split(',').map(str::trim) {
            let (name, count) = match name.split_once('<') {
                Some((name, count)) => (name, count.trim_end_matches('>').parse().map_err(|_| self.unknown())?),
                None => (name, 0),
            };
            // The prefix of numbered registers may equal the name of a register without a number, so the prefix's key
            // ends with `#`.
            let first = self.reserve(of.bank(), count.max(1));
            let declared = Declared { bank: of.bank(), first };
            let key = if count > 0 { format!("{name}#") } else { name.to_string() };
            self.scopes.last_mut().expect("a register must be declared inside a scope").insert(key, declared);
        }
        Ok(())
    }

    /// Reserves `count` registers, and returns the first.
    fn reserve(&mut self, bank: Bank, count: u32) -> u32 {
        let of = &mut self.counts[bank as usize];
        *of += count;
        *of - count
    }

    /// Finds a declared register.
    fn find(&self, name: &str) -> Option<(Bank, u32)> {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (prefix, digits) = name.split_at(name.len() - digits);
        let numbered = format!("{prefix}#");
        self.scopes.iter().rev().find_map(|scope| {
            let exact = scope.get(name).map(|found| (found.bank, found.first));
            exact.or_else(|| {
                Some((scope.get(&numbered)?.bank, scope.get(&numbered)?.first + digits.parse::<u32>().ok()?))
            })
        })
    }

    fn special(&mut self, name: &str) -> Option<u32> {
        let special = match name {
            "%tid.x" => Special::Tid,
            "%ntid.x" => Special::Ntid,
            "%ctaid.x" => Special::Ctaid,
            "%nctaid.x" => Special::Nctaid,
            "%dynamic_smem_size" => Special::DynamicShared,
            "%laneid" => Special::LaneId,
            "%smid" => Special::Smid,
            "%nsmid" => Special::Always(MULTIPROCESSORS),
            "%lanemask_lt" => Special::LaneMask(true, false),
            "%lanemask_le" => Special::LaneMask(true, true),
            "%lanemask_gt" => Special::LaneMask(false, false),
            "%lanemask_ge" => Special::LaneMask(false, true),
            "%tid.y" | "%tid.z" | "%ctaid.y" | "%ctaid.z" => Special::Always(0),
            "%ntid.y" | "%ntid.z" | "%nctaid.y" | "%nctaid.z" => Special::Always(1),
            "WARP_SZ" => Special::Always(LANES as u32),
            _ => return None,
        };
        if let Some(found) = self.specials.get(&special) {
            return Some(*found);
        }
        let register = self.reserve(Bank::Word, 1);
        self.specials.insert(special, register);
        Some(register)
    }

    /// Returns the register of a constant.
    pub fn immediate(&mut self, bank: Bank, value: u64) -> u32 {
        let value = match bank {
            Bank::Pred => value & 1,
            Bank::Word => value & 0xffff_ffff,
            Bank::Wide => value,
        };
        if let Some(found) = self.immediates.get(&(bank as Bank2, value)) {
            return *found;
        }
        let register = self.reserve(bank, 1);
        self.immediates.insert((bank as Bank2, value), register);
        register
    }

    /// Returns the register of an operand that the instruction reads as this type.
    pub fn operand(&mut self, text: &str, of: Type) -> Result<u32> {
        match self.operand_of_any_bank(text, of)? {
            (bank, register) if bank == of.bank() => Ok(register),
            _ => Err(self.unknown()),
        }
    }

    /// Returns the register of an operand. The register may be wider than the operand's type, as in loads, stores and
    /// conversions.
    pub fn operand_of_any_bank(&mut self, text: &str, of: Type) -> Result<(Bank, u32)> {
        if let Some(register) = self.special(text) {
            return Ok((Bank::Word, register));
        }
        if let Some(found) = self.find(text) {
            return Ok(found);
        }
        let value = match number(text, of) {
            Some(value) if of.bytes() == 2 => value & 0xffff,
            Some(value) => value,
            None => self.symbols.get(text).ok_or_else(|| self.undeclared(text))?.1,
        };
        Ok((of.bank(), self.immediate(of.bank(), value)))
    }

    /// Returns a register that the instruction writes as this type.
    pub fn result(&mut self, text: &str, of: Type) -> Result<u32> {
        // `_` means that the result is not used.
        if text == "_" {
            return Ok(self.reserve(of.bank(), 1));
        }
        match self.find(text) {
            Some((bank, register)) if bank == of.bank() => Ok(register),
            Some(_) => Err(self.unknown()),
            None => Err(self.undeclared(text)),
        }
    }

    pub fn result_of_any_bank(&self, text: &str) -> Result<(Bank, u32)> {
        self.find(text).ok_or_else(|| self.undeclared(text))
    }

    /// Parses `[base+offset]`. Returns the base's bank and register, and the offset. If the base is a variable, also
    /// returns the variable's space.
    pub fn address(&mut self, text: &str) -> Result<(Bank, u32, i64, Option<Space>)> {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or_else(|| self.unknown())?;
        let length = inner.len() - inner.trim_start_matches(is_of_name).len();
        let (base, offset) = inner.split_at(length);
        let offset = offset.trim_start_matches('+');
        let offset = match offset.is_empty() {
            true => 0,
            false => number(offset, Type::S64).ok_or_else(|| self.unknown())? as i64,
        };
        if let Some((space, address)) = self.symbols.get(base).copied() {
            return Ok((Bank::Wide, self.immediate(Bank::Wide, address), offset, Some(space)));
        }
        let (bank, register) = self.operand_of_any_bank(base, Type::U64)?;
        Ok((bank, register, offset, None))
    }

    fn instruction(&mut self, text: &str) -> Result<Inst> {
        let (mut guard, mut guard_not, mut rest) = (NONE, false, text);
        if let Some(guarded) = text.strip_prefix('@') {
            let (predicate, after) = guarded.split_once(char::is_whitespace).ok_or_else(|| self.unknown())?;
            guard_not = predicate.starts_with('!');
            guard = self.operand(predicate.trim_start_matches('!'), Type::Pred)?;
            rest = after.trim();
        }
        let (mnemonic, operands) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let operands = split(operands);
        let mut inst = if mnemonic == "bra" || mnemonic == "bra.uni" {
            let [label] = operands.as_slice() else { return Err(self.unknown()) };
            self.branches.push((self.code.len(), label.to_string()));
            inst(Op::Bra, &[])
        } else {
            mnemonic::decode(self, mnemonic, &operands)?
        };
        (inst.guard, inst.guard_not) = (guard, guard_not);
        Ok(inst)
    }

    pub fn finish(mut self) -> Result<Kernel> {
        for (at, label) in std::mem::take(&mut self.branches) {
            self.line = self.origins[at].0;
            self.code[at].imm = *self.labels.get(&label).ok_or_else(|| self.undeclared(&label))? as i64;
        }
        // A kernel may end without `ret`.
        self.code.push(inst(Op::Ret, &[]));
        self.origins.push((self.line, "}".into()));
        let bank = |bank: Bank2| [Bank::Pred, Bank::Word, Bank::Wide][bank as usize];
        let [predicates, words, wides] = self.counts.map(|count| count as usize);
        Ok(Kernel {
            name: self.kernel,
            code: self.code,
            origins: self.origins,
            words,
            wides,
            predicates,
            immediates: self.immediates.into_iter().map(|((of, value), r)| (bank(of), r, value)).collect(),
            specials: self.specials.into_iter().collect(),
            shared_bytes: self.shared_bytes,
            constants: [].into(),
            globals: [].into(),
            parameter_bytes: 0,
            most_threads: 0,
        })
    }
}

/// Creates an instruction with these registers.
pub fn inst(op: Op, registers: &[u32]) -> Inst {
    let mut r = [NONE; 6];
    r[..registers.len()].copy_from_slice(registers);
    Inst { op, guard: NONE, guard_not: false, r, imm: 0 }
}

/// Splits a list of operands at the commas outside of braces.
fn split(operands: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in operands.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(operands[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    let last = operands[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}
