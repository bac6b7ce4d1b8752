//! The errors of a document, each with its path.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{ConfigError, ConfigErrors};

/// The errors so far, and where the reader is.
#[derive(Default)]
pub(super) struct Errors {
    list: Vec<ConfigError>,
    /// An item of a list could not be read at all, so that places in the list are no longer the
    /// document's.
    pub(super) gaps: bool,
    /// Errors beyond [`MOST_ERRORS`].
    more: usize,
    /// Written out for errors only: most documents have none.
    here: Vec<Step>,
}

/// A part of a path.
pub(super) enum Step {
    /// A field of an object.
    Field(&'static str),
    /// A row of a table.
    Row(String),
    /// An item of a list.
    Item(usize),
}

/// So many are told one by one: enough to mend a document, and few enough for a log line.
const MOST_ERRORS: usize = 50;

impl Errors {
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(path.into(), message.into());
    }

    #[inline(never)]
    fn push(&mut self, path: String, message: String) {
        // What could not be read, in whole or in part, is not also complained about for what stands
        // in for it.
        let told = |e: &ConfigError| {
            let below = e.path.strip_prefix(path.as_str());
            e.path.is_empty() || below.is_some_and(|b| b.is_empty() || b.starts_with(['.', '[']))
        };
        if self.list.iter().any(told) {
            return;
        }
        if self.list.len() < MOST_ERRORS {
            self.list.push(ConfigError { path, message });
        } else {
            self.more += 1;
        }
    }

    pub(super) fn require(&mut self, holds: bool, path: &[&str], message: &str) {
        if !holds {
            self.add(path.concat(), message);
        }
    }

    /// Reads a part of the document, which stands at `step`.
    pub(super) fn at<T>(&mut self, step: Step, read: impl FnOnce(&mut Self) -> T) -> T {
        self.here.push(step);
        let value = read(self);
        self.here.pop();
        value
    }

    /// An error of what is being read.
    #[inline(never)]
    pub(super) fn here(&mut self, message: impl Into<String>) {
        let mut path = String::new();
        for step in &self.here {
            match step {
                Step::Item(at) => path.push_str(&format!("[{at}]")),
                Step::Field(name) => push(&mut path, name),
                Step::Row(name) => push(&mut path, name),
            }
        }
        self.add(path, message);
    }

    pub(super) fn none(mut self) -> Result<(), ConfigErrors> {
        if self.list.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            self.list.push(ConfigError {
                path: String::new(),
                message: format!("has {} more errors", self.more),
            });
        }
        Err(ConfigErrors(self.list))
    }
}

fn push(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}
