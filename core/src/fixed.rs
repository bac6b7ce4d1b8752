//! Fixed-point helpers: `core` decides with integers, so that every platform decides alike.

/// One, in the 32-bit fraction that [`exp_neg`] and [`decay`] use.
pub const ONE: u64 = 1 << 32;

/// e^−1 in 32 fractional bits.
const E_INV: u64 = 1_580_030_169;

/// e^−(num/den) in 32 fractional bits; one where `den` is zero. The error is below 2^−28.
///
/// Whole steps multiply e^−1, the rest is the series to the twelfth term.
#[must_use]
pub fn exp_neg(num: u64, den: u64) -> u64 {
    if den == 0 {
        return ONE;
    }
    let whole = num / den;
    if whole >= 23 {
        return 0;
    }
    let x = (u128::from(num % den) << 32) / u128::from(den);
    let mut sum = u128::from(ONE);
    // Horner: 1 − x(1 − x/2(1 − x/3(…)))
    for k in (1..=12_u128).rev() {
        let term = ((x * sum) >> 32) / k;
        sum = u128::from(ONE).saturating_sub(term);
    }
    for _ in 0..whole {
        sum = (sum * u128::from(E_INV)) >> 32;
    }
    u64::try_from(sum).unwrap_or(ONE)
}

/// `old·e + new·(1−e)` with `e` from [`exp_neg`].
#[must_use]
pub fn decay(old: u64, new: u64, e: u64) -> u64 {
    let e = u128::from(e.min(ONE));
    let mixed = (u128::from(old) * e + u128::from(new) * (u128::from(ONE) - e)) >> 32;
    u64::try_from(mixed).unwrap_or(u64::MAX)
}
