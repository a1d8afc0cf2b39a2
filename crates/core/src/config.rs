//! Table properties as typed values, with Iceberg's names and defaults.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// A table's properties (`TableMetadata::properties`), read by name.
#[derive(Debug, Clone, Copy)]
pub struct Properties<'a>(&'a HashMap<String, String>);

impl<'a> Properties<'a> {
    /// Wraps a table's properties.
    pub fn new(properties: &'a HashMap<String, String>) -> Self {
        Self(properties)
    }

    /// A property's text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str)
    }

    /// A property's value, absent when it is not set.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming the property when its text is not such a value.
    pub fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let parsed = text.trim().parse().map_err(|e: T::Err| {
            Error::invalid_input(format!("the table property {name} has a value that can't be read: {e}"))
                .with("value", text)
        });
        parsed.map(Some)
    }

    /// A property's value, or its default.
    pub fn get_or<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> Result<T> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// Whether a property is `true` or `false`, in whatever case, or its default.
    ///
    /// # Errors
    /// As [`Properties::get`].
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.text(name).map(str::trim) {
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => self.get_or(name, default),
        }
    }

    /// A property in milliseconds, or its default.
    pub fn millis_or(&self, name: &str, default: u64) -> Result<Duration> {
        Ok(Duration::from_millis(self.get_or(name, default)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_read_names_its_property() {
        let map = HashMap::from([("commit.retry.num-retries".to_string(), "many".to_string())]);
        let properties = Properties::new(&map);
        let error = properties.get_or("commit.retry.num-retries", 4u32).unwrap_err();
        assert!(error.to_string().contains("commit.retry.num-retries"), "{error}");
        assert_eq!(properties.get_or("absent", 4u32).unwrap(), 4);
    }
}
