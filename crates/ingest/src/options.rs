//! Settings of an ingest: types, conversions, dialect. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, SchemaRef, TimeUnit};
use chrono::format::{Item, StrftimeItems};
use icefield_core::{Error, Result};
use serde::{Deserialize, Serialize};

pub(crate) use crate::limits::Limits;

/// How CSV is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Csv {
    /// What parts fields: an ASCII character, a comma by default. Files named `.tsv` are parted by tabs.
    pub delimiter: u8,
    /// What quotes fields, doubled inside them: an ASCII character, `"` by default.
    pub quote: u8,
    /// Whether a last row that no line end closes is taken for one cut short, even when it has all its fields. Off: many
    /// writers leave the last line end out.
    pub final_newline_required: bool,
}

impl Default for Csv {
    fn default() -> Self {
        Self { delimiter: b',', quote: b'"', final_newline_required: false }
    }
}

/// What an archive that can't be read to its end still contributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BrokenArchive {
    /// Nothing: all of it or none of it. The default.
    #[default]
    Reject,
    /// The members that were complete before the break.
    KeepCompleteMembers,
}

/// What a manifest's absence means for the archives of its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ManifestUse {
    /// Archives are checked against a manifest where there is one. The default.
    #[default]
    IfPresent,
    /// A folder without a manifest has not arrived in full: its archives are left for a later run, and reported.
    Required,
    /// Manifests are not looked at.
    Ignored,
}

/// How a column's text becomes a value, where its type alone does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Conversion {
    /// An amount such as `$5,150.00`, `12.00 EUR` or `($3.50)` to a decimal. Commas part thousands; an amount with more
    /// decimals than the scale does not parse.
    Money {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// A date in a `strftime` format such as `%d/%m/%Y`.
    Date {
        /// The format, in chrono's words.
        format: String,
    },
    /// A timestamp in a `strftime` format; one with an offset (`%z`) becomes an instant in UTC.
    Timestamp {
        /// The format, in chrono's words.
        format: String,
    },
}

impl Conversion {
    /// The type of the converted column.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Money { precision, scale } => DataType::Decimal128(*precision, *scale as i8),
            Self::Date { .. } => DataType::Date32,
            Self::Timestamp { format } => {
                let zone = Self::has_offset(format).then(|| "UTC".into());
                DataType::Timestamp(TimeUnit::Microsecond, zone)
            }
        }
    }

    pub(crate) fn has_offset(format: &str) -> bool {
        ["%z", "%:z", "%#z", "%+"].iter().any(|part| format.contains(part))
    }
}

/// What is known of a table before its files are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableOptions {
    schema: Option<SchemaRef>,
    conversions: BTreeMap<String, Conversion>,
    aliases: BTreeMap<String, String>,
}

impl TableOptions {
    pub(crate) fn set_schema(&mut self, schema: SchemaRef) {
        self.schema = Some(schema);
    }

    pub(crate) fn set_conversion(&mut self, column: String, conversion: Conversion) {
        self.conversions.insert(column, conversion);
    }

    pub(crate) fn set_alias(&mut self, from: String, to: String) {
        self.aliases.insert(from, to);
    }

    /// The name under which a column of a file is known in the table.
    pub(crate) fn name<'a>(&'a self, written: &'a str) -> &'a str {
        self.aliases.get(written).map_or(written, String::as_str)
    }

    /// The column's field, where its type is given.
    pub(crate) fn field(&self, name: &str) -> Option<FieldRef> {
        let given = self.schema.as_ref().and_then(|s| s.fields().iter().find(|f| f.name() == name).cloned());
        given.or_else(|| self.conversions.get(name).map(|c| Field::new(name, c.data_type(), true).into()))
    }

    pub(crate) fn conversion(&self, name: &str) -> Option<&Conversion> {
        self.conversions.get(name)
    }

    /// The given fields, in the given order.
    pub(crate) fn given(&self) -> impl Iterator<Item = &FieldRef> {
        self.schema.iter().flat_map(|schema| schema.fields())
    }

    /// Checks what can be checked before any file is read.
    pub(crate) fn check(&self, table: &str) -> Result<()> {
        for field in self.given() {
            if !supported(field.data_type()) {
                return Err(Error::unsupported(
                    "files of text can't be read as this type; use boolean, integers, floats, decimal128, date32, time64, timestamp or utf8",
                )
                .with("table", table)
                .with("column", field.name())
                .with("type", field.data_type()));
            }
        }
        for (column, conversion) in &self.conversions {
            let to = conversion.data_type();
            if let DataType::Decimal128(p, s) = to
                && (p == 0 || p > DECIMAL128_MAX_PRECISION || s < 0 || s as u8 > p)
            {
                return Err(Error::invalid_input("a decimal has 1 to 38 digits, and a scale within them")
                    .with("table", table)
                    .with("column", column));
            }
            if let Conversion::Date { format } | Conversion::Timestamp { format } = conversion
                && StrftimeItems::new(format).any(|item| item == Item::Error)
            {
                return Err(Error::invalid_input("the conversion's format is no strftime format")
                    .with("table", table)
                    .with("column", column)
                    .with("format", format));
            }
            if let Some(field) = self.field(column)
                && *field.data_type() != to
            {
                return Err(Error::invalid_input(
                    "a column's conversion and its given type differ; leave the column out of the schema or give it the conversion's type",
                )
                .with("table", table)
                .with("column", column)
                .with("given", field.data_type())
                .with("converted", to));
            }
        }
        Ok(())
    }
}

fn supported(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Utf8 => true,
        T::Date32 | T::Timestamp(..) | T::Time64(TimeUnit::Microsecond) => true,
        T::Decimal128(_, scale) => *scale >= 0,
        _ => false,
    }
}

/// All settings that decide what an archive's staged parts hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) patterns: Vec<crate::Pattern>,
    pub(crate) ignored: Vec<crate::Pattern>,
    /// The table of every file, where names do not say it.
    pub(crate) table: Option<String>,
    pub(crate) tables: BTreeMap<String, TableOptions>,
    /// The tables that there may be; without a list, those of plain names.
    pub(crate) allowed: Option<BTreeSet<String>>,
    pub(crate) csv: Csv,
    pub(crate) limits: Limits,
    pub(crate) broken: BrokenArchive,
    /// The column that names each row's archive and member.
    pub(crate) source_column: Option<String>,
}

impl Settings {
    /// Whether the caller speaks of a table.
    pub(crate) fn names(&self, table: &str) -> bool {
        let listed = self.allowed.as_ref().is_some_and(|tables| tables.contains(table));
        listed || self.table.as_deref() == Some(table) || self.tables.contains_key(table)
    }

    /// Why there may be no table of a name that a partner gives; `None` where there may.
    pub(crate) fn refuses(&self, table: &str) -> Option<&'static str> {
        let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        // Dates in names have hyphens, SQL's comments two.
        let is_plain = |name: &str| {
            name.len() <= 255 && name.split('-').all(|part| !part.is_empty() && part.bytes().all(is_part))
        };
        match &self.allowed {
            Some(tables) if tables.contains(table) || self.table.as_deref() == Some(table) => None,
            Some(_) => Some("the file's table is none of those that were named"),
            None if self.names(table) || is_plain(table) => None,
            None => Some(
                "a table's name is up to 255 letters, digits, underscores and hyphens between them, unless .tables() has it",
            ),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let csv = &self.csv;
        let usable = |c: u8| c.is_ascii() && !matches!(c, b'\n' | b'\r' | 0);
        if !usable(csv.delimiter) || !usable(csv.quote) || csv.delimiter == csv.quote {
            return Err(Error::invalid_input(
                "delimiter and quote are two different ASCII characters, not line ends",
            ));
        }
        // A JSON row and the text of its values are in one buffer, whose places have 30 bits.
        if self.limits.row_bytes > 1 << 28 || self.limits.row_bytes < 1024 {
            return Err(Error::invalid_input("a row's limit is between 1 KiB and 256 MiB")
                .with("row_bytes", self.limits.row_bytes));
        }
        if self.table.is_none()
            && let Some(pattern) = self.patterns.iter().find(|p| !p.names_table())
        {
            return Err(Error::invalid_input(
                "a member pattern needs {table}, or the table's name given by .table()",
            )
            .with("pattern", pattern.as_str()));
        }
        self.tables.iter().try_for_each(|(name, options)| options.check(name))
    }

    /// Text that differs whenever the staged parts would.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{self:?}")
    }
}
