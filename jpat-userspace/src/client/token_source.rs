//! Reads the token. It is never an argument: those are visible to every user of the machine.

use std::{fs::File, io::Read};

use super::{ClientError, TokenSource};

/// Room for any real token, so that a wrong file does not fill the memory.
const MAX_READ: u64 = 64 * 1024;

impl From<std::path::PathBuf> for TokenSource {
    fn from(path: std::path::PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::File(path) }
    }
}

impl std::fmt::Display for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Reads it, without white space around it. Blocks.
///
/// # Errors
/// [`ClientError::ReadToken`], [`ClientError::EmptyToken`].
pub fn read(source: &TokenSource) -> Result<String, ClientError> {
    let mut text = String::new();
    let read = match source {
        TokenSource::Stdin => std::io::stdin().lock().take(MAX_READ).read_to_string(&mut text),
        TokenSource::File(path) => File::open(path).and_then(|file| file.take(MAX_READ).read_to_string(&mut text)),
    };
    read.map_err(|error| ClientError::ReadToken { from: source.to_string(), source: error })?;
    match text.trim() {
        "" => Err(ClientError::EmptyToken(source.to_string())),
        token => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_no_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = TokenSource::from(file.path().to_owned());
        std::fs::write(file.path(), " \n").unwrap();
        assert!(matches!(read(&source), Err(ClientError::EmptyToken(_))));
        std::fs::write(file.path(), "\n a.b.c\r\n").unwrap();
        assert_eq!(read(&source).unwrap(), "a.b.c");
        std::fs::write(file.path(), [0xff]).unwrap();
        assert!(matches!(read(&source), Err(ClientError::ReadToken { .. })));
        assert_eq!(TokenSource::from(std::path::PathBuf::from("-")), TokenSource::Stdin);
    }
}
