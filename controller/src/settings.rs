//! What can be set, by arguments or by the environment.
//!
//! A setting is here when somebody would turn it. Each has one form in both places: `--push-interval
//! 1s` is `SPILLWAY_PUSH_INTERVAL=1s`. What is wrong is said before anything starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use spillway_plan::settings::{Image, Mesh, PrefixHeader, Tokens};

use crate::image::Registries;
use crate::serve::{Format, known_level};

/// Carries burst policies into every cluster of a fleet.
#[derive(Clone, Debug, Parser)]
#[command(name = "spillway-controller", version)]
pub struct Settings {
    /// What plans are made with
    #[command(flatten)]
    pub mesh: MeshSettings,

    /// A .dockerconfigjson file with the controller's own credentials for registries
    #[arg(long, env = "SPILLWAY_REGISTRY_CREDENTIALS", value_name = "FILE")]
    pub registry_credentials: Option<PathBuf>,

    /// A PEM file of the authorities that registries are trusted by, instead of the system's
    #[arg(long, env = "SPILLWAY_REGISTRY_AUTHORITIES", value_name = "FILE")]
    pub registry_authorities: Option<PathBuf>,

    /// Registries that are asked without TLS, HOST[:PORT] with commas between them
    #[arg(
        long,
        env = "SPILLWAY_INSECURE_REGISTRIES",
        value_name = "HOSTS",
        value_delimiter = ','
    )]
    pub insecure_registries: Vec<String>,

    /// The namespace of the controller's own objects: its Lease, the mesh's tokens, and in members
    /// the claim
    #[arg(long, env = "SPILLWAY_NAMESPACE", value_name = "NAME", default_value = "spillway-system", value_parser = label)]
    pub namespace: String,

    /// The name of this replica, such as its pod's
    #[arg(
        long,
        env = "SPILLWAY_POD_NAME",
        value_name = "NAME",
        default_value = "spillway-controller"
    )]
    pub pod_name: String,

    /// The hub's kubeconfig; without it the hub is the cluster that the controller runs in
    #[arg(long, env = "SPILLWAY_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Namespaces whose Istio remote secrets tell of clusters that are not attached yet, with
    /// commas between them
    #[arg(long, env = "SPILLWAY_DISCOVER", value_name = "NAMESPACES", value_delimiter = ',', value_parser = label)]
    pub discover: Vec<String>,

    /// Kubeconfigs may run credential plug-ins
    #[arg(long, env = "SPILLWAY_ALLOW_EXEC")]
    pub allow_exec: bool,

    /// How often a cluster's filters are given a new configuration at most
    #[arg(long, env = "SPILLWAY_PUSH_INTERVAL", value_name = "TIME", default_value = "1s", value_parser = time)]
    pub push_interval: Duration,

    /// How long one call to an API server or registry may take
    #[arg(long, env = "SPILLWAY_CALL_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = time)]
    pub call_timeout: Duration,

    /// How long a deleted policy waits for clusters that are away; they are cleaned when they are back
    #[arg(long, env = "SPILLWAY_ABANDON_AFTER", value_name = "TIME", default_value = "1m", value_parser = time)]
    pub abandon_after: Duration,

    /// Where /healthz, /readyz and /metrics are served
    #[arg(
        long,
        env = "SPILLWAY_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub listen: SocketAddr,

    /// Where /loglevel is served; keep it on the loopback interface
    #[arg(
        long,
        env = "SPILLWAY_ADMIN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8081"
    )]
    pub admin: SocketAddr,

    /// What is logged: off, error, warn, info, debug or trace, also by module
    #[arg(
        long,
        env = "SPILLWAY_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info", value_parser = known_level
    )]
    pub log_level: String,

    /// How it is logged
    #[arg(
        long,
        env = "SPILLWAY_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    pub log_format: Format,

    /// Render the resources of this folder instead of those of a hub, once
    #[arg(long, env = "SPILLWAY_SOURCE", value_name = "DIR", requires_all = ["target", "tokens"])]
    pub source: Option<PathBuf>,

    /// Where what was rendered is written, a folder for every control plane
    #[arg(long, env = "SPILLWAY_TARGET", value_name = "DIR", requires = "source")]
    pub target: Option<PathBuf>,

    /// A file with the mesh's token, or two with a comma between them, for what is rendered: 8 to 64
    /// of A-Z a-z 0-9 _ -
    #[arg(
        long,
        env = "SPILLWAY_TOKENS",
        value_name = "FILE",
        requires = "source"
    )]
    pub tokens: Option<PathBuf>,
}

/// What plans are made with, but for the mesh's tokens.
#[derive(Clone, Debug, Args)]
pub struct MeshSettings {
    /// The filter's image, oci://REGISTRY/NAME@sha256:DIGEST
    #[arg(long, env = "SPILLWAY_IMAGE", value_name = "URL", value_parser = image)]
    pub image: Image,

    /// A Secret with credentials for its registry, in every namespace that gets a filter
    #[arg(long, env = "SPILLWAY_IMAGE_PULL_SECRET", value_name = "NAME", value_parser = object_name)]
    pub image_pull_secret: Option<String>,

    /// Istio's root namespace, whose plugins reach every proxy
    #[arg(long, env = "SPILLWAY_ROOT_NAMESPACE", value_name = "NAME", default_value = "istio-system", value_parser = label)]
    pub root_namespace: String,

    /// What the names of services end with
    #[arg(long, env = "SPILLWAY_CLUSTER_DOMAIN", value_name = "DOMAIN", default_value = "cluster.local", value_parser = object_name)]
    pub cluster_domain: String,

    /// The header by which requests and answers tell the cluster that serves them
    #[arg(long, env = "SPILLWAY_PREFIX_HEADER", value_name = "HEADER", value_parser = prefix_header)]
    pub prefix_header: Option<PrefixHeader>,

    /// Sidecars are injected in namespaces without a label too (Istio's enableNamespacesByDefault)
    #[arg(long, env = "SPILLWAY_INJECT_BY_DEFAULT")]
    pub inject_by_default: bool,
}

impl MeshSettings {
    /// The mesh, with its tokens.
    #[must_use]
    pub fn with(&self, tokens: Tokens) -> Mesh {
        Mesh {
            image: self.image.clone(),
            image_pull_secret: self.image_pull_secret.clone(),
            root_namespace: self.root_namespace.clone(),
            domain: self.cluster_domain.clone(),
            tokens,
            prefix_header: self.prefix_header.clone().unwrap_or_default(),
            inject_by_default: self.inject_by_default,
        }
    }
}

impl Settings {
    /// How registries are reached.
    #[must_use]
    pub fn registries(&self) -> Registries {
        Registries {
            credentials: self.registry_credentials.clone(),
            authorities: self.registry_authorities.clone(),
            insecure: self.insecure_registries.clone(),
        }
    }
}

fn image(text: &str) -> Result<Image, String> {
    Image::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn prefix_header(text: &str) -> Result<PrefixHeader, String> {
    PrefixHeader::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// A time with its unit. Zero is none: a limit of nothing would stop everything.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    number
        .zip(milliseconds)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .map(Duration::from_millis)
        .ok_or_else(|| {
            "write a whole number above 0 and its unit: ms, s, m or h, such as 10s".to_owned()
        })
}

fn label(text: &str) -> Result<String, String> {
    name(text, 63, &[]).ok_or_else(|| {
        "write the name of a namespace: 1 to 63 of a-z 0-9 - that begin and end with a letter or digit".to_owned()
    })
}

fn object_name(text: &str) -> Result<String, String> {
    name(text, 253, b".").ok_or_else(|| {
        "write a name of 1 to 253 of a-z 0-9 - . that begins and ends with a letter or digit"
            .to_owned()
    })
}

fn name(text: &str, longest: usize, besides: &[u8]) -> Option<String> {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let good = bytes.len() <= longest
        && bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes
            .iter()
            .all(|byte| plain(byte) || *byte == b'-' || besides.contains(byte));
    good.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Settings, String> {
        let digest = "0".repeat(64);
        let image = format!("--image=oci://registry.example.com/spillway/filter@sha256:{digest}");
        let all = ["spillway-controller", &image]
            .into_iter()
            .chain(arguments.iter().copied());
        Settings::try_parse_from(all).map_err(|error| error.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Settings::command().debug_assert();
    }

    #[test]
    fn only_the_image_has_no_default() {
        let settings = parse(&[]).unwrap();
        assert_eq!(settings.push_interval, Duration::from_secs(1));
        assert_eq!(settings.abandon_after, Duration::from_secs(60));
        assert!(settings.admin.ip().is_loopback());
        let tokens = Tokens::try_from(vec!["a-token-of-the-mesh".to_owned()]).unwrap();
        let mesh = settings.mesh.with(tokens);
        assert_eq!(
            (mesh.root_namespace.as_str(), mesh.domain.as_str()),
            ("istio-system", "cluster.local")
        );
        let without = Settings::try_parse_from(["spillway-controller"]).unwrap_err();
        assert!(without.to_string().contains("--image <URL>"), "{without}");
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let settings = parse(&[
            "--discover=istio-system,mesh",
            "--insecure-registries=127.0.0.1:5000,r",
        ])
        .unwrap();
        assert_eq!(settings.discover, ["istio-system", "mesh"]);
        assert_eq!(settings.registries().insecure, ["127.0.0.1:5000", "r"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (argument, words) in [
            (
                "--image=oci://registry.example.com/filter:latest",
                "write the filter's image by its digest",
            ),
            (
                "--push-interval=0s",
                "write a whole number above 0 and its unit",
            ),
            (
                "--push-interval=1",
                "write a whole number above 0 and its unit",
            ),
            (
                "--push-interval=1.5s",
                "write a whole number above 0 and its unit",
            ),
            (
                "--call-timeout=10 s",
                "write a whole number above 0 and its unit",
            ),
            (
                "--abandon-after=99999999999999999h",
                "write a whole number above 0 and its unit",
            ),
            ("--namespace=Spillway", "write the name of a namespace"),
            ("--discover=istio-system,-", "write the name of a namespace"),
            ("--prefix-header=cookie", "write a header name"),
            ("--listen=8080", "invalid socket address"),
            ("--log-level=loud", "`loud` is no log level: write off"),
            ("--log-format=xml", "possible values: json, text"),
            ("--source=policies", "--target <DIR>"),
            ("--source=policies", "--tokens <FILE>"),
            ("--tokens=token", "--source <DIR>"),
        ] {
            let error = if argument.starts_with("--image=") {
                let alone = ["spillway-controller", argument];
                Settings::try_parse_from(alone).unwrap_err().to_string()
            } else {
                parse(&[argument]).unwrap_err()
            };
            assert!(error.contains(words), "{argument}: {error}");
        }
    }

    #[test]
    fn times() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(
                time(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }
}
