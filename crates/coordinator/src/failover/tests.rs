use super::*;

const JOB: JobId = JobId::from_bytes([0xab; 16]);

fn failover(strategy: RestartStrategy) -> Failover {
    Failover::new(strategy, JOB)
}

fn after(failover: &mut Failover, at: u64, trouble: Trouble) -> Option<u64> {
    match failover.on_failure(MonotonicTime(at), trouble) {
        Decision::Restart { delay_ms } => Some(delay_ms),
        Decision::Suppress { .. } => None,
    }
}

fn delay(failover: &mut Failover, at: u64) -> Option<u64> {
    after(failover, at, Trouble::Failure)
}

fn exponential(initial_backoff_ms: u64, max_backoff_ms: u64, jitter_percent: u32) -> RestartStrategy {
    RestartStrategy::ExponentialDelay {
        initial_backoff_ms,
        max_backoff_ms,
        multiplier_percent: 150,
        reset_after_ms: 60_000,
        jitter_percent,
        attempts: None,
    }
}

#[test]
fn without_a_strategy_the_first_failure_is_the_last() {
    assert_eq!(delay(&mut failover(RestartStrategy::None), 0), None);
}

#[test]
fn a_fixed_number_of_restarts_is_counted_over_the_whole_life_of_the_job() {
    let mut failover = failover(RestartStrategy::FixedDelay {
        attempts: 2,
        delay_ms: 7,
    });
    assert_eq!(delay(&mut failover, 0), Some(7));
    assert_eq!(delay(&mut failover, 1_000_000_000), Some(7));
    assert_eq!(delay(&mut failover, 2_000_000_000), None);
}

#[test]
fn a_failure_rate_gives_up_when_more_failures_fall_into_its_interval() {
    let mut failover = failover(RestartStrategy::FailureRate {
        max_failures: 2,
        interval_ms: 1_000,
        delay_ms: 7,
    });
    // Rare ones, for ever.
    for at in [0, 1_001, 2_002, 2_003, 3_004] {
        assert_eq!(delay(&mut failover, at), Some(7), "at {at}");
    }
    // The third within a second, its beginning included.
    assert_eq!(delay(&mut failover, 3_100), Some(7));
    assert_eq!(delay(&mut failover, 4_004), None);
    let Decision::Suppress { strategy } = failover.on_failure(MonotonicTime(4_005), Trouble::Loss) else {
        panic!("the fourth is not followed by a restart either");
    };
    assert_eq!(
        strategy,
        "FailureRateRestartBackoffTimeStrategy(failuresIntervalMS=1000,backoffTimeMS=7,maxFailuresPerInterval=2)"
    );
}

#[test]
fn the_exponential_delay_grows_to_its_maximum_and_resets_after_a_quiet_time() {
    let mut failover = failover(exponential(1_000, 3_000, 0));
    let delays: Vec<_> = (0..5).map(|n| delay(&mut failover, n * 10_000)).collect();
    assert_eq!(delays, [1_000, 1_500, 2_250, 3_000, 3_000].map(Some));
    // 3 s of delay and 60 s of quiet: one millisecond short of it, then exactly.
    assert_eq!(delay(&mut failover, 40_000 + 62_999), Some(3_000));
    assert_eq!(delay(&mut failover, 102_999 + 63_000), Some(1_000));
}

#[test]
fn an_exponential_delay_of_nothing_still_grows() {
    let mut failover = failover(exponential(0, 10, 0));
    let delays: Vec<_> = (0..4).map(|_| delay(&mut failover, 0)).collect();
    assert_eq!(delays, [0, 1, 2, 3].map(Some));
}

#[test]
fn the_first_loss_of_a_process_after_a_quiet_time_waits_for_nothing() {
    let mut failover = failover(exponential(1_000, 60_000, 0));
    assert_eq!(after(&mut failover, 0, Trouble::Loss), Some(0));
    assert_eq!(after(&mut failover, 1, Trouble::Loss), Some(1_000));
    assert_eq!(after(&mut failover, 2, Trouble::Failure), Some(1_500));
    assert_eq!(after(&mut failover, 2 + 61_500, Trouble::Loss), Some(0));
    // After a failure of another kind, the world may be ailing.
    assert_eq!(after(&mut failover, 200_000, Trouble::Failure), Some(1_000));
    assert_eq!(after(&mut failover, 200_001, Trouble::Loss), Some(1_500));
}

#[test]
fn a_loss_after_a_checkpoint_waits_for_nothing_however_often() {
    let mut failover = failover(exponential(1_000, 60_000, 0));
    for at in 0..100 {
        assert_eq!(after(&mut failover, at, Trouble::LossAfterProgress), Some(0));
    }
    assert_eq!(after(&mut failover, 100, Trouble::Loss), Some(1_000));
    assert_eq!(after(&mut failover, 101, Trouble::Loss), Some(1_500));
    assert_eq!(after(&mut failover, 102, Trouble::LossAfterProgress), Some(0));
    assert_eq!(after(&mut failover, 103, Trouble::Failure), Some(1_000));
    // It counts all the same, for whoever wants to bound it.
    let mut bounded = Failover::new(
        RestartStrategy::ExponentialDelay {
            initial_backoff_ms: 1,
            max_backoff_ms: 1,
            multiplier_percent: 100,
            reset_after_ms: 1_000,
            jitter_percent: 0,
            attempts: Some(1),
        },
        JOB,
    );
    assert_eq!(after(&mut bounded, 0, Trouble::LossAfterProgress), Some(0));
    assert_eq!(after(&mut bounded, 1, Trouble::LossAfterProgress), None);
}

#[test]
fn the_exponential_delay_gives_up_after_its_attempts_without_a_quiet_time() {
    let mut failover = failover(RestartStrategy::ExponentialDelay {
        initial_backoff_ms: 10,
        max_backoff_ms: 10,
        multiplier_percent: 100,
        reset_after_ms: 1_000,
        jitter_percent: 0,
        attempts: Some(2),
    });
    assert_eq!(delay(&mut failover, 0), Some(10));
    assert_eq!(delay(&mut failover, 1), Some(10));
    // A quiet time begins a new count.
    assert_eq!(delay(&mut failover, 2_000), Some(10));
    assert_eq!(delay(&mut failover, 2_001), Some(10));
    let Decision::Suppress { strategy } = failover.on_failure(MonotonicTime(2_002), Trouble::Failure) else {
        panic!("the third is one too many");
    };
    assert!(
        strategy.contains("backoffMultiplier=1,") && strategy.contains("attemptsBeforeResetBackoff=2"),
        "{strategy}"
    );
}

#[test]
fn jitter_stays_within_its_part_and_within_the_bounds_and_can_be_replayed() {
    let draw = |job: u8| {
        let mut failover = Failover::new(exponential(10_000, 1_000_000, 10), JobId::from_bytes([job; 16]));
        let delays: Vec<u64> = (0..6).filter_map(|n| delay(&mut failover, n)).collect();
        delays
    };
    let bases = [10_000, 15_000, 22_500, 33_750, 50_625, 75_937];
    let mut firsts = std::collections::BTreeSet::new();
    for job in 0..50 {
        let delays = draw(job);
        assert_eq!(delays, draw(job));
        for (delay, base) in delays.iter().zip(bases) {
            assert!(
                *delay >= (base - base / 10).max(10_000) && *delay <= base + base / 10,
                "{delays:?}"
            );
        }
        firsts.insert(delays[1]);
    }
    // Jobs that failed together come back apart.
    assert!(firsts.len() > 40, "{firsts:?}");
}

#[test]
fn jobs_whose_ids_differ_anywhere_come_back_apart() {
    let drawn = |id: [u8; 16]| {
        let failover = Failover::new(exponential(1, 1, 0), JobId::from_bytes(id));
        failover.jittered(1 << 60, 50)
    };
    let mut seen = std::collections::BTreeSet::from([drawn([0xab; 16])]);
    for byte in 0..16 {
        for other in [0x00, 0xaa, 0xff] {
            let mut id = [0xab; 16];
            id[byte] = other;
            assert!(seen.insert(drawn(id)), "{id:?}");
        }
    }
}

#[test]
fn each_failure_of_a_job_is_drawn_for_anew_as_far_up_as_down() {
    let mut failover = failover(exponential(1, 1, 0));
    let mut drawn = |delay_ms, percent| {
        let draw = |n| {
            failover.failures = n;
            failover.jittered(delay_ms, percent)
        };
        (0..100).map(draw).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(drawn(1 << 60, 50).len(), 100);
    assert_eq!(Vec::from_iter(drawn(10, 10)), [9, 10, 11]);
}

#[test]
fn neither_bounds_nor_jitter_overflow() {
    let mut failover = failover(RestartStrategy::ExponentialDelay {
        initial_backoff_ms: u64::MAX,
        max_backoff_ms: u64::MAX,
        multiplier_percent: u32::MAX,
        reset_after_ms: u64::MAX,
        jitter_percent: 100,
        attempts: None,
    });
    assert_eq!(delay(&mut failover, 0), Some(u64::MAX));
    assert_eq!(delay(&mut failover, 1), Some(u64::MAX));
}

/// As published with the algorithm: the first numbers of the generator that begins at 0.
#[test]
fn the_numbers_that_delays_are_drawn_from_are_those_of_split_mix_64() {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let first = [0, STEP, STEP.wrapping_mul(2)].map(mixed);
    assert_eq!(
        first,
        [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]
    );
}
