use serde::{Deserialize, Serialize};

use super::{Aggregate, Distinct, Merged};
use crate::hash::KeyHash;

/// So many groups are kept.
const GROUPS: usize = 32;

/// Distinct members of each group, for example names under each domain, and the largest group.
///
/// At most 32 groups are kept, those with the most members; the rest is forgotten, so that one large group is
/// found among any number of small ones, while [`Groups::top_share`] becomes an upper bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Groups(Vec<(KeyHash, Distinct)>);

impl Groups {
    /// Takes a member of a group.
    pub fn add(&mut self, group: KeyHash, member: KeyHash) {
        match self.0.binary_search_by_key(&group, |entry| entry.0) {
            Ok(at) => self.0[at].1.add(member),
            Err(at) => {
                let mut members = Distinct::default();
                members.add(member);
                self.0.insert(at, (group, members));
                self.keep_largest();
            }
        }
    }

    /// Members of the largest group; 0 if there is none.
    #[must_use]
    pub fn largest(&self) -> f64 {
        self.0.iter().map(|entry| entry.1.count()).fold(0.0, f64::max)
    }

    /// Share of the largest group in the members of all; 0 if there is none.
    #[must_use]
    pub fn top_share(&self) -> f64 {
        let all: f64 = self.0.iter().map(|entry| entry.1.count()).sum();
        if all > 0.0 { self.largest() / all } else { 0.0 }
    }

    /// Lets the smallest groups go; among equals, one that came before, because the newcomer may yet grow.
    fn keep_largest(&mut self) {
        while self.0.len() > 2 * GROUPS {
            let mut sizes: Vec<(f64, KeyHash)> = self
                .0
                .iter()
                .map(|(group, members)| (members.count(), *group))
                .collect();
            sizes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let (least, last) = sizes[GROUPS - 1];
            self.0.retain(|(group, members)| {
                let size = members.count();
                size > least || (size == least && *group <= last)
            });
        }
    }
}

impl Aggregate for Groups {
    type Sliding = Merged;

    fn merge(&mut self, later: &Self) {
        for (group, members) in &later.0 {
            match self.0.binary_search_by_key(group, |entry| entry.0) {
                Ok(at) => self.0[at].1.merge(members),
                Err(at) => self.0.insert(at, (*group, members.clone())),
            }
        }
        self.keep_largest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_large_group_is_found_among_many_small_ones() {
        let (mut first, mut second) = (Groups::default(), Groups::default());
        for n in 0..50_000_u64 {
            let half = if n % 2 == 0 { &mut first } else { &mut second };
            half.add(KeyHash::of_number(n), KeyHash::of_number(n));
            if n % 10 == 0 {
                half.add(KeyHash(1), KeyHash::of_number(n));
            }
            assert!(half.0.len() <= 2 * GROUPS);
        }
        first.merge(&second);
        assert!(first.0.len() <= 2 * GROUPS);
        assert!(
            (first.largest() / 5000.0 - 1.0).abs() < 0.13,
            "{}",
            first.largest()
        );
        assert!(first.top_share() > 0.9);
    }

    #[test]
    fn few_groups_are_exact() {
        let mut groups = Groups::default();
        assert_eq!((groups.largest(), groups.top_share()), (0.0, 0.0));
        for (group, member) in [(1, 1), (1, 2), (1, 2), (2, 1), (3, 9)] {
            groups.add(KeyHash(group), KeyHash(member));
        }
        assert_eq!((groups.largest(), groups.top_share()), (2.0, 0.5));
    }
}
