//! Copies of a value in the memory of devices, kept with the value.

#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "candle-cuda"), allow(dead_code, reason = "only CUDA devices get copies"))]

use std::any::Any;
use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

type Kept = Arc<dyn Any + Send + Sync>;

/// Copies of a value that never changes, at most one for each stream or device. Clones share the copies.
///
/// The backend chooses the type of a copy, so that the value's own type does not depend on the backend. The list is
/// allocated by the first clone or copy.
#[derive(Default)]
pub(crate) struct Copies(OnceLock<Arc<Mutex<Vec<Kept>>>>);

impl Clone for Copies {
    fn clone(&self) -> Self {
        Copies(self.list().clone().into())
    }
}

impl Copies {
    /// Returns the copy of type `T` for which `fits` returns true. If there is none, calls `make` and keeps its result.
    ///
    /// The list is not locked while `make` runs, so two threads may make the same copy. Then the first one is kept.
    pub fn find_or_make<T: Any + Send + Sync, Error>(
        &self,
        fits: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Arc<T>, Error> {
        if let Some(copy) = find(&self.lock(), &fits) {
            return Ok(copy);
        }
        // If another copy was kept meanwhile, `made` is dropped after the lock is released.
        let made = Arc::new(make()?);
        let mut copies = self.lock();
        let kept = find(&copies, &fits);
        if kept.is_none() {
            copies.push(made.clone());
        }
        drop(copies);
        Ok(kept.unwrap_or(made))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.list().lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> &Arc<Mutex<Vec<Kept>>> {
        self.0.get_or_init(Default::default)
    }
}

fn find<T: Any + Send + Sync>(copies: &[Kept], fits: impl Fn(&T) -> bool) -> Option<Arc<T>> {
    copies.iter().filter_map(|copy| copy.clone().downcast::<T>().ok()).find(|copy| fits(copy))
}

impl Debug for Copies {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Copies")
    }
}

/// Copies do not affect whether two values are equal.
impl PartialEq for Copies {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_gets_one_copy_and_clones_share_it() {
        let copies = Copies::default();
        let get = |copies: &Copies, device: u8, made: u32| {
            let copy = copies.find_or_make(|(of, _): &(u8, u32)| *of == device, || Ok::<_, ()>((device, made)));
            copy.unwrap().1
        };
        assert_eq!([get(&copies, 0, 1), get(&copies, 0, 2), get(&copies, 1, 3)], [1, 1, 3]);
        assert_eq!(get(&copies.clone(), 1, 4), 3);
        assert_eq!(get(&Copies::default(), 1, 5), 5);
    }

    #[test]
    fn a_copy_that_fails_is_not_kept() {
        let copies = Copies::default();
        assert_eq!(copies.find_or_make(|_: &u32| true, || Err("full")), Err("full"));
        assert_eq!(copies.find_or_make(|_: &u32| true, || Ok::<_, ()>(1)), Ok(Arc::new(1)));
    }

    #[test]
    fn the_first_of_two_simultaneous_copies_is_kept() {
        let copies = Copies::default();
        let first = || Ok::<_, ()>(1);
        let second = || {
            copies.find_or_make(|_: &u32| true, first)?;
            Ok::<_, ()>(2)
        };
        assert_eq!(copies.find_or_make(|_: &u32| true, second), Ok(Arc::new(1)));
    }
}
