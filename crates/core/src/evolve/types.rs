//! Short names for column types, for code that adds columns.
//!
//! Field ids inside nested types are placeholders: a column that is added gets new ids, nested ones included.

use std::sync::Arc;

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, StructType, Type};

macro_rules! primitives {
    ($($(#[$doc:meta])* $name:ident => $variant:ident;)+) => {
        $($(#[$doc])*
        pub fn $name() -> Type {
            Type::Primitive(PrimitiveType::$variant)
        })+
    };
}

primitives! {
    /// True or false.
    boolean => Boolean;
    /// A signed integer of 32 bits.
    int => Int;
    /// A signed integer of 64 bits.
    long => Long;
    /// An IEEE 754 number of 32 bits.
    float => Float;
    /// An IEEE 754 number of 64 bits.
    double => Double;
    /// A calendar date.
    date => Date;
    /// A time of day in microseconds.
    time => Time;
    /// A timestamp in microseconds, without time zone.
    timestamp => Timestamp;
    /// A timestamp in microseconds, in UTC.
    timestamptz => Timestamptz;
    /// A timestamp in nanoseconds, without time zone (format version 3).
    timestamp_ns => TimestampNs;
    /// A timestamp in nanoseconds, in UTC (format version 3).
    timestamptz_ns => TimestamptzNs;
    /// UTF-8 text.
    string => String;
    /// A UUID.
    uuid => Uuid;
    /// Bytes of any length.
    binary => Binary;
}

/// A decimal number of `precision` digits (at most 38), `scale` of them after the point.
pub fn decimal(precision: u32, scale: u32) -> Type {
    Type::Primitive(PrimitiveType::Decimal { precision, scale })
}

/// `length` bytes.
pub fn fixed(length: u64) -> Type {
    Type::Primitive(PrimitiveType::Fixed(length))
}

/// A list of elements that may be null.
pub fn list(element: Type) -> Type {
    Type::List(ListType::new(Arc::new(NestedField::list_element(0, element, false))))
}

/// A map from keys to values that may be null.
pub fn map(key: Type, value: Type) -> Type {
    let key = Arc::new(NestedField::map_key_element(0, key));
    Type::Map(MapType::new(key, Arc::new(NestedField::map_value_element(0, value, false))))
}

/// A struct of fields: `structure([optional("lat", double()), optional("lon", double())])`.
pub fn structure(fields: impl IntoIterator<Item = NestedFieldRef>) -> Type {
    Type::Struct(StructType::new(fields.into_iter().collect()))
}

/// A field of [`structure`] that may be null.
pub fn optional(name: impl Into<String>, field_type: Type) -> NestedFieldRef {
    Arc::new(NestedField::optional(0, name.into(), field_type))
}

/// A field of [`structure`] that is never null.
pub fn required(name: impl Into<String>, field_type: Type) -> NestedFieldRef {
    Arc::new(NestedField::required(0, name.into(), field_type))
}
