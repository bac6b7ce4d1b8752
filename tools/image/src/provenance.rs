//! What an image says of where it comes from: the [annotations] that registries and scanners show.
//!
//! Whoever builds the same commit makes the same bytes, so nothing of the machine or of the moment
//! goes in: the time is the commit's, or that of `SOURCE_DATE_EPOCH`, as in any [reproducible
//! build]. What is not known is left out.
//!
//! [annotations]: https://github.com/opencontainers/image-spec/blob/main/annotations.md
//! [reproducible build]: https://reproducible-builds.org/docs/source-date-epoch/

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Where the contents of an image come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The address of the sources.
    pub source: Option<String>,
    /// The commit.
    pub revision: Option<String>,
    /// The commit's time.
    pub created: Option<Timestamp>,
}

impl Provenance {
    /// Under the names of the specification.
    pub(crate) fn annotations(&self, title: &str) -> Value {
        let known = [
            ("title", Some(title.to_owned())),
            ("version", Some(env!("CARGO_PKG_VERSION").to_owned())),
            ("licenses", Some(env!("CARGO_PKG_LICENSE").to_owned())),
            ("source", self.source.clone()),
            ("revision", self.revision.clone()),
            ("created", self.created.map(|time| time.to_string())),
        ];
        let known = known.into_iter().filter_map(|(name, value)| {
            let name = format!("org.opencontainers.image.{name}");
            Some((name, Value::String(value?)))
        });
        Value::Object(known.collect::<Map<_, _>>())
    }
}

/// Seconds since 1970, as `SOURCE_DATE_EPOCH` has them.
///
/// # Errors
/// When it is no such number.
pub fn epoch(text: &str) -> Result<Timestamp, String> {
    let seconds = text.parse().ok();
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.ok_or_else(|| format!("{text}: write whole seconds since 1970"))
}
