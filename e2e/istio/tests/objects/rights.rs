//! What the controller may do in a cluster of the mesh: what the charts give, and nothing more.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use spillway_clusters::User;
use spillway_istio::mesh::{HUB, Mesh};
use spillway_istio::spillway::NAMESPACE;

/// Group, resource with the name that it is bound to, and verb.
type Right = (String, String, String);

/// With the kubeconfig that the controller uses, in the namespaces that it serves and in others.
pub(crate) async fn are_those_of_the_charts(mesh: &Mesh) -> Result<()> {
    let hub = mesh.cluster(HUB)?.client(User::admin())?;
    let secrets: Api<Secret> = Api::namespaced(hub, NAMESPACE);
    for name in mesh.members() {
        let secret = secrets.get(name).await?;
        let kubeconfig = secret.data.and_then(|mut data| data.remove("kubeconfig"));
        let kubeconfig = String::from_utf8(kubeconfig.context("a kubeconfig")?.0)?;
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig)?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        let own = Client::try_from(config)?;
        let whoami: Api<SelfSubjectReview> = Api::all(own.clone());
        let (params, review) = (PostParams::default(), SelfSubjectReview::default());
        let me = whoami.create(&params, &review).await?.status;
        let me = me.and_then(|status| status.user_info);
        let me = me.and_then(|user| user.username);
        let account = format!("system:serviceaccount:{NAMESPACE}:spillway-member");
        assert_eq!(me.as_deref(), Some(account.as_str()), "{name}");

        let admin = mesh.cluster(name)?.client(User::admin())?;
        let served = mesh.namespaces(name);
        for namespace in [&served[..], &[NAMESPACE, "istio-system", "kube-system"]].concat() {
            let may = rights(&own, namespace).await?;
            let given = given(&admin, namespace, served.contains(&namespace)).await?;
            let more: Vec<_> = may.difference(&given).collect();
            assert!(more.is_empty(), "in {name}, {namespace}: {more:?}");
        }
    }
    Ok(())
}

/// What an account may do in a namespace.
async fn rights(client: &Client, namespace: &str) -> Result<BTreeSet<Right>> {
    let reviews: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let answer = reviews.create(&PostParams::default(), &review).await?;
    let rules = answer.status.context("an answer")?.resource_rules;
    let rules = rules.into_iter().map(|rule| PolicyRule {
        api_groups: rule.api_groups,
        resources: rule.resources,
        resource_names: rule.resource_names,
        verbs: rule.verbs,
        non_resource_urls: None,
    });
    Ok(flat(rules))
}

/// What the roles of the charts give in a namespace, and Kubernetes to everybody.
async fn given(client: &Client, namespace: &str, is_served: bool) -> Result<BTreeSet<Right>> {
    let mut names = vec!["system:basic-user", "system:discovery", "spillway-member"];
    if is_served {
        names.push("spillway-member-namespace");
    }
    let labelled = ListParams::default().labels("app.kubernetes.io/name=spillway-member");
    let everywhere: Api<ClusterRole> = Api::all(client.clone());
    let here: Api<Role> = Api::namespaced(client.clone(), namespace);
    let mut rules = Vec::new();
    for name in names {
        rules.extend(everywhere.get(name).await?.rules.unwrap_or_default());
    }
    for role in here.list(&labelled).await? {
        rules.extend(role.rules.unwrap_or_default());
    }
    Ok(flat(rules))
}

fn flat(rules: impl IntoIterator<Item = PolicyRule>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        let names = rule.resource_names.unwrap_or_default();
        let names = if names.is_empty() {
            vec![String::new()]
        } else {
            names
        };
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for name in &names {
                    let resource = format!("{resource} {name}");
                    let verbs = rule.verbs.iter();
                    rights.extend(verbs.map(|it| (group.clone(), resource.clone(), it.clone())));
                }
            }
        }
    }
    rights
}
