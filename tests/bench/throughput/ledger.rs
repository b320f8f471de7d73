//! The audit log as it grows. Reading it costs the controller nothing.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::{Context, Result};

/// A log, and how far it was read.
pub(crate) struct Ledger {
    file: File,
    rest: Vec<u8>,
}

/// What came.
#[derive(Default)]
pub(crate) struct More {
    /// Leases that began.
    pub(crate) granted: usize,
    /// Their tokens, and those that were renewed or repeated.
    pub(crate) tokens: Vec<String>,
}

impl Ledger {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self { file, rest: Vec::new() })
    }

    /// Counts whole lines that came since.
    pub(crate) fn more(&mut self) -> Result<More> {
        let mut more = More::default();
        self.lines(|line| {
            more.granted += usize::from(contains(line, b"\"event\":\"granted\""));
            Ok(())
        })?;
        Ok(more)
    }

    /// As [`Self::more`], with the tokens.
    pub(crate) fn more_tokens(&mut self) -> Result<More> {
        let mut more = More::default();
        self.lines(|line| {
            let event: serde_json::Value = serde_json::from_slice(line).context("a line that is not JSON")?;
            let kind = event["event"].as_str().unwrap_or_default();
            if ["granted", "renewed", "repeated"].contains(&kind) {
                more.granted += usize::from(kind == "granted");
                more.tokens.push(event["token_id"].as_str().context("a lease without a token")?.to_owned());
            }
            Ok(())
        })?;
        Ok(more)
    }

    fn lines(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut read = self.rest.len();
        let mut buffer = [0; 65_536];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            self.rest.extend_from_slice(&buffer[..count]);
        }
        if read == self.rest.len() {
            return Ok(());
        }
        read = 0;
        while let Some(length) = self.rest[read..].iter().position(|byte| *byte == b'\n') {
            each(&self.rest[read..read + length])?;
            read += length + 1;
        }
        self.rest.drain(..read);
        Ok(())
    }
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}
