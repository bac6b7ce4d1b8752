//! What users own: found, understood as far as needed, and kept as it was.
//!
//! Everything here is a [`Value`]: an object of another version of Istio must come back with every
//! field that it had.

pub(crate) mod destination_rule;
pub mod merge;
pub(crate) mod virtual_service;

use serde_json::Value;

/// Namespace and name.
pub(crate) fn identity(object: &Value) -> (&str, &str) {
    let field = |path: &str| object.pointer(path).and_then(Value::as_str);
    (
        field("/metadata/namespace").unwrap_or_default(),
        field("/metadata/name").unwrap_or_default(),
    )
}

/// Namespace and name, as people read it.
pub(crate) fn name(object: &Value) -> String {
    let (namespace, name) = identity(object);
    format!("{namespace}/{name}")
}

/// A list of texts.
pub(crate) fn texts<'a>(object: &'a Value, path: &str) -> Vec<&'a str> {
    let list = object.pointer(path).and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// A host as Istio resolves it: a name without a dot is one of the object's namespace.
pub(crate) fn full_host(host: &str, namespace: &str, domain: &str) -> String {
    if host.contains(['.', '*']) {
        host.to_owned()
    } else {
        crate::names::host(namespace, host, domain)
    }
}

/// Whether a host, which may begin with `*`, covers another one.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => host.ends_with(end),
        None => pattern == host,
    }
}

/// Whether an object is visible in a namespace, by its `exportTo`.
pub(crate) fn visible_in(object: &Value, namespace: &str) -> bool {
    let export_to = texts(object, "/spec/exportTo");
    let (own, _) = identity(object);
    export_to.is_empty()
        || export_to.iter().any(|to| match *to {
            "*" => true,
            "." => own == namespace,
            other => other == namespace,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hosts_are_resolved_as_istio_does() {
        assert_eq!(
            full_host("worker", "default", "cluster.local"),
            "worker.default.svc.cluster.local"
        );
        assert_eq!(
            full_host("worker.default", "shop", "cluster.local"),
            "worker.default"
        );
        assert_eq!(full_host("*", "shop", "cluster.local"), "*");
        assert!(covers("*", "worker.default.svc.cluster.local"));
        assert!(covers(
            "*.default.svc.cluster.local",
            "worker.default.svc.cluster.local"
        ));
        assert!(!covers(
            "*.shop.svc.cluster.local",
            "worker.default.svc.cluster.local"
        ));
    }

    #[test]
    fn visibility_follows_export_to() {
        let object = |export_to: Value| json!({"metadata": {"namespace": "default", "name": "x"}, "spec": {"exportTo": export_to}});
        assert!(visible_in(&object(json!([])), "shop"));
        assert!(visible_in(&object(json!(["*"])), "shop"));
        assert!(!visible_in(&object(json!(["."])), "shop"));
        assert!(visible_in(&object(json!(["."])), "default"));
        assert!(visible_in(&object(json!(["shop"])), "shop"));
        assert!(!visible_in(&object(json!(["~"])), "shop"));
    }
}
