use super::*;
use amoskys_core::event::{FlowDirection, Summary};
use proptest::prelude::*;

fn flow(first_ms: i64, last_ms: i64, bytes: u64) -> FlowRecord {
    FlowRecord {
        first: Timestamp::from_nanos(first_ms * 1_000_000),
        last: Timestamp::from_nanos(last_ms * 1_000_000),
        forward: FlowDirection {
            lengths: Summary {
                sum: bytes,
                ..Summary::default()
            },
            ..Default::default()
        },
        ..Default::default()
    }
}

#[test]
fn bytes_of_a_flow_are_spread_and_none_is_lost() {
    let mut timeline = Timeline::new();
    timeline.flow(&flow(0, 9, 1003));
    let columns = timeline.columns(10);
    assert_eq!(columns.bins.len(), 10, "{columns:?}");
    assert_eq!(columns.bins.iter().map(|bin| bin.bytes).sum::<u64>(), 1003);
    assert!(columns.bins.iter().all(|bin| (100..=101).contains(&bin.bytes)));
    assert_eq!(columns.bins[0].flows, 1);
}

#[test]
fn any_length_of_input_fits_in_bounded_bins_and_columns() {
    let mut timeline = Timeline::new();
    for at in 0..50_000 {
        timeline.flow(&flow(at * 37, at * 37 + 500, 10));
    }
    assert!(timeline.bins.len() <= MOST_BINS);
    for most in [1, 7, 100, 264] {
        let columns = timeline.columns(most);
        assert!(columns.bins.len() <= most);
        assert!(
            most < 4 || columns.bins.len() * 2 >= most,
            "at least half of the width is used"
        );
        assert_eq!(columns.bins.iter().map(|bin| bin.flows).sum::<u64>(), 50_000);
        assert_eq!(columns.bins.iter().map(|bin| bin.bytes).sum::<u64>(), 500_000);
    }
}

#[test]
fn one_absurd_time_does_not_flatten_the_rest() {
    let mut timeline = Timeline::new();
    for at in 0..1000 {
        timeline.flow(&flow(
            1_700_000_000_000 + at * 100,
            1_700_000_000_000 + at * 100,
            1,
        ));
    }
    timeline.flow(&flow(0, 0, 1));
    timeline.flow(&FlowRecord {
        first: Timestamp::MIN,
        last: Timestamp::MAX,
        ..flow(0, 0, 5)
    });
    let columns = timeline.columns(200);
    assert_eq!(columns.flows_outside, 2);
    assert!(columns.bins.iter().filter(|bin| bin.flows > 0).count() > 50);
}

#[test]
fn the_highest_score_of_a_column_counts() {
    let mut timeline = Timeline::new();
    timeline.change(Timestamp::from_nanos(0), |bin| bin.raise(0.4));
    timeline.change(Timestamp::from_nanos(1_000_000), |bin| bin.raise(0.9));
    assert_eq!(timeline.columns(1).bins[0].score, Some(0.9));
    assert_eq!(timeline.columns(2).bins[0].score, Some(0.4));
}

#[test]
fn a_score_stands_until_the_next_and_not_beyond() {
    let mut timeline = Timeline::new();
    timeline.flow(&flow(0, 0, 1));
    timeline.flow(&flow(999, 999, 1));
    let verdict = crate::report::tests::verdict(1, 0.9, "Scan");
    let at = |ms: i64| Timestamp::from_nanos(ms * 1_000_000);
    timeline.score(
        None,
        &Verdict {
            updated: at(100),
            score: 0.4,
            ..verdict.clone()
        },
    );
    timeline.score(
        Some((at(100), 0.4)),
        &Verdict {
            updated: at(600),
            ..verdict
        },
    );
    let scores: Vec<_> = timeline.columns(10).bins.iter().map(|bin| bin.score).collect();
    // Columns of 128 ms.
    assert_eq!(
        scores,
        [
            Some(0.4),
            Some(0.4),
            Some(0.4),
            Some(0.4),
            Some(0.9),
            None,
            None,
            None
        ]
    );
}

#[test]
fn nothing_happened() {
    assert!(Timeline::new().columns(100).bins.is_empty());
}

proptest! {
    /// Flows and verdicts reach a report from several collectors and analyzers, in any order.
    #[test]
    fn the_order_in_which_things_are_added_makes_no_difference(
        mut flows in prop::collection::vec((0..2_000_000_i64, 0..400_000_i64, 0..100_000_u64), 1..60),
        scores in prop::collection::vec((0..2_000_000_i64, 0..400_000_i64, 0.0..1.0), 0..10),
        absurd: bool, turn in 0..60_usize,
    ) {
        flows.extend(absurd.then_some((5, 40 * 86_400_000, 77_777)));
        let all = |flows: &[(i64, i64, u64)], scores_first: bool| {
            let mut timeline = Timeline::new();
            let add_scores = |timeline: &mut Timeline| {
                for (since, lasts, score) in &scores {
                    let at = |ms: i64| Timestamp::from_nanos(ms * 1_000_000);
                    let verdict = Verdict { updated: at(since + lasts), ..crate::report::tests::verdict(1, *score, "Scan") };
                    timeline.score(Some((at(*since), score / 2.0)), &verdict);
                }
            };
            if scores_first {
                add_scores(&mut timeline);
            }
            for (first, lasts, bytes) in flows {
                timeline.flow(&flow(*first, first + lasts, *bytes));
            }
            if !scores_first {
                add_scores(&mut timeline);
            }
            timeline
        };
        let one = all(&flows, true);
        prop_assert_eq!(one.bins.values().map(|bin| bin.bytes).sum::<u64>(), flows.iter().map(|(_, _, bytes)| bytes).sum::<u64>());
        let middle = turn % flows.len();
        flows.rotate_left(middle);
        let other = all(&flows, false);
        prop_assert_eq!(one.width_ns, other.width_ns);
        prop_assert_eq!(one.bins, other.bins);
    }
}
