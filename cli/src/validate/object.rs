//! One object: which definition it has, and all that is wrong with it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use spillway_api::BurstPolicy;

use super::node::{Content, Node, Place};
use super::rules::{self, Rules};
use super::schema::{Checker, Wrong, nearest, unknown};

const API_VERSION: &str = "spillway.dev/v1alpha1";

/// The definitions, by kind.
pub(crate) struct Definitions {
    schemas: BTreeMap<String, Value>,
    metadata: Value,
    rules: Rules,
}

/// What was found out about an object.
pub(crate) struct Checked {
    /// As `KIND NAMESPACE/NAME`, or as far as that is known.
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) wrong: Vec<Wrong>,
}

impl Definitions {
    /// Those that ship.
    ///
    /// # Errors
    /// Never in practice: see [`spillway_api::crds::all`].
    pub(crate) fn new() -> Result<Self, serde_json::Error> {
        let mut schemas = BTreeMap::new();
        for definition in spillway_api::crds::all()? {
            let kind = definition.spec.names.kind.clone();
            let definition = serde_json::to_value(definition)?;
            let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema");
            schemas.insert(kind, schema.cloned().unwrap_or_default());
        }
        Ok(Self {
            schemas,
            metadata: metadata(),
            rules: Rules::new(),
        })
    }

    /// Checks an object; `None` where it is none of ours.
    pub(crate) fn check(&self, node: &Node) -> Option<Checked> {
        let text = |name: &str| node.get(name).and_then(Node::text);
        let (version, kind) = (text("apiVersion").unwrap_or_default(), text("kind"));
        let is_ours = version.split('/').next() == Some(spillway_api::GROUP)
            || kind.is_some_and(|kind| self.schemas.contains_key(kind))
            || (version.is_empty() && kind.is_none());
        if !is_ours {
            return None;
        }
        let mut checker = Checker::new(&self.rules);
        self.check_with(&mut checker, node, version, kind);
        let mut wrong = checker.wrong;
        if wrong.is_empty() && kind == Some("BurstPolicy") {
            wrong = as_planner(node);
        }
        wrong.sort_by_key(|wrong| wrong.place);
        Some(Checked {
            name: name(node),
            place: node.place,
            wrong,
        })
    }

    fn check_with(
        &self,
        checker: &mut Checker<'_>,
        node: &Node,
        version: &str,
        kind: Option<&str>,
    ) {
        if !matches!(node.content, Content::Map(_)) {
            let message = format!(
                "is {}: write an object, with apiVersion and kind",
                node.kind()
            );
            return checker.add(node.place, "", message);
        }
        let place = |name: &str| node.get(name).map_or(node.place, |node| node.place);
        if version != API_VERSION {
            checker.add(
                place("apiVersion"),
                "apiVersion",
                format!("write {API_VERSION}"),
            );
        }
        let Some(schema) = kind.and_then(|kind| self.schemas.get(kind)) else {
            let kinds = || self.schemas.keys().map(String::as_str);
            let meant = kind.and_then(|kind| nearest(kind, kinds()));
            let message = match meant {
                Some(meant) => format!("write {meant}"),
                None => format!("write one of {}", kinds().collect::<Vec<_>>().join(", ")),
            };
            return checker.add(place("kind"), "kind", message);
        };
        const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
        for field in node.fields() {
            if !FIELDS.contains(&field.name.as_str()) {
                let message = unknown(&field.name, FIELDS.into_iter());
                checker.add(field.place, &field.name, message);
            }
        }
        let spec = schema.pointer("/properties/spec").unwrap_or(&Value::Null);
        let mut parts = Vec::new();
        // A status is the controller's to write, and ignored where people write it.
        for (name, schema) in [("metadata", &self.metadata), ("spec", spec)] {
            match node.get(name) {
                Some(part) => {
                    let part = checker.check(schema, part, name);
                    parts.extend(part.map(|part| (name.to_owned(), part)));
                }
                None => checker.add(node.place, name, "is missing: write it"),
            }
        }
        if parts.len() == 2 {
            for message in self.rules.broken(schema, &rules::map(parts)) {
                checker.add(place("metadata"), "metadata", message);
            }
        }
    }
}

/// As `KIND NAMESPACE/NAME`.
fn name(node: &Node) -> String {
    let text = |of: Option<&Node>| of.and_then(Node::text).map(str::to_owned);
    let metadata = node.get("metadata");
    let of = |field: &str| text(metadata.and_then(|metadata| metadata.get(field)));
    let kind = text(node.get("kind")).unwrap_or_else(|| "object".to_owned());
    let name = of("name").unwrap_or_else(|| "without a name".to_owned());
    match of("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// What the planner says of a policy that the definition takes.
fn as_planner(node: &Node) -> Vec<Wrong> {
    let wrong = |path: &str, message: String| Wrong {
        place: place(node, path),
        path: path.to_owned(),
        message,
    };
    let policy = match serde_json::from_value::<BurstPolicy>(node.value()) {
        Ok(policy) => policy,
        Err(error) => return vec![wrong("", error.to_string())],
    };
    let errors = spillway_plan::read(&policy).err().unwrap_or_default();
    let told = errors.iter().map(|error| {
        let (path, message) = error.split_once(": ").unwrap_or(("", error));
        wrong(path, message.to_owned())
    });
    told.collect()
}

/// Where `spec.overflow[0].maxRate` stands, or what holds it.
fn place(node: &Node, path: &str) -> Place {
    let mut node = node;
    for part in path.split('.') {
        let (name, index) = part.split_once('[').unwrap_or((part, ""));
        let Some(inner) = node.get(name) else { break };
        node = inner;
        let index = index.trim_end_matches(']').parse::<usize>();
        if let (Content::List(items), Ok(index)) = (&node.content, index)
            && let Some(item) = items.get(index)
        {
            node = item;
        }
    }
    node.place
}

/// What people write of an object's metadata. The rest is the API server's, and taken as it is.
fn metadata() -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let any = json!({"x-kubernetes-preserve-unknown-fields": true});
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "maxLength": 253,
                "x-kubernetes-validations": [{
                    "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
                    "message": "write a name of 1 to 253 of a-z 0-9 - . that begins and ends with a letter or digit",
                }],
            },
            "namespace": {
                "type": "string",
                "maxLength": 63,
                "x-kubernetes-validations": [{
                    "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                    "message": "write the name of a namespace: 1 to 63 of a-z 0-9 - that begin and end with a letter or digit",
                }],
            },
            "labels": {
                "type": "object",
                "additionalProperties": {
                    "type": "string",
                    "maxLength": 63,
                    "x-kubernetes-validations": [{
                        "rule": "self.matches('^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$')",
                        "message": "write the value of a label: at most 63 of A-Z a-z 0-9 - _ . that begin and end with a letter or digit",
                    }],
                },
            },
            "annotations": texts,
            "finalizers": any, "ownerReferences": any, "managedFields": any,
            "creationTimestamp": any, "deletionTimestamp": any, "deletionGracePeriodSeconds": any,
            "generation": any, "resourceVersion": any, "uid": any, "selfLink": any,
        },
    })
}
