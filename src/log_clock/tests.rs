use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tokio::time::advance;

use super::*;

const YEAR: i64 = 365 * 86_400_000;
const NOON: u64 = 1_790_000_000_000;

/// A clock that shows what the test says.
#[derive(Default)]
struct Shown(AtomicU64);

impl Clock for Shown {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn clock() -> LogClock {
    LogClock::new(Arc::new(Shown(AtomicU64::new(NOON))))
}

fn shows(ms: u64) -> Option<Reading> {
    let now = Instant::now();
    Some(Reading { ms, asked: now, answered: now })
}

/// Three nodes with right clocks but for errors; the leader's reckoning.
struct World {
    leader: LogClock,
    begun: Instant,
}

impl World {
    async fn new() -> Self {
        let world = Self { leader: clock(), begun: Instant::now() };
        world.leader.applied(NOON, 0);
        world.compare([0, 0, 0]);
        world
    }

    /// What time it really is.
    fn now(&self) -> u64 {
        NOON + millis(self.begun.elapsed())
    }

    fn compare(&self, errors: [i64; 3]) -> Option<i64> {
        self.leader.lead(&errors.map(|error| shows(self.now().saturating_add_signed(error))))
    }

    /// How far the log's time is ahead of the real one.
    fn error(&self) -> i64 {
        self.leader.now_ms() as i64 - self.now() as i64
    }

    /// Seconds with clocks that are wrong by this; none of them makes the calendar turn.
    async fn pass(&self, seconds: u64, errors: [i64; 3]) {
        for _ in 0..seconds {
            advance(Duration::from_secs(1)).await;
            assert_eq!(self.compare(errors), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leap_of_one_clock_moves_nothing_however_far_and_long() {
    let world = World::new().await;
    for error in [10 * YEAR, -10 * YEAR, 3_600_000, -3_600_000, 5_000] {
        for node in 0..3 {
            let mut errors = [0; 3];
            errors[node] = error;
            world.pass(100, errors).await;
            assert_eq!(world.error(), 0, "{errors:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leap_of_one_of_two_clocks_that_answer_moves_nothing() {
    let world = World::new().await;
    for error in [10 * YEAR, -10 * YEAR] {
        for _ in 0..100 {
            advance(Duration::from_secs(1)).await;
            let now = world.now();
            assert_eq!(world.leader.lead(&[shows(now), None, shows(now.saturating_add_signed(error))]), None);
        }
        assert_eq!(world.error(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_of_clocks_time_passes() {
    let world = World::new().await;
    for _ in 0..100 {
        advance(Duration::from_secs(1)).await;
        assert_eq!(world.leader.lead(&[shows(7), None, None]), None);
    }
    assert_eq!(world.error(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_majority_says_is_taken_up_slowly() {
    let world = World::new().await;
    world.pass(60, [5_000, 5_000, 0]).await;
    // The first comparison only sets the speed.
    assert_eq!(world.error(), 59 * 50);
    world.pass(300, [5_000, 5_000, 0]).await;
    assert!((4_980..=5_000).contains(&world.error()), "{}", world.error());
    world.pass(40, [0, 0, 5_000]).await;
    assert!((2_900..=3_100).contains(&world.error()), "{}", world.error());
    world.pass(300, [0, 0, 0]).await;
    assert!((0..STEP_MS).contains(&world.error()), "{}", world.error());
}

#[tokio::test(start_paused = true)]
async fn after_all_nodes_were_down_the_time_is_what_a_majority_has_reached() {
    for (errors, error) in [([0, 0, 10 * YEAR], 0), ([0, -YEAR, 0], 0), ([-7_000, 0, 10 * YEAR], 0)] {
        let world = World { leader: clock(), begun: Instant::now() };
        world.leader.applied(NOON - 3_600_000, 0);
        assert!(!world.leader.is_certain());
        advance(Duration::from_secs(2)).await;
        assert_eq!(world.leader.lead(&[None, shows(world.now()), None]), None);
        assert_eq!((world.error(), world.leader.is_certain()), (-3_600_000, false), "one of three says nothing");
        world.compare(errors);
        assert_eq!((world.error(), world.leader.is_certain()), (error, true), "{errors:?}");
    }
    // With two of three the earlier one counts: it may be the right one.
    let world = World { leader: clock(), begun: Instant::now() };
    world.leader.applied(NOON - 3_600_000, 0);
    world.leader.lead(&[shows(NOON + 10 * YEAR as u64), shows(NOON), None]);
    assert_eq!(world.error(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_becomes_the_leader_goes_on_where_the_old_one_was() {
    let (world, follower) = (World::new().await, clock());
    follower.applied(NOON, 0);
    advance(Duration::from_secs(500)).await; // nothing happens in the log
    follower.follow(shows(world.leader.now_ms()).unwrap());
    advance(Duration::from_secs(1)).await;
    follower.lead(&[shows(world.now()), shows(world.now() + 10 * YEAR as u64), shows(world.now())]);
    assert_eq!(follower.now_ms(), world.leader.now_ms());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_took_long_moves_a_follower_no_further_than_is_certain() {
    let follower = clock();
    follower.applied(NOON, 0);
    let took = |ms: u64, took: u64| {
        let answered = Instant::now();
        Reading { ms, asked: answered - Duration::from_millis(took), answered }
    };
    advance(Duration::from_secs(10)).await;
    follower.follow(took(NOON + 9_950, 100));
    assert_eq!(follower.now_ms(), NOON + 9_950, "who knows nothing takes what is certain");
    follower.follow(took(NOON + 9_900, 100));
    assert_eq!(follower.now_ms(), NOON + 9_950, "it may be right");
    follower.follow(took(NOON + 9_700, 100));
    assert_eq!(follower.now_ms(), NOON + 9_800);
    follower.follow(took(NOON - 9_000, 0));
    assert_eq!(follower.now_ms(), NOON, "never before what was applied");
}

#[tokio::test(start_paused = true)]
async fn a_time_far_from_the_clocks_passes_at_its_own_speed_and_the_calendar_is_turned() {
    for ahead in [10 * YEAR, -3_600_000] {
        let world = World { leader: clock(), begun: Instant::now() };
        world.leader.applied(NOON.saturating_add_signed(ahead), 0);
        world.leader.follow(shows(world.leader.now_ms()).unwrap());
        for _ in 0..15 {
            assert_eq!((world.compare([0, 0, -YEAR]), world.error()), (None, ahead));
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(world.compare([0, 0, -YEAR]), Some(ahead));
        world.leader.applied(world.leader.now_ms(), ahead);
        world.pass(100, [0, 0, -YEAR]).await;
        assert_eq!((world.leader.time_of_day_ms(), world.error()), (world.now(), ahead));
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_leap_of_the_only_clock_turns_no_calendar() {
    let only = clock();
    only.applied(NOON, 0);
    only.lead(&[shows(NOON)]);
    for second in 1..200_u64 {
        advance(Duration::from_secs(1)).await;
        let leap = if (50..60).contains(&second) { 10 * YEAR } else { 0 };
        assert_eq!(only.lead(&[shows((NOON + second * 1_000).saturating_add_signed(leap))]), None);
        assert_eq!(only.now_ms(), NOON + second * 1_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_just_founded_begins_with_the_time_of_a_clock() {
    let founder = clock();
    assert_eq!(founder.now_ms(), NOON);
    founder.applied(NOON, 0);
    advance(Duration::from_secs(1)).await;
    assert_eq!(founder.now_ms(), NOON + 1_000, "the clock of this test stands still");
}

proptest! {
    /// Whatever the clocks do, time never goes back, passes at its speed but for the correction, and whatever a minority
    /// does, it is right.
    #[test]
    fn time_passes_whatever_the_clocks_show(
        steps in prop::collection::vec((1_u64..3_000, 0_usize..3, -20 * YEAR..20 * YEAR, any::<bool>()), 1..200),
        all in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let mut last = world.leader.now_ms();
            let mut errors = [0; 3];
            for (pause, node, error, heals) in steps {
                advance(Duration::from_millis(pause)).await;
                let now = world.leader.now_ms();
                let passed = now as i64 - last as i64;
                let most = pause as i64 * CORRECTION / 1_000 + 2;
                prop_assert!((passed - pause as i64).abs() <= most, "{passed} ms in {pause}");
                last = now;
                if !all {
                    errors = [0; 3]; // one at a time
                }
                errors[node] = if heals { 0 } else { error };
                let turned = world.compare(errors);
                prop_assert!(all || turned.is_none());
                prop_assert!(all || world.error().abs() <= 1, "off by {}", world.error());
            }
            Ok(())
        })?;
    }
}
