//! Lists that stay short whatever comes: the first entries in the archives' order, though archives end in any order.

use std::collections::BTreeMap;

use crate::escape::cut;
use crate::quarantine::{Level, Quarantined};
use crate::report::ERRORS;

/// Entries of the quarantine that a run keeps in memory.
const ENTRIES: usize = 10_000;
/// Bytes of an error's words.
const ERROR_BYTES: usize = 512;

/// Archives before members before rows, so that a flood of bad rows does not push the others out; then in the order of archives,
/// and in the order in which an archive has them.
type Place = (Level, usize, usize);

/// The first entries of the quarantine.
#[derive(Debug)]
pub(crate) struct Listed {
    entries: BTreeMap<Place, Quarantined>,
    bytes: usize,
    /// Bytes that there may be.
    most: usize,
    /// The first entry that did not fit: none behind it is taken any more, so that what is kept does not depend on which
    /// archive ended first.
    cut: Option<Place>,
}

impl Listed {
    /// A list of at most so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: BTreeMap::new(), bytes: 0, most, cut: None }
    }

    /// Adds entry `number` of archive `at`.
    pub(crate) fn put(&mut self, at: usize, number: usize, item: Quarantined) {
        let place = (item.level, at, number);
        if self.cut.is_some_and(|cut| place > cut) {
            return;
        }
        self.bytes += item.bytes();
        self.entries.insert(place, item);
        while self.entries.len() > ENTRIES || self.bytes > self.most {
            let Some((place, item)) = self.entries.pop_last() else { break };
            self.bytes -= item.bytes();
            self.cut = Some(place);
        }
    }

    pub(crate) fn into_items(self) -> Vec<Quarantined> {
        self.entries.into_values().collect()
    }
}

/// The first of a table's errors in words, and the number of the others.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    first: BTreeMap<(usize, usize), String>,
    more: u64,
}

impl Errors {
    /// Adds error `number` of archive `at`.
    pub(crate) fn put(&mut self, at: usize, number: usize, mut error: String) {
        cut(&mut error, ERROR_BYTES);
        self.first.insert((at, number), error);
        if self.first.len() > ERRORS {
            self.first.pop_last();
            self.more += 1;
        }
    }

    /// Adds errors that are not known in words.
    pub(crate) fn put_more(&mut self, n: u64) {
        self.more += n;
    }

    /// The words, in the archives' order, and the number of the others.
    pub(crate) fn into_parts(self) -> (Vec<String>, u64) {
        (self.first.into_values().collect(), self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::Reason;

    const BYTES: usize = 16 << 20;

    fn item(level: Level, at: usize, number: usize, raw: usize) -> Quarantined {
        Quarantined {
            level,
            archive: format!("memory://drop/{at:05}.tar.gz"),
            member: Some("calendar_2024-06-22_1.csv".into()),
            table: Some("calendar".into()),
            line: Some(number as u64),
            reason: Reason::BadValue,
            detail: "\"x\" in column \"price\" is no Int64".into(),
            raw: Some("x".repeat(raw)),
        }
    }

    /// Each of `archives` in an order of chance.
    fn shuffled(archives: usize) -> impl Iterator<Item = usize> {
        // A step that shares no factor with the number goes through all of them.
        (0..archives).map(move |n| (n * 1_237 + 17) % archives)
    }

    #[test]
    fn the_list_is_the_same_in_whatever_order_archives_end_and_bounded() {
        for (raw, kept) in [(40, ENTRIES), (16 << 10, 900)] {
            let mut listed = Listed::new(BYTES);
            let mut in_order = Listed::new(BYTES);
            for at in shuffled(4_000) {
                listed.put(at, 100, item(Level::Member, at, 100, 0));
                for number in 0..100 {
                    listed.put(at, number, item(Level::Row, at, number, raw));
                    assert!(listed.entries.len() <= ENTRIES && listed.bytes <= BYTES);
                }
            }
            for at in 0..4_000 {
                (0..100).for_each(|number| in_order.put(at, number, item(Level::Row, at, number, raw)));
                in_order.put(at, 100, item(Level::Member, at, 100, 0));
            }
            let bytes: usize = listed.entries.values().map(Quarantined::bytes).sum();
            assert_eq!(bytes, listed.bytes);
            let (listed, in_order) = (listed.into_items(), in_order.into_items());
            assert!(listed == in_order && listed.len() >= kept, "{} {}", listed.len(), in_order.len());
            assert!(listed[..4_000].iter().all(|item| item.level == Level::Member));
        }
    }

    #[test]
    fn the_first_errors_are_kept_in_words_and_the_others_counted() {
        let mut errors = Errors::default();
        for at in shuffled(1_000) {
            errors.put(at, 0, format!("archive {at}"));
        }
        errors.put_more(5);
        let (first, more) = errors.into_parts();
        let expected: Vec<String> = (0..ERRORS).map(|at| format!("archive {at}")).collect();
        assert_eq!((first, more), (expected, 1_000 - ERRORS as u64 + 5));
    }
}
