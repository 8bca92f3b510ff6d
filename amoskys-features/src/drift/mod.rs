//! Drift: whether a stream of numbers is still what it was, for features that a model reads and for scores that it gives.
//!
//! | detector | asks | states | assumes |
//! |---|---|---|---|
//! | [`PsiDrift`] | are values spread over bins as they were? | a limit for a probability of false alarms | independent values |
//! | [`KsDrift`], [`KsTest`] | are the first and the last values of one distribution? | an exact p-value | independent values |
//! | [`Adwin`] | since when has the mean been what it is? | the probability of a false cut | values of bounded range, independent |
//! | [`PageHinkley`] | has the mean risen or fallen? | values between false alarms | independent values of light tails |
//!
//! [`DriftMonitor`] runs them on each feature of vectors of one schema, and [`StreamDrift`] on one stream, such as scores.
//! Features of neighbouring windows are rarely independent: ask for fewer false alarms than you can bear, or show the monitor
//! every tenth vector.
//!
//! Each has a bounded state that serde stores and restores bit for bit, in any format that keeps infinities (postcard does,
//! JSON does not).

mod adwin;
mod ks;
mod monitor;
mod page_hinkley;
mod psi;

pub use self::adwin::{Adwin, AdwinCut};
pub use self::ks::{KsDrift, KsTest};
pub use self::monitor::{Drift, DriftConfig, DriftMethod, DriftMonitor, StreamDrift};
pub use self::page_hinkley::{MeanDrift, PageHinkley};
pub use self::psi::PsiDrift;

/// The number that a standard normal one is below with this probability: Acklam's rational approximation, within 1.2e-9 of its
/// size.
fn normal_quantile(probability: f64) -> f64 {
    let polynomial = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    const CENTRE: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const CENTRE_BELOW: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const TAIL: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const TAIL_BELOW: [f64; 5] = [
        7.784695709041462e-3,
        3.224671290700398e-1,
        2.445134137142996,
        3.754408661907416,
        1.0,
    ];
    let p = probability.clamp(1e-300, 1.0 - f64::EPSILON);
    if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&TAIL, q) / polynomial(&TAIL_BELOW, q)
    } else if p > 1.0 - 0.02425 {
        -normal_quantile(1.0 - p)
    } else {
        let q = p - 0.5;
        q * polynomial(&CENTRE, q * q) / polynomial(&CENTRE_BELOW, q * q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_normal_distribution() {
        // scipy.stats.norm.ppf
        for (p, quantile) in [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.999, 3.090_232_306_167_813_5),
            (0.01, -2.326_347_874_040_841),
            (0.3, -0.524_400_512_708_040_9),
        ] {
            assert!((normal_quantile(p) - quantile).abs() < 1e-8, "{p}");
        }
    }
}
