//! Runs every chosen case with the contenders of this program.

use crate::contender::Contender;
use crate::exact::Exact;
use crate::float::Float;
use crate::ops::{self, Op, Visit};
use crate::peers::Rten;
use crate::plan::{Choice, kept};
use crate::problem::{Problem, Shape};
use crate::race::{Pace, Timed, race};
use crate::record::{Record, Times};
use crate::with_dtype;
use anyhow::{Context, Result};
use rayon::ThreadPool;

/// Smallest input, in bytes, that is also timed on several threads.
const SPREAD: usize = 8 << 20;

/// Runs the cases. If a pool is given and the inputs are large, evenkeel's slice functions are timed on the pool too.
pub fn run(choice: &Choice, rten: Option<&Rten>, pool: Option<&ThreadPool>) -> Result<Vec<Record>> {
    let mut races = Races { choice, rten, pool, records: Vec::new() };
    ops::each(&mut races)?;
    Ok(races.records)
}

struct Races<'a> {
    choice: &'a Choice,
    rten: Option<&'a Rten>,
    pool: Option<&'a ThreadPool>,
    records: Vec<Record>,
}

impl Visit for Races<'_> {
    fn op<O: Op>(&mut self) -> Result<()> {
        for (dtype, shape) in self.choice.cases::<O>() {
            let pace = if self.choice.quick { Pace::QUICK } else { Pace::FULL };
            let records = with_dtype!(dtype, E => case::<O, E>(shape, self.rten, self.pool, pace));
            let records = records.with_context(|| format!("{} in {dtype} of {shape}", O::NAME))?;
            for record in &records {
                println!("{record}");
            }
            self.records.extend(records);
        }
        Ok(())
    }
}

fn case<O: Op, E: Float>(
    shape: Shape,
    rten: Option<&Rten>,
    pool: Option<&ThreadPool>,
    pace: Pace,
) -> Result<Vec<Record>> {
    let problem = Problem::<E>::new(shape, O::INPUTS);
    let (elements, x) = (shape.elements(), problem.x());
    let results = O::RESULTS.rows(shape) * O::RESULTS.of_row(shape.cols());
    let mut contenders = O::contenders(&problem, rten)?;
    if let Some(pool) = pool.filter(|_| size_of_val(x) >= SPREAD) {
        let again = O::contenders(&problem, None)?.into_iter().filter(|contender| contender.name == "evenkeel");
        contenders.extend(again.map(|contender| contender.on(pool)).filter(|contender| contender.threads > 1));
    }
    let baselines = [
        Contender::into("copy", |y: &mut [E]| y.copy_from_slice(x)),
        Contender::into("read", |y: &mut [E]| y[0] = E::narrow(E::read(x) as f32)),
    ];
    let unchecked = baselines.len();
    let all = baselines.into_iter().chain(contenders.into_iter().map(|contender| contender.of_first(results)));
    let exact = Exact::of::<O, E>(&problem);
    let record = |(i, timed): (usize, Timed<E>)| Record {
        op: O::NAME.into(),
        dtype: E::NAME.into(),
        shape: shape.to_string(),
        contender: timed.name.into(),
        form: timed.form.into(),
        threads: timed.threads,
        times: Times::of(&timed.turns, elements),
        errors: timed.result.as_ref().ok().filter(|_| i >= unchecked).map(|result| exact.errors(result)),
        result: None,
        note: timed.result.err().map(|refused| first_line(&refused)),
    };
    Ok(race(all.collect(), elements, kept::<O>(shape), pace).into_iter().enumerate().map(record).collect())
}

/// Returns the first line of an error's text.
fn first_line(error: &anyhow::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().into()
}
