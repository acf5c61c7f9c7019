//! Splits a module's text into variables and kernels, and a kernel's body into statements.

use crate::op::{Space, Type};
use crate::problem::ModuleError;
use std::collections::HashMap;

/// Variable in constant, global or shared memory.
#[derive(Clone, Debug)]
pub struct Variable {
    pub space: Space,
    pub name: String,
    pub align: usize,
    pub bytes: usize,
    /// Initial bytes; empty if the variable has none.
    pub initial: Vec<u8>,
}

/// Text of one kernel.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Byte range of the body in the module's text, without its braces.
    pub body: std::ops::Range<usize>,
    /// Line of the module at which the body begins, from 1.
    pub line: u32,
    /// Names, sizes and offsets of the parameters.
    pub parameters: Vec<(String, usize, usize)>,
    pub parameter_bytes: usize,
    /// Largest number of threads in a block.
    pub most_threads: u32,
}

/// Statement of a body: a brace, a label with its colon, a directive or an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'t> {
    pub text: &'t str,
    pub line: u32,
}

/// A module's variables and kernels.
pub type Parts = (Vec<Variable>, HashMap<String, Entry>);

const ENTRY: &str = ".entry ";

pub fn parse(text: &str) -> Result<Parts, ModuleError> {
    let mut variables = Vec::new();
    let mut entries = HashMap::new();
    let (mut at, mut line) = (0, 1);
    while at < text.len() {
        let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let statement = without_comment(&text[at..end]).trim();
        if let Some(found) = statement.find(ENTRY) {
            let name = statement[found + ENTRY.len()..].split('(').next().unwrap_or("").trim().to_string();
            let (entry, after) = entry(text, at, line)?;
            line += count_lines(&text[at..after]);
            at = after;
            entries.insert(name, entry);
            continue;
        }
        // Only dynamic shared memory is declared as external.
        let declared = statement.strip_prefix(".extern ").unwrap_or(statement);
        if [".const", ".global", ".shared"].iter().any(|space| declared.starts_with(space)) {
            variables.push(variable(declared).ok_or_else(|| unknown(line, statement))?);
        } else if !statement.is_empty()
            && ![".version", ".target", ".address_size"].iter().any(|s| statement.starts_with(s))
        {
            return Err(unknown(line, statement));
        }
        (at, line) = (end + 1, line + 1);
    }
    Ok((variables, entries))
}

fn unknown(line: u32, text: &str) -> ModuleError {
    ModuleError::Unknown { kernel: String::new(), line, text: text.chars().take(120).collect() }
}

fn count_lines(text: &str) -> u32 {
    text.bytes().filter(|&byte| byte == b'\n').count() as u32
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// Parses the kernel at this offset. Returns the offset after the kernel's closing brace.
fn entry(text: &str, at: usize, line: u32) -> Result<(Entry, usize), ModuleError> {
    let broken = || unknown(line, text[at..].lines().next().unwrap_or(""));
    let open = at + text[at..].find('(').ok_or_else(broken)?;
    let close = open + text[open..].find(')').ok_or_else(broken)?;
    let mut parameters = Vec::new();
    let mut offset = 0;
    for parameter in text[open + 1..close].split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let of = variable(parameter).ok_or_else(|| unknown(line, parameter))?;
        offset = usize::next_multiple_of(offset, of.align);
        parameters.push((of.name, of.bytes, offset));
        offset += of.bytes;
    }
    let start = close + text[close..].find('{').ok_or_else(broken)?;
    let mut most_threads = 1024;
    for directive in text[close + 1..start].lines().map(str::trim) {
        if let Some(sizes) = directive.strip_prefix(".maxntid").or(directive.strip_prefix(".reqntid")) {
            let sizes = sizes.split(',').map(|size| size.trim().parse::<u32>());
            most_threads = sizes.product::<Result<u32, _>>().map_err(|_| broken())?;
        }
    }
    let mut depth = 0;
    for (i, byte) in text[start..].bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let body = start + 1..start + i;
            let line = line + count_lines(&text[at..start]);
            return Ok((Entry { body, line, parameters, parameter_bytes: offset, most_threads }, start + i + 1));
        }
    }
    Err(broken())
}

/// Parses the declaration of a variable or a parameter.
pub fn variable(text: &str) -> Option<Variable> {
    let (declared, initial) = match text.trim_end_matches(';').split_once('=') {
        Some((declared, initial)) => (declared, Some(initial)),
        None => (text.trim_end_matches(';'), None),
    };
    let mut words = declared.split_whitespace().peekable();
    let space = match words.next()? {
        ".const" => Space::Const,
        ".global" => Space::Global,
        ".shared" => Space::Shared,
        ".param" => Space::Param,
        _ => return None,
    };
    let mut align = None;
    if words.peek() == Some(&".align") {
        words.next();
        align = Some(words.next()?.parse::<usize>().ok()?);
    }
    let of = Type::parse(words.next()?.strip_prefix('.')?)?;
    let rest: String = words.collect();
    let (name, dims) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
    // The dimension `[]` declares dynamic shared memory, whose size the launch determines.
    let mut count = usize::from(dims != "[]");
    for dim in dims.split(['[', ']']).filter(|dim| !dim.is_empty()) {
        count *= dim.parse::<usize>().ok()?;
    }
    let mut bytes = Vec::new();
    for value in initial.unwrap_or("").split(['{', '}', ',']).map(str::trim).filter(|value| !value.is_empty()) {
        bytes.extend_from_slice(&number(value, of)?.to_le_bytes()[..of.bytes()]);
    }
    if bytes.len() > count * of.bytes() {
        return None;
    }
    Some(Variable {
        space,
        name: name.to_string(),
        align: align.unwrap_or(of.bytes()).max(1),
        bytes: count * of.bytes(),
        initial: bytes,
    })
}

/// Parses a number as an immediate of this type: decimal, hexadecimal, or the bits of a float.
pub fn number(text: &str, of: Type) -> Option<u64> {
    if let Some(bits) = text.strip_prefix("0f").or(text.strip_prefix("0F")) {
        let bits = u32::from_str_radix(bits, 16).ok()?;
        return Some(if of.bytes() == 8 { f64::from(f32::from_bits(bits)).to_bits() } else { bits.into() });
    }
    if let Some(bits) = text.strip_prefix("0d").or(text.strip_prefix("0D")) {
        let bits = u64::from_str_radix(bits, 16).ok()?;
        return Some(if of.bytes() == 8 { bits } else { (f64::from_bits(bits) as f32).to_bits().into() });
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let digits = digits.trim_end_matches('U');
    let value = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if negative { value.wrapping_neg() } else { value })
}

/// Splits a body into statements.
pub fn statements<'t>(body: &'t str, mut line: u32) -> Vec<Statement<'t>> {
    let mut found = Vec::new();
    let bytes = body.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\n' => (at, line) = (at + 1, line + 1),
            byte if byte.is_ascii_whitespace() || byte == b';' => at += 1,
            b'/' if body[at..].starts_with("//") => at = body[at..].find('\n').map_or(body.len(), |end| at + end),
            b'{' | b'}' => {
                found.push(Statement { text: &body[at..=at], line });
                at += 1;
            }
            _ => {
                let rest = &body[at..];
                let semicolon = rest.find(';').unwrap_or(rest.len());
                let word = rest.len() - rest.trim_start_matches(is_of_name).len();
                let text = match rest[word..].starts_with(':') && word > 0 {
                    true => &rest[..=word],
                    false => rest[..semicolon].trim_end(),
                };
                found.push(Statement { text, line });
                line += count_lines(text);
                at += text.len();
            }
        }
    }
    found
}

/// Returns whether a character may be a part of the name of a register, a label or a variable.
pub fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%')
}
