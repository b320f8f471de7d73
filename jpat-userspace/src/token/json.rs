//! JSON as a token or a key set may hold it: one object in strict UTF-8, no member twice at any depth (RFC 7519 §4 leaves
//! the choice between refusing and the last one), at most [`MAX_DEPTH`] levels.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, map::Entry};

use crate::refusal::Refusal;

/// Levels of objects and arrays, the outermost included.
pub const MAX_DEPTH: usize = 8;

/// Reads one object and nothing after it.
///
/// # Errors
/// [`Refusal::NotUtf8`], [`Refusal::BadJson`], [`Refusal::DuplicateMember`], [`Refusal::TooDeep`].
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_position| Refusal::NotUtf8)?;
    let fault = Cell::new(None);
    let mut input = serde_json::Deserializer::from_str(text);
    let value = Strict { levels: MAX_DEPTH, fault: &fault }.deserialize(&mut input);
    match value.and_then(|value| input.end().map(|()| value)) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err(Refusal::BadJson)
        }
        Err(_syntax) => Err(fault.get().unwrap_or(Refusal::BadJson)),
    }
}

/// Builds a [`Value`]; what serde's own errors cannot carry is left in `fault`.
#[derive(Clone, Copy)]
struct Strict<'f> {
    levels: usize,
    fault: &'f Cell<Option<Refusal>>,
}

impl Strict<'_> {
    fn refuse<E: Error>(self, refusal: Refusal) -> E {
        self.fault.set(Some(refusal));
        E::custom(refusal)
    }

    fn one_level_down<E: Error>(self) -> Result<Self, E> {
        let levels = self.levels.checked_sub(1).ok_or_else(|| self.refuse(Refusal::TooDeep))?;
        Ok(Self { levels, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.refuse(Refusal::BadJson))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let inner = self.one_level_down()?;
        let mut items = Vec::new();
        while let Some(item) = input.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let inner = self.one_level_down()?;
        let mut members = Map::new();
        while let Some(name) = input.next_key::<String>()? {
            let Entry::Vacant(place) = members.entry(name) else {
                return Err(self.refuse(Refusal::DuplicateMember));
            };
            place.insert(input.next_value_seed(inner)?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_twice_is_refused_at_any_depth_and_in_any_spelling() {
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"a":null}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[[{"a":1,"\u0061":2}]]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(object(twice.as_bytes()), Err(Refusal::DuplicateMember), "{twice}");
        }
        assert!(object(br#"{"a":1,"A":1,"x":{"a":1},"y":[{"a":1},{"a":1}]}"#).is_ok());
    }

    #[test]
    fn eight_levels_and_not_nine() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = |levels: usize| {
                format!(r#"{{"x":{}1{}}}"#, open.repeat(levels - 1), close.repeat(levels - 1)).into_bytes()
            };
            assert!(object(&nested(8)).is_ok());
            assert_eq!(object(&nested(9)), Err(Refusal::TooDeep));
            assert_eq!(object(&nested(10_000)), Err(Refusal::TooDeep));
        }
    }

    #[test]
    fn one_object_in_utf8_and_nothing_else() {
        for bad in
            ["", "1", "null", "[]", "\"a\"", "{}{}", "{} x", "{", "\u{feff}{}", r#"{"a":"\ud800"}"#, r#"{"a":1e999}"#]
        {
            assert_eq!(object(bad.as_bytes()), Err(Refusal::BadJson), "{bad}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(Refusal::NotUtf8));
        assert_eq!(object(b"\xff\xfe{\0}\0"), Err(Refusal::NotUtf8));
        assert!(object(b" {\t}\r\n").is_ok());
    }
}
