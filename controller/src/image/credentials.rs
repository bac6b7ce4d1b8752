//! Credentials for registries, as Docker and Kubernetes keep them.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::ByteString;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

use super::Unavailable;

/// What matters of a `.dockerconfigjson`.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// `USER:PASSWORD`, in base64.
    auth: Option<ByteString>,
    username: Option<String>,
    password: Option<String>,
}

/// What to show to a registry.
pub(super) async fn read(file: &Path, registry: &str) -> Result<RegistryAuth, Unavailable> {
    let text = tokio::fs::read_to_string(file).await.map_err(|error| {
        let message = format!("the credentials {} cannot be read: {error}", file.display());
        Unavailable::new("RegistryUnreachable", message)
    })?;
    parse(&text, registry).ok_or_else(|| {
        // An error of the parser could quote what it does not understand.
        let message = format!(
            "the credentials {} are not what `kubectl create secret docker-registry` makes",
            file.display()
        );
        Unavailable::new("RegistryUnreachable", message)
    })
}

/// The credentials for a registry, anonymous where there are none; nothing where the text is no
/// `.dockerconfigjson`.
fn parse(text: &str, registry: &str) -> Option<RegistryAuth> {
    let config: DockerConfig = serde_json::from_str(text).ok()?;
    let entry = config
        .auths
        .into_iter()
        .find(|(name, _)| host(name) == registry);
    let Some((_, entry)) = entry else {
        return Some(RegistryAuth::Anonymous);
    };
    let (user, password) = match (entry.auth, entry.username, entry.password) {
        (_, Some(user), Some(password)) => (user, password),
        (Some(auth), ..) => {
            let auth = String::from_utf8(auth.0).ok()?;
            let (user, password) = auth.split_once(':')?;
            (user.to_owned(), password.to_owned())
        }
        _ => return Some(RegistryAuth::Anonymous),
    };
    Some(RegistryAuth::Basic(user, password))
}

/// `https://index.docker.io/v1/` and the like are written too.
fn host(name: &str) -> &str {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.split_once('/').map_or(name, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_own_entry_is_taken() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOmZpcnN0"},
            "registry.example.com:5000": {"username": "ours", "password": "a:b"},
            "other.example.com/team": {"auth": "b3RoZXI6Yzpk"},
            "empty.example.com": {}
        }}"#;
        let basic = |user: &str, password: &str| {
            Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
        };
        assert_eq!(parse(text, "index.docker.io"), basic("hub", "first"));
        assert_eq!(
            parse(text, "registry.example.com:5000"),
            basic("ours", "a:b")
        );
        assert_eq!(parse(text, "other.example.com"), basic("other", "c:d"));
        assert_eq!(
            parse(text, "empty.example.com"),
            Some(RegistryAuth::Anonymous)
        );
        assert_eq!(
            parse(text, "registry.example.com"),
            Some(RegistryAuth::Anonymous)
        );
    }

    #[test]
    fn anything_else_is_no_set_of_credentials() {
        assert_eq!(parse("", "registry.example.com"), None);
        assert_eq!(parse(r#"{"auths": []}"#, "registry.example.com"), None);
        let wrong = r#"{"auths": {"registry.example.com": {"auth": "bm8gY29sb24="}}}"#;
        assert_eq!(parse(wrong, "registry.example.com"), None);
    }
}
