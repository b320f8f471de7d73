//! What rules read of a token and its knock, so that nothing else is brought into their form for each knock.

use std::collections::BTreeSet;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr};

use super::{facts::CLAIMS, shape::children};

/// `container[key]`.
const INDEX: &str = "_[_]";

/// Variables, and members of `claims`. More than is read does no harm.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Used {
    variables: BTreeSet<String>,
    claims: BTreeSet<String>,
    /// `claims` is read as a whole.
    all_claims: bool,
}

impl Used {
    /// What an expression reads, found without recursion.
    pub(super) fn of(root: &IdedExpr) -> Self {
        let mut used = Self::default();
        let mut open = vec![root];
        while let Some(node) = open.pop() {
            if let Some(member) = member_of_claims(&node.expr) {
                used.variables.insert(CLAIMS.to_owned());
                used.claims.insert(member.to_owned());
                continue;
            }
            if let Expr::Ident(name) = &node.expr {
                // An absolute name begins with a dot.
                let name = name.trim_start_matches('.');
                used.variables.insert(name.to_owned());
                used.all_claims |= name == CLAIMS;
            }
            open.extend(children(node));
        }
        used
    }

    /// What the one or the other reads.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.variables.extend(other.variables.iter().cloned());
        self.claims.extend(other.claims.iter().cloned());
        self.all_claims |= other.all_claims;
        self
    }

    pub(super) fn has(&self, variable: &str) -> bool {
        self.variables.contains(variable)
    }

    pub(super) fn has_claim(&self, name: &str) -> bool {
        self.all_claims || self.claims.contains(name)
    }
}

/// `claims.name`, `has(claims.name)`, `claims["name"]`.
fn member_of_claims(node: &Expr) -> Option<&str> {
    let is_claims = |operand: &IdedExpr| matches!(&operand.expr, Expr::Ident(name) if name == CLAIMS);
    if let Expr::Select(SelectExpr { operand, field, .. }) = node {
        return is_claims(operand).then_some(field);
    }
    let Expr::Call(CallExpr { func_name, target: None, args }) = node else { return None };
    match &args[..] {
        [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(key)), .. }]
            if func_name == INDEX && is_claims(operand) =>
        {
            Some(key.inner())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use cel::parser::PrattParser;

    use super::*;

    fn used(source: &str) -> Used {
        Used::of(&PrattParser::default().enable_optional_syntax(true).parse(source).unwrap())
    }

    #[test]
    fn members_of_claims_are_found_wherever_they_stand() {
        for (source, members, all) in [
            ("claims.sub == 'a'", &["sub"][..], false),
            ("has(claims.a.b) || .claims.c == 1", &["a"], true),
            ("claims['https://x/y'] == claims.b.c", &["b", "https://x/y"], false),
            ("claims[claims.k] == 1", &["k"], true),
            ("claims[?'a'].hasValue()", &[], true),
            ("claims.?a.hasValue()", &[], true),
            ("'a' in claims", &[], true),
            ("claims.exists(name, name == 'x')", &[], true),
            ("[1].exists(x, claims.l[x] == {'a': claims.m}.a)", &["l", "m"], false),
            ("source == '::1'", &[], false),
        ] {
            let used = used(source);
            assert_eq!(used.claims.iter().map(String::as_str).collect::<Vec<_>>(), members, "{source}");
            assert_eq!(used.all_claims, all, "{source}");
            assert_eq!(used.has(CLAIMS), all || !members.is_empty(), "{source}");
            assert_eq!(used.has("source"), source.starts_with("source"), "{source}");
        }
    }

    #[test]
    fn of_two_rules_all_is_used() {
        let both = used("claims.a").and(&used("header.kid == claims.b"));
        assert!(both.has("header") && both.has_claim("a") && both.has_claim("b") && !both.has_claim("c"));
        assert!(both.and(&used("size(claims) == 1")).has_claim("c"));
    }
}
