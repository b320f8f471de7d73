//! The guest's only file system.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{
    cpio::{self, Archive},
    group::Planned,
    kernel::Files,
    programs::Programs,
    tools::{self, Tools},
};

const INIT: &str = include_str!("init.sh");

/// Writes the image of one kernel's guest.
pub(super) fn write(files: &Files, tools: &Tools, programs: &Programs, plan: &[Planned]) -> Result<PathBuf> {
    let path = files.work.join("initramfs");
    let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let context = || format!("cannot write {}", path.display());
    let mut archive = Archive::new(BufWriter::new(file));
    for directory in ["proc", "sys", "run", "root", "var/lib", "dev", "etc"] {
        archive.directory(directory, 0o755).with_context(context)?;
    }
    archive.directory("tmp", 0o1777).with_context(context)?;
    archive.character_device("dev/console", (5, 1)).with_context(context)?;
    archive.file("init", 0o755, INIT.as_bytes()).with_context(context)?;
    archive.file("plan", 0o644, lines(plan).as_bytes()).with_context(context)?;
    archive.file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")?;
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n").with_context(context)?;
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n").with_context(context)?;
    archive.file("bin/busybox", 0o755, &read(tools.busybox())?).with_context(context)?;
    add_programs(&mut archive, programs, &files.work)?;
    add_modules(&mut archive, &files.modules)?;
    archive.finish().with_context(context)?;
    Ok(path)
}

fn add_programs(archive: &mut Archive<impl Write>, programs: &Programs, work: &Path) -> Result<()> {
    let mut libraries = BTreeSet::new();
    for (name, path) in &programs.all {
        libraries.extend(tools::libraries(path)?);
        archive.file(&format!("usr/bin/{name}"), 0o755, &read(&stripped(path, &work.join("stripped"))?)?)?;
    }
    for library in libraries {
        archive.file(&cpio::inside(&library), 0o755, &read(&library)?)?;
    }
    Ok(())
}

/// The program without debug information, which is most of it; the program itself where there is no `strip`.
fn stripped(program: &Path, to: &Path) -> Result<PathBuf> {
    if tools::find("strip").is_none() {
        return Ok(program.to_owned());
    }
    crate::cargo::succeed(Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(program))?;
    Ok(to.to_owned())
}

fn add_modules(archive: &mut Archive<impl Write>, modules: &[PathBuf]) -> Result<()> {
    let mut order = String::new();
    for module in modules {
        let name = module.file_name().context("a module has a name")?.to_string_lossy();
        archive.file(&format!("modules/{name}"), 0o644, &read(module)?)?;
        writeln!(order, "{name}")?;
    }
    archive.file("modules/order", 0o644, order.as_bytes())?;
    Ok(())
}

/// What the guest is to run: number, bound in seconds, command.
fn lines(plan: &[Planned]) -> String {
    let runs = plan.iter().flat_map(|planned| &planned.runs).enumerate();
    runs.map(|(number, run)| format!("{number} {} {} {}\n", run.bound.as_secs(), run.program, run.arguments.join(" ")))
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
