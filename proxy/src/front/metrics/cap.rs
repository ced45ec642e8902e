//! Bounds the number of series: whoever may create topics or groups must not fill the memory of Prometheus.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

/// The labels of the series for all that have none of their own. It is no legal name of a topic or a group.
pub(super) const OTHER: &str = "(other)";

/// Values that can be shown together.
pub(super) trait Sum: Default {
    fn add(&mut self, other: &Self);

    /// Which values are of more interest.
    fn weight(&self) -> i64;
}

/// Which names have series of their own. They keep them as long as they exist, so that series don't come and go, and
/// nobody can oust what an operator looks at by creating others.
pub(super) struct Shown<const N: usize> {
    max: usize,
    names: HashSet<[String; N]>,
}

impl<const N: usize> Shown<N> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, names: HashSet::new() }
    }

    /// The lines that have series of their own, by name, and then the sum of the others if there are any. Lines of the same
    /// name, which several clusters may have, are one.
    pub(super) fn cap<V: Sum>(&mut self, lines: Vec<([String; N], V)>) -> Vec<([String; N], V)> {
        let mut by_name: BTreeMap<_, V> = BTreeMap::new();
        for (names, value) in lines {
            by_name.entry(names).or_default().add(&value);
        }
        let mut lines: Vec<_> = by_name.into_iter().collect();
        lines.sort_by(|(a, value), (b, other)| {
            let rank = |names, value: &V| (Reverse(self.names.contains(names)), Reverse(value.weight()));
            rank(a, value).cmp(&rank(b, other)).then_with(|| a.cmp(b))
        });
        let rest = lines.split_off(self.max.min(lines.len()));
        self.names = lines.iter().map(|(names, _)| names.clone()).collect();
        lines.sort_by(|(a, _), (b, _)| a.cmp(b));
        if !rest.is_empty() {
            let mut sum = V::default();
            rest.iter().for_each(|(_, value)| sum.add(value));
            lines.push((std::array::from_fn(|_| OTHER.to_owned()), sum));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sum for i64 {
        fn add(&mut self, other: &Self) {
            *self += other;
        }

        fn weight(&self) -> i64 {
            *self
        }
    }

    fn lines(lines: &[(&str, i64)]) -> Vec<([String; 1], i64)> {
        lines.iter().map(|(name, value)| ([(*name).to_owned()], *value)).collect()
    }

    #[test]
    fn the_biggest_have_series_of_their_own_and_keep_them() {
        let mut shown = Shown::new(2);
        assert_eq!(
            shown.cap(lines(&[("a", 1), ("b", 5), ("c", 3), ("d", 1)])),
            lines(&[("b", 5), ("c", 3), ("(other)", 2)])
        );
        assert_eq!(
            shown.cap(lines(&[("a", 9), ("b", 0), ("c", 0)])),
            lines(&[("b", 0), ("c", 0), ("(other)", 9)])
        );
        assert_eq!(shown.cap(lines(&[("c", 0), ("a", 4), ("a", 5)])), lines(&[("a", 9), ("c", 0)]));
        assert_eq!(Shown::new(0).cap(lines(&[("a", 1)])), lines(&[("(other)", 1)]));
    }
}
