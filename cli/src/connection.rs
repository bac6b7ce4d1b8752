//! How clusters are reached: by the user's kubeconfig, as kubectl reaches them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::exit::{Exit, Failure};

/// A connection is made within this time.
const CONNECT: Duration = Duration::from_secs(5);
/// An answer begins within this time.
const ANSWER: Duration = Duration::from_secs(20);

/// As kubectl has them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster options")]
pub(crate) struct Connection {
    /// The kubeconfig, instead of those that KUBECONFIG names, or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context of the hub, instead of the current one
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,

    /// The namespace of policies, instead of the context's
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

/// A cluster that can be talked to.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// The context's name.
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) client: Client,
}

impl Connection {
    /// The hub.
    ///
    /// # Errors
    /// When there is no such context, or it cannot be used.
    pub(crate) async fn hub(&self) -> Result<Cluster, Failure> {
        self.cluster(self.context.as_deref()).await
    }

    /// The cluster of a context, the current one where none is named.
    ///
    /// # Errors
    /// As [`Self::hub`].
    pub(crate) async fn cluster(&self, context: Option<&str>) -> Result<Cluster, Failure> {
        let kubeconfig = self.read()?;
        let name = context.or(kubeconfig.current_context.as_deref());
        let name = name.unwrap_or_default().to_owned();
        let known: Vec<String> = kubeconfig
            .contexts
            .iter()
            .map(|it| it.name.clone())
            .collect();
        if !known.contains(&name) {
            return Err(Failure::bad_input(
                format!("the kubeconfig has no context \"{name}\""),
                format!("Name one by --context: {}.", known.join(", ")),
            ));
        }
        let options = KubeConfigOptions {
            context: Some(name.clone()),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let mut config = config.map_err(|error| unusable(&error))?;
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        config.write_timeout = Some(ANSWER);
        let client = Client::try_from(config.clone()).map_err(|error| {
            let advice = "Look at the certificates and keys of the context's user and cluster.";
            Failure::bad_input(
                format!("the context {name} cannot be used: {error}"),
                advice,
            )
        })?;
        Ok(Cluster {
            name,
            config,
            client,
        })
    }

    /// The names of all contexts.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub(crate) fn contexts(&self) -> Result<Vec<String>, Failure> {
        let contexts = self.read()?.contexts.into_iter();
        Ok(contexts.map(|context| context.name).collect())
    }

    /// The kubeconfig, where one was named.
    pub(crate) fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// Whether the kubeconfig has a context of this name.
    pub(crate) fn has_context(&self, name: &str) -> bool {
        let kubeconfig = self.read().unwrap_or_default();
        kubeconfig.contexts.iter().any(|it| it.name == name)
    }

    fn read(&self) -> Result<Kubeconfig, Failure> {
        let read = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        read.map_err(|error| unusable(&error))
    }
}

impl Cluster {
    /// A call that failed.
    pub(crate) fn failed(&self, doing: &str, error: &kube::Error) -> Failure {
        let name = &self.name;
        match error {
            kube::Error::Api(status) => {
                let advice = match status.code {
                    401 => format!("The credentials of the context {name} are not valid (any more): log in again."),
                    403 => "Ask those who administer the cluster for this right, or name another context by --context.".to_owned(),
                    404 if status.reason != "NotFound" || status.details.is_none() => {
                        format!("Spillway is not installed in {name}, if that is the hub: name the hub by --context.")
                    }
                    _ => "The API server says what it does not take.".to_owned(),
                };
                Failure::new(
                    Exit::Unreachable,
                    format!("{name}: {doing}: {}", status.message.trim()),
                    advice,
                )
            }
            error => Failure::new(
                Exit::Unreachable,
                format!("{name}: {doing}: {}", root_cause(error)),
                format!("Look at whether it answers: kubectl --context {name} get --raw /readyz"),
            ),
        }
    }
}

fn unusable(error: &KubeconfigError) -> Failure {
    Failure::bad_input(
        format!("the kubeconfig cannot be used: {}", root_cause(error)),
        "Name one by --kubeconfig, or by KUBECONFIG.",
    )
}

/// The innermost error: the outer ones say less.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
