//! Kubernetes' quantities: numbers with a suffix.

/// Thousandths of the unit: `250m` is 250, `2` is 2000. `None` when it is no quantity, or out of range.
pub(crate) fn milli(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: u128 = format!("0{whole}{fraction}").parse().ok()?;
    let shift = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let scaled = digits.checked_mul(thousandths(suffix)?)?;
    // Kubernetes rounds up what it cannot hold.
    u64::try_from(scaled.div_ceil(shift)).ok()
}

/// Whole units, rounded up: `64Mi` is 67108864.
pub(crate) fn quantity(text: &str) -> Option<u64> {
    milli(text).map(|milli| milli.div_ceil(1000))
}

fn thousandths(suffix: &str) -> Option<u128> {
    let binary = |power: u32| Some(1024_u128.pow(power) * 1000);
    let decimal = |power: u32| 10_u128.checked_pow(power + 3);
    match suffix {
        "m" => Some(1),
        "" => Some(1000),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_suffixes() {
        let known =
            [("100m", 100), ("1", 1000), ("0.5", 500), ("1.5Ki", 1_536_000), ("2e3", 2_000_000), (".1", 100)];
        for (text, thousandths) in known {
            assert_eq!(milli(text), Some(thousandths), "{text}");
        }
        assert_eq!(quantity("64Mi"), Some(64 << 20));
        assert_eq!(quantity("100m"), Some(1));
        for wrong in ["", "m", "1Zi", "-1", "1 Mi", "99999999999Pi"] {
            assert_eq!(milli(wrong), None, "{wrong}");
        }
    }
}
