//! Compares the times of the engine's sampler and of its replacement.

use std::process::Command;
use std::time::Instant;

/// Number of turns. Each program is started once per turn.
const TURNS: usize = 5;

/// A case's name and one step of it.
pub type Case<'a> = (&'a str, Box<dyn FnMut() + 'a>);

/// Prints the times of each case, in microseconds per step.
///
/// The first build of the tests, from the unchanged engine, leaves a copy of itself. A build of the changed engine runs
/// this copy and itself in turns. The printed times are the shortest, because other programs may run on the machine.
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
            let output = Command::new(program).arg("measure").output().unwrap();
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

/// Prints the shortest time of each case over half a second, and over at least 10 steps.
fn measure(cases: Vec<Case>) {
    for (_, mut step) in cases {
        let (begin, mut least, mut steps) = (Instant::now(), f64::INFINITY, 0);
        while steps < 10 || begin.elapsed().as_secs_f64() < 0.5 {
            let start = Instant::now();
            step();
            least = least.min(start.elapsed().as_secs_f64() * 1e6);
            steps += 1;
        }
        println!("{least}");
    }
}
