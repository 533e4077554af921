use super::*;

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[test]
fn what_takes_as_long_as_a_bound_is_in_its_bucket_and_what_takes_longer_is_in_the_next() {
    let histogram = Histogram::default();
    for (bucket, bound) in BOUNDS_MICROS.into_iter().enumerate() {
        let before = histogram.read().counts;
        histogram.observe(micros(bound));
        histogram.observe(micros(bound) + Duration::from_nanos(1));
        let after = histogram.read().counts;
        let changed: Vec<usize> = (0..BUCKETS).filter(|bucket| after[*bucket] > before[*bucket]).collect();
        assert_eq!(changed, [bucket, bucket + 1], "{bound} us");
    }
    histogram.observe(Duration::ZERO);
    histogram.observe(Duration::from_secs(3600));
    let read = histogram.read();
    assert_eq!((read.counts[0], read.counts[BUCKETS - 1]), (2, 2));
    assert_eq!(read.count(), 2 * BOUNDS_MICROS.len() as u64 + 2);
}

#[test]
fn the_sum_is_that_of_all_observations_of_all_threads() {
    let histogram = Histogram::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| histogram.observe(micros(300))));
        }
    });
    let read = histogram.read();
    assert_eq!((read.count(), read.sum), (4000, micros(1_200_000)));
}

#[test]
fn the_bounds_rise_from_50_microseconds_to_10_seconds() {
    assert!(BOUNDS_MICROS.is_sorted_by(|a, b| a < b));
    assert_eq!((BOUNDS_MICROS[0], BOUNDS_MICROS[BOUNDS_MICROS.len() - 1]), (50, 10_000_000));
}

#[test]
fn a_trace_is_asked_for_once_a_second_in_each_bucket_and_told_with_its_bucket() {
    let histogram = TracedHistogram::default();
    let begun = histogram.begun;
    let (hour, trace) = (Duration::from_secs(3600), |id: &str| Some((id.to_owned(), 7)));
    histogram.until(begun + hour, begun, || trace("first"));
    histogram.until(begun + hour + Duration::from_millis(999), begun, || panic!("it was asked before"));
    // Another bucket, in which nobody had a trace.
    histogram.until(begun + hour, begun + hour, || None);
    let read = histogram.read();
    assert_eq!((read.counts[0], read.counts[BUCKETS - 1]), (1, 2));
    let first = Exemplar { trace_id: "first".into(), took: hour, at_ms: 7 };
    assert_eq!(read.exemplars, [(BUCKETS - 1, first)]);
    histogram.until(begun + hour + Duration::from_secs(1), begun, || trace("second"));
    assert_eq!(histogram.read().exemplars[0].1.trace_id, "second");
}
