//! Tests of the collective of threads in one process.

use crate::sharded_rows::{LONG, on_ranks};
use evenkeel::Error;
use evenkeel::sharded::{Collective, Process, Threads};
use std::time::{Duration, Instant};

#[test]
fn every_rank_gets_the_same() {
    for ranks in [1, 2, 5] {
        let got = on_ranks(ranks, LONG, |rank, comm| {
            let (rank, mut max, mut sum) = (rank as u64, [rank as u64, 7], [u64::MAX, rank as u64]);
            let mut gathered = Vec::new();
            // Runs many rounds, so that fast ranks overtake slow ones.
            for round in 0..50 {
                (max, sum) = ([rank, 7 - rank], [u64::MAX, rank]);
                comm.max(&mut max).unwrap();
                comm.sum(&mut sum).unwrap();
                gathered = comm.gather(&[rank, round]).unwrap();
            }
            (max, sum, gathered)
        });
        let last = ranks as u64 - 1;
        let gathered: Vec<u64> = (0..=last).flat_map(|rank| [rank, 49]).collect();
        let of_all = ([last, 7], [0u64.wrapping_sub(ranks as u64), last * (last + 1) / 2], gathered);
        assert!(
            got.iter().all(|got| *got == of_all),
            "each rank must get the maxima, sums and gathered values {of_all:?}, got {got:?}"
        );
    }
    let mut alone = [3, 4];
    Process.max(&mut alone).unwrap();
    Process.sum(&mut alone).unwrap();
    assert_eq!((Process.rank(), Process.size(), alone), (0, 1, [3, 4]));
    assert_eq!(Process.gather(&alone).unwrap(), [3, 4]);
}

#[test]
fn what_does_not_fit_is_an_error_for_all() {
    let got = on_ranks(3, LONG, |rank, comm| match rank {
        1 => comm.max(&mut [1, 2]),
        _ => comm.max(&mut [1]),
    });
    for (rank, got) in got.into_iter().enumerate() {
        let error = got.unwrap_err();
        assert!(
            matches!(&error, Error::Collective { rank: Some(other), .. } if (*other == 1) == (rank != 1)),
            "rank {rank}: the Collective error must name a different rank than {rank}, got {error}"
        );
        assert!(
            error.to_string().contains("rank 1 calls max with 2"),
            "rank {rank}: the error must contain `rank 1 calls max with 2`, got {error}"
        );
    }
    let got = on_ranks(2, LONG, |rank, comm| if rank == 0 { comm.sum(&mut [1]) } else { comm.max(&mut [1]) });
    assert!(
        got.iter().all(|got| got.as_ref().is_err_and(|error| error.to_string().contains("calls max"))),
        "both ranks must get an error about `calls max`, got {got:?}"
    );
}

#[test]
fn nobody_waits_for_long() {
    let timeout = Duration::from_millis(200);
    let mut ranks = Threads::new(3, timeout).unwrap();
    let late = ranks.pop().unwrap();
    let start = Instant::now();
    let errors: Vec<Error> = std::thread::scope(|scope| {
        let waits: Vec<_> = ranks.iter().map(|rank| scope.spawn(|| rank.max(&mut [1]).unwrap_err())).collect();
        waits.into_iter().map(|wait| wait.join().unwrap()).collect()
    });
    assert!(start.elapsed() >= timeout);
    for error in errors {
        assert_eq!(error.to_string(), "max: timed out after 200ms waiting for rank 2");
        assert!(matches!(error, Error::Collective { rank: Some(2), .. }));
    }
    // A rank that arrives late gets the error at once.
    assert!(late.sum(&mut [1]).unwrap_err().to_string().contains("waiting for rank 2"));

    // If a rank was dropped, the others get an error before the timeout.
    let start = Instant::now();
    let mut ranks = Threads::new(2, LONG).unwrap();
    drop(ranks.pop());
    let error = ranks[0].gather(&[1]).unwrap_err();
    assert_eq!(error.to_string(), "gather: rank 1 was dropped");
    assert!(start.elapsed() < LONG);
}
