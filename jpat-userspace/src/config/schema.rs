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
