//! What an account may do, against what the charts say that it must.
//!
//! One question a namespace tells all rights there; where an authorizer cannot list them, each is
//! asked for by itself.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectAccessReviewStatus,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::Value;

/// The charts as Helm renders them, which their tests keep.
const CONTROLLER: &str = include_str!("../../../charts/tests/golden/controller-least.out.yaml");
const MEMBER: &str = include_str!("../../../charts/tests/golden/member-least.out.yaml");

/// To do one thing to one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Right {
    group: String,
    /// With its subresource.
    resource: String,
    /// Where it is about one object only.
    name: Option<String>,
    verb: String,
}

/// A role of the charts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// The controller on the hub, everywhere.
    Hub,
    /// The controller in its own namespace.
    HubSystem,
    /// The account in a member, everywhere.
    Member,
    /// In the member's system namespace.
    MemberSystem,
    /// In each namespace of services and callers.
    MemberNamespace,
}

impl Role {
    /// All that it grants.
    pub(super) fn rights(self) -> BTreeSet<Right> {
        let (chart, kind, name) = match self {
            Self::Hub => (CONTROLLER, "ClusterRole", "spillway-controller"),
            Self::HubSystem => (CONTROLLER, "Role", "spillway-controller"),
            Self::Member => (MEMBER, "ClusterRole", "spillway-member"),
            Self::MemberSystem => (MEMBER, "Role", "spillway-member"),
            Self::MemberNamespace => (MEMBER, "ClusterRole", "spillway-member-namespace"),
        };
        let objects: Vec<Value> = serde_saphyr::from_multiple(chart).unwrap_or_default();
        let text = |object: &Value, path| {
            let text = object.pointer(path).and_then(Value::as_str);
            text.map(str::to_owned)
        };
        let role = objects.into_iter().find(|object| {
            text(object, "/kind").as_deref() == Some(kind)
                && text(object, "/metadata/name").as_deref() == Some(name)
        });
        let rules = role.and_then(|mut role| role.get_mut("rules").map(Value::take));
        let rules: Vec<PolicyRule> = rules
            .and_then(|rules| serde_json::from_value(rules).ok())
            .unwrap_or_default();
        rules.iter().flat_map(expanded).collect()
    }
}

fn expanded(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    let names: Vec<Option<String>> = match rule.resource_names.as_deref() {
        None | Some([]) => vec![None],
        Some(names) => names.iter().cloned().map(Some).collect(),
    };
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                rights.extend(names.iter().map(|name| Right {
                    group: group.clone(),
                    resource: resource.clone(),
                    name: name.clone(),
                    verb: verb.clone(),
                }));
            }
        }
    }
    rights
}

/// The rights that whoever owns this client does not have in a namespace.
///
/// # Errors
/// When the API server does not answer.
pub(super) async fn missing(
    client: &Client,
    namespace: &str,
    needed: BTreeSet<Right>,
) -> kube::Result<BTreeSet<Right>> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let all: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let status = all.create(&PostParams::default(), &review).await?.status;
    let status = status.unwrap_or_default();
    let has = |right: &Right| status.resource_rules.iter().any(|rule| grants(rule, right));
    let mut missing: BTreeSet<Right> = needed.into_iter().filter(|right| !has(right)).collect();
    if status.incomplete {
        for right in missing.clone() {
            if may(client, Some(namespace), &right).await? {
                missing.remove(&right);
            }
        }
    }
    Ok(missing)
}

fn grants(rule: &ResourceRule, right: &Right) -> bool {
    let names = |list: &Option<Vec<String>>, name: &str| {
        let mut list = list.iter().flatten();
        list.any(|it| it == "*" || it == name)
    };
    let is_named = match rule.resource_names.as_deref() {
        None | Some([]) => true,
        Some(names) => right.name.as_ref().is_some_and(|name| names.contains(name)),
    };
    names(&rule.api_groups, &right.group)
        && names(&rule.resources, &right.resource)
        && rule
            .verbs
            .iter()
            .any(|verb| verb == "*" || *verb == right.verb)
        && is_named
}

/// Whether whoever owns this client may do it.
///
/// # Errors
/// When the API server does not answer.
pub(super) async fn may(
    client: &Client,
    namespace: Option<&str>,
    right: &Right,
) -> kube::Result<bool> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (right.resource.as_str(), None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(right.group.clone()),
                resource: Some(resource.to_owned()),
                subresource,
                name: right.name.clone(),
                verb: Some(right.verb.clone()),
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let all: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = all.create(&PostParams::default(), &review).await?;
    Ok(answer
        .status
        .is_some_and(|status: SubjectAccessReviewStatus| status.allowed))
}

impl Right {
    pub(super) fn new(verb: &str, resource: &str, group: &str) -> Self {
        Self {
            group: group.to_owned(),
            resource: resource.to_owned(),
            name: None,
            verb: verb.to_owned(),
        }
    }
}

/// In words: `create, patch wasmplugins; get services`.
pub(super) fn words(rights: &BTreeSet<Right>) -> String {
    let mut kinds: Vec<(&str, Vec<&str>)> = Vec::new();
    for right in rights {
        match kinds.iter_mut().find(|(kind, _)| *kind == right.resource) {
            Some((_, verbs)) => verbs.push(&right.verb),
            None => kinds.push((&right.resource, vec![&right.verb])),
        }
    }
    let kinds = kinds
        .into_iter()
        .map(|(kind, verbs)| format!("{} {kind}", verbs.join(", ")));
    kinds.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_found_in_its_chart() {
        for (role, least) in [
            (Role::Hub, 14),
            (Role::HubSystem, 8),
            (Role::Member, 3),
            (Role::MemberSystem, 3),
            (Role::MemberNamespace, 30),
        ] {
            let rights = role.rights();
            assert!(rights.len() >= least, "{role:?}: {}", rights.len());
        }
        let claim = Role::MemberSystem.rights();
        assert!(
            claim
                .iter()
                .any(|it| it.name.as_deref() == Some("spillway-claim"))
        );
        assert_eq!(words(&claim), "create, get, patch configmaps");
    }

    #[test]
    fn a_rule_about_other_objects_grants_nothing() {
        let rule = |names: &[&str]| ResourceRule {
            api_groups: Some(vec![String::new()]),
            resources: Some(vec!["configmaps".to_owned()]),
            resource_names: Some(names.iter().map(|it| (*it).to_owned()).collect()),
            verbs: vec!["*".to_owned()],
        };
        let mut right = Right::new("get", "configmaps", "");
        assert!(grants(&rule(&[]), &right));
        assert!(!grants(&rule(&["other"]), &right));
        right.name = Some("other".to_owned());
        assert!(grants(&rule(&["other"]), &right));
        assert!(!grants(
            &rule(&["other"]),
            &Right::new("get", "secrets", "")
        ));
    }
}
