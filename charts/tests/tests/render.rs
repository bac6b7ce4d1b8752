//! What the charts render, and what they refuse.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::Value;
use spillway_charts::{Helm, charts};
use spillway_controller::settings::Settings;

/// The values of a case and what is rendered from them.
const CASES: [(&str, &str); 4] = [
    ("controller-least", "spillway"),
    ("controller-most", "spillway"),
    ("member-least", "spillway-member"),
    ("member-hub", "spillway-member"),
];

fn golden(name: &str) -> PathBuf {
    charts().join("tests/golden").join(name)
}

fn render(helm: &Helm, case: &str, chart: &str) -> Result<String> {
    let values = golden(&format!("{case}.values.yaml"));
    helm.succeed(&[
        "template",
        chart,
        chart,
        "--namespace=spillway-system",
        "--kube-version=1.36.4",
        &format!("--values={}", values.display()),
    ])
}

#[test]
fn the_charts_pass_helms_own_check() -> Result<()> {
    let helm = Helm::new()?;
    for (case, chart) in CASES {
        let values = golden(&format!("{case}.values.yaml"));
        let values = format!("--values={}", values.display());
        helm.succeed(&["lint", "--strict", chart, &values])?;
    }
    // By themselves too, as whoever packages them checks them.
    helm.succeed(&["lint", "--strict", "spillway", "spillway-member"])?;
    Ok(())
}

#[test]
fn what_is_rendered_is_what_was_reviewed() -> Result<()> {
    let helm = Helm::new()?;
    let update = std::env::var_os("SPILLWAY_UPDATE").is_some();
    let mut stale = Vec::new();
    for (case, chart) in CASES {
        let rendered = render(&helm, case, chart)?;
        let path = golden(&format!("{case}.out.yaml"));
        if update {
            fs::write(&path, &rendered)?;
        }
        if fs::read_to_string(&path).unwrap_or_default() != rendered {
            stale.push(path.display().to_string());
        }
    }
    ensure!(
        stale.is_empty(),
        "stale: {}\nSPILLWAY_UPDATE=1 writes them anew",
        stale.join(", ")
    );
    Ok(())
}

#[test]
fn the_controller_takes_the_arguments_that_the_chart_gives_it() -> Result<()> {
    let helm = Helm::new()?;
    for case in ["controller-least", "controller-most"] {
        let rendered = render(&helm, case, "spillway")?;
        let arguments = arguments(&rendered)?;
        let program = ["spillway-controller".to_owned()];
        let settings = Settings::try_parse_from(program.into_iter().chain(arguments))?;
        if case == "controller-least" {
            // What the chart does not ask for is as the controller has it by itself.
            let image = format!("--image={}", settings.mesh.image.url());
            let plain = Settings::try_parse_from(["spillway-controller", &image])?;
            assert_eq!(format!("{settings:?}"), format!("{plain:?}"));
        } else {
            assert!(settings.mesh.inject_by_default && settings.allow_exec);
            assert_eq!(settings.discover, ["mesh"]);
        }
    }
    Ok(())
}

fn arguments(rendered: &str) -> Result<Vec<String>> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(rendered)?;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment");
    let deployment = deployment.context("no Deployment")?;
    let container = deployment.pointer("/spec/template/spec/containers/0");
    let arguments = container.and_then(|container| container["args"].as_array());
    let arguments = arguments.context("no arguments")?.iter();
    Ok(arguments
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

#[test]
fn the_controller_runs_without_any_privilege() -> Result<()> {
    let rendered = render(&Helm::new()?, "controller-least", "spillway")?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&rendered)?;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment");
    let pod = deployment
        .context("no Deployment")?
        .pointer("/spec/template/spec");
    let pod = pod.context("no pod")?;
    let (security, container) = (&pod["securityContext"], &pod["containers"][0]);
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(
        container["securityContext"]["allowPrivilegeEscalation"],
        false
    );
    assert_eq!(
        container["securityContext"]["capabilities"]["drop"][0],
        "ALL"
    );
    Ok(())
}

#[test]
fn values_that_are_wrong_are_refused() -> Result<()> {
    let helm = Helm::new()?;
    for (chart, value, words) in [
        (
            "spillway",
            "filter.image=oci://registry.example.com/filter:latest",
            "/filter/image",
        ),
        ("spillway", "image.digest=sha256:12", "/image/digest"),
        (
            "spillway",
            "image.pullPolicy=Sometimes",
            "/image/pullPolicy",
        ),
        ("spillway", "replicas=0", "/replicas"),
        ("spillway", "pushInterval=0s", "/pushInterval"),
        ("spillway", "callTimeout=10", "/callTimeout"),
        ("spillway", "log.level=loud", "/log/level"),
        (
            "spillway",
            "mesh.rootNamespace=Istio",
            "/mesh/rootNamespace",
        ),
        ("spillway", "runAsUser=0", "/runAsUser"),
        ("spillway", "replicaCount=2", "replicaCount"),
        (
            "spillway",
            "image.repository=",
            "image.repository is missing",
        ),
        ("spillway", "filter.image=", "filter.image is missing"),
        ("spillway-member", "namespaces={Shop}", "/namespaces/0"),
        (
            "spillway-member",
            "serviceAccount.name=",
            "/serviceAccount/name",
        ),
        ("spillway-member", "namespace=shop", "namespace"),
    ] {
        let values = if chart == "spillway" {
            "controller-least"
        } else {
            "member-least"
        };
        let values = golden(&format!("{values}.values.yaml"));
        let values = format!("--values={}", values.display());
        let said = helm.fail(&["template", chart, chart, &values, "--set", value])?;
        assert!(said.contains(words), "{value}: {said}");
    }
    Ok(())
}

#[test]
fn every_value_is_explained_and_in_the_schema() -> Result<()> {
    for chart in ["spillway", "spillway-member"] {
        let folder = charts().join(chart);
        let values: Value =
            serde_saphyr::from_str(&fs::read_to_string(folder.join("values.yaml"))?)?;
        let schema: Value = serde_json::from_slice(&fs::read(folder.join("values.schema.json"))?)?;
        assert_eq!(
            missing(&values, &schema, Path::new(chart)),
            Vec::<PathBuf>::new()
        );
    }
    Ok(())
}

/// Values that the schema does not name.
fn missing(values: &Value, schema: &Value, path: &Path) -> Vec<PathBuf> {
    let Some(properties) = schema.get("properties") else {
        return Vec::new();
    };
    let fields = values.as_object().into_iter().flatten();
    fields
        .flat_map(|(name, value)| match properties.get(name) {
            Some(known) => missing(value, known, &path.join(name)),
            None => vec![path.join(name)],
        })
        .collect()
}
