use crate::iforest::random::Random;

/// Numbers of the rows to fit on and of those to test on, each in order. Of both labels the given share is for the test, rounded to
/// whole rows; which ones is drawn with the seed.
///
/// ```
/// use amoskys_analysis::eval::stratified_split;
///
/// let labels = [false, false, false, false, true, true];
/// let (fit, test) = stratified_split(&labels, 0.5, 1);
/// assert_eq!((fit.len(), test.len()), (3, 3));
/// assert_eq!(test.iter().filter(|&&row| labels[row]).count(), 1);
/// ```
#[must_use]
pub fn stratified_split(labels: &[bool], test: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut held = vec![false; labels.len()];
    for label in [false, true] {
        let mut rows: Vec<usize> = (0..labels.len()).filter(|&row| labels[row] == label).collect();
        let wanted = (rows.len() as f64 * test.clamp(0.0, 1.0)).round() as usize;
        let mut random = Random::new(seed, u64::from(label));
        for at in 0..wanted {
            let drawn = at + random.below(rows.len() - at);
            rows.swap(at, drawn);
            held[rows[at]] = true;
        }
    }
    (0..labels.len()).partition(|&row| !held[row])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_labels_keep_their_share() {
        let labels: Vec<bool> = (0..1000).map(|row| row % 10 == 0).collect();
        let (fit, test) = stratified_split(&labels, 0.3, 5);
        assert_eq!((fit.len(), test.len()), (700, 300));
        assert_eq!(test.iter().filter(|&&row| labels[row]).count(), 30);
        let mut all = [fit.clone(), test.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(stratified_split(&labels, 0.3, 5), (fit, test.clone()));
        assert_ne!(stratified_split(&labels, 0.3, 6).1, test);
        assert_eq!(stratified_split(&[], 0.3, 5), (Vec::new(), Vec::new()));
    }
}
