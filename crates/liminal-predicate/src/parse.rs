//! From text to predicate: a descent over the characters, because what a character begins depends on where it stands
//! (`0` is a name in a path and a number behind `==`).

use std::str::FromStr;

use serde::de::IgnoredAny;

use super::{
    DEPTH, Expr, InvalidPredicate, LIST_VALUES, Literal, Name, Number, Op, PATH_NAMES, Path, Predicate, TESTS,
    TEXT_BYTES, Test,
    text::{is_bare, may_begin},
};

type Parsed<T> = Result<T, InvalidPredicate>;

const OPERATORS: [(&str, Op); 6] =
    [("==", Op::Eq), ("!=", Op::Ne), ("<=", Op::Le), (">=", Op::Ge), ("<", Op::Lt), (">", Op::Gt)];
/// Characters of the text that an error shows.
const SHOWN: usize = 24;

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    tests: usize,
}

impl FromStr for Predicate {
    type Err = InvalidPredicate;

    fn from_str(text: &str) -> Parsed<Self> {
        let fits = |bytes: usize| {
            let reason = format!("the predicate has {bytes} bytes; the limit is {TEXT_BYTES}: split it up");
            if bytes <= TEXT_BYTES { Ok(()) } else { Err(InvalidPredicate { column: 1, reason }) }
        };
        fits(text.len())?;
        let mut parser = Parser { text, at: 0, depth: 0, tests: 0 };
        let root = parser.or()?;
        if !parser.rest().is_empty() {
            return Err(parser.expected("`and`, `or` or the end", r#"a == 1 and b == "x""#));
        }
        let predicate = Self { root };
        // Whoever keeps the canonical text has to be able to read it again.
        fits(predicate.to_string().len())?;
        Ok(predicate)
    }
}

impl<'t> Parser<'t> {
    fn or(&mut self) -> Parsed<Expr> {
        let mut parts = vec![self.and()?];
        while self.keyword("or") {
            parts.push(self.and()?);
        }
        Ok(joined(parts, Expr::Or, |part| match part {
            Expr::Or(inner) => Ok(inner),
            other => Err(other),
        }))
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut parts = vec![self.unary()?];
        while self.keyword("and") {
            parts.push(self.unary()?);
        }
        Ok(joined(parts, Expr::And, |part| match part {
            Expr::And(inner) => Ok(inner),
            other => Err(other),
        }))
    }

    fn unary(&mut self) -> Parsed<Expr> {
        if self.keyword("not") {
            return self.deeper(|parser| Ok(Expr::Not(Box::new(parser.unary()?))));
        }
        if self.symbol("(") {
            let inner = self.deeper(Self::or)?;
            self.require(")", "`and`, `or` or `)`", "(a == 1 or b == 2) and c == 3")?;
            return Ok(inner);
        }
        self.test()
    }

    fn deeper(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<Expr>) -> Parsed<Expr> {
        if self.depth == DEPTH {
            return Err(self.error(format!("more than {DEPTH} parentheses and `not`s stand within each other")));
        }
        self.depth += 1;
        let expr = inner(self);
        self.depth -= 1;
        expr
    }

    fn test(&mut self) -> Parsed<Expr> {
        self.tests += 1;
        if self.tests > TESTS {
            return Err(self.error(format!("the limit is {TESTS} comparisons: use `in [...]` for many values")));
        }
        if self.keyword("exists") {
            let example = "exists(pull_request.title)";
            self.require("(", "`(`", example)?;
            let path = self.path()?;
            self.require(")", "`)`", example)?;
            return Ok(Expr::Test(path, Test::Exists));
        }
        let path = self.path()?;
        self.skip_space();
        let test = if let Some((symbol, op)) = OPERATORS.iter().find(|(symbol, _)| self.rest().starts_with(symbol)) {
            self.at += symbol.len();
            self.skip_space();
            let at = self.at;
            let value = self.value()?;
            if !matches!(op, Op::Eq | Op::Ne) && !value.has_order() {
                self.at = at;
                return Err(self.expected("a number or a string, which have an order", "amount > 10"));
            }
            Test::Compare(*op, value)
        } else if self.keyword("in") {
            self.list()?
        } else if self.keyword("between") {
            self.range()?
        } else if self.keyword("starts") {
            let example = r#"title starts with "Fix""#;
            if !self.keyword("with") {
                return Err(self.expected("`with`", example));
            }
            self.skip_space();
            if !self.rest().starts_with('"') {
                return Err(self.expected("a string in double quotes", example));
            }
            Test::StartsWith(self.string()?)
        } else {
            let what = "a comparison (==, !=, <, <=, >, >=, in, between, starts with)";
            return Err(self.expected(what, "amount >= 10"));
        };
        Ok(Expr::Test(path, test))
    }

    fn list(&mut self) -> Parsed<Test> {
        let example = r#"type in ["push", "merge"]"#;
        self.require("[", "`[`", example)?;
        let mut values = vec![self.value()?];
        while self.symbol(",") {
            if values.len() == LIST_VALUES {
                return Err(self.error(format!("the limit of a list is {LIST_VALUES} values: join lists with `or`")));
            }
            values.push(self.value()?);
        }
        self.require("]", "`,` or `]`", example)?;
        Ok(Test::In(values))
    }

    fn range(&mut self) -> Parsed<Test> {
        let example = "amount between 1 and 10";
        self.skip_space();
        let at = self.at;
        let low = self.value()?;
        if !self.keyword("and") {
            return Err(self.expected("`and`", example));
        }
        let high = self.value()?;
        let reversed = match (&low, &high) {
            (Literal::Number(low), Literal::Number(high)) => low.is_above(high),
            _ => low.compare(&high).is_none_or(std::cmp::Ordering::is_gt),
        };
        if reversed || !low.has_order() {
            self.at = at;
            return Err(self.expected("two numbers or two strings, the lower one first", example));
        }
        Ok(Test::Between(low, high))
    }

    fn path(&mut self) -> Parsed<Path> {
        let example = "pull_request.labels.0.name";
        self.skip_space();
        if self.rest().starts_with('$') {
            let word = self.rest()[1..].split(|c| !is_bare(c)).next().unwrap_or_default();
            let after = self.at + 1 + word.len();
            let dotted = self.text[after..].starts_with('.');
            match word {
                "key" => self.at = after,
                "headers" if dotted => self.at = after + 1,
                "payload" => self.at = after,
                _ => return Err(self.expected("$key, $headers.NAME or $payload", "$headers.content-type")),
            }
            return match word {
                "key" => Ok(Path::Key),
                "headers" => self.name().map(|name| Path::Header(name.text)),
                _ => self.names(Vec::new()).map(Path::Payload),
            };
        }
        let begins = self.rest().starts_with('"') || may_begin(self.word());
        if !begins {
            let what =
                "a path (a word of the language, or a name that is not of letters, digits, _ and -, in \"quotes\")";
            return Err(self.expected(what, example));
        }
        let first = self.name()?;
        self.names(vec![first]).map(Path::Payload)
    }

    /// The names that follow, each behind a dot.
    fn names(&mut self, mut names: Vec<Name>) -> Parsed<Vec<Name>> {
        while self.rest().starts_with('.') {
            if names.len() == PATH_NAMES {
                return Err(self.error(format!("the limit of a path is {PATH_NAMES} names")));
            }
            self.at += 1;
            names.push(self.name()?);
        }
        Ok(names)
    }

    fn name(&mut self) -> Parsed<Name> {
        if self.rest().starts_with('"') {
            return self.string().map(Name::new);
        }
        let word = self.word();
        if word.is_empty() {
            return Err(self.expected("a name, an index or a name in double quotes", r#"labels.0."odd name""#));
        }
        self.at += word.len();
        Ok(Name::new(word.to_owned()))
    }

    fn value(&mut self) -> Parsed<Literal> {
        self.skip_space();
        let example = r#"type == "push""#;
        let what = "a value: a string in double quotes, a number, true, false or null";
        let literal = match (self.rest().chars().next(), self.word()) {
            (Some('"'), _) => return self.string().map(Literal::Text),
            (Some('-' | '0'..='9'), _) => return self.number().map(Literal::Number),
            (_, "true") => Literal::Bool(true),
            (_, "false") => Literal::Bool(false),
            (_, "null") => Literal::Null,
            _ => return Err(self.expected(what, example)),
        };
        self.at += self.word().len();
        Ok(literal)
    }

    fn number(&mut self) -> Parsed<Number> {
        let rest = self.rest();
        let end = rest.find(|c: char| !is_bare(c) && c != '.' && c != '+').unwrap_or(rest.len());
        let text = &rest[..end];
        // Nothing else in JSON begins like a number.
        let number = serde_json::from_str::<IgnoredAny>(text).ok().and_then(|_| Number::of(text));
        let number = number.ok_or_else(|| self.expected("a number that JSON has and a double holds", "-12.5e3"))?;
        self.at += end;
        Ok(number)
    }

    fn string(&mut self) -> Parsed<String> {
        let mut escaped = false;
        let end = self.rest().char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else {
            return Err(self.expected("a string that ends with a double quote", r#"type == "push""#));
        };
        let text = serde_json::from_str(&self.rest()[..=end]).ok();
        let text = text.ok_or_else(|| self.expected("a string as JSON has it", r#"title == "say \"hi\"\n""#))?;
        self.at += end + 1;
        Ok(text)
    }

    /// Takes a word if it comes next.
    fn keyword(&mut self, word: &str) -> bool {
        self.skip_space();
        let comes = self.word() == word;
        if comes {
            self.at += word.len();
        }
        comes
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.skip_space();
        let comes = self.rest().starts_with(symbol);
        if comes {
            self.at += symbol.len();
        }
        comes
    }

    fn require(&mut self, symbol: &str, what: &str, example: &str) -> Parsed<()> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.expected(what, example)) }
    }

    /// The characters from here on that can stand in a name without quotes.
    fn word(&self) -> &'t str {
        let rest = self.rest();
        &rest[..rest.find(|c| !is_bare(c)).unwrap_or(rest.len())]
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn expected(&self, what: &str, example: &str) -> InvalidPredicate {
        let found = match (self.rest(), self.word()) {
            ("", _) => "the end".to_owned(),
            (rest, "") => quoted(rest.split_ascii_whitespace().next().unwrap_or_default()),
            (_, word) => quoted(word),
        };
        self.error(format!("expected {what}, found {found}; for example `{example}`"))
    }

    fn error(&self, reason: String) -> InvalidPredicate {
        InvalidPredicate { column: self.text[..self.at].chars().count() + 1, reason }
    }
}

fn quoted(text: &str) -> String {
    format!("`{}`", text.chars().take(SHOWN).collect::<String>())
}

/// One expression of all parts; those of the same kind are taken apart.
fn joined(parts: Vec<Expr>, kind: fn(Vec<Expr>) -> Expr, open: fn(Expr) -> Result<Vec<Expr>, Expr>) -> Expr {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match open(part) {
            Ok(inner) => flat.extend(inner),
            Err(part) => flat.push(part),
        }
    }
    if flat.len() > 1 { kind(flat) } else { flat.swap_remove(0) }
}
