//! Regular expressions of `matches`, compiled with their rule, so that no knock pays for it.

use std::any::Any;

use cel::{
    ExecutionError,
    common::{
        types::{CelBool, CelString, Type},
        value::{CowVal, StaticVal, Val},
    },
};

static PATTERN: Type = pattern_type();

/// The type of a [`Pattern`], for signatures.
pub(super) const fn pattern_type() -> Type {
    Type::new_unspecified_type("pattern")
}

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub(super) struct Pattern(regex::Regex);

/// Bounds the memory of one compiled pattern, and with it the time of a match.
const PATTERN_BYTES: usize = 256 * 1024;

impl Pattern {
    /// # Errors
    /// What is wrong with the pattern, on one line.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        regex::RegexBuilder::new(source).size_limit(PATTERN_BYTES).build().map(Self).map_err(|error| {
            if let regex::Error::CompiledTooBig(_) = error {
                return "the pattern is too large; use fewer or smaller repetitions".to_owned();
            }
            let text = error.to_string();
            format!("invalid pattern: {}", text.lines().last().unwrap_or_default().trim_start_matches("error: "))
        })
    }
}

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN
    }

    fn cel_type() -> &'static Type {
        &PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// `text.matches(pattern)`.
pub(super) fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [text, pattern] = args.as_slice() else {
        return Err(ExecutionError::invalid_argument_count(2, args.len()));
    };
    match (text.downcast_ref::<CelString<'_>>(), pattern.downcast_ref::<Pattern>()) {
        (Some(text), Some(pattern)) => Ok(CowVal::owned(CelBool::from(pattern.0.is_match(text.inner())))),
        _ => Err(ExecutionError::function_error("matches", "takes a string and a pattern")),
    }
}
