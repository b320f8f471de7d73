//! What happened, as JSON lines. A log that cannot be written costs lines, which are counted, never a grant.

mod event;

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

pub(crate) use event::rfc3339;
pub use event::{Event, Kind, Revocation};

use crate::config;

/// Why the audit log cannot be opened.
#[derive(thiserror::Error, Debug)]
#[error("cannot open the audit log {}", path.display())]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// Bytes of lines after which they are written in any case.
const MOST_WAITING: usize = 65_536;

/// Writes [`Event`]s, one JSON object a line.
#[derive(Debug)]
pub struct AuditLog {
    target: Target,
    lines: Lines,
}

#[derive(Debug)]
enum Target {
    File(PathBuf, File),
    Journal,
}

/// What is known of the lines written so far, and those that wait.
#[derive(Default, Debug)]
struct Lines {
    waiting: Vec<u8>,
    dropped: u64,
    /// The last write stopped inside a line.
    torn: bool,
}

impl AuditLog {
    /// Opens the log; a file is created if absent, appended to, and readable by its owner alone.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(audit: &config::Audit) -> Result<Self, OpenError> {
        let target = match audit {
            config::Audit::File(path) => Target::File(path.clone(), append(path)?),
            config::Audit::Journal => Target::Journal,
        };
        Ok(Self { target, lines: Lines::default() })
    }

    /// Writes one line, or counts it as dropped.
    pub fn write(&mut self, event: &Event) {
        self.add(event);
        self.flush();
    }

    /// Adds a line that [`Self::flush`] writes.
    pub fn add(&mut self, event: &Event) {
        self.lines.add(event);
        if self.lines.waiting.len() >= MOST_WAITING {
            self.flush();
        }
    }

    /// Writes the lines that were added, and counts those that cannot be written.
    pub fn flush(&mut self) {
        match &mut self.target {
            Target::File(_, file) => self.lines.flush(file),
            Target::Journal => self.lines.flush(&mut io::stderr().lock()),
        }
    }

    /// Opens the file anew, after a rotation has moved it away.
    ///
    /// # Errors
    /// As [`Self::open`]; the log then goes on in the old file.
    pub fn reopen(&mut self) -> Result<(), OpenError> {
        match &mut self.target {
            Target::File(path, file) => {
                *file = append(path)?;
                self.lines.torn = false;
            }
            Target::Journal => {}
        }
        Ok(())
    }

    /// Lines that could not be written since [`Self::open`].
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.lines.dropped
    }
}

impl Lines {
    fn add(&mut self, event: &Event) {
        let begin = self.waiting.len();
        if serde_json::to_writer(&mut self.waiting, event).is_ok() {
            self.waiting.push(b'\n');
        } else {
            self.waiting.truncate(begin);
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    fn flush(&mut self, to: &mut impl Write) {
        let mut waiting = std::mem::take(&mut self.waiting);
        if !waiting.is_empty() && (!self.torn || self.write_bytes(to, b"\n") == 1) {
            let written = self.write_bytes(to, &waiting);
            waiting.drain(..written);
        }
        let lost = waiting.iter().filter(|byte| **byte == b'\n').count();
        self.dropped = self.dropped.saturating_add(lost as u64);
        waiting.clear();
        self.waiting = waiting;
    }

    /// How many bytes were written.
    fn write_bytes(&mut self, to: &mut impl Write, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match to.write(rest) {
                Ok(0) => break,
                Ok(count) => {
                    written += count;
                    self.torn = bytes.get(written.saturating_sub(1)) != Some(&b'\n');
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        written
    }
}

fn append(path: &Path) -> Result<File, OpenError> {
    let open = || {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        // One that was there before may be readable by others; a device or a pipe is left as it is.
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    };
    open().map_err(|source| OpenError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;

    #[test]
    fn a_file_is_private_appended_to_and_reopened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        std::fs::write(&path, "before\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut log = AuditLog::open(&config::Audit::File(path.clone())).unwrap();
        log.write(&event(1));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let rotated = dir.path().join("audit.log.1");
        std::fs::rename(&path, &rotated).unwrap();
        log.write(&event(2));
        log.reopen().unwrap();
        log.write(&event(3));
        assert_eq!(times(&rotated), ["before", "00:00:01", "00:00:02"]);
        assert_eq!(times(&path), ["00:00:03"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_full_disk_drops_lines_and_counts_them() {
        let mut log = AuditLog::open(&config::Audit::File("/dev/full".into())).unwrap();
        log.write(&event(1));
        log.write(&event(2));
        assert_eq!(log.dropped(), 2);
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_spoil_the_next() {
        let mut lines = Lines::default();
        let mut disk = Disk { bytes: Vec::new(), room: 10 };
        lines.add(&event(1));
        lines.flush(&mut disk);
        disk.room = 1_000;
        for secs in [2, 3] {
            lines.add(&event(secs));
            lines.flush(&mut disk);
        }
        let text = String::from_utf8(disk.bytes).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
        assert_eq!((whole, text.lines().count(), lines.dropped), (2, 3, 1), "{text}");
    }

    #[test]
    fn of_lines_written_together_those_that_found_no_room_are_counted() {
        let length = {
            let mut one = Lines::default();
            one.add(&event(1));
            one.waiting.len()
        };
        for (room, whole, dropped) in [(0, 0, 3), (length, 1, 2), (2 * length + 5, 2, 1), (3 * length, 3, 0)] {
            let mut lines = Lines::default();
            let mut disk = Disk { bytes: Vec::new(), room };
            (1..=3).for_each(|secs| lines.add(&event(secs)));
            lines.flush(&mut disk);
            let written = disk.bytes.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!((written, lines.dropped), (whole, dropped), "room for {room} bytes");
            disk.room = 1_000;
            lines.add(&event(4));
            lines.flush(&mut disk);
            let last = disk.bytes.split(|byte| *byte == b'\n').rev().nth(1).unwrap();
            assert!(serde_json::from_slice::<serde_json::Value>(last).is_ok(), "room for {room} bytes");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = AuditLog::open(&config::Audit::File("/nonexistent/audit.log".into())).unwrap_err();
        assert_eq!(error.to_string(), "cannot open the audit log /nonexistent/audit.log");
    }

    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event(secs: u64) -> Event {
        Event::new(Kind::Denied, UnixTime::from_secs(secs))
    }

    fn times(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| match serde_json::from_str::<serde_json::Value>(line) {
                Ok(json) => json["time"].as_str().unwrap()[11..19].to_owned(),
                Err(_) => line.to_owned(),
            })
            .collect()
    }
}
