//! Writes inputs to begin a search with: `seeds DIR` makes `DIR/TARGET/HASH`.

mod inputs;

use std::{error::Error, fs, path::Path};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use jpat_fuzz::TARGETS;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("seeds DIR")?;
    for target in TARGETS {
        let directory = Path::new(&directory).join(target.name);
        fs::create_dir_all(&directory)?;
        for seed in inputs::of(target.name)? {
            let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &seed);
            let name: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            fs::write(directory.join(name), seed)?;
        }
    }
    Ok(())
}
