//! One call to an API server: it ends in time, and an error says what happened without saying
//! anything of credentials.
//!
//! A library's error may quote what it could not read, or the output of a credential plug-in. So
//! nothing of it is passed on but the words of the API server itself ([`Failure::Refused`]) and
//! the innermost cause of a broken connection, which comes from the operating system or from TLS.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use kube::core::Status;
use kube::runtime::watcher;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer in time.
    Deadline(Duration),
    /// No connection, or a broken one; with its innermost cause.
    Unreachable(String),
    /// The API server does not know who speaks (401).
    Credentials,
    /// The API server refused it.
    Refused {
        /// The HTTP status.
        code: u16,
        /// What the API server says.
        message: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// What came back is not what was asked for.
    Answer,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline(deadline) => {
                write!(f, "the API server gave no answer within {deadline:?}")
            }
            Self::Unreachable(cause) => write!(f, "the API server cannot be reached: {cause}"),
            Self::Credentials => write!(
                f,
                "the API server does not accept the credentials: write a kubeconfig with valid ones into the Secret"
            ),
            Self::Refused { code, message, .. } => {
                write!(f, "the API server answers {code}: {message}")
            }
            Self::Answer => write!(f, "the API server's answer cannot be read"),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// The HTTP status, where there was one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Credentials => Some(401),
            Self::Refused { code, .. } => Some(*code),
            Self::Deadline(_) | Self::Unreachable(_) | Self::Answer => None,
        }
    }

    /// Whether it is about the one object and not about the cluster: others may still be written.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.code(), Some(400 | 403 | 404 | 409 | 413 | 422))
    }

    /// As in a condition.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Deadline(_) => "NoAnswer",
            Self::Unreachable(_) => "Unreachable",
            Self::Credentials => "Unauthorized",
            Self::Refused { .. } | Self::Answer => "ApiServerError",
        }
    }

    /// How long the API server asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        if status.code == 401 {
            return Self::Credentials;
        }
        let details = status.details.as_ref();
        let seconds = details.map_or(0, |details| details.retry_after_seconds);
        Self::Refused {
            code: status.code,
            message: shortened(&status.message),
            retry_after: (seconds > 0).then(|| Duration::from_secs(seconds.into())),
        }
    }
}

impl From<&kube::Error> for Failure {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from(status.as_ref()),
            kube::Error::Auth(_) => Self::Credentials,
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::Answer,
            error => Self::Unreachable(innermost(error)),
        }
    }
}

impl From<&watcher::Error> for Failure {
    fn from(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::from(error),
            watcher::Error::WatchError(status) => Self::from(status.as_ref()),
            watcher::Error::NoResourceVersion => Self::Answer,
        }
    }
}

/// Calls, and waits no longer than `deadline`.
///
/// # Errors
/// As [`Failure`] says.
pub async fn call<T>(
    deadline: Duration,
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::from(&error)),
        Err(_) => Err(Failure::Deadline(deadline)),
    }
}

/// As [`call`], where it is no error that there is no such object.
///
/// # Errors
/// As [`call`].
pub async fn find<T>(
    deadline: Duration,
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, Failure> {
    match call(deadline, answer).await {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.code() == Some(404) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn innermost(error: &kube::Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    let mut text = "no connection".to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    shortened(&text)
}

/// A status and a log line have bounded sizes.
fn shortened(text: &str) -> String {
    const MOST: usize = 512;
    if text.len() <= MOST {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(MOST).collect();
    short.push('…');
    short
}
