//! Objects as texts.
//!
//! A tree of values takes some twenty times the memory of its text, and no less time to clone than
//! the text takes to be read. What a thousand clusters have and are to have is held as texts.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A value as its text. Equal values have equal texts: serde_json keeps maps sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(Arc<str>);

impl Text {
    /// The value.
    #[must_use]
    pub fn value(&self) -> Value {
        // It was a value.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Value> for Text {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::from(&value))
    }
}
