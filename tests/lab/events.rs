//! Audit lines for people.

use serde_json::Value;

/// An audit line in words; any other line as it is.
pub(crate) fn readable(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(Value::Object(event)) if event.contains_key("event") => words(&Value::Object(event)),
        Ok(_) | Err(_) => line.to_owned(),
    }
}

fn words(event: &Value) -> String {
    let field = |name: &str| event[name].as_str();
    let mut text = format!("{}  {:8}", clock_time(field("time")), field("event").unwrap_or_default());
    let labelled = [
        ("", field("principal")),
        ("from ", field("source")),
        ("for ", field("service")),
        ("until ", field("until").map(|until| clock_time(Some(until)))),
        ("because: ", field("reason")),
        ("rule ", field("rule")),
        ("by ", field("by")),
    ];
    for (label, value) in labelled {
        if let Some(value) = value {
            text.push_str(&format!("  {label}{value}"));
        }
    }
    text
}

/// The time of day in an RFC 3339 time.
fn clock_time(time: Option<&str>) -> &str {
    let time = time.unwrap_or_default();
    time.split_once('T').map_or(time, |(_, day)| day.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_lines_become_words_and_others_stay() {
        let line = r#"{"time":"2026-01-02T03:04:05.678Z","event":"granted","principal":"lab:employee:alice","source":"192.0.2.10","service":"web","until":"2026-01-02T03:04:15.678Z"}"#;
        let words = "03:04:05.678  granted   lab:employee:alice  from 192.0.2.10  for web  until 03:04:15.678";
        assert_eq!(readable(line), words);
        assert_eq!(readable("ready"), "ready");
        assert_eq!(readable("{}"), "{}");
    }
}
