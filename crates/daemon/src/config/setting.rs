//! One value on its way into a field, and what to say where it does not fit.
//!
//! The values come as they are in the file, or as text from the environment. The
//! errors that `serde` and field types make would quote the value, so they are
//! taken apart here: what was expected is kept, what was found is not.

use std::{fmt, str::FromStr};

use config::{Value, ValueKind};
use serde::{
    de::{
        self, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::ConfigError;

/// A message that contains this much of a value in a row is taken to quote it.
const QUOTE_LEN: usize = 4;

/// What went wrong, before and after it is known where.
#[derive(Debug)]
pub(super) enum Fault {
    /// The value is not what this says.
    Expected(String),
    /// The field's type refused the value in its own words.
    Said(String),
    /// There is no value, and no default.
    Missing(&'static str),
    /// The fault with the name of its key.
    At(ConfigError),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("value does not fit")
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Said(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Expected(format!("one of {}", expected.join(", ")))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Expected(format!("a table with no keys but {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

/// One value and the name of its key, for errors.
pub(super) struct Setting {
    name: String,
    value: Value,
}

impl Setting {
    pub(super) fn new(name: String, value: Value) -> Self {
        Self { name, value }
    }

    /// Reads a number, a truth value or the like from its text.
    fn parsed<T: FromStr>(&self, expected: impl fmt::Display) -> Result<T, Fault> {
        let text = match &self.value.kind {
            ValueKind::String(text) => text.trim().parse().ok(),
            ValueKind::Boolean(_) | ValueKind::I64(_) | ValueKind::U64(_) | ValueKind::Float(_) => {
                self.value.kind.to_string().parse().ok()
            }
            _ => None,
        };
        text.ok_or_else(|| self.locate(Fault::Expected(expected.to_string())))
    }

    /// Puts the name to a fault, and takes the value out of it.
    fn locate(&self, fault: Fault) -> Fault {
        let setting = self.name.clone();
        Fault::At(match fault {
            Fault::At(error) => error,
            Fault::Expected(expected) => ConfigError::Invalid { setting, expected },
            Fault::Missing(field) => {
                ConfigError::Invalid { setting, expected: format!("a table with {field}") }
            }
            Fault::Said(message) if quotes(&message, &self.value) => {
                ConfigError::Refused { setting, reason: "the value is not valid".to_owned() }
            }
            Fault::Said(reason) => ConfigError::Refused { setting, reason },
        })
    }

    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(value) => visitor.visit_bool(value),
            ValueKind::I64(value) => visitor.visit_i64(value),
            ValueKind::I128(value) => visitor.visit_i128(value),
            ValueKind::U64(value) => visitor.visit_u64(value),
            ValueKind::U128(value) => visitor.visit_u128(value),
            ValueKind::Float(value) => visitor.visit_f64(value),
            ValueKind::String(value) => visitor.visit_string(value),
            ValueKind::Array(items) => {
                let name = self.name;
                visitor.visit_seq(SeqDeserializer::new(
                    items.into_iter().map(|item| Self::new(name.clone(), item)),
                ))
            }
            ValueKind::Table(table) => {
                let name = self.name;
                visitor.visit_map(MapDeserializer::new(
                    table.into_iter().map(|(key, item)| (key, Self::new(name.clone(), item))),
                ))
            }
        }
    }
}

/// Whether `message` shows `value` or a good part of it. Where in doubt it says
/// yes.
fn quotes(message: &str, value: &Value) -> bool {
    let message: Vec<char> = message.chars().collect();
    match &value.kind {
        ValueKind::Nil => false,
        ValueKind::Array(_) | ValueKind::Table(_) => true,
        scalar => {
            let value: Vec<char> = scalar.to_string().chars().collect();
            let part = value.len().clamp(1, QUOTE_LEN);
            value.windows(part).any(|part| message.windows(part.len()).any(|said| said == part))
        }
    }
}

impl<'de> IntoDeserializer<'de, Fault> for Setting {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $number:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let range = format!("a whole number from {} to {}", <$number>::MIN, <$number>::MAX);
            let number = self.parsed::<$number>(range)?;
            visitor.$visit(number).map_err(|fault| self.locate(fault))
        }
    )*};
}

impl<'de> Deserializer<'de> for Setting {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // The visitor takes the value away; this copy is for the error alone.
        let found = Self::new(self.name.clone(), self.value.clone());
        self.visit(visitor).map_err(|fault| found.locate(fault))
    }

    whole_numbers! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = self.parsed("true or false")?;
        visitor.visit_bool(value).map_err(|fault| self.locate(fault))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = self.parsed("a number")?;
        visitor.visit_f64(value).map_err(|fault| self.locate(fault))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.kind {
            ValueKind::Nil => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value.kind {
            ValueKind::String(text) => visitor
                .visit_enum(IntoDeserializer::<Fault>::into_deserializer(text.as_str()))
                .map_err(|fault| self.locate(fault)),
            _ => Err(self.locate(de::Error::unknown_variant("", variants))),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}
