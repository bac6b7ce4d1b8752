//! A JSON document as a tree that borrows its texts from the document, and holds no more of it
//! than a configuration can use.
//!
//! The tree of a large configuration would be four times its text, and a WebAssembly module's
//! memory never shrinks. So the items of one list are handed out as they are read, and only one of
//! them is held at a time.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value.
pub(super) enum Json<'t> {
    Number(u64),
    Text(Cow<'t, str>),
    List(Vec<Self>),
    /// In the document's order. A key may be there twice.
    Object(Vec<(Cow<'t, str>, Self)>),
    /// What no field takes: null, a truth value, any other number.
    Other,
}

/// Reads `text`. What the document's list `name` has is given to `each`, and the list stays empty.
///
/// # Errors
/// When it is not JSON. What came before the error was given to `each`.
#[inline(never)]
pub(super) fn parse<'t>(
    text: &'t [u8],
    name: &str,
    each: &mut dyn FnMut(Json<'t>),
) -> serde_json::Result<Json<'t>> {
    let mut from = serde_json::Deserializer::from_slice(text);
    let json = from.deserialize_any(Tree(Some(Part::Document { name, each })))?;
    from.end()?;
    Ok(json)
}

/// What is read, where that is not a tree by itself.
enum Part<'h, 't> {
    /// The document, whose list of this name is given out.
    Document {
        name: &'h str,
        each: &'h mut dyn FnMut(Json<'t>),
    },
    /// That list.
    List(&'h mut dyn FnMut(Json<'t>)),
}

struct Tree<'h, 't>(Option<Part<'h, 't>>);

impl<'t> Deserialize<'t> for Json<'t> {
    fn deserialize<D: Deserializer<'t>>(from: D) -> Result<Self, D::Error> {
        Tree(None).deserialize(from)
    }
}

impl<'t> DeserializeSeed<'t> for Tree<'_, 't> {
    type Value = Json<'t>;

    #[inline(never)]
    fn deserialize<D: Deserializer<'t>>(self, from: D) -> Result<Json<'t>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Tree<'_, 't> {
    type Value = Json<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'t>, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json<'t>, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json<'t>, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json<'t>, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'t>, E> {
        Ok(Json::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Json<'t>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'t>, E> {
        Ok(Json::Text(Cow::Owned(String::from(text))))
    }

    #[inline(never)]
    fn visit_seq<A: SeqAccess<'t>>(self, mut from: A) -> Result<Json<'t>, A::Error> {
        let mut list = Vec::new();
        if let Some(Part::List(each)) = self.0 {
            while let Some(item) = from.next_element()? {
                each(item);
            }
        } else {
            while let Some(item) = from.next_element()? {
                list.push(item);
            }
        }
        Ok(Json::List(list))
    }

    #[inline(never)]
    fn visit_map<A: MapAccess<'t>>(mut self, mut from: A) -> Result<Json<'t>, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = from.next_key::<Json<'t>>()? {
            let Json::Text(key) = key else {
                continue;
            };
            let part = match &mut self.0 {
                Some(Part::Document { name, each }) if *name == key => Some(Part::List(*each)),
                _ => None,
            };
            let value = from.next_value_seed(Tree(part))?;
            fields.push((key, value));
        }
        Ok(Json::Object(fields))
    }
}
