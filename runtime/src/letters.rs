//! Names that nobody has to think up.

/// The letters and digits that make no words: `apimachinery/pkg/util/rand`.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A letter for each number, fit for names and labels: `rand.SafeEncodeString`.
pub fn spell(numbers: impl IntoIterator<Item = usize>) -> String {
    numbers.into_iter().map(|number| char::from(ALPHABET[number % ALPHABET.len()])).collect()
}

/// FNV-1a, 32 bits: stable from run to run, which the standard library's hasher does not promise.
pub fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_everybody() {
        // The published test vectors of FNV-1a.
        assert_eq!([hash(b""), hash(b"a"), hash(b"foobar")], [0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968]);
    }

    #[test]
    fn letters_make_no_words() {
        let all = spell(0..54);
        assert!(all.starts_with("bcd") && !all.contains(['a', 'e', 'i', 'o', 'u', '0', '1', '3']), "{all}");
    }
}
