//! Ages as kubectl writes them: `42s`, `5m`, `2d3h`.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};

/// `HumanDuration` of `staging/src/k8s.io/apimachinery/pkg/util/duration/duration.go`: about three digits.
#[must_use]
pub fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let two = |large: i64, unit: &str, small: i64, part: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{part}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match () {
        // Clocks of two machines may differ by a little.
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => two(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

/// How long ago `time` was; `<unknown>` if there is none.
#[must_use]
pub fn age(time: Option<&Time>, now: Timestamp) -> String {
    time.map_or_else(|| "<unknown>".to_owned(), |time| human_duration(now.duration_since(time.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of `duration_test.go`.
    #[test]
    fn durations_are_short() {
        let (second, minute, hour, day) = (1, 60, 3600, 86400);
        let year = 365 * day;
        let cases = [
            (second, "1s"),
            (70 * second, "70s"),
            (190 * second, "3m10s"),
            (70 * minute, "70m"),
            (47 * hour, "47h"),
            (49 * hour, "2d1h"),
            (8 * day + 2 * hour, "8d"),
            (367 * day, "367d"),
            (2 * year + 5 * day + 2 * hour, "2y5d"),
            (8 * year + 2 * day + hour, "8y"),
            (0, "0s"),
            (-1, "0s"),
            (-2, "<invalid>"),
            (2 * minute, "2m"),
            (10 * minute + 1, "10m"),
            (3 * hour, "3h"),
            (3 * hour + 5 * minute, "3h5m"),
            (8 * hour + 5 * minute, "8h"),
            (2 * day, "2d"),
            (2 * year, "2y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), text, "{seconds} s");
        }
    }
}
