//! Amounts that are given as a number or as a percentage of another one.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a part of a pod is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    Up,
    Down,
}

/// `amount` of `total`; `None` for text that is no percentage.
pub(super) fn of(amount: &IntOrString, total: i32, round: Round) -> Option<i32> {
    match amount {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent * i64::from(total);
            let whole = match round {
                Round::Up => (product + 99) / 100,
                Round::Down => product / 100,
            };
            i32::try_from(whole).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_of_the_total() {
        let text = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(of(&IntOrString::Int(3), 10, Round::Up), Some(3));
        assert_eq!(of(&text("25%"), 10, Round::Up), Some(3));
        assert_eq!(of(&text("25%"), 10, Round::Down), Some(2));
        assert_eq!(of(&text("100%"), 4, Round::Up), Some(4));
        assert_eq!(of(&text("x"), 4, Round::Up), None);
    }
}
