//! Faults that the interpreter must report.

use crate::support::{problem, refusal, run, run_in};
use evenkeel_ptx_emulator::{ModuleError, Order, Problem};

/// Each of 64 threads writes a word to shared memory, and reads the word that a thread of the other warp wrote.
const EXCHANGE: &str = "mov.u32 %r2, shared;\nshl.b32 %r3, %r1, 2;\nadd.s32 %r4, %r2, %r3;\nst.shared.u32 [%r4], %r1;\n\
    bar.sync 0;\nxor.b32 %r5, %r3, 128;\nadd.s32 %r6, %r2, %r5;\nld.shared.u32 %r7, [%r6];\n\
    setp.eq.s32 %p1, %r1, 40;\n@%p1 st.global.u32 [%rd1], %r7;";

#[test]
fn races_between_warps() {
    for order in [Order::Forward, Order::Backward, Order::Random(3)] {
        assert_eq!(run_in(EXCHANGE, 64, order).unwrap()[0], 8);
    }
    let without = EXCHANGE.replace("bar.sync 0;\n", "");
    // In forward order, the first warp reads words that the second warp has not written yet.
    assert!(matches!(problem(&without, 64), Problem::Unwritten { .. }));
    // All threads wrote before the barrier. Only a barrier between the reads and the new writes is missing.
    let again = format!("{EXCHANGE}\nst.shared.u32 [%r4], 0;");
    let problem = problem(&again, 64);
    assert!(matches!(problem, Problem::Race { write: false, other_wrote: true, other: 0..32, .. }), "{problem}");
    assert!(run(&format!("{EXCHANGE}\nbar.sync 0;\nst.shared.u32 [%r4], 0;"), 64).is_ok());
}

#[test]
fn races_of_writes() {
    let same = "mov.u32 %r2, shared;\nst.shared.u32 [%r2], %r1;";
    assert!(matches!(problem(same, 64), Problem::Race { write: true, other_wrote: true, .. }));
    assert!(run(same, 1).is_ok());
    assert!(
        run("mov.u32 %r2, shared;\nst.shared.u32 [%r2], 7;", 64).is_ok(),
        "writes of the same value by all threads must not be reported as a race"
    );
    let atomic = "mov.u32 %r2, shared;\nsetp.eq.s32 %p1, %r1, 0;\n@%p1 st.shared.u32 [%r2], 0;\nbar.sync 0;\n\
        atom.shared.add.u32 %r3, [%r2], 1;\nbar.sync 0;\nld.shared.u32 %r4, [%r2];\n@%p1 st.global.u32 [%rd1], %r4;";
    assert_eq!(run(atomic, 64).unwrap()[0], 64);
    let early = atomic.replace("bar.sync 0;\nld.shared", "ld.shared");
    assert!(matches!(problem(&early, 64), Problem::Race { .. }));
}

#[test]
fn races_within_a_warp() {
    let exchange = "mov.u32 %r2, shared;\nshl.b32 %r3, %r1, 2;\nadd.s32 %r4, %r2, %r3;\nst.shared.u32 [%r4], %r1;\n\
        bar.warp.sync -1;\nxor.b32 %r5, %r3, 4;\nadd.s32 %r6, %r2, %r5;\nld.shared.u32 %r7, [%r6];";
    assert!(run(exchange, 32).is_ok());
    let without = exchange.replace("bar.warp.sync -1;\n", "");
    assert!(matches!(problem(&without, 32), Problem::Race { write: false, other_wrote: true, .. }));
}

#[test]
fn copies() {
    let copy = "mov.u32 %r2, dynamic;\nst.global.u32 [%rd1], 7;\ncp.async.cg.shared.global [%r2], [%rd1], 16;\n\
        cp.async.wait_all;\nld.shared.u32 %r3, [%r2];\nmov.u32 %r4, %dynamic_smem_size;\n\
        add.u32 %r3, %r3, %r4;\nst.global.u32 [%rd1], %r3;";
    assert_eq!(run(copy, 1).unwrap()[0] as u32, 64 + 7);
    assert!(matches!(problem(&copy.replace("cp.async.wait_all;\n", ""), 1), Problem::Unwritten { .. }));
    assert!(matches!(problem(&copy.replace("[%r2], [", "[%r2+64], ["), 1), Problem::Outside { space: "shared", .. }));
    assert!(matches!(problem(copy, 2), Problem::Race { .. }));
}

#[test]
fn addresses() {
    assert!(matches!(problem("st.global.u32 [%rd1+64], %r1;", 1), Problem::Outside { write: true, bytes: 4, .. }));
    assert!(matches!(problem("ld.global.u64 %rd2, [%rd1+-8];", 1), Problem::Outside { write: false, .. }));
    assert!(matches!(problem("st.global.v4.u32 [%rd1+8], {%r1, %r1, %r1, %r1};", 1), Problem::Misaligned { .. }));
    assert!(matches!(problem("st.global.u32 [%rd1+2], %r1;", 1), Problem::Misaligned { bytes: 4, .. }));
    assert!(matches!(
        problem("mov.u32 %r2, shared;\nst.shared.v2.u32 [%r2+4], {%r1, %r1};", 1),
        Problem::Misaligned { .. }
    ));
    assert!(matches!(problem("mov.u32 %r2, shared;\nst.shared.u32 [%r2+576], %r1;", 1), Problem::Outside { .. }));
    assert!(matches!(problem("mov.u32 %r2, shared;\nst.shared.u32 [%r2+-4], %r1;", 1), Problem::Outside { .. }));
    assert!(matches!(problem("ld.const.u32 %r2, [TABLE+8];", 1), Problem::Outside { space: "constant", .. }));
    assert!(matches!(problem("mov.u32 %r2, shared;\nld.shared.u32 %r3, [%r2];", 1), Problem::Unwritten { .. }));
}

#[test]
fn state_spaces() {
    let of = |statements: &str| match problem(statements, 1) {
        Problem::OtherSpace { space, of, .. } => (space, of),
        other => panic!("{statements}: {other}"),
    };
    assert_eq!(of("mov.u64 %rd2, shared;\nst.global.u32 [%rd2], %r1;"), ("global", "shared"));
    assert_eq!(of("mov.u64 %rd2, shared;\nst.u32 [%rd2], %r1;"), ("global", "shared"));
    assert_eq!(
        of("mov.u64 %rd2, shared;\ncvta.shared.u64 %rd3, %rd2;\nst.global.u32 [%rd3], %r1;"),
        ("global", "shared")
    );
    assert_eq!(of("mov.u64 %rd2, TABLE;\nld.global.u32 %r2, [%rd2];"), ("global", "constant"));
    assert!(matches!(problem("st.shared.u32 [%rd1], %r1;", 1), Problem::Outside { space: "shared", .. }));
    assert!(matches!(problem("ld.const.u32 %r2, [%rd1];", 1), Problem::Outside { space: "constant", .. }));
    assert!(matches!(refusal("ld.shared.u32 %r2, [TABLE];"), ModuleError::Unknown { .. }));
}

#[test]
fn threads_that_never_arrive() {
    let some = "setp.lt.u32 %p1, %r1, 40;\n@%p1 bra SOME;\nbra.uni END;\nSOME:\nbar.sync 0;\nEND:";
    assert!(matches!(problem(some, 64), Problem::NeverArrives { missing: 0xffff_ff00 }));
    let whole_warp = some.replace("40", "32");
    assert_eq!(problem(&whole_warp, 64), Problem::Barrier);
    assert_eq!(problem("setp.eq.s32 %p1, %r1, 0;\n@%p1 bar.sync 0;", 32), Problem::Barrier);
    let shuffle = "setp.eq.s32 %p1, %r1, 3;\n@%p1 bra END;\nshfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;\nEND:";
    assert!(matches!(problem(shuffle, 32), Problem::NeverArrives { missing: 8 }));
    // One lane waits at an operation that the other lanes do not reach.
    let apart = "setp.eq.s32 %p1, %r1, 3;\n@%p1 bra APART;\nredux.sync.add.u32 %r2, %r1, -1;\nbra.uni END;\n\
        APART:\nbar.warp.sync -1;\nEND:";
    assert!(matches!(problem(apart, 32), Problem::NeverArrives { .. }));
    assert_eq!(problem("shfl.sync.idx.b32 %r2, %r1, 9, 31, 255;", 8), Problem::NoSource { lane: 9 });
    assert_eq!(problem("bar.warp.sync 1;", 2), Problem::NotMember { mask: 1 });
}

#[test]
fn instructions_that_are_not_supported() {
    for text in
        ["add.rn.ftz.f32 %f0, %f1, %f2", "cvt.f32.f64 %f0, %fd1", "add.sat.s32 %r2, %r1, %r1", "tex.1d %r1, %r2"]
    {
        let error = refusal(&format!("{text};"));
        assert_eq!(error, ModuleError::Unknown { kernel: "k".to_string(), line: 21, text: text.to_string() });
        assert!(error.to_string().contains(text) && error.to_string().contains("line 21"));
    }
    // The registers must have the type of the instruction.
    assert!(matches!(refusal("add.s64 %rd2, %rd3, %r1;"), ModuleError::Unknown { .. }));
    assert!(matches!(refusal("add.s32 %r2, %r3, %x1;"), ModuleError::Undeclared { name, .. } if name == "%x1"));
    assert!(matches!(refusal("bra NOWHERE;"), ModuleError::Undeclared { name, .. } if name == "NOWHERE"));
}
