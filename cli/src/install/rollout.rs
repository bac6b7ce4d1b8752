//! What is written on the hub, by an installation or an upgrade.

use kube::api::PatchParams;
use serde_json::{Value, json};

use super::helm::Helm;
use super::{RELEASE, Values, broken, chart, no_folder, ready};
use crate::attach::{Place, step};
use crate::connection::{Cluster, Connection};
use crate::exit::Failure;
use crate::objects;
use crate::policies::MANAGER;
use crate::progress::Progress;

/// One installation or upgrade.
pub(super) struct Rollout<'a> {
    helm: Helm,
    chart: tempfile::TempDir,
    values: Vec<String>,
    place: &'a Place,
    timeout: u64,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(values: &Values, place: &'a Place, timeout: u64) -> Result<Self, Failure> {
        Ok(Self {
            helm: Helm::required(
                "Install Helm 3.14 or newer, or apply what this prints: spillway install --render",
            )?,
            chart: chart::unpack().map_err(|error| no_folder(&error))?,
            values: values.arguments(),
            place,
            timeout,
        })
    }

    pub(super) fn template(&self) -> Result<String, Failure> {
        let namespace = &self.place.system_namespace;
        self.helm
            .template(self.chart.path(), namespace, &self.values)
    }

    /// The definitions, then the release; or what would become of all of it.
    pub(super) async fn run(
        &self,
        connection: &Connection,
        hub: &Cluster,
        how: &[&str],
    ) -> Result<(), Failure> {
        self.definitions(hub).await?;
        let chart = self.chart.path().display().to_string();
        let namespace = &self.place.system_namespace;
        let mut arguments = vec!["upgrade", "--install", RELEASE, &chart];
        arguments.extend(["--namespace", namespace, "--skip-crds", "--output", "json"]);
        arguments.extend(how);
        arguments.extend(self.values.iter().map(String::as_str));
        if self.place.dry_run {
            arguments.push("--dry-run=server");
        } else {
            arguments.push("--create-namespace");
        }
        let answer = {
            let _progress = Progress::new(format!("helm is at work on {}", hub.name));
            self.helm.run(connection, Some(&hub.name), &arguments)?
        };
        if self.place.dry_run {
            let manifest = answer.pointer("/manifest").and_then(Value::as_str);
            return self.compare(hub, manifest.unwrap_or_default()).await;
        }
        let revision = answer.pointer("/version").and_then(Value::as_u64);
        step(&format!(
            "Helm release {RELEASE} in {}: revision {}",
            hub.name,
            revision.unwrap_or_default()
        ));
        Ok(())
    }

    /// Definitions are Spillway's own, whoever wrote them last.
    pub(super) async fn definitions(&self, hub: &Cluster) -> Result<(), Failure> {
        for definition in chart::definitions() {
            let definition = serde_saphyr::from_str(definition).map_err(|error| broken(&error))?;
            self.apply(hub, &definition, MANAGER).await?;
        }
        if self.place.dry_run {
            return Ok(());
        }
        ready::definitions(hub, self.timeout).await
    }

    /// Helm's objects as Helm would apply them.
    async fn compare(&self, hub: &Cluster, manifest: &str) -> Result<(), Failure> {
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(manifest).map_err(|error| broken(&error))?;
        for mut object in objects.into_iter().filter(|object| !object.is_null()) {
            self.owned(&mut object);
            self.apply(hub, &object, "helm").await?;
        }
        Ok(())
    }

    /// What Helm writes on everything besides.
    fn owned(&self, object: &mut Value) {
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        let annotations = metadata.map(|it| it.entry("annotations").or_insert(json!({})));
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.extend([
                ("meta.helm.sh/release-name".to_owned(), json!(RELEASE)),
                (
                    "meta.helm.sh/release-namespace".to_owned(),
                    json!(self.place.system_namespace),
                ),
            ]);
        }
    }

    async fn apply(&self, hub: &Cluster, object: &Value, manager: &str) -> Result<(), Failure> {
        let parameters = PatchParams {
            dry_run: self.place.dry_run,
            force: true,
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        let done = objects::apply_as(hub, object, &parameters).await?;
        let tried = if parameters.dry_run { " (dry run)" } else { "" };
        step(&format!(
            "{} in {}: {}{tried}",
            objects::shown(object),
            hub.name,
            done.word()
        ));
        Ok(())
    }
}
