//! [`Places`]: which of a manifest's entries are known to say what their files hold.

use std::fmt;
use std::ops::Range;

/// The header's entry with the places of the entries that are [exact](crate::format::LiveFile::exact).
pub(super) const EXACT_ENTRIES: &str = "icefield.exact-entries";

/// Places in a file of records, counted from 0: ranges in ascending order that do not touch. As text `0-99,105`: a range's
/// first and last place, or a single one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Places(Vec<Range<u64>>);

impl Places {
    /// The places of a text; none of a text that is not of this form.
    pub(super) fn parse(text: &[u8]) -> Self {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
            Some(first..last.checked_add(1)?).filter(|range| !range.is_empty())
        };
        let text = std::str::from_utf8(text).unwrap_or_default();
        let ranges: Option<Vec<Range<u64>>> = text.split(',').map(range).collect();
        let ranges = ranges.unwrap_or_default();
        match ranges.is_sorted_by(|a, b| a.end <= b.start) {
            true => Self(ranges),
            false => Self::default(),
        }
    }

    /// Adds a place behind all others.
    pub(crate) fn push(&mut self, place: u64) {
        match self.0.last_mut() {
            Some(last) if last.end == place => last.end += 1,
            _ => self.0.push(place..place + 1),
        }
    }

    pub(super) fn contains(&self, place: u64) -> bool {
        let behind = self.0.partition_point(|range| range.end <= place);
        self.0.get(behind).is_some_and(|range| range.contains(&place))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let (comma, last) = (if at == 0 { "" } else { "," }, range.end - 1);
            match range.start == last {
                true => write!(f, "{comma}{last}")?,
                false => write!(f, "{comma}{}-{last}", range.start)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_from_their_text_and_from_no_other() {
        let mut places = Places::default();
        [0, 1, 2, 5, 7, 8].into_iter().for_each(|place| places.push(place));
        assert_eq!(places.to_string(), "0-2,5,7-8");
        assert_eq!(Places::parse(b"0-2,5,7-8"), places);
        let found: Vec<u64> = (0..10).filter(|place| places.contains(*place)).collect();
        assert_eq!(found, [0, 1, 2, 5, 7, 8]);
        for none in ["", "x", "1-", "5-2", "3,1", "0-5,2", "-1", "0-18446744073709551615", "1,,2"] {
            assert!(Places::parse(none.as_bytes()).is_empty(), "{none}");
        }
    }
}
