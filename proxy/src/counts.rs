//! Counts by key, without entries for counts of zero.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Subtracts from the count of a key, and removes the entry when nothing is left.
pub(crate) fn subtract<K, Q>(counts: &mut HashMap<K, usize>, key: &Q, amount: usize)
where
    K: Borrow<Q> + Eq + Hash,
    Q: Eq + Hash + ?Sized,
{
    if let Some(count) = counts.get_mut(key) {
        *count -= amount;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
