//! Compares the times of an engine's own sampler and of Evenkeel's, on Linux. The files `times.rs` of vllm.rs and
//! candle-vllm use it.

use std::process::Command;

/// Number of turns. In a turn, each of the two programs is started once.
const TURNS: usize = 5;

/// Shortest CPU time of a measurement, in seconds. A shorter measurement would be inaccurate, because the kernel
/// updates the time of a running thread only every few milliseconds.
const LENGTH: f64 = 0.15;

/// The name of a case, and a function that runs one step.
pub type Case<'a> = (&'a str, Box<dyn FnMut() + 'a>);

/// Compares the speed of the unchanged and of the changed engine.
///
/// In the unchanged engine's program, this function only saves a copy of the program. In the changed engine's program,
/// it runs the copy and the program itself alternately, on one thread. For each case, it prints the shortest time of
/// each program, in microseconds per step. It measures CPU time, so that other programs on the machine have less
/// influence.
pub fn compare(is_changed: bool, cases: Vec<Case>) {
    if std::env::args().any(|argument| argument == "measure") {
        return measure(cases);
    }
    let this = std::env::current_exe().unwrap();
    let copy = this.with_file_name("times-before");
    if !is_changed {
        std::fs::copy(this, copy).unwrap();
        return println!("the times are measured after the change");
    }
    let mut least = vec![[f64::INFINITY; 2]; cases.len()];
    for _ in 0..TURNS {
        for (program, column) in [(&copy, 0), (&this, 1)] {
            let output = Command::new(program).arg("measure").env("RAYON_NUM_THREADS", "1").output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            for (line, least) in String::from_utf8(output.stdout).unwrap().lines().zip(&mut least) {
                least[column] = least[column].min(line.parse().unwrap());
            }
        }
    }
    for ((name, _), [before, after]) in cases.iter().zip(least) {
        println!("{name}: {before:.0} us before, {after:.0} us after, {:.1} times as fast", before / after);
    }
}

/// Prints the mean time per step of each case.
fn measure(cases: Vec<Case>) {
    for (_, mut step) in cases {
        let mut steps = 1;
        let elapsed = loop {
            let begin = cpu_seconds();
            (0..steps).for_each(|_| step());
            let elapsed = cpu_seconds() - begin;
            if elapsed > LENGTH {
                break elapsed;
            }
            steps *= 2;
        };
        println!("{}", elapsed / f64::from(steps) * 1e6);
    }
}

/// Returns the CPU time of all threads of this process.
fn cpu_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = |thread: std::io::Result<std::fs::DirEntry>| -> f64 {
        let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    threads.map(nanoseconds).sum::<f64>() * 1e-9
}
