//! The one thread that calls the runtime, with a stack that is large enough for it: large programs ran over one of 2
//! MiB.

use crate::neuron::fault::{Fault, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Address space only: pages that are not used are not there.
const STACK: usize = 128 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does what it is told, one thing after the other, and ends when this is dropped.
pub struct Worker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let (jobs, received) = channel::<Job>();
        let thread = Builder::new().name("evenkeel-neuron".into()).stack_size(STACK).spawn(move || {
            for job in received {
                job();
            }
        });
        let thread = thread.map_err(|error| Fault::unavailable(format!("a thread can't be started: {error}")))?;
        Ok(Worker { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has it do `work`, and waits.
    ///
    /// # Errors
    /// [`Fault::Panicked`] where `work` panics; the thread goes on.
    pub fn call<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R> {
        let (done, result) = sync_channel(1);
        let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            // Nobody else receives it, and the receiver waits.
            let _ = done.send(outcome);
        });
        // SAFETY: the job borrows for as long as this function runs, which waits below until `work` has been consumed
        // and its outcome sent, or until the job was dropped with all it holds.
        let job = unsafe { std::mem::transmute::<Box<dyn FnOnce() + Send + '_>, Job>(job) };
        if let Some(jobs) = &self.jobs {
            // A job that can't be sent comes back in the error and is dropped.
            let _ = jobs.send(job);
        }
        match result.recv() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(Fault::Panicked { message: told(&*panic) }),
            Err(_) => Err(Fault::Panicked { message: "the runtime's thread has ended".into() }),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Its jobs' panics are caught: there is none of its own.
            let _ = thread.join();
        }
    }
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn a_panic_is_an_error_and_the_thread_goes_on() {
        let worker = Worker::start().unwrap();
        let fault = worker.call(|| -> () { panic!("broken at {}", 7) }).unwrap_err();
        assert_eq!(fault, Fault::Panicked { message: "broken at 7".into() });
        let text = String::from("borrowed");
        assert_eq!(worker.call(|| text.len()), Ok(8));
    }

    #[test]
    fn its_stack_holds_what_other_threads_stacks_do_not() {
        fn deep(left: usize) -> usize {
            let frame = black_box([left; 1 << 10]);
            if left == 0 { 0 } else { deep(left - 1) + black_box(frame)[0] / left }
        }
        // 24 MiB at least, of frames of 8 KiB.
        assert_eq!(Worker::start().unwrap().call(|| deep(3 << 10)), Ok(3 << 10));
    }
}
