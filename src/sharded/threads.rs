//! Ranks that are threads of one process, for tests.

use super::collective::Collective;
use crate::error::{Error, Result};
use crate::simd::{filled, reserve};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A rank that is a thread of this process. If a rank is dropped, calls of the other ranks fail at once.
///
/// ```
/// use evenkeel::sharded::{Collective, Threads};
/// use std::time::Duration;
/// let ranks = Threads::new(3, Duration::from_secs(5))?;
/// let sums: Vec<u64> = std::thread::scope(|scope| {
///     let each: Vec<_> = ranks
///         .into_iter()
///         .map(|rank| {
///             scope.spawn(move || {
///                 let mut word = [rank.rank() as u64];
///                 rank.sum(&mut word).map(|()| word[0])
///             })
///         })
///         .collect();
///     each.into_iter().map(|rank| rank.join().unwrap().unwrap()).collect()
/// });
/// assert_eq!(sums, [3, 3, 3]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    size: usize,
    timeout: Duration,
    rendezvous: Arc<Rendezvous>,
}

#[derive(Debug, Default)]
struct Rendezvous {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Words of each rank for an exchange that is not complete yet.
    brought: Vec<Option<Brought>>,
    /// Words of all ranks. They are set once the exchange is complete, and cleared once every rank has taken them.
    full: Option<Arc<Vec<Brought>>>,
    /// Number of ranks that have not yet taken the words of the complete exchange.
    to_take: usize,
    gone: Vec<bool>,
    /// Error that ended the group. After this error no exchange can complete.
    broken: Option<Broken>,
}

type Brought = (&'static str, Vec<u64>);

#[derive(Clone, Debug)]
struct Broken {
    rank: usize,
    reason: String,
}

/// Maximum duration of one wait, after which a thread checks the clock again. Every operating system accepts this
/// duration.
const LONG: Duration = Duration::from_secs(3600);

impl Threads {
    /// Creates `size` ranks. None of their calls waits longer than `timeout`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if an allocation fails.
    pub fn new(size: usize, timeout: Duration) -> Result<Vec<Self>> {
        const OP: &str = "threads";
        let mut ranks = reserve(OP, "the ranks", size)?;
        let (brought, gone) = (filled(OP, "the ranks", size, None)?, filled(OP, "the ranks", size, false)?);
        let state = State { brought, gone, ..State::default() };
        let rendezvous = Arc::new(Rendezvous { state: Mutex::new(state), changed: Condvar::new() });
        ranks.extend((0..size).map(|rank| Threads { rank, size, timeout, rendezvous: rendezvous.clone() }));
        Ok(ranks)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent even if a thread panicked, because each change is made in one step.
        self.rendezvous.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Contributes words to an exchange, and returns the words of all ranks.
    fn exchange(&self, what: &'static str, words: &[u64]) -> Result<Arc<Vec<Brought>>> {
        // A deadline beyond the clock's range never passes.
        let deadline = Instant::now().checked_add(self.timeout);
        let mut state = self.state();
        // Wait until every rank has taken the words of the previous exchange.
        state = self.wait(what, state, deadline, |state| state.full.is_none())?;
        state.brought[self.rank] = Some((what, words.to_vec()));
        if state.brought.iter().all(Option::is_some) {
            let all: Vec<Brought> = state.brought.iter_mut().filter_map(Option::take).collect();
            state.full = Some(Arc::new(all));
            state.to_take = self.size;
            self.rendezvous.changed.notify_all();
        }
        state = self.wait(what, state, deadline, |state| state.full.is_some())?;
        let all = state.full.clone().unwrap_or_default();
        state.to_take -= 1;
        if state.to_take == 0 {
            state.full = None;
            self.rendezvous.changed.notify_all();
        }
        drop(state);
        match all.iter().position(|(other, theirs)| *other != what || theirs.len() != words.len()) {
            None => Ok(all),
            Some(rank) => {
                let (other, theirs) = &all[rank];
                let reason = format!(
                    "rank {rank} calls {other} with {} words, but rank {} calls {what} with {}",
                    theirs.len(),
                    self.rank,
                    words.len()
                );
                Err(Error::Collective { op: what, rank: Some(rank), reason })
            }
        }
    }

    fn wait<'s>(
        &self,
        what: &'static str,
        mut state: MutexGuard<'s, State>,
        deadline: Option<Instant>,
        ready: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'s, State>> {
        loop {
            let left = deadline.map_or(LONG, |deadline| deadline.saturating_duration_since(Instant::now()).min(LONG));
            if state.broken.is_none() {
                if ready(&state) {
                    return Ok(state);
                }
                state.broken = self.breaks(&state, left);
                if state.broken.is_some() {
                    self.rendezvous.changed.notify_all();
                }
            }
            if let Some(Broken { rank, reason }) = state.broken.clone() {
                return Err(Error::Collective { op: what, rank: Some(rank), reason });
            }
            let waited = self.rendezvous.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns an error if a rank was dropped before it joined, or if the time is up.
    fn breaks(&self, state: &State, left: Duration) -> Option<Broken> {
        let missing: Vec<usize> = (0..self.size).filter(|rank| state.brought[*rank].is_none()).collect();
        if let (Some(rank), None) = (missing.iter().find(|rank| state.gone[**rank]), &state.full) {
            return Some(Broken { rank: *rank, reason: format!("rank {rank} was dropped") });
        }
        let rank = *missing.first()?;
        let missing: Vec<String> = missing.iter().map(|rank| format!("rank {rank}")).collect();
        let reason = format!("timed out after {1:?} waiting for {0}", missing.join(", "), self.timeout);
        left.is_zero().then_some(Broken { rank, reason })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.state().gone[self.rank] = true;
        self.rendezvous.changed.notify_all();
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn max(&self, words: &mut [u64]) -> Result<()> {
        for (_, theirs) in self.exchange("max", words)?.iter() {
            words.iter_mut().zip(theirs).for_each(|(word, other)| *word = (*word).max(*other));
        }
        Ok(())
    }

    fn sum(&self, words: &mut [u64]) -> Result<()> {
        let all = self.exchange("sum", words)?;
        words.fill(0);
        for (_, theirs) in all.iter() {
            words.iter_mut().zip(theirs).for_each(|(word, other)| *word = word.wrapping_add(*other));
        }
        Ok(())
    }

    fn gather(&self, words: &[u64]) -> Result<Vec<u64>> {
        Ok(self.exchange("gather", words)?.iter().flat_map(|(_, theirs)| theirs.iter().copied()).collect())
    }
}
