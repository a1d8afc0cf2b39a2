//! Types of columns in statements: SQL's, Spark's and Iceberg's names of what a table holds, and back.

use std::sync::Arc;

use datafusion::sql::sqlparser::tokenizer::Token;
use iceberg::spec::{NestedField, PrimitiveType, StructType, Type};
use icefield_core::evolve::types::{self, list, map};
use icefield_core::format::{column_doc, foreign_kind, primitive_text, text_doc};
use icefield_core::{Error, Result};

use super::cursor::Cursor;

/// Reads a type.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for one that no column of a table has.
pub(super) fn parse_type(cursor: &mut Cursor<'_, '_>) -> Result<Type> {
    let mut of = parse_base(cursor)?;
    while cursor.take_token(&Token::LBracket) {
        cursor.expect_token(&Token::RBracket)?;
        of = list(of);
    }
    Ok(of)
}

fn parse_base(cursor: &mut Cursor<'_, '_>) -> Result<Type> {
    let name = cursor.name()?.to_lowercase();
    Ok(match name.as_str() {
        "boolean" | "bool" => types::boolean(),
        "tinyint" | "smallint" | "int" | "integer" | "int2" | "int4" => types::int(),
        "bigint" | "long" | "int8" => types::long(),
        "float" | "real" | "float4" => types::float(),
        "double" => {
            cursor.take(&["PRECISION"]);
            types::double()
        }
        "float8" => types::double(),
        "decimal" | "numeric" | "dec" => decimal(cursor)?,
        "date" => types::date(),
        "time" => {
            precision(cursor, 6)?;
            types::time()
        }
        "timestamp" => timestamp(cursor)?,
        "timestamp_ntz" => types::timestamp(),
        "timestamp_ltz" | "timestamptz" => match precision(cursor, 9)? {
            Some(7..) => types::timestamptz_ns(),
            _ => types::timestamptz(),
        },
        "timestamp_ns" => types::timestamp_ns(),
        "timestamptz_ns" => types::timestamptz_ns(),
        "string" | "text" => types::string(),
        "varchar" | "char" | "character" => {
            cursor.take(&["VARYING"]);
            precision(cursor, u32::MAX)?;
            types::string()
        }
        "uuid" => types::uuid(),
        "binary" | "varbinary" | "bytea" | "bytes" | "blob" => types::binary(),
        "fixed" => {
            cursor.expect_token(&Token::LParen)?;
            let length = cursor.number()?;
            cursor.expect_token(&Token::RParen)?;
            types::fixed(length.into())
        }
        "array" | "list" => {
            cursor.expect_token(&Token::Lt)?;
            let element = parse_type(cursor)?;
            cursor.close_angle()?;
            list(element)
        }
        "map" => {
            cursor.expect_token(&Token::Lt)?;
            let key = parse_type(cursor)?;
            cursor.expect_token(&Token::Comma)?;
            let value = parse_type(cursor)?;
            cursor.close_angle()?;
            map(key, value)
        }
        "struct" => {
            cursor.expect_token(&Token::Lt)?;
            let fields = cursor.list(parse_field)?;
            cursor.close_angle()?;
            Type::Struct(StructType::new(fields))
        }
        _ => {
            let message = "no column has this type here; there are BOOLEAN, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), DATE, TIME, \
                           TIMESTAMP(6), TIMESTAMPTZ, STRING, UUID, BINARY, FIXED(n), ARRAY<..>, MAP<.., ..> and STRUCT<..: ..>";
            return Err(Error::unsupported(message).with("type", name));
        }
    })
}

fn parse_field(cursor: &mut Cursor<'_, '_>) -> Result<iceberg::spec::NestedFieldRef> {
    let name = cursor.name()?;
    cursor.take_token(&Token::Colon);
    let of = parse_type(cursor)?;
    let required = cursor.take(&["NOT", "NULL"]);
    let field = NestedField::new(0, name, of, required);
    Ok(Arc::new(match cursor.take(&["COMMENT"]) {
        true => field.with_doc(text_doc(&cursor.text()?)),
        false => field,
    }))
}

fn decimal(cursor: &mut Cursor<'_, '_>) -> Result<Type> {
    if !cursor.take_token(&Token::LParen) {
        return Ok(types::decimal(10, 0));
    }
    let precision = cursor.number()?;
    let scale = if cursor.take_token(&Token::Comma) { cursor.number()? } else { 0 };
    cursor.expect_token(&Token::RParen)?;
    if !(1..=38).contains(&precision) || scale > precision {
        let message = "a decimal has 1 to 38 digits, of which its scale counts some";
        return Err(Error::invalid_input(message).with("type", format!("decimal({precision}, {scale})")));
    }
    Ok(types::decimal(precision, scale))
}

/// `(6)`, if it is there.
fn precision(cursor: &mut Cursor<'_, '_>, most: u32) -> Result<Option<u32>> {
    if !cursor.take_token(&Token::LParen) {
        return Ok(None);
    }
    let precision = cursor.number()?;
    cursor.expect_token(&Token::RParen)?;
    if precision > most {
        let message = format!("a time has {most} digits below the second at most");
        return Err(Error::invalid_input(message).with("digits", precision));
    }
    Ok(Some(precision))
}

/// A `TIMESTAMP` alone is with time zone in Spark, without in SQL, and of nanoseconds in DataFusion.
fn timestamp(cursor: &mut Cursor<'_, '_>) -> Result<Type> {
    let digits = precision(cursor, 9)?;
    let zoned = if cursor.take(&["WITH", "TIME", "ZONE"]) || cursor.take(&["WITH", "LOCAL", "TIME", "ZONE"]) {
        Some(true)
    } else if cursor.take(&["WITHOUT", "TIME", "ZONE"]) {
        Some(false)
    } else {
        None
    };
    match (digits, zoned) {
        (None, None) => Err(Error::unsupported(
            "TIMESTAMP alone means several types; write TIMESTAMP(6), which is TIMESTAMP_NTZ, or TIMESTAMPTZ, which is Spark's \
             TIMESTAMP",
        )),
        (Some(7..), Some(true)) => Ok(types::timestamptz_ns()),
        (Some(7..), _) => Ok(types::timestamp_ns()),
        (_, Some(true)) => Ok(types::timestamptz()),
        (_, _) => Ok(types::timestamp()),
    }
}

/// A type as Spark names it, where Spark has it, and as [`parse_type`] reads it.
pub(super) fn type_text(of: &Type) -> String {
    match of {
        Type::Primitive(primitive) => primitive_name(primitive),
        Type::List(list) => format!("array<{}>", type_text(&list.element_field.field_type)),
        Type::Map(map) => {
            let (key, value) = (type_text(&map.key_field.field_type), type_text(&map.value_field.field_type));
            format!("map<{key},{value}>")
        }
        Type::Struct(fields) => {
            let fields = fields.fields().iter().map(|field| {
                let required = if field.required { " NOT NULL" } else { "" };
                let doc = column_doc(field).map(|doc| format!(" COMMENT {}", quoted_text(doc)));
                let (name, of) = (quoted_name(&field.name), type_text(&field.field_type));
                format!("{name}:{of}{required}{}", doc.unwrap_or_default())
            });
            format!("struct<{}>", fields.collect::<Vec<_>>().join(","))
        }
    }
}

fn primitive_name(of: &PrimitiveType) -> String {
    if foreign_kind(of).is_some() {
        return primitive_text(of);
    }
    match of {
        PrimitiveType::Long => "bigint".to_string(),
        PrimitiveType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        PrimitiveType::Timestamp => "timestamp_ntz".to_string(),
        PrimitiveType::Timestamptz => "timestamp_ltz".to_string(),
        PrimitiveType::Fixed(length) => format!("fixed({length})"),
        other => primitive_text(other),
    }
}

/// A name as it is written in a statement: quoted where it would not be read as it is.
pub(super) fn quoted_name(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && name.chars().next().is_some_and(|c| !c.is_ascii_digit());
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A text as it is written in a statement.
pub(super) fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
