//! The asking side of the local socket.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Request, Response, VERSION, Versioned};

/// Longest wait for an answer. A reload reads files and compiles rules.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no controller answers at {}: {source}\n  remedy: is `jpatd run` up, and is this its `admin.socket`? (--socket, or JPAT_SOCKET)", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the controller broke off")]
    Broken(#[source] io::Error),
    /// The answer is not understood.
    #[error("the controller's answer is not of this program's version")]
    Format(#[source] serde_json::Error),
    /// The answer has another version.
    #[error("the controller speaks version {0} of the protocol, this program {VERSION}")]
    Version(u32),
}

/// Sends one request and waits for its answer.
///
/// # Errors
/// Nobody there, a broken conversation, or another version.
pub fn request(socket: &Path, request: &Request) -> Result<Response, ClientError> {
    let mut stream =
        UnixStream::connect(socket).map_err(|source| ClientError::Connect { path: socket.to_owned(), source })?;
    let mut line = serde_json::to_vec(request).map_err(ClientError::Format)?;
    line.push(b'\n');
    let mut talk = || {
        stream.set_read_timeout(Some(TIMEOUT))?;
        // Whom nothing is answered hears so before asking, and the other end is closed by then.
        let sent = stream.write_all(&line);
        let mut answer = String::new();
        let read = BufReader::new(&stream).read_line(&mut answer);
        if answer.ends_with('\n') {
            return Ok(answer);
        }
        sent.and(read)?;
        Err(io::ErrorKind::UnexpectedEof.into())
    };
    let answer = talk().map_err(ClientError::Broken)?;
    let Versioned { version, response } = serde_json::from_str(&answer).map_err(ClientError::Format)?;
    if version == VERSION { Ok(response) } else { Err(ClientError::Version(version)) }
}
