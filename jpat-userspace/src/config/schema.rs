//! JSON Schema of the configuration: every key of this version, what it means, its default.

use schemars::{Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::Value;

use super::raw::File;

/// The schema (2020-12), for editors and for `jpatd schema`.
#[must_use]
pub fn schema() -> Value {
    generate(SchemaSettings::draft2020_12())
}

/// The schema without references, to walk along a file.
pub(super) fn inlined() -> Value {
    generate(SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true))
}

fn generate(settings: SchemaSettings) -> Value {
    settings.with_transform(without_null).into_generator().into_root_schema_for::<File>().to_value()
}

/// TOML has no null: a key that may be absent is not one that may be null.
fn without_null(schema: &mut Schema) {
    let types = schema.get_mut("type").and_then(Value::as_array_mut);
    if let Some([only]) = types.map(|types| {
        types.retain(|name| name != "null");
        types.as_slice()
    }) {
        let only = only.clone();
        schema.insert("type".into(), only);
    }
    if let Some(Value::Array(mut options)) = schema.remove("anyOf") {
        options.retain(|option| option != &serde_json::json!({ "type": "null" }));
        match (options.len(), options.pop()) {
            (1, Some(Value::Object(only))) => schema.ensure_object().extend(only),
            (_, last) => {
                options.extend(last);
                schema.insert("anyOf".into(), Value::Array(options));
            }
        }
    }
    transform_subschemas(&mut without_null, schema);
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, path::Path};

    use super::*;
    use crate::config::file::parse;

    /// Sections that a file may leave out, where their tables stand in the schema, and one more table each that the
    /// base below has anyway.
    const SECTIONS: [(&str, &str); 5] = [
        ("[listen]", "/properties/listen"),
        ("[always_allow]", "/properties/always_allow"),
        ("[limits]", "/properties/limits"),
        ("[audit]", "/properties/audit"),
        ("[admin]", "/properties/admin"),
    ];

    const ISSUER: &str = "[[issuer]]\nname = \"corp\"\nissuer = \"https://idp.example\"\naudience = [\"a\"]\n\
        algorithms = [\"ES256\"]\nkeys = { discovery = true }\naccept = [\"bare\"]\n";
    const SERVICE: &str = "[[service]]\nname = \"web\"\nports = [\"tcp/8443\"]\nallow = \"true\"\nttl = \"30s\"\n";

    fn toml_value(json: &Value) -> String {
        match json {
            Value::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
            Value::Object(members) => {
                let members = members.iter().map(|(name, value)| format!("{name} = {}", toml_value(value)));
                format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => json.to_string(),
        }
    }

    /// `name = default` for each property of a schema that has a default.
    fn defaults(schema: &Value) -> String {
        let mut lines = String::new();
        for (name, property) in schema["properties"].as_object().unwrap() {
            let nested = property.get("properties").is_some() && name != "prefix";
            if let Some(default) = property.get("default").filter(|_| !nested) {
                writeln!(lines, "{name} = {}", toml_value(default)).unwrap();
            }
        }
        lines
    }

    fn meaning(toml: &str) -> Result<String, String> {
        match parse(Path::new("/x/jpat.toml"), toml.to_owned()) {
            Ok((mut config, _)) => {
                config.source = std::sync::Arc::default();
                Ok(format!("{config:#?}"))
            }
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }

    #[test]
    fn a_file_with_every_default_written_out_means_the_same() {
        let schema = inlined();
        // A list of tables has no short empty form beside its tables.
        let root = defaults(&schema).replace("deny = []\n", "");
        let mut full = format!("mode = \"audit\"\n{root}");
        for (header, pointer) in SECTIONS {
            writeln!(full, "{header}\n{}", defaults(schema.pointer(pointer).unwrap())).unwrap();
        }
        let issuer = defaults(schema.pointer("/properties/issuer/items").unwrap());
        let service = defaults(schema.pointer("/properties/service/items").unwrap());
        for default in ["port = 1337", "state = ", "grants = 65536", "socket = ", "destinations = \"local\""] {
            assert!(full.contains(default), "{default}: {full}");
        }
        assert!(
            issuer.contains("max_stale = \"12h\"") && service.contains("prefix = { v4 = 32, v6 = 128 }"),
            "{service}"
        );
        full = format!("{full}{ISSUER}{issuer}{SERVICE}{service}");
        let short = format!("mode = \"audit\"\n{ISSUER}{SERVICE}");
        assert_eq!(meaning(&full).unwrap(), meaning(&short).unwrap());
    }

    #[test]
    fn words_and_ranges_of_the_schema_are_those_of_the_loader() {
        let schema = inlined();
        let mut tried = 0;
        for (header, pointer) in SECTIONS {
            for (name, property) in schema.pointer(pointer).unwrap()["properties"].as_object().unwrap() {
                let file = |value: &Value| {
                    meaning(&format!("mode = \"audit\"\n{header}\n{name} = {}\n{ISSUER}{SERVICE}", toml_value(value)))
                };
                if let Some(words) = property.get("enum").and_then(Value::as_array) {
                    words.iter().for_each(|word| drop(file(word).unwrap()));
                    assert!(file(&"other".into()).unwrap_err().contains("unknown value \"other\""));
                    tried += 1;
                }
                if let (Some(min), Some(max)) = (property["minimum"].as_i64(), property["maximum"].as_i64()) {
                    [min, max].iter().for_each(|edge| drop(file(&(*edge).into()).unwrap()));
                    for beyond in [min - 1, max + 1] {
                        assert!(file(&beyond.into()).unwrap_err().contains("out of range"), "{name} = {beyond}");
                    }
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, 12, "attach, port, tunnels and nine limits");
    }

    #[test]
    fn what_the_schema_requires_the_loader_requires() {
        let schema = inlined();
        let full = format!("mode = \"audit\"\n{ISSUER}{SERVICE}[[deny]]\nname = \"x\"\nwhen = \"false\"\n");
        meaning(&full).unwrap();
        let mut tried = 0;
        for (header, pointer) in
            [("", ""), ("[[issuer]]", "/issuer/items"), ("[[service]]", "/service/items"), ("[[deny]]", "/deny/items")]
        {
            let pointer = if pointer.is_empty() { String::new() } else { format!("/properties{pointer}") };
            for name in schema.pointer(&pointer).unwrap()["required"].as_array().unwrap() {
                let name = name.as_str().unwrap();
                if matches!(name, "issuer" | "service") && header.is_empty() {
                    continue;
                }
                let (before, after) = full.split_at(full.find(header).unwrap());
                let line = after.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
                let error = meaning(&format!("{before}{}", after.replacen(&format!("{line}\n"), "", 1))).unwrap_err();
                assert!(error.contains(&format!("{name}: required")), "{name}: {error}");
                tried += 1;
            }
        }
        assert_eq!(tried, 13);
    }

    #[test]
    fn every_key_has_a_description() {
        fn walk(schema: &Value, path: &str) {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                assert!(property["description"].is_string(), "{path}.{name}");
                walk(property, &format!("{path}.{name}"));
                walk(&property["items"], &format!("{path}.{name}[]"));
            }
        }
        walk(&inlined(), "");
        assert!(!schema().to_string().contains("null"));
    }
}
