//! What expressions may call: the CEL standard library, a few string functions, and `cidr`.

use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use cel::{
    Env, ExecutionError,
    common::{
        types::{CelBool, CelString, DYN_TYPE, STRING_TYPE},
        value::CowVal,
    },
};
use ipnet::{IpNet, Ipv4Net};

use super::{
    budget,
    pattern::{matches, pattern_type},
};

/// Functions called as `name(…)`.
pub(super) const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "cidr",
    "double",
    "duration",
    "dyn",
    "has",
    "int",
    "matches",
    "size",
    "string",
    "timestamp",
    "type",
    "uint",
];

/// Functions called as `value.name(…)`. What can build long strings (`replace`, `join`, `format`) is left out.
pub(super) const METHODS: &[&str] = &[
    "charAt",
    "contains",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "hasValue",
    "indexOf",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "or",
    "orValue",
    "size",
    "split",
    "startsWith",
    "substring",
    "trim",
    "upperAscii",
    "value",
];

/// Macros called as `list.name(variable, …)`. A call of that name that is still there after parsing is malformed.
pub(super) const MACROS: &[&str] = &["all", "exists", "existsOne", "exists_one", "filter", "map"];

/// Functions of the namespace `optional`.
pub(super) const OPTIONAL: &[&str] = &["none", "of", "ofNonZeroValue"];

/// Built once in a process: it costs more than an evaluation.
#[expect(clippy::expect_used, reason = "a fixed set of distinct names, built by every test of this module")]
pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(cel::extensions::strings).expect("nothing else registers string functions");
    env.add_overload("cidr", "cidr_string_string", vec![STRING_TYPE, STRING_TYPE], cidr).expect("one cidr function");
    env.add_overload("matches", "matches_pattern", vec![STRING_TYPE, pattern_type()], matches).expect("one such type");
    env.add_member_overload("matches", "string_matches_pattern", STRING_TYPE, vec![pattern_type()], matches)
        .expect("one such type");
    env.add_overload(budget::SPEND, "spend", vec![budget::budget_type(), DYN_TYPE], budget::spend)
        .expect("one such type");
    Arc::new(env)
});

/// Reads a prefix the way `cidr` does: `address/length` without host bits; IPv4-mapped IPv6 counts as IPv4.
///
/// # Errors
/// A sentence with the remedy.
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    let net: IpNet = match text.parse() {
        Ok(net) => net,
        Err(_) => {
            return Err(match text.parse::<IpAddr>() {
                Ok(address) => format!("\"{text}\" has no prefix length; write \"{}\"", IpNet::from(address)),
                Err(_) => format!("\"{text}\" is no prefix such as \"10.0.0.0/8\" or \"2001:db8::/32\""),
            });
        }
    };
    if net != net.trunc() {
        return Err(format!("\"{text}\" has host bits set; write \"{}\"", net.trunc()));
    }
    let IpNet::V6(v6) = net else { return Ok(net) };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    Ok(mapped.and_then(|(v4, length)| Ipv4Net::new(v4, length).ok()).map_or(net, IpNet::V4))
}

/// `cidr(address, prefix)`: whether the prefix contains the address. An address of the other family is not contained.
fn cidr<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [address, net] = texts("cidr", &args)?;
    let ip: IpAddr = address
        .parse()
        .map_err(|_not_an_address| ExecutionError::function_error("cidr", format!("\"{address}\" is no IP address")))?;
    let net = prefix(net).map_err(|message| ExecutionError::function_error("cidr", message))?;
    Ok(CowVal::owned(CelBool::from(net.contains(&ip.to_canonical()))))
}

fn texts<'a>(function: &str, args: &'a [CowVal<'_, '_>]) -> Result<[&'a str; 2], ExecutionError> {
    match args {
        [a, b] => match (a.downcast_ref::<CelString<'_>>(), b.downcast_ref::<CelString<'_>>()) {
            (Some(a), Some(b)) => Ok([a.inner(), b.inner()]),
            _ => Err(ExecutionError::function_error(function, "takes two strings")),
        },
        _ => Err(ExecutionError::invalid_argument_count(2, args.len())),
    }
}

#[cfg(test)]
mod tests {
    use cel::{
        Context, Value,
        common::ast::{CallExpr, Expr, IdedExpr, LiteralValue},
    };

    use super::*;

    /// A name that the environment lacks answers "undeclared"; one that it has complains about its arguments at most.
    #[test]
    fn every_listed_function_exists() {
        let call = |name: &str, target: Option<IdedExpr>| {
            let expr = Expr::Call(CallExpr { func_name: name.to_owned(), target: target.map(Box::new), args: vec![] });
            Value::resolve(&IdedExpr { id: 1, expr }, &Context::with_env(Arc::clone(&ENVIRONMENT)))
        };
        let undeclared = |name: &str| Err(ExecutionError::undeclared_reference(name));
        let receiver = || Some(IdedExpr { id: 2, expr: Expr::Literal(LiteralValue::Int(1.into())) });
        for name in FUNCTIONS.iter().filter(|name| **name != "has") {
            assert_ne!(call(name, None), undeclared(name), "{name}");
        }
        for name in METHODS {
            assert_ne!(call(name, receiver()), undeclared(name), "{name}");
        }
        for name in OPTIONAL {
            let name = format!("optional.{name}");
            assert_ne!(call(&name, None), undeclared(&name), "{name}");
        }
        assert_eq!(call("nothing", None), undeclared("nothing"));
        assert_eq!(call("nothing", receiver()), undeclared("nothing"));
    }

    #[test]
    fn prefixes_are_strict_and_mapped_ones_are_v4() {
        for (text, net) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(prefix(text), Ok(net.parse().unwrap()), "{text}");
        }
        for (text, remedy) in [
            ("10.1.2.3/8", "\"10.0.0.0/8\""),
            ("10.0.0.1", "\"10.0.0.1/32\""),
            ("2001:db8::1", "\"2001:db8::1/128\""),
            ("10.0.0.0/33", "is no prefix"),
            ("", "is no prefix"),
        ] {
            assert!(prefix(text).unwrap_err().contains(remedy), "{text}: {:?}", prefix(text));
        }
    }
}
