//! Asks the processor for memory before it is needed. This file holds unsafe code: an instruction without effect on
//! what a program computes.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the instruction is behind a raw pointer")
)]

/// Bytes that come together.
const LINE_BYTES: usize = 64;

/// Asks for the first `lines` lines of memory from a value on.
#[inline]
pub(crate) fn fetch<T>(value: &T, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..lines {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = std::ptr::from_ref(value)
            .cast::<i8>()
            .wrapping_add(line * LINE_BYTES);
        // SAFETY: every processor of this kind has the instruction, which reads nothing that the program sees and never
        // faults, wherever it points.
        unsafe { _mm_prefetch(at, _MM_HINT_T0) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, lines, LINE_BYTES);
}
