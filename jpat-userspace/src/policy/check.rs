//! What a parsed expression must not do: name what does not exist, nest loops, or bring a pattern that is not fixed.

use cel::{
    Env,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators},
};

use super::{
    budget,
    environment::{ENVIRONMENT, FUNCTIONS, MACROS, METHODS, OPTIONAL, prefix},
    facts::{MEMBERS, SERVICE, VARIABLES},
    pattern::Pattern,
    place::Place,
    suggest::unknown_function,
};

/// Loops within loops.
const MAX_LOOPS: usize = 2;

/// What is wrong, and where.
pub(super) struct Finding {
    pub(super) place: Place,
    pub(super) message: String,
}

/// Checks an expression, and moves the patterns of `matches` out of it into variables of [`pattern_name`].
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn check(root: &mut IdedExpr, in_service: bool) -> Result<Vec<Pattern>, Vec<Finding>> {
    let mut checker =
        Checker { env: &ENVIRONMENT, in_service, bound: vec![], loops: 0, patterns: vec![], findings: vec![] };
    checker.result(root);
    checker.visit(root);
    if checker.findings.is_empty() { Ok(checker.patterns) } else { Err(checker.findings) }
}

/// Name of the variable that holds a pattern; nobody can write it.
pub(super) fn pattern_name(index: usize) -> String {
    format!("@pattern{index}")
}

struct Checker {
    env: &'static Env,
    in_service: bool,
    /// Variables of the macros around.
    bound: Vec<String>,
    loops: usize,
    patterns: Vec<Pattern>,
    findings: Vec<Finding>,
}

impl Checker {
    fn find(&mut self, place: Place, message: impl Into<String>) {
        self.findings.push(Finding { place, message: message.into() });
    }

    /// A rule says yes or no; what visibly says something else is an error that need not wait for a knock.
    fn result(&mut self, root: &IdedExpr) {
        let what = match &root.expr {
            Expr::Literal(LiteralValue::Boolean(_)) => return,
            Expr::Literal(_) => "a constant",
            Expr::List(_) => "a list",
            Expr::Map(_) | Expr::Struct(_) => "a map",
            Expr::Call(_) | Expr::Comprehension(_) | Expr::Ident(_) | Expr::Select(_) | Expr::Unspecified => return,
        };
        self.find(Place::Whole, format!("a rule must be true or false, and this is {what}"));
    }

    fn visit(&mut self, node: &mut IdedExpr) {
        match &mut node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) => list.elements.iter_mut().for_each(|element| self.visit(element)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    match &mut entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            self.visit(&mut entry.key);
                            self.visit(&mut entry.value);
                        }
                        EntryExpr::StructField(field) => self.visit(&mut field.value),
                    }
                }
            }
            Expr::Struct(message) => {
                let name = message.type_name.clone();
                self.find(Place::Call(name.clone()), format!("unknown message type `{name}`"));
            }
        }
    }

    fn variable(&mut self, name: &str) {
        let known = name.starts_with('@')
            || VARIABLES.contains(&name)
            || (self.in_service && name == SERVICE)
            || self.bound.iter().any(|bound| bound == name)
            || self.env.types().find_type(name).is_some();
        if known {
            return;
        }
        if name == SERVICE {
            return self.find(
                Place::Variable(name.to_owned()),
                "`service` is unknown here: a deny rule is judged before any service",
            );
        }
        let mut names = VARIABLES.to_vec();
        if self.in_service {
            names.push(SERVICE);
        }
        self.find(Place::Variable(name.to_owned()), format!("unknown variable `{name}`; known: {}", names.join(", ")));
    }

    fn select(&mut self, select: &mut SelectExpr) {
        if let Expr::Ident(variable) = &select.operand.expr
            && !self.bound.contains(variable)
            && let Some((_, members)) = MEMBERS.iter().find(|(name, _)| name == variable)
            && !members.contains(&select.field.as_str())
        {
            let message = format!("`{variable}` has no `{}`; it has: {}", select.field, members.join(", "));
            self.find(Place::Member(select.field.clone()), message);
        }
        self.visit(&mut select.operand);
    }

    fn call(&mut self, call: &mut CallExpr) {
        let name = call.func_name.clone();
        match &mut call.target {
            _ if is_operator(&name) => {}
            Some(target) if matches!(&target.expr, Expr::Ident(space) if space == "optional") => {
                if !OPTIONAL.contains(&name.as_str()) {
                    self.find(Place::Call(name.clone()), unknown_function(&name, OPTIONAL));
                }
                call.args.iter_mut().for_each(|arg| self.visit(arg));
                return;
            }
            Some(_) if MACROS.contains(&name.as_str()) => {
                self.find(
                    Place::Call(name.clone()),
                    format!("`{name}` takes a variable and a condition: list.{name}(x, x == \"a\")"),
                );
            }
            Some(_) if !METHODS.contains(&name.as_str()) => {
                self.find(Place::Call(name.clone()), unknown_function(&name, METHODS))
            }
            None if !FUNCTIONS.contains(&name.as_str()) => {
                self.find(Place::Call(name.clone()), unknown_function(&name, FUNCTIONS))
            }
            Some(_) | None => {}
        }
        match name.as_str() {
            "matches" => self.pattern(call),
            "cidr" => self.cidr(call),
            _ => {}
        }
        if let Some(target) = &mut call.target {
            self.visit(target);
        }
        call.args.iter_mut().for_each(|arg| self.visit(arg));
    }

    fn pattern(&mut self, call: &mut CallExpr) {
        let Some(arg) = call.args.last_mut() else { return };
        let Expr::Literal(LiteralValue::String(source)) = &arg.expr else {
            return self.find(
                Place::Call("matches".to_owned()),
                "`matches` needs a pattern in quotes: it is compiled once, when the rules are read",
            );
        };
        match Pattern::new(source.inner()) {
            Ok(pattern) => {
                arg.expr = Expr::Ident(pattern_name(self.patterns.len()));
                self.patterns.push(pattern);
            }
            Err(message) => {
                let place = Place::Text(source.inner().to_owned());
                self.find(place, message);
            }
        }
    }

    fn cidr(&mut self, call: &CallExpr) {
        if let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(text)), .. }) = call.args.get(1)
            && let Err(message) = prefix(text.inner())
        {
            self.find(Place::Text(text.inner().to_owned()), format!("cidr: {message}"));
        }
    }

    fn comprehension(&mut self, comprehension: &mut ComprehensionExpr) {
        // The range is evaluated once, before the loop.
        self.visit(&mut comprehension.iter_range);
        budget::meter(&mut comprehension.iter_range);
        self.visit(&mut comprehension.accu_init);
        if self.loops == MAX_LOOPS {
            return self.find(
                Place::Variable(comprehension.iter_var.clone()),
                format!("more than {MAX_LOOPS} of all, exists, filter and map within each other"),
            );
        }
        let outside = self.bound.len();
        self.bound.push(comprehension.iter_var.clone());
        self.bound.extend(comprehension.iter_var2.clone());
        self.bound.push(comprehension.accu_var.clone());
        self.loops += 1;
        self.visit(&mut comprehension.loop_cond);
        self.visit(&mut comprehension.loop_step);
        self.loops -= 1;
        self.visit(&mut comprehension.result);
        self.bound.truncate(outside);
    }
}

fn is_operator(name: &str) -> bool {
    use operators as o;
    [
        o::CONDITIONAL,
        o::LOGICAL_AND,
        o::LOGICAL_OR,
        o::LOGICAL_NOT,
        o::SUBSTRACT,
        o::ADD,
        o::MULTIPLY,
        o::DIVIDE,
        o::MODULO,
        o::EQUALS,
        o::NOT_EQUALS,
        o::GREATER_EQUALS,
        o::LESS_EQUALS,
        o::GREATER,
        o::LESS,
        o::NEGATE,
        o::INDEX,
        o::OPT_INDEX,
        o::OPT_SELECT,
        o::NOT_STRICTLY_FALSE,
        o::IN,
    ]
    .contains(&name)
}
