//! Amounts of resources: `250m`, `64Mi`, `1e3`.
//!
//! The format is that of `k8s.io/apimachinery/pkg/api/resource/quantity.go`; so is the canonical form, which is why
//! an object shows `1Gi` where the manifest said `1024Mi`.

use std::{fmt, str::FromStr};

/// An amount, exact to one billionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity {
    /// In billionths of the unit.
    nano: i128,
    form: Form,
}

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `500m`, `2k`
    Decimal,
    /// `64Mi`
    Binary,
    /// `1e3`
    Exponent,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not have the form.
    #[error("{0:?} is no quantity: write a number and a suffix, such as 250m, 64Mi or 2")]
    Malformed(String),
    /// It has it, but is too large.
    #[error("{0:?} is larger than any quantity")]
    TooLarge(String),
}

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, i32); 9] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15)];
const EXA: (&str, i32) = ("E", 18);
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// In thousandths, rounded up: what cpu is counted in.
    #[must_use]
    pub fn milli(&self) -> i64 {
        saturate(ceil(self.nano, NANO / 1000))
    }

    /// In whole units, rounded up: what memory is counted in.
    #[must_use]
    pub fn units(&self) -> i64 {
        saturate(ceil(self.nano, NANO))
    }

    /// In billionths; for comparing and adding.
    #[must_use]
    pub fn nano(&self) -> i128 {
        self.nano
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn ceil(value: i128, unit: i128) -> i128 {
    value.div_euclid(unit) + i128::from(value.rem_euclid(unit) != 0)
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || QuantityError::Malformed(text.to_owned());
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let digits = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(digits);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(malformed());
        }
        let (form, base, power) = scale(suffix).ok_or_else(malformed)?;
        let too_large = || QuantityError::TooLarge(text.to_owned());
        let amount = magnitude(whole, fraction, base, power).ok_or_else(too_large)?;
        // Values are counted in 64 bits in the end.
        if amount > i128::from(i64::MAX) * NANO {
            return Err(too_large());
        }
        Ok(Self { nano: if text.starts_with('-') { -amount } else { amount }, form })
    }
}

/// What a suffix multiplies by: base to the power.
fn scale(suffix: &str) -> Option<(Form, i128, i32)> {
    if let Some(index) = BINARY.iter().position(|known| *known == suffix) {
        return Some((Form::Binary, 1024, i32::try_from(index).ok()? + 1));
    }
    if let Some((_, power)) = DECIMAL.iter().chain([&EXA]).find(|(known, _)| *known == suffix) {
        return Some((Form::Decimal, 10, *power));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let power: i32 = exponent.parse().ok()?;
    (-40..=40).contains(&power).then_some((Form::Exponent, 10, power))
}

/// The number in billionths, rounded up.
fn magnitude(whole: &str, fraction: &str, base: i128, power: i32) -> Option<i128> {
    let digits = format!("{whole}{fraction}");
    let mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    if mantissa == 0 {
        return Some(0);
    }
    let places = u32::try_from(fraction.len()).ok()?;
    let mut numerator = mantissa.checked_mul(NANO)?;
    let mut denominator = 10_i128.checked_pow(places)?;
    if power >= 0 {
        numerator = numerator.checked_mul(base.checked_pow(power.unsigned_abs())?)?;
    } else {
        denominator = denominator.checked_mul(base.checked_pow(power.unsigned_abs())?)?;
    }
    Some(ceil(numerator, denominator))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let whole = self.nano % NANO == 0;
        if self.form == Form::Binary && whole && self.nano.abs() >= 1024 * NANO {
            let mut value = self.nano / NANO;
            let mut suffix = "";
            for next in BINARY {
                if value % 1024 != 0 {
                    break;
                }
                value /= 1024;
                suffix = next;
            }
            return write!(f, "{value}{suffix}");
        }
        let mut value = self.nano;
        let mut steps = 0;
        while value % 1000 == 0 && steps < DECIMAL.len() {
            value /= 1000;
            steps += 1;
        }
        let (suffix, power) = DECIMAL.get(steps).copied().unwrap_or(EXA);
        match self.form {
            Form::Exponent if power != 0 => write!(f, "{value}e{power}"),
            _ => write!(f, "{value}{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is shown is the same amount, and shown the same again.
        #[test]
        fn the_canonical_form_is_the_same_amount(number in "[0-9]{1,6}(\\.[0-9]{1,6})?", suffix in "(|n|u|m|k|M|G|T|Ki|Mi|Gi|Ti|e[0-9]|e-[0-9])") {
            let quantity: Quantity = format!("{number}{suffix}").parse().unwrap();
            let again: Quantity = quantity.to_string().parse().unwrap();
            prop_assert_eq!(quantity.nano(), again.nano());
            prop_assert_eq!(quantity.to_string(), again.to_string());
        }
    }

    #[test]
    fn quantities_are_shown_as_kubernetes_shows_them() {
        // The first column of quantity_test.go's round trips, and the second.
        let cases = [
            ("0", "0"),
            ("100m", "100m"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("512", "512"),
            ("1024", "1024"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1000k", "1M"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("1.1E-6", "1100e-9"),
            ("-10m", "-10m"),
            ("+10", "10"),
            (".5", "500m"),
            ("5.", "5"),
            ("1E", "1E"),
            ("0.0000000001", "1n"),
        ];
        for (text, shown) in cases {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", "Mi", "1.2.3", "1Kb", "64MB", "1 Gi", "1e", "e3", "--1", "1e99", "9999999999999E", "0x10"]
        {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_rounded_up() {
        let cpu: Quantity = "0.0001".parse().unwrap();
        assert_eq!((cpu.milli(), cpu.units()), (1, 1));
        let memory: Quantity = "64Mi".parse().unwrap();
        assert_eq!(memory.units(), 64 << 20);
        let negative: Quantity = "-1.5".parse().unwrap();
        assert_eq!((negative.milli(), negative.units()), (-1500, -1));
    }
}
