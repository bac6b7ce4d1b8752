//! The CEL rules of the definitions, evaluated as API servers evaluate them: the same words come
//! from here and from there.
//!
//! A time is a number of seconds here, on both sides of a comparison.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, Env, ExecutionError, Program, Value as Cel, extensions};
use jiff::Timestamp;
use serde_json::Value;

/// Evaluates rules.
pub(crate) struct Rules {
    env: Arc<Env>,
}

impl Rules {
    pub(crate) fn new() -> Self {
        let mut env = Env::stdlib();
        // What is there twice would be an error of the library's.
        let _ = env.add_extension(extensions::strings);
        Self { env: Arc::new(env) }
    }

    /// The messages of the rules of a schema that do not hold for a value.
    pub(crate) fn broken(&self, schema: &Value, value: &Cel) -> Vec<String> {
        let rules = schema
            .get("x-kubernetes-validations")
            .and_then(Value::as_array);
        let texts = |rule: &Value| {
            let text = |name: &str| {
                rule.get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            (text("rule"), text("message"))
        };
        rules
            .into_iter()
            .flatten()
            .map(texts)
            .filter(|(rule, _)| !self.holds(rule, value))
            .map(|(_, message)| message)
            .collect()
    }

    /// A rule that cannot be evaluated does not hold, as for API servers.
    fn holds(&self, rule: &str, value: &Cel) -> bool {
        let Ok(program) = self.env.compile(rule) else {
            return false;
        };
        let mut context = Context::with_env(self.env.clone());
        context.add_variable_from_value("self", value.clone());
        let _ = context.add_function("timestamp", |text: Arc<String>| {
            seconds(&text).ok_or_else(|| ExecutionError::function_error("timestamp", "no time"))
        });
        let result = Program::execute(&program, &context);
        matches!(result, Ok(Cel::Bool(true)))
    }
}

/// A time of RFC 3339 in seconds since 1970.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// A map for rules.
pub(crate) fn map(fields: impl IntoIterator<Item = (String, Cel)>) -> Cel {
    Cel::from(fields.into_iter().collect::<HashMap<String, Cel>>())
}

/// A list for rules.
pub(crate) fn list(items: Vec<Cel>) -> Cel {
    Cel::List(Arc::new(items))
}
