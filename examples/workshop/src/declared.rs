//! The mesh as people declare it: a folder with a BurstPolicy, MeshClusters and what is in them.
//!
//! A change of the visitor's is a change of the policy in this folder. The controller's own way
//! leads from there to files for every control plane, and the sidecars run from these.

use std::path::Path;

use anyhow::{Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use spillway_api::burst_policy::{Amount, Capacity, Force, Mode, Override, Scope, SwitchLimits};
use spillway_api::{BurstPolicy, BurstPolicySpec, Rate};
use spillway_controller::target::{directory, source};
use spillway_e2e::folder;
use spillway_e2e::rendered::Rendered;
use spillway_plan::Mesh;
use spillway_plan::conditions::{Status, Type};
use tempfile::TempDir;

use crate::settings::{self, Settings};

/// `FILE` of the folder, and what is in it.
const FILES: [(&str, &str); 4] = [
    ("clusters.yaml", include_str!("../mesh/clusters.yaml")),
    (POLICY, include_str!("../mesh/policy.yaml")),
    (
        "clusters/primary/default.yaml",
        include_str!("../mesh/clusters/primary/default.yaml"),
    ),
    (
        "clusters/burst/default.yaml",
        include_str!("../mesh/clusters/burst/default.yaml"),
    ),
];
const POLICY: &str = "policy.yaml";

/// The folder, and the one with what the controller makes of it.
pub(crate) struct Declared {
    source: TempDir,
    target: TempDir,
}

impl Declared {
    /// A copy of the folder that belongs to the workshop.
    pub(crate) fn new() -> Result<Self> {
        let source = folder::create("spillway-declared")?;
        for (name, text) in FILES {
            let file = source.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap_or(source.path()))?;
            std::fs::write(file, text)?;
        }
        let target = folder::create("spillway-rendered")?;
        Ok(Self { source, target })
    }

    /// Declares what the settings ask for, and has it rendered.
    ///
    /// # Errors
    /// When the controller does not accept it, in its own words.
    pub(crate) fn render(&self, settings: Settings) -> Result<Rendered> {
        let file = self.source.path().join(POLICY);
        let mut policy: BurstPolicy = serde_saphyr::from_str(&std::fs::read_to_string(&file)?)?;
        change(&mut policy.spec, settings)?;
        std::fs::write(&file, serde_json::to_string_pretty(&policy)?)?;
        render(self.source.path(), self.target.path())?;
        Rendered::read(self.target.path())
    }
}

fn change(policy: &mut BurstPolicySpec, settings: Settings) -> Result<()> {
    let enter = Rate(settings.enter());
    let switch = SwitchLimits {
        enter: enter.clone(),
        leave: Rate(settings.leave()),
        scope: Scope::Caller,
    };
    (policy.mode, policy.switch) = match settings.mode {
        settings::Mode::Spill => (Mode::Spill, None),
        settings::Mode::Switch => (Mode::Switch, Some(switch)),
    };
    policy.capacity = Some(Capacity {
        total: Some(Amount {
            rate: Some(enter),
            concurrency: None,
        }),
        ..Capacity::default()
    });
    let over = settings.forced.map(|forced| -> Result<Override> {
        let until = Timestamp::from_second(forced.until_unix_seconds.try_into()?)?;
        let force = match forced.force {
            settings::Force::Home => Force::Home,
            settings::Force::Overflow => Force::Overflow,
        };
        Ok(Override {
            force,
            until: Time(until),
        })
    });
    policy.override_ = over.transpose()?;
    Ok(())
}

fn render(from: &Path, to: &Path) -> Result<()> {
    let input = source::read([from], mesh()?)?;
    let plan = spillway_plan::plan(&input);
    let conditions = plan.policies.values().flat_map(|it| &it.conditions);
    for accepted in conditions.filter(|it| it.kind == Type::Accepted) {
        ensure!(accepted.status == Status::True, "{}", accepted.message);
    }
    directory::write(to, &plan)?;
    Ok(())
}

/// The sidecars of this machine read the filter from a file: no image is ever asked for.
fn mesh() -> Result<Mesh> {
    let digest = "0".repeat(64);
    Ok(serde_json::from_value(json!({
        "image": format!("oci://registry.example.com/spillway/filter@sha256:{digest}"),
        "tokens": ["the-workshop-s-token"],
    }))?)
}
