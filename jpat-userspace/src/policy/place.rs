//! Where in an expression something stands. The parser keeps no positions, so that the words are looked up again.

use cel::parser::pratt_parser::{Lexer, TokenKind};

/// A word of an expression, as the syntax tree knows it.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// An identifier that is no member.
    Variable(String),
    /// What stands after a dot.
    Member(String),
    /// What stands before a bracket.
    Call(String),
    /// A string in quotes.
    Text(String),
    /// Everything.
    Whole,
}

/// Line and column (characters) of its first occurrence, both from 1.
pub(super) fn find(source: &str, place: &Place) -> Option<(usize, usize)> {
    let words = words(source);
    let text = |at: usize| words.get(at).map_or("", |word| word.text);
    let is = |at: usize, name: &str| words[at].kind == TokenKind::TokIdent && words[at].text == name;
    let after_dot =
        |at: usize| at > 0 && (text(at - 1) == "." || (text(at - 1) == "?" && at > 1 && text(at - 2) == "."));
    let found = (0..words.len()).find(|at| match place {
        Place::Variable(name) => is(*at, name) && !after_dot(*at) && text(*at + 1) != "(",
        Place::Member(name) => is(*at, name) && after_dot(*at),
        Place::Call(name) => is(*at, name) && matches!(text(*at + 1), "(" | "{"),
        Place::Text(value) => words[*at].kind == TokenKind::TokString && plain(words[*at].text).contains(&plain(value)),
        Place::Whole => true,
    })?;
    let before = source.get(..words[found].start)?;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Some((before.matches('\n').count() + 1, column))
}

/// The same for a string and for how it is escaped, near enough to find it.
fn plain(text: &str) -> String {
    text.replace('\\', "")
}

struct Word<'a> {
    kind: TokenKind,
    text: &'a str,
    start: usize,
}

fn words(source: &str) -> Vec<Word<'_>> {
    let mut lexer = Lexer::new(source);
    let tokens = std::iter::from_fn(|| Some(lexer.lex()).filter(|token| token.kind != TokenKind::TokEnd));
    tokens
        .take(source.len())
        .filter(|token| !matches!(token.kind, TokenKind::TokWhitespace | TokenKind::TokComment))
        .filter_map(|token| {
            Some(Word { kind: token.kind, text: source.get(token.start..token.end)?, start: token.start })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_by_what_stands_around_them() {
        let source = "// x.y\n'x' == \"ü\" && a.x.?y(x(1)) ||\n x";
        assert_eq!(find(source, &Place::Variable("x".into())), Some((3, 2)));
        assert_eq!(find(source, &Place::Member("x".into())), Some((2, 17)));
        assert_eq!(find(source, &Place::Member("y".into())), Some((2, 20)));
        assert_eq!(find(source, &Place::Call("x".into())), Some((2, 22)));
        assert_eq!(find(source, &Place::Text("ü".into())), Some((2, 8)));
        assert_eq!(find(source, &Place::Whole), Some((2, 1)));
        assert_eq!(find(source, &Place::Call("z".into())), None);
        assert_eq!(find("'open", &Place::Variable("open".into())), None);
    }
}
