//! An object against the schema of its definition, as API servers check it, but everything at once.
//!
//! Defaults are filled in before the rules are asked, and a rule is asked as soon as the part that
//! it is about has the right form, whatever is wrong elsewhere.

use std::fmt;

use cel::Value as Cel;
use serde_json::Value;

use super::node::{Content, Field, Node, Place};
use super::rules::{self, Rules};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) place: Place,
    pub(crate) path: String,
    pub(crate) message: String,
}

/// Checks an object.
pub(crate) struct Checker<'a> {
    rules: &'a Rules,
    pub(crate) wrong: Vec<Wrong>,
}

/// Words of a schema.
fn text<'a>(schema: &'a Value, name: &str) -> Option<&'a str> {
    schema.get(name).and_then(Value::as_str)
}

fn number(schema: &Value, name: &str) -> Option<i64> {
    schema.get(name).and_then(Value::as_i64)
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

impl<'a> Checker<'a> {
    pub(crate) const fn new(rules: &'a Rules) -> Self {
        Self {
            rules,
            wrong: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, place: Place, path: &str, message: impl fmt::Display) {
        self.wrong.push(Wrong {
            place,
            path: path.to_owned(),
            message: message.to_string(),
        });
    }

    /// Checks a value. What it is to rules comes back, unless it has not the form that they expect.
    pub(crate) fn check(&mut self, schema: &Value, node: &Node, path: &str) -> Option<Cel> {
        let form = text(schema, "type").unwrap_or_default();
        let value = match (form, &node.content) {
            ("object", Content::Map(fields)) => self.map(schema, node, fields, path),
            ("array", Content::List(items)) => self.list(schema, node, items, path),
            ("string", Content::Text(text)) => self.text(schema, node, text, path),
            ("integer", Content::Number(number)) if number.as_i64().is_some() => {
                let number = number.as_i64().unwrap_or_default();
                self.integer(schema, node, number, path)
            }
            ("boolean", Content::Bool(is)) => Some(Cel::Bool(*is)),
            ("", _) => Some(Cel::Null),
            _ => {
                self.add(node.place, path, mismatch(form, node));
                None
            }
        }?;
        for message in self.rules.broken(schema, &value) {
            self.add(node.place, path, message);
        }
        Some(value)
    }

    fn map(&mut self, schema: &Value, node: &Node, fields: &[Field], path: &str) -> Option<Cel> {
        let mut formed = true;
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema
            .get("additionalProperties")
            .filter(|it| it.is_object());
        let mut values = Vec::new();
        for field in fields {
            let path = below(path, &field.name);
            match known.and_then(|known| known.get(&field.name)).or(others) {
                Some(schema) => {
                    let value = self.check(schema, &field.value, &path);
                    formed &= value.is_some();
                    values.extend(value.map(|value| (field.name.clone(), value)));
                }
                None if schema.get("x-kubernetes-preserve-unknown-fields").is_some() => {}
                None => {
                    let names = known.into_iter().flat_map(|known| known.keys());
                    let message = unknown(&field.name, names.map(String::as_str));
                    self.add(field.place, &path, message);
                }
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| node.get(name).is_none()) {
            self.add(node.place, &below(path, name), "is missing: write it");
            formed = false;
        }
        if let Some(most) = number(schema, "maxProperties")
            && fields.len() as i64 > most
        {
            let message = format!("there are {}: write at most {most}", fields.len());
            self.add(node.place, path, message);
        }
        for (name, schema) in known.into_iter().flatten() {
            if let Some(default) = schema.get("default").filter(|_| node.get(name).is_none()) {
                values.push((name.clone(), plain(default)));
            }
        }
        formed.then(|| rules::map(values))
    }

    fn list(&mut self, schema: &Value, node: &Node, items: &[Node], path: &str) -> Option<Cel> {
        let length = items.len() as i64;
        if let Some(least) = number(schema, "minItems").filter(|least| length < *least) {
            self.add(
                node.place,
                path,
                format!("is too short: write at least {least}"),
            );
        }
        if let Some(most) = number(schema, "maxItems").filter(|most| length > *most) {
            let message = format!("there are {length}: write at most {most}");
            self.add(node.place, path, message);
        }
        let of = schema.get("items").unwrap_or(&Value::Null);
        let mut values = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let twice = items
                .iter()
                .take(at)
                .any(|other| other.value() == item.value());
            if twice && text(schema, "x-kubernetes-list-type") == Some("set") {
                self.add(item.place, &path, "stands here twice: write it once");
            }
            values.extend(self.check(of, item, &path));
        }
        (values.len() == items.len()).then(|| rules::list(values))
    }

    fn text(&mut self, schema: &Value, node: &Node, it: &str, path: &str) -> Option<Cel> {
        let choices = schema.get("enum").and_then(Value::as_array);
        let choices = choices.map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>());
        if let Some(choices) = choices.filter(|choices| !choices.contains(&it)) {
            self.add(node.place, path, not_a_choice(it, &choices));
            return None;
        }
        let length = it.chars().count() as i64;
        if let Some(least) = number(schema, "minLength").filter(|least| length < *least) {
            let message = format!("is too short: write at least {least} characters");
            self.add(node.place, path, message);
        }
        if let Some(most) = number(schema, "maxLength").filter(|most| length > *most) {
            let message = format!("has {length} characters: write at most {most}");
            self.add(node.place, path, message);
        }
        if text(schema, "format") != Some("date-time") {
            return Some(Cel::from(it));
        }
        let seconds = rules::seconds(it);
        if seconds.is_none() {
            let message = format!("{it} is no time: write one such as \"2026-12-01T08:00:00Z\"");
            self.add(node.place, path, message);
        }
        seconds.map(Cel::Int)
    }

    fn integer(&mut self, schema: &Value, node: &Node, it: i64, path: &str) -> Option<Cel> {
        let bound = |name| {
            schema
                .get(name)
                .and_then(Value::as_f64)
                .map(|bound| bound as i64)
        };
        if let Some(least) = bound("minimum").filter(|least| it < *least) {
            self.add(
                node.place,
                path,
                format!("{it} is too low: write at least {least}"),
            );
        }
        if let Some(most) = bound("maximum").filter(|most| it > *most) {
            self.add(
                node.place,
                path,
                format!("{it} is too high: write at most {most}"),
            );
        }
        Some(Cel::Int(it))
    }
}

/// A value of another type than the schema's.
fn mismatch(form: &str, node: &Node) -> String {
    let wanted = match form {
        "object" => "a map, as {name: value}",
        "array" => "a list, as [value]",
        "string" => "a text",
        "integer" => "a whole number",
        _ => "true or false",
    };
    match node.content {
        Content::Null => format!("is empty: write {wanted}, or leave it out"),
        Content::Bool(_) | Content::Number(_) if form == "string" => {
            format!("is read as {}: write it in quotes", node.kind())
        }
        _ => format!("is {}: write {wanted}", node.kind()),
    }
}

/// A field that nobody knows.
pub(crate) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(meant) => format!("is no field here: write {meant}"),
        None => "is no field here: leave it out".to_owned(),
    }
}

fn not_a_choice(it: &str, choices: &[&str]) -> String {
    match choices {
        [""] => format!("is {it}: leave it out"),
        [one] => format!("is {it}: write {one}"),
        _ => match nearest(it, choices.iter().copied()) {
            Some(meant) => format!("is {it}: write {meant}"),
            None => format!("is {it}: write one of {}", choices.join(", ")),
        },
    }
}

/// What was meant, where it is not far from what was written.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Of 1: one letter of four may be another, or two may have changed places.
    const ALIKE: f64 = 0.75;
    known
        .map(|known| {
            (
                strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()),
                known,
            )
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// A default, for rules.
fn plain(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(is) => Cel::Bool(*is),
        Value::Number(number) => Cel::Int(number.as_i64().unwrap_or_default()),
        Value::String(text) => Cel::from(text.as_str()),
        Value::Array(items) => rules::list(items.iter().map(plain).collect()),
        Value::Object(fields) => {
            let fields = fields.iter();
            rules::map(fields.map(|(name, value)| (name.clone(), plain(value))))
        }
    }
}
