//! An archive in the format `newc`, which the kernel unpacks as its first file system
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Everything in it belongs to root.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Component, Path},
};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive in the making.
pub(super) struct Archive<W> {
    out: W,
    written: usize,
    entries: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out, written: 0, entries: 0, directories: BTreeSet::new() }
    }

    /// A directory with those above it, if it is not there yet.
    pub(super) fn directory(&mut self, path: &str, permissions: u32) -> io::Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/')
            && !parent.is_empty()
        {
            self.directory(parent, 0o755)?;
        }
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | permissions, (0, 0), &[])?;
        }
        Ok(())
    }

    /// A file, with the directories above it.
    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent, 0o755)?;
        }
        self.entry(path, FILE | permissions, (0, 0), content)
    }

    /// A device.
    pub(super) fn character_device(&mut self, path: &str, numbers: (u32, u32)) -> io::Result<()> {
        self.entry(path, CHARACTER_DEVICE | 0o600, numbers, &[])
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is too long for an archive"));
        let size = u32::try_from(content.len()).map_err(too_long)?;
        let name_size = u32::try_from(path.len() + 1).map_err(too_long)?;
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        let header = fields.iter().fold("070701".to_owned(), |header, field| format!("{header}{field:08x}"));
        self.write(header.as_bytes())?;
        self.write(path.as_bytes())?;
        self.write(&[0])?;
        self.pad()?;
        self.write(content)?;
        self.pad()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.write(&[0; 3][..missing])
    }
}

/// Where an absolute path of the host lies in the archive.
pub(super) fn inside(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_string_lossy()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_the_directories_above_its_files_once() {
        let mut archive = Archive::new(Vec::new());
        archive.file("usr/bin/a", 0o755, b"one").unwrap();
        archive.file("usr/bin/b", 0o644, b"").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches("070701").count(), 5, "usr, usr/bin, two files and the trailer");
        // A header of 110 bytes and a name of 10 need no filling; three bytes of content need one.
        assert!(text.contains("0000000a00000000usr/bin/a\x00one\x00070701"), "{text:?}");
        assert!(text.contains("07070100000003000081ed"), "the third entry is a file with mode 755: {text:?}");
    }

    #[test]
    fn a_path_of_the_host_loses_its_root() {
        assert_eq!(inside(Path::new("/lib64/ld-linux-x86-64.so.2")), "lib64/ld-linux-x86-64.so.2");
    }
}
