//! What can go wrong on the way to Redis.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why Redis did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// It is away, loads, or fails over: try again later. Whether the command was executed is not known.
    #[error("Redis is not available: {0}")]
    Unavailable(String),
    /// It does not let us in, or not do that.
    #[error("Redis refused: {0}")]
    Refused(String),
    /// It has no room: `maxmemory` is reached. Nothing was written.
    #[error("Redis has no room left: {0}")]
    Full(String),
    /// It does not know the script; only seen by the link itself.
    #[error("Redis does not know the script")]
    NoScript,
    /// A script of ours said so: the text begins with a word of ours.
    #[error("{0}")]
    Said(String),
    /// What it answered is not what was asked for.
    #[error("Redis answered something unexpected: {0}")]
    Unexpected(String),
    /// The configuration cannot be right.
    #[error("{0}")]
    Config(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What the client library reports, sorted by what can be done about it.
    pub(super) fn of(error: RedisError) -> Self {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Refused(text),
            ErrorKind::InvalidClientConfig | ErrorKind::EmptySentinelList => Self::Config(text),
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Self::Unexpected(text),
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::NoScript,
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Refused(text),
            ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::ExecAbort)
            | ErrorKind::Extension => by_code(&error, text),
            _ => Self::Unavailable(text),
        }
    }
}

/// Errors that are told apart by their first word alone.
fn by_code(error: &RedisError, text: String) -> Error {
    match error.code() {
        Some("OOM") => Error::Full(text),
        Some("WRONGPASS" | "NOAUTH" | "NOPERM") => Error::Refused(text),
        // Redis could not write its own disk, or replicas that it must have are away.
        Some("MISCONF" | "NOREPLICAS" | "BUSY" | "UNBLOCKED") => Error::Unavailable(text),
        // A script may not use a command that the user may not.
        _ if text.contains("can't run this command") => Error::Refused(text),
        Some("WISP") => Error::Said(error.detail().unwrap_or_default().to_owned()),
        _ => Error::Unexpected(text),
    }
}

/// Whether the connection that gave this error is to be made anew.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    error.is_connection_dropped()
        || error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}
