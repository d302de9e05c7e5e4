//! Bandwidth limits of a pod: how fast, and how much at once.

use serde::{Deserialize, Serialize};

/// How long a limit's full speed may be exceeded at most, where nobody gave a burst: 5 ms of it.
const BURST_SHARE: u64 = 200;
/// The smallest burst in bytes: some packets of 1500, so that slow links are not slowed further.
const SMALLEST_BURST: u64 = 16 * 1024;
/// How long a packet may wait at most before it is dropped, in milliseconds. With half of it TCP drops many
/// times more often, and now and then so much at once that it waits for its timer.
const LATENCY_MS: u64 = 100;

/// One direction's limit, as a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Bits per second.
    pub bits_per_second: u64,
    /// Bytes that may be sent at once after a pause.
    pub burst_bytes: u32,
}

impl Rate {
    /// The slowest limit in bits per second: a packet of 1500 bytes then takes 1.5 seconds.
    pub const SLOWEST: u64 = 8_000;

    /// A limit of `bits_per_second`; without `burst_bytes` one is derived.
    #[must_use]
    pub fn new(bits_per_second: u64, burst_bytes: Option<u64>) -> Self {
        let derived = (bits_per_second / 8 / BURST_SHARE).max(SMALLEST_BURST);
        let burst = burst_bytes.unwrap_or(derived);
        Self { bits_per_second, burst_bytes: u32::try_from(burst).unwrap_or(u32::MAX) }
    }

    /// Bytes per second.
    #[must_use]
    pub const fn bytes_per_second(self) -> u64 {
        self.bits_per_second / 8
    }

    /// Bytes that may wait: the burst, and what leaves in 100 ms.
    #[must_use]
    pub fn queue_bytes(self) -> u32 {
        let waiting = self.bytes_per_second().saturating_mul(LATENCY_MS) / 1000;
        u32::try_from(waiting).unwrap_or(u32::MAX).saturating_add(self.burst_bytes)
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bit/s burst {} bytes", self.bits_per_second, self.burst_bytes)
    }
}

/// Both directions of one pod's interface; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Towards the pod: "ingress" in CNI's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_pod: Option<Rate>,
    /// From the pod: "egress".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_pod: Option<Rate>,
}

impl Limits {
    /// Whether neither direction is limited.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.to_pod.is_none() && self.from_pod.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_five_milliseconds_but_never_less_than_a_few_packets() {
        assert_eq!(Rate::new(1_000_000_000, None).burst_bytes, 625_000);
        assert_eq!(Rate::new(1_000_000, None).burst_bytes, 16 * 1024);
        assert_eq!(Rate::new(1_000_000, Some(5000)).burst_bytes, 5000);
    }

    #[test]
    fn what_may_wait_leaves_within_a_tenth_of_a_second_of_the_burst() {
        let rate = Rate::new(80_000_000, Some(100_000));
        assert_eq!(rate.queue_bytes(), 100_000 + 1_000_000);
        assert_eq!(Rate::new(u64::MAX, None).queue_bytes(), u32::MAX);
    }
}
