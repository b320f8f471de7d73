//! nst/JSONTestSuite through the reader of headers, claims and key sets, each case as the value of a member.

use std::path::PathBuf;

use jpat_userspace::{refusal::Refusal, token::json};

fn cases(folder: &str) -> Vec<(String, Result<(), Refusal>)> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../tests/vectors/jsontestsuite", folder].iter().collect();
    let mut cases: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let wrapped = [b"{\"x\":", &*std::fs::read(&path).unwrap(), b"}"].concat();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, json::object(&wrapped).map(|_| ()))
        })
        .collect();
    cases.sort();
    cases
}

#[test]
fn parsing() {
    let cases = cases("test_parsing");
    let of = |kind: &str| cases.iter().filter(|(name, _)| name.starts_with(kind)).collect::<Vec<_>>();
    let (must, must_not, free) = (of("y_"), of("n_"), of("i_"));
    assert_eq!((must.len(), must_not.len(), free.len()), (95, 188, 35));

    let refused: Vec<_> = must.iter().filter(|(_, result)| result.is_err()).collect();
    let twice = Err(Refusal::DuplicateMember);
    assert_eq!(
        refused,
        [
            &&("y_object_duplicated_key.json".to_owned(), twice),
            &&("y_object_duplicated_key_and_value.json".to_owned(), twice)
        ],
        "valid JSON that is no claims: RFC 7519 §4 lets us refuse duplicates"
    );
    let accepted: Vec<_> = must_not.iter().filter(|(_, result)| result.is_ok()).collect();
    assert!(accepted.is_empty(), "{accepted:?}");
    let deep = |name: &str| must_not.iter().find(|(other, _)| other == name).unwrap().1;
    assert_eq!(deep("n_structure_100000_opening_arrays.json"), Err(Refusal::TooDeep));
    assert_eq!(deep("n_structure_open_array_object.json"), Err(Refusal::TooDeep));

    // Numbers that a double holds, if not exactly; no broken text whatever.
    let accepted: Vec<_> = free.iter().filter(|(_, result)| result.is_ok()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        accepted,
        [
            "i_number_double_huge_neg_exp.json",
            "i_number_real_underflow.json",
            "i_number_too_big_neg_int.json",
            "i_number_too_big_pos_int.json",
            "i_number_very_big_negative_int.json",
        ]
    );
}

#[test]
fn transform() {
    let cases = cases("test_transform");
    assert_eq!(cases.len(), 22);
    for (name, result) in cases {
        let expected = if name.starts_with("object_same_key") {
            Err(Refusal::DuplicateMember)
        } else if name.contains("invalid_codepoint") {
            // Escaped: a lone surrogate. Raw: its bytes are not UTF-8.
            Err(if name.contains("escaped") { Refusal::BadJson } else { Refusal::NotUtf8 })
        } else {
            Ok(())
        };
        assert_eq!(result, expected, "{name}");
    }
}
