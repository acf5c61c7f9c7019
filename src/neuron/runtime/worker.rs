//! The single thread that calls the runtime. It has a large stack, because large programs overflowed a stack of 2 MiB.

use crate::error::fault::{Fault, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Size of the stack in bytes. Pages that are never used take only address space, not memory.
const STACK: usize = 128 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs jobs in order, and ends when this struct is dropped.
pub struct Worker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread.
    pub fn start() -> Result<Self> {
        let (jobs, received) = channel::<Job>();
        let thread = Builder::new().name("evenkeel-neuron".into()).stack_size(STACK).spawn(move || {
            for job in received {
                job();
            }
        });
        let thread =
            thread.map_err(|error| Fault::unavailable(format!("cannot start the runtime's thread: {error}")))?;
        Ok(Worker { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `work` on the thread, and waits for its result.
    ///
    /// # Errors
    /// [`Fault::Panicked`] if `work` panics; the thread continues.
    pub fn call<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R> {
        let (done, result) = sync_channel(1);
        let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            // Sending cannot fail, because the only receiver is waiting.
            let _ = done.send(outcome);
        });
        // SAFETY: the job's borrows live until this function returns. The function waits below until `work` is consumed
        // and its outcome sent, or until the job is dropped.
        let job = unsafe { std::mem::transmute::<Box<dyn FnOnce() + Send + '_>, Job>(job) };
        if let Some(jobs) = &self.jobs {
            // If sending fails, the error contains the job, which is dropped here.
            let _ = jobs.send(job);
        }
        match result.recv() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(Fault::Panicked { message: describe(&*panic) }),
            Err(_) => Err(Fault::Panicked { message: "the runtime's thread has ended".into() }),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // The thread does not panic, because panics of its jobs are caught.
            let _ = thread.join();
        }
    }
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
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
        // The recursion uses at least 24 MiB of stack, in frames of 8 KiB. It would overflow the default stack of a
        // thread, which has 2 MiB.
        assert_eq!(Worker::start().unwrap().call(|| deep(3 << 10)), Ok(3 << 10));
    }
}
