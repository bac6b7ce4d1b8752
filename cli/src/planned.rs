//! A plan from files, as the controller makes it on the hub.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use spillway_controller::settings::MeshSettings;
use spillway_controller::target::source;
use spillway_plan::conditions::{Status, Type};
use spillway_plan::settings::{Mesh, Tokens};
use spillway_plan::{Input, Plan};

use crate::exit::{Exit, Failure};
use crate::output::{FINE, WRONG};
use crate::{input, validate};

/// What plans are made from. Where the image is not named, none of the mesh's settings is.
#[derive(Debug, Args)]
#[command(mut_arg("image", |image| image.required(false)))]
pub(crate) struct Sources {
    /// Policies, fleets and clusters: files, or folders. What is in a cluster stands in
    /// FOLDER/clusters/NAME, as `kubectl get -o yaml` prints it
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// A file with the mesh's token, or two with a comma between them: 8 to 64 of A-Z a-z 0-9 _ -
    #[arg(long, env = "SPILLWAY_TOKENS", value_name = "FILE")]
    tokens: Option<PathBuf>,

    #[command(flatten)]
    mesh: Option<MeshSettings>,
}

/// A plan, and what it was made from.
pub(crate) struct Planned {
    pub(crate) input: Input,
    pub(crate) plan: Plan,
}

/// What became of policies and clusters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    policies: Vec<ToldPolicy>,
    clusters: Vec<ToldCluster>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldPolicy {
    name: String,
    accepted: bool,
    conditions: Vec<ToldCondition>,
}

/// One that says something.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldCondition {
    r#type: &'static str,
    reason: &'static str,
    message: String,
}

/// A cluster that is not used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldCluster {
    name: String,
    problem: String,
}

impl Sources {
    /// Plans.
    ///
    /// # Errors
    /// When something cannot be read, or is not written as it should be.
    pub(crate) fn plan(&self) -> Result<Planned, Failure> {
        self.check()?;
        let tokens = self.tokens()?.ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "no file with the mesh's tokens is named",
                "Name one by --tokens, or by SPILLWAY_TOKENS.",
            )
        })?;
        let mesh = self.mesh().ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "the filter's image is not named",
                "Name it by --image, or by SPILLWAY_IMAGE: `spillway push` prints it.",
            )
        })?;
        Ok(Planned::from(self.input(mesh.with(tokens))?))
    }

    /// The mesh's settings, where they are named.
    pub(crate) fn mesh(&self) -> Option<&MeshSettings> {
        self.mesh.as_ref()
    }

    /// The tokens, where a file with them is named.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn tokens(&self) -> Result<Option<Tokens>, Failure> {
        let Some(path) = &self.tokens else {
            return Ok(None);
        };
        let text = input::file(path.clone())?.text;
        tokens(&text, &format!("--tokens {}", path.display())).map(Some)
    }

    /// Nothing is written wrongly.
    ///
    /// # Errors
    /// What is.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let report = validate::check(&input::read(&self.files)?)?;
        if report.mistakes.is_empty() {
            Ok(())
        } else {
            Err(report.refuse())
        }
    }

    /// What is in the files.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn input(&self, mesh: Mesh) -> Result<Input, Failure> {
        let paths = self.files.iter().map(PathBuf::as_path);
        let input = source::read(paths.collect::<Vec<&Path>>(), mesh);
        input.map_err(|error| {
            let advice = "Write them as `kubectl get -o yaml` prints them.";
            Failure::bad_input(
                format!("what is in clusters cannot be read:\n{error}"),
                advice,
            )
        })
    }
}

/// Tokens of a place, as text.
///
/// # Errors
/// When they are none.
pub(crate) fn tokens(text: &str, place: &str) -> Result<Tokens, Failure> {
    text.parse().map_err(|error| {
        Failure::bad_input(
            format!("{place}: {error}"),
            "The Secret spillway-tokens of the hub has the mesh's.",
        )
    })
}

impl From<Input> for Planned {
    fn from(input: Input) -> Self {
        let plan = spillway_plan::plan(&input);
        Self { input, plan }
    }
}

impl Planned {
    /// What is to be told of a plan from files.
    pub(crate) fn told(&self) -> Told {
        self.told_with(|name| {
            format!(
                "was not seen: write its namespaces, services and EndpointSlices into a folder clusters/{name}"
            )
        })
    }

    /// What is to be told, with words about a cluster that was not seen.
    pub(crate) fn told_with(&self, unseen_words: impl Fn(&str) -> String) -> Told {
        let policies = self.plan.policies.iter().map(|(name, report)| {
            let notable = report.conditions.iter();
            let notable = notable.filter(|condition| {
                let good = condition.kind == Type::Accepted && condition.reason == "Accepted";
                let silent = condition.kind != Type::Accepted && condition.status != Status::True;
                !good && !silent
            });
            let told = notable.map(|condition| ToldCondition {
                r#type: condition.kind.as_str(),
                reason: condition.reason,
                message: condition.message.clone(),
            });
            let accepted = |condition: &&spillway_plan::conditions::Condition| {
                condition.kind == Type::Accepted && condition.status == Status::True
            };
            ToldPolicy {
                name: name.clone(),
                accepted: report.conditions.iter().find(accepted).is_some(),
                conditions: told.collect(),
            }
        });
        let problems = self.plan.clusters.iter();
        let problems = problems.map(|(name, problem)| (name.clone(), problem.clone()));
        let unseen = self
            .input
            .clusters
            .iter()
            .filter(|it| it.observed.is_none());
        let unseen = unseen.filter_map(|cluster| {
            let name = cluster.resource.metadata.name.clone()?;
            let problem = unseen_words(&name);
            Some((name, problem))
        });
        let clusters = problems.chain(unseen);
        Told {
            policies: policies.collect(),
            clusters: clusters
                .map(|(name, problem)| ToldCluster { name, problem })
                .collect(),
        }
    }
}

impl Told {
    /// Nothing is refused, and no cluster left out.
    pub(crate) fn is_fine(&self) -> bool {
        self.clusters.is_empty() && self.policies.iter().all(|policy| policy.accepted)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for policy in &self.policies {
            let mark = mark(policy.accepted);
            text += &format!("{mark} policy {}\n", policy.name);
            for condition in &policy.conditions {
                let ToldCondition {
                    r#type,
                    reason,
                    message,
                } = condition;
                let what = if *r#type == Type::Accepted.as_str() {
                    reason
                } else {
                    r#type
                };
                text += &format!("    {what}: {message}\n");
            }
        }
        for cluster in &self.clusters {
            text += &format!(
                "{} cluster {} {}\n",
                mark(false),
                cluster.name,
                cluster.problem
            );
        }
        text
    }
}

/// √ or ×.
fn mark(is_fine: bool) -> String {
    if is_fine {
        format!("{FINE}√{FINE:#}")
    } else {
        format!("{WRONG}×{WRONG:#}")
    }
}
