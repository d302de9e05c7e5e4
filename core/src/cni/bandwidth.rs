//! `runtimeConfig.bandwidth` (CONVENTIONS, "bandwidth"): bits per second and bits, each direction.

use serde_json::{Map, Value};

use super::error::CniError;
use super::value::{invalid, lookup, mistyped};
use crate::rate::{Limits, Rate};

/// Bursts from here on mean "none given": kubelet and containerd write the largest signed or unsigned
/// 32-bit number.
const NO_BURST: u64 = i32::MAX as u64;
const KEY: &str = "runtimeConfig.bandwidth";

/// # Errors
/// A value is no number, a burst comes without a rate, or a rate is too small to be meant in bits.
pub(super) fn limits(value: &Value) -> Result<Limits, CniError> {
    let map = value.as_object().ok_or_else(|| mistyped(KEY, value, "an object"))?;
    Ok(Limits { to_pod: rate(map, "ingress")?, from_pod: rate(map, "egress")? })
}

fn rate(map: &Map<String, Value>, direction: &str) -> Result<Option<Rate>, CniError> {
    let (rate_key, burst_key) = (format!("{direction}Rate"), format!("{direction}Burst"));
    let (rate, burst) = (number(map, &rate_key)?, number(map, &burst_key)?);
    match (rate, burst) {
        (0, 0) => Ok(None),
        (0, burst) => Err(invalid(&format!("{KEY}.{burst_key}"), burst, format!("needs {rate_key} too"))),
        (rate, _) if rate < Rate::SLOWEST => Err(invalid(
            &format!("{KEY}.{rate_key}"),
            rate,
            format!("less than {}: the unit is bits per second", Rate::SLOWEST),
        )),
        (rate, burst) => {
            let given = (1..NO_BURST).contains(&burst).then(|| (burst / 8).max(1));
            Ok(Some(Rate::new(rate, given)))
        }
    }
}

fn number(map: &Map<String, Value>, key: &str) -> Result<u64, CniError> {
    let Some(value) = lookup(Some(map), key) else { return Ok(0) };
    value.as_u64().ok_or_else(|| mistyped(&format!("{KEY}.{key}"), value, "a number of bits, not negative"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::error::Code;
    use serde_json::json;

    #[test]
    fn containerd_and_podman_write_it_their_own_way() {
        let containerd = json!({ "IngressRate": 10_000_000, "IngressBurst": u32::MAX, "EgressRate": 0 });
        let read = limits(&containerd).unwrap();
        assert_eq!(read, Limits { to_pod: Some(Rate::new(10_000_000, None)), from_pod: None });
        let other = json!({ "egressRate": 8_000_000, "egressBurst": 80_000 });
        let read = limits(&other).unwrap();
        assert_eq!(read, Limits { to_pod: None, from_pod: Some(Rate::new(8_000_000, Some(10_000))) });
        assert!(limits(&json!({})).unwrap().is_empty());
    }

    #[test]
    fn wrong_values_are_named() {
        let cases = [
            (json!({ "ingressRate": -1 }), Code::Decode, "ingressRate"),
            (json!({ "ingressRate": "1M" }), Code::Decode, "1M"),
            (json!({ "egressRate": 100 }), Code::InvalidConfig, "bits per second"),
            (json!({ "egressBurst": 80_000 }), Code::InvalidConfig, "needs egressRate"),
            (json!([]), Code::Decode, "an object"),
        ];
        for (value, code, word) in cases {
            let e = limits(&value).unwrap_err();
            assert_eq!(e.code, code, "{value}");
            assert!(e.msg.contains(word), "{value}: {}", e.msg);
        }
    }
}
