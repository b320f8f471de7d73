//! CEL source becomes a checked program.

use cel::{
    Context, ExecutionError, Value,
    common::{
        ast::IdedExpr,
        types::{CelBool, CelString},
        value::CowVal,
    },
    context::VariableResolver,
    parser::PrattParser,
};

use super::{
    Owner, RuleOutcome,
    budget::{self, Budget},
    check,
    facts::SERVICE,
    pattern::Pattern,
    place, shape,
    used::Used,
};

/// Longest expression, bytes.
pub const MAX_EXPRESSION: usize = 4096;

/// Why a rule cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{owner}: {message}")]
pub struct CompileError {
    /// Whose expression it is.
    pub owner: Owner,
    /// Line within the expression, from 1.
    pub line: Option<usize>,
    /// Column within that line in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong, with the remedy where one is known.
    pub message: String,
}

/// Brackets within brackets; the parser recurses.
const MAX_BRACKETS: u16 = 32;

/// One compiled expression.
#[derive(Debug)]
pub(super) struct Rule {
    expression: IdedExpr,
    own: Own,
    used: Used,
}

/// Variables of one rule.
#[derive(Debug)]
struct Own {
    service: Option<String>,
    patterns: Vec<(String, Pattern)>,
}

impl Own {
    fn is_used(&self, used: &Used) -> bool {
        used.has(SERVICE) || !self.patterns.is_empty()
    }
}

impl VariableResolver for Own {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match &self.service {
            Some(service) if variable == SERVICE => Some(CowVal::owned(CelString::from(service.as_str()))),
            Some(_) | None => {
                let (_, pattern) = self.patterns.iter().find(|(name, _)| name == variable)?;
                Some(CowVal::Borrowed(pattern))
            }
        }
    }
}

impl Rule {
    /// Parses and checks.
    ///
    /// # Errors
    /// Everything wrong with the expression.
    pub(super) fn compile(owner: &Owner, source: &str) -> Result<Self, Vec<CompileError>> {
        let error = |at: Option<(usize, usize)>, message: String| {
            let (line, column) = at.unzip();
            CompileError { owner: owner.clone(), line, column, message }
        };
        if source.len() > MAX_EXPRESSION {
            let message = format!("the expression has {} bytes; at most {MAX_EXPRESSION} are allowed", source.len());
            return Err(vec![error(None, message)]);
        }
        if source.trim().is_empty() {
            return Err(vec![error(
                None,
                "the expression is empty; `true` says yes to every verified token".to_owned(),
            )]);
        }
        // `Env::compile` has a parser whose recursion overflows the stack on fifteen brackets or on `1+1+1…`.
        let parser = PrattParser::default().max_recursion_depth(MAX_BRACKETS).enable_optional_syntax(true);
        let mut expression = parser.parse(source).map_err(|errors| {
            let found = errors.errors.into_iter().map(|found| {
                let at = usize::try_from(found.pos.0).ok().zip(usize::try_from(found.pos.1).ok());
                error(at.filter(|(line, _)| *line > 0), first_line(&found.msg))
            });
            found.collect::<Vec<_>>()
        })?;
        if shape::depth(&expression) > shape::MAX_DEPTH {
            let message = format!("nested deeper than {} levels; use a list and `in`, or split it", shape::MAX_DEPTH);
            return Err(vec![error(None, message)]);
        }
        let service = match owner {
            Owner::Service(name) => Some(name.clone()),
            Owner::Deny(_) => None,
        };
        let patterns = check::check(&mut expression, service.is_some()).map_err(|findings| {
            let found = findings.into_iter();
            found.map(|f| error(place::find(source, &f.place), f.message)).collect::<Vec<_>>()
        })?;
        let patterns = patterns.into_iter().enumerate().map(|(index, p)| (check::pattern_name(index), p)).collect();
        let used = Used::of(&expression);
        Ok(Self { expression, own: Own { service, patterns }, used })
    }

    /// What it reads.
    pub(super) const fn used(&self) -> &Used {
        &self.used
    }

    /// Evaluates it; anything but `true` and `false` is an error.
    pub(super) fn run<'v>(&'v self, facts: &Context<'_, 'v>) -> RuleOutcome {
        let has_loops = self.used.has(budget::VARIABLE);
        if !has_loops && !self.own.is_used(&self.used) {
            return answer(Value::resolve_val(&self.expression, facts));
        }
        let mut scope = facts.new_inner_scope();
        scope.set_variable_resolver(&self.own);
        if has_loops {
            scope.add_variable_as_val(budget::VARIABLE, Box::new(Budget::default()));
        }
        answer(Value::resolve_val(&self.expression, &scope))
    }
}

fn answer(result: Result<CowVal<'_, '_>, ExecutionError>) -> RuleOutcome {
    match result {
        Ok(value) => match value.downcast_ref::<CelBool>() {
            Some(answer) if *answer.inner() => RuleOutcome::True,
            Some(_) => RuleOutcome::False,
            None => RuleOutcome::Error(format!("the answer is of type {}, not bool", value.get_type().name())),
        },
        Err(error) => RuleOutcome::Error(describe(&error)),
    }
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_start_matches("Syntax error: ").to_owned()
}

/// What an evaluation error means to the author of a rule, on one line.
fn describe(error: &ExecutionError) -> String {
    if let ExecutionError::NoSuchKey(name) = error {
        return format!("there is no `{name}`");
    }
    if let ExecutionError::FunctionError { function, message } = error {
        return format!("{function}: {}", first_line(message));
    }
    let ExecutionError::NoSuchOverload(overload) = error else {
        return first_line(&error.to_string());
    };
    let name = overload.function();
    let operator: String = name.chars().filter(|c| !matches!(c, '_' | '@')).collect();
    let shown = if name.starts_with(['_', '@', '!', '-']) { &operator } else { name };
    format!("`{shown}` does not apply to {}", overload.argument_types().join(" and "))
}
