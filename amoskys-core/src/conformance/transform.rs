use std::fmt::Debug;

use crate::transform::Transform;

/// Checks a transform on `items`: fresh transforms treat the same items the same way, and none panics.
///
/// # Panics
///
/// If two fresh transforms disagree.
pub fn transform<T, X>(mut make: impl FnMut() -> X, items: &[T])
where
    T: Clone + PartialEq + Debug,
    X: Transform<T>,
{
    let mut run = || {
        let mut transform = make();
        let apply = |item: &T| {
            let mut item = item.clone();
            let outcome = transform.transform(&mut item).map_err(|error| error.to_string());
            (item, outcome)
        };
        items.iter().map(apply).collect::<Vec<_>>()
    };
    let (first, second) = (run(), run());
    for (at, (first, second)) in first.iter().zip(&second).enumerate() {
        assert_eq!(first.1, second.1, "two runs decide differently about item {at}");
        // NaN is not equal to itself, so the text is compared where the values are not equal.
        assert!(
            first.0 == second.0 || format!("{:?}", first.0) == format!("{:?}", second.0),
            "two runs change item {at} differently: {:?} and {:?}",
            first.0,
            second.0
        );
    }
}
