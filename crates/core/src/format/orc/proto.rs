//! The protobuf messages of an ORC file, as far as reading needs them (ORC specification v1, "File Tail" and "Stripes").

use crate::error::Result;
use crate::format::source::broken;

/// The most parts that a footer may have together, which are larger in memory than in a file.
const MAX_PARTS: usize = 1 << 20;

/// The last message of a file, which is not compressed.
#[derive(Debug, Default)]
pub(super) struct PostScript {
    pub(super) footer_length: u64,
    pub(super) compression: u64,
    pub(super) block_size: Option<u64>,
    pub(super) is_orc: bool,
}

#[derive(Debug, Default)]
pub(super) struct Footer {
    pub(super) stripes: Vec<Stripe>,
    pub(super) types: Vec<Type>,
    pub(super) rows: u64,
    pub(super) is_encrypted: bool,
}

/// Where a stripe is.
#[derive(Debug, Clone, Default)]
pub(super) struct Stripe {
    pub(super) offset: u64,
    pub(super) index_length: u64,
    pub(super) data_length: u64,
    pub(super) footer_length: u64,
    pub(super) rows: u64,
}

/// A node of the file's tree of types. The first one is the root.
#[derive(Debug, Default)]
pub(super) struct Type {
    pub(super) kind: u64,
    pub(super) children: Vec<u64>,
    pub(super) names: Vec<String>,
    pub(super) precision: u64,
    pub(super) scale: u64,
    attributes: Vec<(String, String)>,
}

impl Type {
    pub(super) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
pub(super) struct StripeFooter {
    pub(super) streams: Vec<Stream>,
    /// By the place of the type.
    pub(super) encodings: Vec<Encoding>,
    pub(super) writer_zone: String,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) kind: u64,
    pub(super) column: u64,
    pub(super) length: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Encoding {
    pub(super) kind: u64,
    pub(super) dictionary_size: u64,
}

impl PostScript {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut of = Self::default();
        each(bytes, |field, value| {
            match field {
                1 => of.footer_length = value.number()?,
                2 => of.compression = value.number()?,
                3 => of.block_size = Some(value.number()?),
                8000 => of.is_orc = value.bytes()? == b"ORC",
                _ => {}
            }
            Ok(())
        })?;
        Ok(of)
    }
}

impl Footer {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let (mut of, mut parts) = (Self::default(), Parts::default());
        each(bytes, |field, value| {
            match field {
                3 => of.stripes.push(Stripe::parse(parts.one(value.bytes()?)?)?),
                4 => of.types.push(Type::parse(parts.one(value.bytes()?)?, &mut parts)?),
                6 => of.rows = value.number()?,
                10 => of.is_encrypted = true,
                _ => {}
            }
            Ok(())
        })?;
        Ok(of)
    }
}

impl Stripe {
    /// Where it ends; `None` for one that no file is long enough for.
    pub(super) fn end(&self) -> Option<u64> {
        let end = self.offset.checked_add(self.index_length)?.checked_add(self.data_length)?;
        end.checked_add(self.footer_length)
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut of = Self::default();
        each(bytes, |field, value| {
            match field {
                1 => of.offset = value.number()?,
                2 => of.index_length = value.number()?,
                3 => of.data_length = value.number()?,
                4 => of.footer_length = value.number()?,
                5 => of.rows = value.number()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(of)
    }
}

impl Type {
    fn parse(bytes: &[u8], parts: &mut Parts) -> Result<Self> {
        let mut of = Self::default();
        each(bytes, |field, value| {
            match field {
                1 => of.kind = value.number()?,
                2 => match value {
                    Value::Number(child) => of.children.push(parts.one(child)?),
                    // Several at once.
                    Value::Bytes(mut packed) => {
                        while !packed.is_empty() {
                            of.children.push(parts.one(varint(&mut packed)?)?);
                        }
                    }
                },
                3 => of.names.push(parts.one(value)?.text()?),
                5 => of.precision = value.number()?,
                6 => of.scale = value.number()?,
                7 => {
                    let mut pair = (String::new(), String::new());
                    each(value.bytes()?, |field, value| {
                        match field {
                            1 => pair.0 = value.text()?,
                            2 => pair.1 = value.text()?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    of.attributes.push(parts.one(pair)?);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(of)
    }
}

impl StripeFooter {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let (mut of, mut parts) = (Self::default(), Parts::default());
        each(bytes, |field, value| {
            match field {
                1 => of.streams.push(Stream::parse(parts.one(value.bytes()?)?)?),
                2 => of.encodings.push(Encoding::parse(parts.one(value.bytes()?)?)?),
                3 => of.writer_zone = value.text()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(of)
    }
}

impl Stream {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut of = Self::default();
        each(bytes, |field, value| {
            match field {
                1 => of.kind = value.number()?,
                2 => of.column = value.number()?,
                3 => of.length = value.number()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(of)
    }
}

impl Encoding {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut of = Self::default();
        each(bytes, |field, value| {
            match field {
                1 => of.kind = value.number()?,
                2 => of.dictionary_size = value.number()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(of)
    }
}

/// Counts the parts of a footer.
#[derive(Debug, Default)]
struct Parts(usize);

impl Parts {
    /// One more, given back.
    fn one<T>(&mut self, part: T) -> Result<T> {
        self.0 += 1;
        if self.0 > MAX_PARTS { Err(broken("its footer has too many parts")) } else { Ok(part) }
    }
}

/// The value of a message's field.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(&self) -> Result<u64> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Bytes(_) => Err(broken("a number in its footer is none")),
        }
    }

    fn bytes(&self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(broken("a part of its footer is none")),
        }
    }

    fn text(&self) -> Result<String> {
        let text = String::from_utf8(self.bytes()?.to_vec());
        text.map_err(|e| broken("a text in its footer is not UTF-8").with_source(e))
    }
}

/// Calls `field` for each field of a message.
fn each(mut message: &[u8], mut field: impl FnMut(u64, Value<'_>) -> Result<()>) -> Result<()> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut message)?),
            1 => Value::Bytes(take(&mut message, 8)?),
            2 => {
                let length = varint(&mut message)?;
                Value::Bytes(take(&mut message, length)?)
            }
            5 => Value::Bytes(take(&mut message, 4)?),
            _ => return Err(broken("its footer is none")),
        };
        field(key >> 3, value)?;
    }
    Ok(())
}

fn take<'a>(message: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let split = usize::try_from(length).ok().and_then(|length| message.split_at_checked(length));
    let (taken, rest) = split.ok_or_else(|| broken("its footer is cut short"))?;
    *message = rest;
    Ok(taken)
}

fn varint(message: &mut &[u8]) -> Result<u64> {
    let mut value = 0_u64;
    for (at, byte) in message.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *message = message.get(at + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(broken("a number in its footer has no end"))
}
