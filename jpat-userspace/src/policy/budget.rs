//! How much one rule may loop. CEL has no limit of its own, and the lists are the sender's: two loops within each other over the
//! most that a datagram can carry would keep a worker busy for a fifth of a second.

use std::{
    any::Any,
    sync::atomic::{AtomicI64, Ordering},
};

use cel::{
    ExecutionError,
    common::{
        ast::{CallExpr, Expr, IdedExpr},
        types::{CelInt, Type},
        value::{CowVal, StaticVal, Val},
    },
};

/// Elements that all loops of one evaluation may visit together: about a millisecond.
pub(super) const ELEMENTS: i64 = 1024;

/// The function that takes a loop's elements off the budget; nobody can write its name, nor that of the variable.
pub(super) const SPEND: &str = "@spend";
/// The variable that holds the budget of an evaluation.
pub(super) const VARIABLE: &str = "@budget";

static BUDGET: Type = budget_type();

/// The type of a [`Budget`], for signatures.
pub(super) const fn budget_type() -> Type {
    Type::new_unspecified_type("budget")
}

/// What is left, for one evaluation.
#[derive(Debug)]
pub(super) struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(ELEMENTS))
    }
}

impl Val for Budget {
    fn get_type(&self) -> &Type {
        &BUDGET
    }

    fn cel_type() -> &'static Type {
        &BUDGET
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(Self(AtomicI64::new(self.0.load(Ordering::Relaxed))))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Budget {}

/// Makes a loop over `range` pay for it.
pub(super) fn meter(range: &mut IdedExpr) {
    let budget = IdedExpr { id: range.id, expr: Expr::Ident(VARIABLE.to_owned()) };
    let (id, inner) = (range.id, std::mem::take(range));
    let call = CallExpr { func_name: SPEND.to_owned(), target: None, args: vec![budget, inner] };
    *range = IdedExpr { id, expr: Expr::Call(call) };
}

/// `@spend(budget, range)`: the range, once it is paid for. An empty one costs an element too, for its evaluation.
pub(super) fn spend<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (Some(range), Some(budget)) = (args.pop(), args.pop()) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let size = range.as_sizer().map_or_else(CelInt::default, |sizer| sizer.size());
    let cost = (*size.inner()).max(1);
    let left = budget.downcast_ref::<Budget>().map(|budget| budget.0.fetch_sub(cost, Ordering::Relaxed));
    match left {
        Some(left) if left >= cost => Ok(range),
        Some(_) | None => {
            Err(ExecutionError::function_error("loops", format!("they visit more than {ELEMENTS} elements")))
        }
    }
}
