//! Sets of slots, looked through a machine word at a time.

use std::iter;

use fixedbitset::FixedBitSet;

use super::Slot;

/// Those of `these` that are not among `those`, in order. Words that agree cost one comparison for all of their slots,
/// and mostly they do.
pub(super) fn without<'a>(
    these: &'a FixedBitSet,
    those: &'a FixedBitSet,
) -> impl Iterator<Item = Slot> + 'a {
    let words = these.as_slice().iter().zip(endless(those)).enumerate();
    words.flat_map(|(at, (these, those))| Ones {
        word: these & !those,
        first: at * WORD_BITS,
    })
}

/// Calls `each` for those of `these` that are not among `those` and are among `chosen`, and says how many are not chosen. A
/// word costs the same whether all of its slots are refused or none.
pub(super) fn choose(
    these: &FixedBitSet,
    those: &FixedBitSet,
    chosen: &FixedBitSet,
    mut each: impl FnMut(Slot),
) -> usize {
    let others = endless(those).zip(endless(chosen));
    let words = these.as_slice().iter().zip(others).enumerate();
    let mut refused = 0;
    for (at, (these, (those, chosen))) in words {
        let wanted = these & !those;
        refused += (wanted & !chosen).count_ones() as usize;
        let first = at * WORD_BITS;
        let word = wanted & chosen;
        Ones { word, first }.for_each(&mut each);
    }
    refused
}

fn endless(set: &FixedBitSet) -> impl Iterator<Item = usize> {
    set.as_slice().iter().copied().chain(iter::repeat(0))
}

const WORD_BITS: usize = usize::BITS as usize;

struct Ones {
    word: usize,
    /// The slot of the lowest bit.
    first: usize,
}

impl Iterator for Ones {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        if self.word == 0 {
            return None;
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some(Slot::new(self.first + bit))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_left_is_in_one_set_and_not_in_the_other(
            these in proptest::collection::btree_set(0_usize..300, 0..100),
            those in proptest::collection::btree_set(0_usize..300, 0..100),
        ) {
            let set = |numbers: &BTreeSet<usize>| numbers.iter().copied().collect::<FixedBitSet>();
            let left: Vec<usize> = without(&set(&these), &set(&those)).map(Slot::index).collect();
            let wanted: Vec<usize> = these.difference(&those).copied().collect();
            prop_assert_eq!(left, wanted);
        }

        #[test]
        fn the_chosen_are_named_and_the_others_counted(
            these in proptest::collection::btree_set(0_usize..300, 0..100),
            those in proptest::collection::btree_set(0_usize..300, 0..100),
            chosen in proptest::collection::btree_set(0_usize..300, 0..100),
        ) {
            let set = |numbers: &BTreeSet<usize>| numbers.iter().copied().collect::<FixedBitSet>();
            let mut named = Vec::new();
            let each = |slot: Slot| named.push(slot.index());
            let refused = choose(&set(&these), &set(&those), &set(&chosen), each);
            let (wanted, others): (Vec<usize>, Vec<usize>) =
                these.difference(&those).partition(|slot| chosen.contains(slot));
            prop_assert_eq!((named, refused), (wanted, others.len()));
        }
    }
}
