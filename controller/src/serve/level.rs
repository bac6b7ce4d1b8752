//! What is logged, and its change at run time.

use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt, reload};

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An object per line, for collectors.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Why the level stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// There is no such level.
    #[error(
        "`{0}` is no log level: write off, error, warn, info, debug or trace, also by module, such as info,spillway_controller=debug"
    )]
    Unknown(String),
    /// The subscriber is gone.
    #[error("there is no log whose level could be changed")]
    NoLog,
}

type Apply = dyn Fn(Targets) -> Result<(), reload::Error> + Send + Sync;

/// What is logged now; clones are one.
#[derive(Clone)]
pub struct LogLevel {
    written: Arc<Mutex<String>>,
    apply: Arc<Apply>,
}

impl LogLevel {
    /// As it was written.
    #[must_use]
    pub fn get(&self) -> String {
        let written = self.written.lock();
        written.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs so from here on.
    ///
    /// # Errors
    /// When it is no level, or nothing is logged any more.
    pub fn set(&self, level: &str) -> Result<(), LevelError> {
        let targets = parse(level)?;
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        (self.apply)(targets).map_err(|_| LevelError::NoLog)?;
        level.clone_into(&mut written);
        drop(written);
        tracing::info!(level, "the log level was changed");
        Ok(())
    }
}

/// Whether a text is a level, for settings that are checked before anything is logged.
pub(crate) fn known(level: &str) -> Result<String, LevelError> {
    parse(level).map(|_| level.to_owned())
}

fn parse(level: &str) -> Result<Targets, LevelError> {
    // A word that is no level is read as the name of a module, and so are blanks.
    let known = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    };
    if level.split(',').all(known) {
        level
            .parse()
            .map_err(|_| LevelError::Unknown(level.to_owned()))
    } else {
        Err(LevelError::Unknown(level.to_owned()))
    }
}

/// A log to this writer, and the handle by which its level changes.
///
/// # Errors
/// When `level` is no level.
pub fn log_to<W>(
    writer: W,
    format: Format,
    level: &str,
) -> Result<(impl Subscriber + Send + Sync + use<W>, LogLevel), LevelError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let lines = match format {
        Format::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .boxed(),
        Format::Text => fmt::layer().with_ansi(false).with_writer(writer).boxed(),
    };
    let level = LogLevel {
        written: Arc::new(Mutex::new(level.to_owned())),
        apply: Arc::new(move |targets| handle.reload(targets)),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    Ok((subscriber, level))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_changes_what_is_logged_from_then_on() {
        let memory = Memory::default();
        let writer = memory.clone();
        let (subscriber, level) = log_to(move || writer.clone(), Format::Json, "info").unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("before");
            level.set("warn,spillway=debug").unwrap();
            tracing::debug!(target: "spillway", cluster = "burst", "of the module");
            tracing::info!(target: "other", "of another module");
            assert!(level.set("loud").is_err());
        });
        assert_eq!(level.get(), "warn,spillway=debug");
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("before"), "{text}");
        assert!(text.contains("of the module"), "{text}");
        assert!(text.contains(r#""cluster":"burst""#), "{text}");
        assert!(!text.contains("of another module"), "{text}");
    }

    #[test]
    fn only_levels_are_levels() {
        for level in ["off", "error", "WARN", "info,kube=debug", "trace"] {
            assert!(parse(level).is_ok(), "{level}");
        }
        for level in ["", "loud", "info,", "kube=loud", "info debug"] {
            assert_eq!(
                parse(level),
                Err(LevelError::Unknown(level.to_owned())),
                "{level}"
            );
        }
    }
}
