//! The first of what comes in any order, as many as there is room for.

use std::collections::BTreeMap;

/// What has the first names, and the number of the others.
#[derive(Debug)]
pub(crate) struct First<T> {
    pub(crate) kept: BTreeMap<String, T>,
    most: usize,
    pub(crate) left: u64,
}

impl<T> First<T> {
    /// With room for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { kept: BTreeMap::new(), most, left: 0 }
    }

    /// Adds one, or replaces the one of its name. Which ones are kept does not depend on the order in which they come.
    pub(crate) fn put(&mut self, name: String, item: T) {
        self.kept.insert(name, item);
        if self.kept.len() > self.most {
            self.kept.pop_last();
            self.left += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_are_kept_in_whatever_order_they_come() {
        let mut first = First::new(3);
        for name in ["d", "a", "e", "c", "a", "b"] {
            first.put(name.to_string(), ());
        }
        assert_eq!(
            (first.kept.into_keys().collect::<Vec<_>>(), first.left),
            (vec!["a".into(), "b".into(), "c".into()], 2)
        );
    }
}
