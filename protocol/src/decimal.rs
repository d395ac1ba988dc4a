//! Decimals from JSON, never by way of a float, and the bounds of the columns that keep them.

use crate::json::Json;
use rust_decimal::{Decimal, RoundingStrategy};

/// What a column can hold: `NUMERIC(18, scale)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// `NUMERIC(18,2)`
    Amount,
    /// `NUMERIC(18,4)`
    Price,
    /// `NUMERIC(18,3)`
    Quantity,
    /// `NUMERIC(18,6)`
    Rate,
}

impl Column {
    /// Digits after the point.
    pub const fn scale(self) -> u32 {
        match self {
            Column::Amount => 2,
            Column::Price => 4,
            Column::Quantity => 3,
            Column::Rate => 6,
        }
    }

    /// Rounds half away from zero, as the column shows it.
    pub fn round(self, value: Decimal) -> Decimal {
        value.round_dp_with_strategy(self.scale(), RoundingStrategy::MidpointAwayFromZero)
    }

    /// Rounds a sum, and holds it at the column's bounds: its parts fit each by itself, but one row that the
    /// database refuses would hold up all that hangs on it.
    pub fn saturate(self, sum: Decimal) -> Decimal {
        let greatest = Decimal::new(10_i64.pow(18) - 1, self.scale());
        self.round(sum).clamp(-greatest, greatest)
    }

    fn fits(self, value: Decimal) -> bool {
        self.round(value).abs() < Decimal::from(10_i64.pow(18 - self.scale()))
    }
}

/// A number or a decimal text that fits `column`, unrounded.
///
/// # Errors
/// A short text that says what is wrong, for the event's exception.
pub fn read(value: &Json<'_>, column: Column) -> Result<Decimal, &'static str> {
    let text = match value {
        Json::Number(text) => *text,
        Json::String(text) if is_decimal(text) => text,
        _ => return Err("is no decimal number"),
    };
    let decimal = parse(text).ok_or("is no decimal number")?;
    if column.fits(decimal) { Ok(decimal) } else { Err("is out of range") }
}

fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (integer, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits =
        |part: &str| !part.is_empty() && part.len() <= 64 && part.bytes().all(|b| b.is_ascii_digit());
    digits(integer) && digits(fraction)
}

fn parse(text: &str) -> Option<Decimal> {
    match text.split_once(['e', 'E']) {
        None => text.parse().ok(),
        Some((mantissa, exponent)) => moved_point(mantissa, exponent.parse().unwrap_or(i64::MIN)),
    }
}

/// Moves the decimal point in the digits themselves, so that long mantissas are as exact as short ones.
fn moved_point(mantissa: &str, exponent: i64) -> Option<Decimal> {
    let (sign, unsigned) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (integer, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all = [integer, fraction].concat();
    let digits = all.trim_start_matches('0');
    let point = (integer.len() as i64 - (all.len() - digits.len()) as i64).saturating_add(exponent);
    if digits.is_empty() || point < -28 {
        // Below the last digit of every column.
        return Some(Decimal::ZERO);
    }
    // The parser has refused more than 28 integer digits.
    let zeros = |count: i64| "0".repeat(usize::try_from(count.clamp(0, 28)).unwrap_or(0));
    let plain = match usize::try_from(point) {
        Ok(point) if point >= digits.len() => [sign, digits, &zeros((point - digits.len()) as i64)].concat(),
        Ok(point) if point > 0 => [sign, &digits[..point], ".", &digits[point..]].concat(),
        _ => [sign, "0.", &zeros(-point), digits].concat(),
    };
    plain.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Result<String, &'static str> {
        read(&Json::parse(text).expect("JSON"), Column::Amount).map(|d| Column::Amount.round(d).to_string())
    }

    #[test]
    fn numbers_and_texts_are_exact() {
        assert_eq!(amount("2732.0787000000005").as_deref(), Ok("2732.08"));
        assert_eq!(amount("\"1234567890123456.78\"").as_deref(), Ok("1234567890123456.78"));
        assert_eq!(amount("1234567890123456.78").as_deref(), Ok("1234567890123456.78"));
        assert_eq!(amount("1.005").as_deref(), Ok("1.01"));
        assert_eq!(amount("-1.005").as_deref(), Ok("-1.01"));
        assert_eq!(amount("1.5e3").as_deref(), Ok("1500"));
        assert_eq!(amount("-1.5E+3").as_deref(), Ok("-1500"));
        assert_eq!(amount("12345e-2").as_deref(), Ok("123.45"));
        assert_eq!(amount("0.00125e2").as_deref(), Ok("0.13"));
        assert_eq!(amount("5.551115123125783e-17").as_deref(), Ok("0.00"));
        assert_eq!(amount("1e-400").as_deref(), Ok("0"));
        assert_eq!(amount("0e999").as_deref(), Ok("0"));
    }

    #[test]
    fn long_mantissas_and_fractions_are_exact_too() {
        assert_eq!(amount("12345678901234567890123456789012345e-33").as_deref(), Ok("12.35"));
        assert_eq!(amount("9999999999999999999999999999e-29").as_deref(), Ok("0.10"));
        assert_eq!(amount(&format!("1.{}", "5".repeat(1000))).as_deref(), Ok("1.56"));
        assert_eq!(
            amount("0.1000000000000000055511151231257827021181583404541015625").as_deref(),
            Ok("0.10")
        );
    }

    #[test]
    fn a_sum_is_held_at_the_bounds_of_its_column() {
        let huge = Decimal::from(10_i64.pow(17));
        assert_eq!(Column::Amount.saturate(huge).to_string(), "9999999999999999.99");
        assert_eq!(Column::Quantity.saturate(-huge).to_string(), "-999999999999999.999");
        assert_eq!(Column::Amount.saturate(Decimal::new(1005, 3)).to_string(), "1.01");
    }

    #[test]
    fn what_is_no_amount_is_named() {
        for text in
            ["\"NaN\"", "\"Infinity\"", "\"1,50\"", "\"abc\"", "\"1e5\"", "\"+1\"", "\".5\"", "true", "[]"]
        {
            assert_eq!(amount(text), Err("is no decimal number"), "{text}");
        }
        assert_eq!(amount("10000000000000000"), Err("is out of range"));
        assert_eq!(amount("9999999999999999.995"), Err("is out of range"));
    }
}
