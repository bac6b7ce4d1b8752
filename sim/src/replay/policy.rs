//! A BurstPolicy that can be simulated: read from its file with every error at once, as the planner
//! reads it.

use spillway_api::BurstPolicy;
use spillway_core::rate::Rate;
use spillway_plan::model::Terms;

/// The version of the resource that is read.
const API_VERSION: &str = "spillway.dev/v1alpha1";

/// A policy that can be simulated.
#[derive(Clone, Debug)]
pub struct Policy {
    /// As `NAMESPACE/NAME`.
    pub name: String,
    /// Home, then the rungs, as the policy names them.
    pub clusters: Vec<String>,
    pub(super) terms: Terms,
    pub(super) max_rates: Vec<Option<Rate>>,
}

/// What is wrong with a policy: everything, each with its path or line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct PolicyErrors(Vec<String>);

impl Policy {
    /// Reads a policy's YAML.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(yaml: &str) -> Result<Self, PolicyErrors> {
        let one = |error: String| PolicyErrors(vec![error]);
        let mut value: serde_json::Value =
            serde_saphyr::from_str(yaml).map_err(|error| one(error.to_string()))?;
        for (field, wanted) in [("apiVersion", API_VERSION), ("kind", "BurstPolicy")] {
            // The type of an object is no field of it.
            let found = value
                .as_object_mut()
                .and_then(|object| object.remove(field));
            if found.as_ref().and_then(|found| found.as_str()) != Some(wanted) {
                return Err(one(format!("{field}: write {wanted}")));
            }
        }
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
        let policy: Result<BurstPolicy, _> =
            serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
        let mut errors: Vec<String> = unknown
            .iter()
            .map(|path| format!("{path}: is not a field of a BurstPolicy: leave it out, or look at how it is written"))
            .collect();
        let policy = match policy {
            Ok(policy) => policy,
            Err(error) => {
                errors.push(format!("{}: {error}", track.path()));
                return Err(PolicyErrors(errors));
            }
        };
        match spillway_plan::read(&policy) {
            Ok(terms) if errors.is_empty() => Ok(Self::new(&policy, terms)),
            Ok(_) => Err(PolicyErrors(errors)),
            Err(wrong) => {
                errors.extend(wrong);
                Err(PolicyErrors(errors))
            }
        }
    }

    fn new(policy: &BurstPolicy, terms: Terms) -> Self {
        let part = |text: &Option<String>, or: &str| text.clone().unwrap_or_else(|| or.to_owned());
        let meta = &policy.metadata;
        let rungs = policy.spec.overflow.iter();
        let names = rungs
            .clone()
            .map(|rung| match (&rung.cluster, &rung.fleet) {
                (Some(name), _) | (None, Some(name)) => name.clone(),
                (None, None) => String::new(),
            });
        let home = part(&policy.spec.home, "home");
        let max = |rate: &spillway_api::Rate| rate.parse().ok();
        Self {
            name: format!(
                "{}/{}",
                part(&meta.namespace, "default"),
                part(&meta.name, "")
            ),
            clusters: core::iter::once(home).chain(names).collect(),
            max_rates: rungs
                .map(|rung| rung.max_rate.as_ref().and_then(max))
                .collect(),
            terms,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::replay) fn policy(spec: &str) -> String {
        format!(
            "apiVersion: spillway.dev/v1alpha1\nkind: BurstPolicy\nmetadata: {{name: worker, namespace: shop}}\nspec:\n  targetRefs: [{{name: worker}}]\n{spec}"
        )
    }

    #[test]
    fn every_error_is_told_with_its_path() {
        let text = policy(
            "  overflow: [{cluster: burst, maxRate: 0/s}]\n  capacity: {total: {rate: 15 per second}}\n  overfow: []\n",
        );
        let errors = Policy::parse(&text).unwrap_err().0;
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(
            errors[0].starts_with("spec.overfow: is not a field"),
            "{errors:?}"
        );
        assert!(
            errors[1].starts_with("spec.overflow[0].maxRate: "),
            "{errors:?}"
        );
        assert!(
            errors[2].starts_with("spec.capacity.total.rate: write a rate"),
            "{errors:?}"
        );
        let typed = Policy::parse(&policy(
            "  overflow: [{cluster: burst}]\n  capacity: {total: {rate: [1]}}\n",
        ));
        assert!(typed.unwrap_err().0[0].starts_with("spec.capacity.total.rate: invalid type"));
        let syntax = Policy::parse(&policy("  overflow: [")).unwrap_err().0;
        assert!(syntax[0].contains("line"), "{syntax:?}");
        let other = Policy::parse("apiVersion: spillway.dev/v1alpha1\nkind: Fleet");
        assert_eq!(other.unwrap_err().0, ["kind: write BurstPolicy"]);
    }
}
