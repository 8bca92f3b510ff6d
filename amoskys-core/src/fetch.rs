//! Asks the processor for memory before it is needed.
//!
//! Where a million entities are kept, most of the time of an event is spent on waiting for the memory of its entity. Who knows which
//! entities come next can ask for their memory and do something else until it is there. What is asked for too early, or for
//! nothing, costs time and has no other effect.
//!
//! On x86-64 it is the instruction `PREFETCHT0`; elsewhere nothing happens. This file holds the crate's only unsafe code.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the instruction is behind a raw pointer")
)]

/// Bytes that come together.
const LINE_BYTES: usize = 64;
/// The most lines asked for at once; what follows in order is noticed by the processor.
const MOST_LINES: usize = 16;

/// Asks for the memory of a value, or its first kibibyte.
#[inline]
pub fn fetch<T>(value: &T) {
    fetch_from(value, size_of::<T>());
}

/// Asks for the memory of several values that lie side by side, or the first kibibyte of it.
#[inline]
pub fn fetch_all<T>(values: &[T]) {
    fetch_from(values.as_ptr(), size_of_val(values));
}

/// Asks for the place behind several values: in a `Vec` the next one will have it, if there is room.
#[inline]
pub fn fetch_next<T>(values: &[T]) {
    fetch_from(values.as_ptr().wrapping_add(values.len()), size_of::<T>());
}

/// Asks for so many bytes from here on, or the first kibibyte of them, whatever lies there.
#[inline]
pub fn fetch_from<T>(first: *const T, bytes: usize) {
    if bytes > 0 {
        let lines = (first.addr() % LINE_BYTES + bytes).div_ceil(LINE_BYTES);
        fetch_lines(first, lines.min(MOST_LINES));
    }
}

/// Asks for so many lines of 64 bytes, from the one on in which this place is.
#[inline]
pub fn fetch_lines<T>(first: *const T, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..lines {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = first.cast::<i8>().wrapping_add(line * LINE_BYTES);
        // SAFETY: every processor of this kind has the instruction, which reads nothing that the program sees and never
        // faults, wherever it points.
        unsafe { _mm_prefetch(at, _MM_HINT_T0) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (first, lines);
}
