//! Small kernels for the tests.

use evenkeel_ptx_emulator::{Grid, LaunchError, Memory, Module, ModuleError, Order, Problem};

/// Returns the text of a kernel `k` with these statements. Its parameter is the address of the output, which is in
/// `%rd1`. The kernel has 64 bytes of dynamic shared memory.
pub fn text(statements: &str) -> String {
    format!(
        ".version 7.0\n.target sm_80\n.address_size 64\n\
         .const .align 8 .b8 TABLE[8] = {{1, 0, 0, 0, 2, 0, 0, 0}};\n\
         .global .align 4 .u32 COUNTER = 5;\n\
         .extern .shared .align 16 .b8 dynamic[];\n\
         .visible .entry k(\n.param .u64 p0\n)\n.maxntid 128, 1, 1\n{{\n\
         .reg .pred %p<20>;\n.reg .b16 %rs<20>;\n.reg .b32 %r<40>;\n.reg .f32 %f<20>;\n.reg .b64 %rd<40>;\n\
         .reg .f64 %fd<20>;\n.shared .align 16 .b8 shared[512];\n\
         ld.param.u64 %rd1, [p0];\nmov.u32 %r1, %tid.x;\n{statements}\nret;\n}}\n"
    )
}

/// Runs a kernel with an output of 64 bytes, aligned to 16, and returns the output.
pub fn run(statements: &str, threads: u32) -> Result<[u64; 8], LaunchError> {
    run_in(statements, threads, Order::Forward)
}

pub fn run_in(statements: &str, threads: u32, order: Order) -> Result<[u64; 8], LaunchError> {
    Ok(counted(statements, threads, order)?.0)
}

/// Runs a kernel. Returns the output, and how many times a warp executed each instruction.
pub fn counted(statements: &str, threads: u32, order: Order) -> Result<([u64; 8], Vec<u64>), LaunchError> {
    let kernel = Module::parse(&text(statements)).unwrap().kernel("k").unwrap_or_else(|error| panic!("{error}"));
    let mut output = [0u128; 4];
    let address = output.as_mut_ptr().expose_provenance() as u64;
    let mut memory = Memory::default();
    memory.add(address, 64, true);
    // SAFETY: the range is the output, which nothing else accesses.
    let counts =
        unsafe { kernel.run(Grid { blocks: 1, threads, shared: 64, order }, &address.to_le_bytes(), &memory) }?;
    Ok((std::array::from_fn(|i| (output[i / 2] >> (64 * (i % 2))) as u64), counts))
}

/// Runs a kernel and returns its fault.
pub fn problem(statements: &str, threads: u32) -> Problem {
    match run(statements, threads) {
        Err(LaunchError::Fault(fault)) => fault.problem,
        other => panic!("the kernel must end with a fault, got {other:?}"),
    }
}

/// Returns the error of a kernel that cannot be decoded.
pub fn refusal(statements: &str) -> ModuleError {
    Module::parse(&text(statements)).unwrap().kernel("k").unwrap_err()
}

/// Runs one instruction, and returns its result. The first of `words` is in `%r11`, `%f1`, `%rs1` and `%p1`, the second
/// in `%r12`, `%f2`, `%rs2` and `%p2`, and so on. The first of `wides` is in `%rd11` and `%fd1`. The instruction must
/// write its result to `%r10`, `%f0`, `%rs0`, `%rd10`, `%fd0` or `%p0`.
pub fn eval(instruction: &str, words: &[u32], wides: &[u64]) -> u64 {
    let mut statements = String::new();
    for (i, word) in (1..).zip(words) {
        statements += &format!(
            "mov.b32 %r1{i}, {word};\nmov.b32 %f{i}, %r1{i};\ncvt.u16.u32 %rs{i}, %r1{i};\nsetp.ne.s32 %p{i}, %r1{i}, 0;\n"
        );
    }
    for (i, wide) in (1..).zip(wides) {
        statements += &format!("mov.b64 %rd1{i}, {wide};\nmov.b64 %fd{i}, %rd1{i};\n");
    }
    statements += instruction;
    let written = instruction.split_whitespace().nth(1).unwrap().trim_end_matches(',').split('|').next().unwrap();
    statements += &match written.trim_start_matches('%').trim_end_matches(|c: char| c.is_ascii_digit()) {
        "r" => "\nst.global.u32 [%rd1], %r10;".to_string(),
        "f" => "\nst.global.f32 [%rd1], %f0;".to_string(),
        "rs" => "\nst.global.u16 [%rd1], %rs0;".to_string(),
        "rd" => "\nst.global.u64 [%rd1], %rd10;".to_string(),
        "fd" => "\nst.global.f64 [%rd1], %fd0;".to_string(),
        "p" => "\nselp.u32 %r10, 1, 0, %p0;\nst.global.u32 [%rd1], %r10;".to_string(),
        other => panic!("{instruction}: the result's register must be %r, %f, %rs, %rd, %fd or %p, got %{other}"),
    };
    run(&statements, 1).unwrap_or_else(|error| panic!("{instruction}: {error}"))[0]
}

/// Runs one instruction on f32.
pub fn f32s(instruction: &str, operands: &[f32]) -> f32 {
    let words: Vec<u32> = operands.iter().map(|v| v.to_bits()).collect();
    f32::from_bits(eval(instruction, &words, &[]) as u32)
}
