//! Decides which topics and groups have metric series of their own, and sums up the others. Clients that may create
//! topics or groups must not fill the memory of Prometheus.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

/// The label of the series that sums up all topics or groups without series of their own. No topic or group can have
/// this name.
pub(super) const OTHER: &str = "(other)";

/// The values of a series, which can be added to those of another one.
pub(super) trait SeriesValue: Default {
    fn add(&mut self, other: &Self);

    /// The names with the largest weights get series of their own.
    fn weight(&self) -> i64;
}

/// The names that have series of their own: at most `max`. A name keeps its series as long as it exists. So series
/// don't come and go, and new topics or groups can't displace those that an operator watches.
pub(super) struct SeriesCap<const N: usize> {
    max: usize,
    names: HashSet<[String; N]>,
}

impl<const N: usize> SeriesCap<N> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, names: HashSet::new() }
    }

    /// Returns the lines that get series of their own, sorted by name, and then the sum of the others if there are any.
    /// Lines of the same name, which several clusters may have, are added up.
    pub(super) fn apply<V: SeriesValue>(&mut self, lines: Vec<([String; N], V)>) -> Vec<([String; N], V)> {
        let mut by_name: BTreeMap<_, V> = BTreeMap::new();
        for (names, value) in lines {
            by_name.entry(names).or_default().add(&value);
        }
        let mut lines: Vec<_> = by_name.into_iter().collect();
        lines.sort_by(|(a, value), (b, other)| {
            let rank = |names, value: &V| (Reverse(self.names.contains(names)), Reverse(value.weight()));
            rank(a, value).cmp(&rank(b, other)).then_with(|| a.cmp(b))
        });
        let others = lines.split_off(self.max.min(lines.len()));
        self.names = lines.iter().map(|(names, _)| names.clone()).collect();
        lines.sort_by(|(a, _), (b, _)| a.cmp(b));
        if !others.is_empty() {
            let mut sum = V::default();
            others.iter().for_each(|(_, value)| sum.add(value));
            lines.push((std::array::from_fn(|_| OTHER.to_owned()), sum));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl SeriesValue for i64 {
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
    fn the_largest_get_series_of_their_own_and_keep_them() {
        let mut cap = SeriesCap::new(2);
        assert_eq!(
            cap.apply(lines(&[("a", 1), ("b", 5), ("c", 3), ("d", 1)])),
            lines(&[("b", 5), ("c", 3), ("(other)", 2)])
        );
        assert_eq!(
            cap.apply(lines(&[("a", 9), ("b", 0), ("c", 0)])),
            lines(&[("b", 0), ("c", 0), ("(other)", 9)])
        );
        assert_eq!(cap.apply(lines(&[("c", 0), ("a", 4), ("a", 5)])), lines(&[("a", 9), ("c", 0)]));
        assert_eq!(SeriesCap::new(0).apply(lines(&[("a", 1)])), lines(&[("(other)", 1)]));
    }
}
