//! What the author of an unknown name may have meant.

/// The message for a function that is none of `known`.
pub(super) fn unknown_function(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|candidate| (distance(name, candidate), candidate)).min();
    match near {
        Some((distance, candidate)) if distance <= 2 => {
            format!("unknown function `{name}`; did you mean `{candidate}`?")
        }
        Some(_) | None => format!("unknown function `{name}`; known: {}", known.join(", ")),
    }
}

/// Edits (Levenshtein) between two names, letter case aside.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<u8> = b.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(left.to_ascii_lowercase() != *right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
