//! Checksums, by which changed bytes are noticed. FNV-1a (Fowler, Noll, Vo) over words of 64 bits:
//! a change of any one word changes the checksum.

const BASIS: u64 = 0xCBF2_9CE4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01B3;

fn step(check: u64, word: u64) -> u64 {
    (check ^ word).wrapping_mul(PRIME)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word))
}

/// The check of whole words.
pub(crate) fn check_of(bytes: &[u8]) -> u64 {
    words(bytes).fold(BASIS, step)
}

/// The check of long values, in four lanes: a processor then need not wait for one product before
/// it begins the next.
#[derive(Clone, Debug)]
pub(crate) struct Lanes([u64; Self::COUNT]);

impl Lanes {
    const COUNT: usize = 4;

    pub(crate) fn new() -> Self {
        Self([BASIS; Self::COUNT])
    }

    /// Takes whole words. What comes before others is a multiple of 32 bytes.
    pub(crate) fn add(mut self, bytes: &[u8]) -> Self {
        for part in bytes.chunks(8 * Self::COUNT) {
            self.0.iter_mut().zip(words(part)).for_each(|(lane, word)| *lane = step(*lane, word));
        }
        self
    }

    pub(crate) fn check(self) -> u64 {
        self.0.into_iter().fold(BASIS, step)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_change_of_a_word_is_noticed(mut bytes in prop::collection::vec(any::<u8>(), 8..200), at: prop::sample::Index, by in 1u64..) {
            bytes.truncate(bytes.len() / 8 * 8);
            let checks = |bytes: &[u8]| (check_of(bytes), Lanes::new().add(bytes).check());
            let before = checks(&bytes);
            let at = 8 * at.index(bytes.len() / 8);
            let word = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            bytes[at..at + 8].copy_from_slice(&(word ^ by).to_le_bytes());
            let after = checks(&bytes);
            prop_assert!(before.0 != after.0 && before.1 != after.1);
        }

        #[test]
        fn parts_have_the_check_of_the_whole(bytes in prop::collection::vec(any::<u64>(), 0..60), at in 0usize..16) {
            let bytes: &[u8] = bytemuck::cast_slice(&bytes);
            let (front, back) = bytes.split_at((32 * at).min(bytes.len() / 32 * 32));
            prop_assert_eq!(Lanes::new().add(front).add(back).check(), Lanes::new().add(bytes).check());
        }
    }
}
