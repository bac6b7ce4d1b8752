//! Bad configurations and what is said about them, as a text that people read.
//!
//! A case is a few lines of edits to the documented example, then what is said, indented:
//!
//! ```text
//! set /policies/0/id "Worker"
//!     policies[0].id: write 1 to 32 of a-z 0-9 -
//! ```
//!
//! `remove POINTER` takes a field out, `document TEXT` stands for the whole. Lines with # are
//! kept. Add a case by its edits, and run the tests with `SPILLWAY_UPDATE=1`.

use serde_json::Value;
use spillway_core::config::Config;

/// The cases and what was said about them last.
pub(crate) const BAD: &str = include_str!("../golden/bad-configurations.txt");

const REFERENCE: &str = include_str!("../../../docs/reference/plugin-configuration.md");

/// The example of the reference documentation.
pub(crate) fn documented() -> &'static str {
    let (_, rest) = REFERENCE.split_once("```json\n").expect("an example");
    rest.split_once("```").expect("its end").0
}

pub(crate) fn documented_value() -> Value {
    serde_json::from_str(documented()).expect("the example is JSON")
}

/// The cases with what is said about them now, and how many there are.
pub(crate) fn render(cases: &str) -> (String, usize) {
    let (mut text, mut number) = (String::new(), 0);
    let mut edits: Vec<&str> = Vec::new();
    for line in cases.lines().chain([""]) {
        if line.starts_with(' ') {
            continue; // what was said last
        }
        if line.is_empty() && !edits.is_empty() {
            number += 1;
            text.push_str(&said(&edits));
            edits.clear();
        }
        text.push_str(line);
        text.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            edits.push(line);
        }
    }
    (text.trim_end().to_owned() + "\n", number)
}

fn said(edits: &[&str]) -> String {
    let mut document = documented_value();
    let mut raw = None;
    for edit in edits {
        let (verb, rest) = edit.split_once(' ').unwrap_or((edit, ""));
        match verb {
            "set" => {
                let (pointer, value) = rest.split_once(' ').expect(edit);
                let value = serde_json::from_str(value).expect(edit);
                set(&mut document, pointer, Some(value));
            }
            "remove" => set(&mut document, rest, None),
            "document" => raw = Some(rest.to_owned()),
            _ => panic!("no such edit: {edit}"),
        }
    }
    let text = raw.unwrap_or_else(|| document.to_string());
    match Config::parse(text.as_bytes(), "primary") {
        Ok(_) => "    ACCEPTED\n".to_owned(),
        Err(errors) => errors
            .0
            .iter()
            .map(|e| match e.path.as_str() {
                "" => format!("    {}\n", e.message),
                path => format!("    {path}: {}\n", e.message),
            })
            .collect(),
    }
}

/// Sets or removes what a JSON pointer points at; its parent must be there.
pub(crate) fn set(document: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, key) = pointer.rsplit_once('/').expect(pointer);
    let key = key.replace("~1", "/").replace("~0", "~");
    match (document.pointer_mut(parent).expect(pointer), value) {
        (Value::Object(map), Some(value)) => {
            map.insert(key, value);
        }
        (Value::Object(map), None) => {
            map.remove(&key).expect(pointer);
        }
        (Value::Array(list), value) => {
            let at: usize = key.parse().expect(pointer);
            match value {
                Some(value) if at == list.len() => list.push(value),
                Some(value) => list[at] = value,
                None => {
                    list.remove(at);
                }
            }
        }
        _ => panic!("nothing at {parent}"),
    }
}
