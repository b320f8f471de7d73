//! `docs/reasons.md` lists every stable code with the text that the programs have of it. `JPAT_WRITE_DOCS=1` writes it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{fmt::Write as _, fs, path::Path};

use jpat_common::reason::{DropReason, PassReason};
use jpat_userspace::refusal::{Refusal, Stage};

#[test]
fn every_code_is_documented_with_the_programs_own_text() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reasons.md");
    let wanted = document();
    if std::env::var_os("JPAT_WRITE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap();
    assert!(found == wanted, "docs/reasons.md is not what the code says: run with JPAT_WRITE_DOCS=1");
}

fn document() -> String {
    let mut text = String::from(
        "# Reasons\n\nEvery code is stable, and the same wherever it appears: metric label, audit log, `jpatd explain`. Written from \
         the code by its own test.\n\n## Knocks that were refused\n\n`jpat_knocks_total{result}`; knocks that were taken count \
         as `granted`, `renewed`, `repeated` (a token that may be used once came again while its grant lives) or `closed`. *Before*: before a signature verified, so anybody can cause it; counted, and sampled \
         into the audit log at most ten times a second. *After*: in the audit log, with the principal; \
         what the same token causes again within a second is left out. The next line tells how many were left out (`suppressed`).\n\n\
         | code | signature | meaning |\n|---|---|---|\n",
    );
    for refusal in Refusal::ALL {
        let stage = match refusal.stage() {
            Stage::Stranger => "before",
            Stage::Authenticated => "after",
        };
        writeln!(text, "| `{refusal}` | {stage} | {} |", refusal.text()).unwrap();
    }
    text.push_str("\n## Packets\n\n`jpat_packets_total{service, verdict, reason}`. Under the verdict `audit` stands what audit mode let pass and enforce mode would have dropped.\n");
    let rows = |verdict: &str, rows: Vec<(&str, &str)>| {
        let lines = rows.iter().map(|(code, doc)| format!("| `{code}` | {} |\n", doc.trim())).collect::<String>();
        format!("\n### {verdict}\n\n| code | meaning |\n|---|---|\n{lines}")
    };
    text += &rows("pass", PassReason::ALL.iter().map(|reason| (reason.as_str(), reason.doc())).collect());
    text += &rows("drop", DropReason::ALL.iter().map(|reason| (reason.as_str(), reason.doc())).collect());
    text
}
