//! A rate as people write it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A rate of requests, such as `"15/s"`, `"900/m"` or `"10/h"`. It is kept as it was written, so
/// that an object with a wrong one can still be read and reported; [`Self::parse`] tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub String);

impl Rate {
    /// The rate that the decisions know.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn parse(&self) -> Result<spillway_core::rate::Rate, &'static str> {
        spillway_core::rate::Rate::parse(&self.0)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 16,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([1-9][0-9]{0,5}|1000000)/[smh]$')",
                "message": "write a rate as a whole number from 1 to 1000000 and a unit: \"15/s\", \"900/m\" or \"10/h\"",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_schema_takes_is_what_the_decisions_take() {
        for text in ["1/s", "1000000/h", "900/m"] {
            assert!(Rate(text.to_owned()).parse().is_ok(), "{text}");
        }
        for text in ["0/s", "1000001/s", "15", "15/d", "-1/s", "1.5/s", ""] {
            assert!(Rate(text.to_owned()).parse().is_err(), "{text}");
        }
    }
}
