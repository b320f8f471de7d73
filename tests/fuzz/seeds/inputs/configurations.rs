//! Configurations: the README's, two full ones, and those with each line taken out, doubled or broken off.

use std::{fs, io, path::Path};

const FULL: [&str; 2] = [include_str!("full.toml"), include_str!("sealed.toml")];

pub(super) fn seeds() -> io::Result<Vec<Vec<u8>>> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md"))?;
    let blocks = readme.split("```toml\n").skip(1).filter_map(|block| block.split("```").next());
    let mut seeds: Vec<_> = blocks.map(|block| block.as_bytes().to_vec()).collect();
    for full in FULL {
        seeds.push(full.as_bytes().to_vec());
        let lines: Vec<_> = full.lines().collect();
        for at in 0..lines.len() {
            let (before, behind) = (lines[..at].join("\n"), lines[at + 1..].join("\n"));
            seeds.push(format!("{before}\n{behind}\n").into_bytes());
            seeds.push(format!("{before}\n{0}\n{0}\n{behind}\n", lines[at]).into_bytes());
            let half = lines[at].len() / 2;
            seeds.push(format!("{before}\n{}\n{behind}\n", lines[at].get(..half).unwrap_or_default()).into_bytes());
        }
    }
    Ok(seeds)
}
