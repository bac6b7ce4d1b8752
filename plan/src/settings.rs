//! The mesh's settings, in types that cannot be wrong: they come from the controller's own
//! configuration, and an error in them is told at its start.

use std::str::FromStr;

use serde::Deserialize;
use spillway_core::config::Config;

/// What all policies share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mesh {
    /// The filter's image.
    pub image: Image,
    /// A Secret with the registry's credentials, in every namespace that gets a plugin.
    #[serde(default)]
    pub image_pull_secret: Option<String>,
    /// The namespace whose plugins without a selector reach every proxy.
    #[serde(default = "root_namespace")]
    pub root_namespace: String,
    /// What service names end with.
    #[serde(default = "domain")]
    pub domain: String,
    /// The tokens: the first is sent, all are accepted.
    pub tokens: Tokens,
    /// The header that carries the serving cluster's prefix.
    #[serde(default)]
    pub prefix_header: PrefixHeader,
    /// Sidecars are injected in namespaces without a label too (`enableNamespacesByDefault`).
    #[serde(default)]
    pub inject_by_default: bool,
}

fn root_namespace() -> String {
    "istio-system".to_owned()
}

fn domain() -> String {
    "cluster.local".to_owned()
}

/// A setting that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Not an image by its digest.
    #[error(
        "write the filter's image by its digest: oci://REGISTRY/NAME@sha256: and 64 of 0-9 a-f"
    )]
    Image,
    /// Not a token.
    #[error("write one token, or two while they are rotated, each 8 to 64 of A-Z a-z 0-9 _ -")]
    Tokens,
    /// Not a header that the filter takes.
    #[error(
        "write a header name of a-z 0-9 -, at most 64 long, that HTTP, Envoy and Spillway do not use themselves"
    )]
    PrefixHeader,
}

/// The filter's image, by its digest: a tag could name another image at every pull, and an image
/// that cannot be had replaces a running filter by nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Image(String);

impl Image {
    /// As in a WasmPlugin's `url`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Image {
    type Error = SettingError;

    fn try_from(url: String) -> Result<Self, SettingError> {
        let digest = url
            .strip_prefix("oci://")
            .and_then(|rest| rest.split_once("@sha256:"))
            .filter(|(name, _)| name.contains('/') && !name.contains(['@', ' ']))
            .map(|(_, digest)| digest);
        let hex = |digest: &str| {
            digest.len() == 64
                && digest
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        if digest.is_some_and(hex) {
            Ok(Self(url))
        } else {
            Err(SettingError::Image)
        }
    }
}

/// What a request that left its home carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Token {
    type Error = SettingError;

    fn try_from(text: String) -> Result<Self, SettingError> {
        let good = (8..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if good {
            Ok(Self(text))
        } else {
            Err(SettingError::Tokens)
        }
    }
}

/// One token, or two while they are rotated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Tokens {
    sent: Token,
    accepted: Option<Token>,
}

impl Tokens {
    /// One that is sent, and another that is accepted besides.
    #[must_use]
    pub const fn new(sent: Token, accepted: Option<Token>) -> Self {
        Self { sent, accepted }
    }

    /// The one that is sent.
    #[must_use]
    pub const fn sent(&self) -> &Token {
        &self.sent
    }

    /// The one that is accepted besides.
    #[must_use]
    pub const fn accepted(&self) -> Option<&Token> {
        self.accepted.as_ref()
    }

    /// All of them, the one that is sent first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        [&self.sent]
            .into_iter()
            .chain(&self.accepted)
            .map(Token::as_str)
    }
}

impl TryFrom<Vec<String>> for Tokens {
    type Error = SettingError;

    fn try_from(tokens: Vec<String>) -> Result<Self, SettingError> {
        let mut tokens = tokens.into_iter().map(Token::try_from);
        let sent = tokens.next().ok_or(SettingError::Tokens)??;
        let accepted = tokens.next().transpose()?;
        match tokens.next() {
            None => Ok(Self { sent, accepted }),
            Some(_) => Err(SettingError::Tokens),
        }
    }
}

/// As people write them: with a comma between two.
impl FromStr for Tokens {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let tokens = text.trim().split(',').map(|token| token.trim().to_owned());
        Self::try_from(tokens.collect::<Vec<_>>())
    }
}

/// The header that carries the serving cluster's prefix.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PrefixHeader(String);

impl PrefixHeader {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Default for PrefixHeader {
    fn default() -> Self {
        Self(spillway_core::config::wire::PREFIX_HEADER.to_owned())
    }
}

impl TryFrom<String> for PrefixHeader {
    type Error = SettingError;

    /// The filter's own parser is asked, so that there is one list of names that are taken.
    fn try_from(name: String) -> Result<Self, SettingError> {
        let document = serde_json::json!({
            "version": spillway_core::config::wire::VERSION,
            "side": "Client",
            "tokens": ["any-token"],
            "prefixHeader": name,
            "clusters": {"any": {}},
            "policies": [],
        });
        match Config::parse(document.to_string().as_bytes(), "any") {
            Ok(_) => Ok(Self(name)),
            Err(_) => Err(SettingError::PrefixHeader),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_its_digest() {
        let digest = "0".repeat(64);
        assert!(
            Image::try_from(format!(
                "oci://registry.example.com/spillway/filter@sha256:{digest}"
            ))
            .is_ok()
        );
        for url in [
            format!("registry.example.com/spillway/filter@sha256:{digest}"),
            "oci://registry.example.com/spillway/filter:1.0".to_owned(),
            format!(
                "oci://registry.example.com/spillway/filter@sha256:{}",
                "0".repeat(63)
            ),
            format!(
                "oci://registry.example.com/spillway/filter@sha256:{}",
                "A".repeat(64)
            ),
            format!("oci://@sha256:{digest}"),
        ] {
            assert_eq!(
                Image::try_from(url.clone()),
                Err(SettingError::Image),
                "{url}"
            );
        }
    }

    #[test]
    fn tokens_are_one_or_two() {
        let token = "mesh-token-1".to_owned();
        assert!(Tokens::try_from(vec![token.clone()]).is_ok());
        assert!(Tokens::try_from(vec![token.clone(), token.clone()]).is_ok());
        assert!(Tokens::try_from(vec![]).is_err());
        assert!(Tokens::try_from(vec![token.clone(); 3]).is_err());
        assert!(Tokens::try_from(vec!["short".to_owned()]).is_err());
        assert!(Tokens::try_from(vec!["with;semicolon".to_owned()]).is_err());
        let two: Tokens = " mesh-token-2, mesh-token-1\n".parse().unwrap();
        assert_eq!(two.sent().as_str(), "mesh-token-2");
        assert_eq!(
            two.iter().collect::<Vec<_>>(),
            ["mesh-token-2", "mesh-token-1"]
        );
        for text in ["", "mesh-token-1,", "a-token,b-token,c-token"] {
            assert!(text.parse::<Tokens>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_prefix_header_is_one_that_the_filter_takes() {
        assert!(PrefixHeader::try_from("x-served-by".to_owned()).is_ok());
        for name in ["x-spillway", "X-Upper", "cookie", "x-envoy-retry-on", ""] {
            assert!(PrefixHeader::try_from(name.to_owned()).is_err(), "{name}");
        }
    }
}
