//! Evenkeel and its competitors on the same inputs: time, beside a copy of as many bytes, and error.

mod clock;
mod contender;
mod exact;
mod float;
mod inputs;
mod ops;
mod peers;
mod plan;
mod problem;
mod race;
mod record;
mod rust;

fn main() -> anyhow::Result<()> {
    use clap::Parser;
    #[derive(Parser)]
    struct A {
        #[command(flatten)]
        choice: plan::Choice,
        #[arg(long)]
        rten: Option<std::path::PathBuf>,
    }
    let a = A::parse();
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let rten = a.rten.map(|p| peers::Rten::load(&p)).transpose()?;
    rust::run(&a.choice, rten.as_ref())?;
    Ok(())
}
