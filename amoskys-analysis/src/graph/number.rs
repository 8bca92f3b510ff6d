//! Logarithms for counts: the same bits on every machine, without a call into the C library.

/// Mantissas are brought into the range from here to twice this: the square root of one half.
const LOWEST: u32 = 0x3f35_04f3;
const MANTISSA: u32 = 0x007f_ffff;

/// Logarithms of whole numbers below this are looked up.
const TABLE: usize = 1024;

static LOGARITHMS: [f32; TABLE] = {
    let mut table = [0.0; TABLE];
    let mut n = 1;
    while n < TABLE {
        table[n] = ln(n as f32);
        n += 1;
    }
    table
};

/// The natural logarithm of a positive, finite, normal number, within 4e-7 or two units in the last place, whichever is
/// more. For anything else some finite number.
#[inline]
pub(super) const fn ln(x: f32) -> f32 {
    let bits = x.to_bits().wrapping_sub(LOWEST);
    let exponent = (bits as i32) >> 23;
    let mantissa = f32::from_bits((bits & MANTISSA) + LOWEST);
    // 2 artanh(s) with |s| below 0.172: the series is cut after its fifth term.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let series = 1.0 + z * (1.0 / 3.0 + z * (0.2 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
    exponent as f32 * std::f32::consts::LN_2 + 2.0 * s * series
}

/// The natural logarithm of a count; 0 for none.
#[inline]
pub(super) fn ln_count(n: u32) -> f32 {
    match LOGARITHMS.get(n as usize) {
        Some(logarithm) => *logarithm,
        None => ln(n as f32),
    }
}

/// Two to the power of minus `x`, for `x` not negative, within a part in a million; 0 beyond 126.
#[inline]
pub(super) fn halved(x: f32) -> f32 {
    if x >= 126.0 {
        return 0.0;
    }
    let whole = x as u32;
    let y = -(x - whole as f32) * std::f32::consts::LN_2;
    // The exponential series on [-0.7, 0], cut after its ninth power.
    let mut series = 1.0;
    for n in (1..=9_u8).rev() {
        series = 1.0 + y / f32::from(n) * series;
    }
    series * f32::from_bits((127 - whole) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_as_exact_as_stated() {
        let mut x = 1e-6_f32;
        while x < 1e12 {
            let exact = f64::from(x).ln();
            let error = (f64::from(ln(x)) - exact).abs();
            assert!(error < 4e-7_f64.max(2.4e-7 * exact.abs()), "{x}: {error}");
            x *= 1.000_37;
        }
        assert_eq!(ln(1.0), 0.0);
        for n in [1_u32, 2, 1023, 1024, 1025, u32::MAX] {
            assert!((f64::from(ln_count(n)) - f64::from(n).ln()).abs() < 6e-6, "{n}");
        }
        assert_eq!(ln_count(0), 0.0);
        assert!(ln(0.0).is_finite() && ln(-1.0).is_finite());
    }

    #[test]
    fn halves_are_as_exact_as_stated() {
        for n in 0..12_500 {
            let x = n as f32 / 100.0;
            let exact = (-f64::from(x)).exp2();
            assert!((f64::from(halved(x)) / exact - 1.0).abs() < 1e-6, "{x}");
        }
        assert_eq!((halved(0.0), halved(1.0), halved(1e9)), (1.0, 0.5, 0.0));
    }
}
