//! Numbers as bytes that never leave the process.

use smallvec::{Array, SmallVec};

/// Adds bytes.
#[inline]
pub(crate) fn put<const N: usize>(into: &mut Vec<u8>, bytes: [u8; N]) {
    into.extend_from_slice(&bytes);
}

/// Takes bytes from the front; zeros if there are not as many.
#[inline]
pub(crate) fn take<const N: usize>(from: &mut &[u8]) -> [u8; N] {
    let Some((bytes, rest)) = from.split_first_chunk() else {
        *from = &[];
        return [0; N];
    };
    *from = rest;
    *bytes
}

/// Adds a number that is mostly small: how many bytes it takes, and those.
#[inline]
pub(crate) fn put_number(into: &mut Vec<u8>, number: u64) {
    // All bytes are written and the empty ones taken back, so that nothing depends on the size.
    let length = 8 - (number.leading_zeros() / 8) as u8;
    let mut bytes = [0; 9];
    bytes[0] = length;
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    into.extend_from_slice(&bytes);
    into.truncate(into.len() - 8 + usize::from(length));
}

/// Takes a number that [`put_number`] added.
#[inline]
pub(crate) fn take_number(from: &mut &[u8]) -> u64 {
    let [length] = take(from);
    let length = usize::from(length.min(8)).min(from.len());
    let number = if let Some((bytes, _)) = from.split_first_chunk() {
        // What is beyond its own bytes is cut off, not looped around.
        let kept = u64::MAX
            .checked_shr(64 - 8 * u32::from(length as u8))
            .unwrap_or(0);
        u64::from_le_bytes(*bytes) & kept
    } else {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(&from[..length]);
        u64::from_le_bytes(bytes)
    };
    *from = &from[length..];
    number
}

/// Adds several things of `N` bytes each.
#[inline]
pub(crate) fn put_all<T, const N: usize>(into: &mut Vec<u8>, all: &[T], bytes: impl Fn(&T) -> [u8; N]) {
    let start = into.len();
    into.resize(start + N * all.len(), 0);
    for (place, one) in into[start..].as_chunks_mut().0.iter_mut().zip(all) {
        *place = bytes(one);
    }
}

/// Takes several things of `N` bytes each, or as many as there are.
#[inline]
pub(crate) fn take_all<'a, const N: usize>(from: &mut &'a [u8], count: usize) -> &'a [[u8; N]] {
    let (all, rest) = from.split_at(from.len().min(N * count));
    *from = rest;
    all.as_chunks().0
}

/// Puts all of them behind those that are there: a few at a time on the stack, which is quicker than one by one.
#[inline]
pub(crate) fn extend<T: Copy, const M: usize, const N: usize>(
    into: &mut SmallVec<[T; M]>,
    from: &[[u8; N]],
    zero: T,
    of: impl Fn([u8; N]) -> T,
) where
    [T; M]: Array<Item = T>,
{
    into.reserve(from.len());
    if from.len() < 4 {
        for &bytes in from {
            into.push(of(bytes));
        }
        return;
    }
    let mut some = [zero; 8];
    for part in from.chunks(8) {
        for (place, &bytes) in some.iter_mut().zip(part) {
            *place = of(bytes);
        }
        into.extend_from_slice(&some[..part.len()]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_is_taken(numbers in proptest::collection::vec((any::<u64>(), 0_u32..64), 0..20), cut: prop::sample::Index) {
            let numbers: Vec<u64> = numbers.into_iter().map(|(number, shift)| number >> shift).collect();
            let mut bytes = Vec::new();
            numbers.iter().for_each(|&number| put_number(&mut bytes, number));
            put_all(&mut bytes, &numbers, |number| number.to_be_bytes());
            let mut from = &*bytes;
            for &number in &numbers {
                prop_assert_eq!(take_number(&mut from), number);
            }
            let all: Vec<u64> = take_all(&mut from, numbers.len()).iter().map(|&one| u64::from_be_bytes(one)).collect();
            prop_assert_eq!(&all, &numbers);
            prop_assert!(from.is_empty());
            // Bytes that are cut off are zeros, or nothing.
            let mut from = &bytes[..cut.index(bytes.len() + 1)];
            numbers.iter().for_each(|_| { take_number(&mut from); });
            prop_assert!(take_all::<8>(&mut from, numbers.len()).len() <= numbers.len());
        }
    }
}
