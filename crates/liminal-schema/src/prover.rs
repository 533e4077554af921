//! The proof: that a value of which facts are known fits a schema, or that there is no such value.
//!
//! A recursive schema makes the proof come back to what it is proving. That is allowed, and settled, once it has gone
//! down into the value on the way: a smallest value that broke the claim would contain a smaller one. Coming back
//! without going down proves nothing.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use jsonschema::{PatternOptions, Validator};
use serde_json::{Value, json};

use super::{
    Incompatibility,
    document::Node,
    facts::{self, Facts, Key},
};

/// Steps of one proof: real schemas of twenty large branches need half of them.
pub(super) const STEPS: usize = 60_000;
/// How deep the proof may nest: it runs on a thread's stack.
const DEPTH: usize = 96;
/// Branches of a schema that are looked at one by one.
const BRANCHES: usize = 256;
/// Values of an `enum` that are looked at one by one.
const VALUES: usize = 1000;
/// What a value does not fit is used together up to this many: the proof tries them in every order.
const TOGETHER: usize = 4;
/// Bytes of a compiled regular expression.
const PATTERN_BYTES: usize = 1 << 20;

/// No place is called like this: pointers begin with a slash.
const BRIEF: &str = "brief";

/// Facts and the address of a schema.
type Claim = (Key, usize);
pub(super) type Places = Vec<Incompatibility>;

pub(super) struct Prover<'a> {
    /// What the schema that gives the facts is called, and the one that has to take the values.
    pub(super) narrow: &'static str,
    pub(super) wide: &'static str,
    pub(super) steps: usize,
    depth: usize,
    /// How far down in the value the proof is.
    level: usize,
    /// Claims being proved, and the level at which each was made.
    open: HashMap<Claim, usize>,
    /// How often an open claim was relied on.
    relied: usize,
    /// How often the proof came to a circle or a limit: elsewhere it might get further.
    stopped: usize,
    proved: HashSet<Claim>,
    /// What could not be proved and why, and the place that the reasons are given for.
    failed: HashMap<Claim, (String, Places)>,
    /// One reason is enough.
    pub(super) brief: bool,
    /// Of which facts it is known whether they leave no value.
    emptiness: HashMap<Key, bool>,
    patterns: HashMap<&'a str, Option<Validator>>,
}

impl<'a> Prover<'a> {
    pub(super) fn new([narrow, wide]: [&'static str; 2]) -> Self {
        Self {
            narrow,
            wide,
            steps: 0,
            depth: 0,
            level: 0,
            open: HashMap::new(),
            relied: 0,
            stopped: 0,
            proved: HashSet::new(),
            failed: HashMap::new(),
            brief: false,
            emptiness: HashMap::new(),
            patterns: HashMap::new(),
        }
    }

    pub(super) fn run(mut self, narrow: Node<'a>, wide: Node<'a>) -> Places {
        if narrow.document.mixed || wide.document.mixed {
            return undecided("", "a part of a schema is of another draft than the whole".into());
        }
        let places = self.prove(&Facts::of(narrow), wide, "");
        if self.steps >= STEPS && !places.is_empty() {
            return undecided("", format!("the comparison takes more than {STEPS} steps"));
        }
        places
    }

    /// Why the value may not fit the schema; nothing when it is proved that it does.
    pub(super) fn prove(&mut self, facts: &Facts<'a>, node: Node<'a>, at: &str) -> Places {
        if node.value == &Value::Bool(true) {
            return Vec::new();
        }
        if self.steps >= STEPS || self.depth >= DEPTH {
            self.stopped += 1;
            return undecided(at, format!("the schemas nest deeper than {DEPTH} levels, or are too large to compare"));
        }
        self.steps += 1 + facts.weight();
        if facts.never {
            return Vec::new();
        }
        let claim = (facts.key(), node.address());
        if self.proved.contains(&claim) || self.fits_as_it_is(facts, node) {
            return Vec::new();
        }
        if let Some((_, places)) = self.failed.get(&claim).filter(|(place, _)| self.brief || place == at) {
            return places.clone();
        }
        let open = self.open.get(&claim).copied();
        if open.is_some_and(|level| level < self.level) {
            self.relied += 1;
            return Vec::new();
        }
        // Opened on the way already, a circle ends at the reference that closes it.
        if open.is_none() {
            self.open.insert(claim.clone(), self.level);
        }
        let (relied, stopped) = (self.relied, self.stopped);
        self.depth += 1;
        let places = self.prove_keywords(facts, node, at);
        self.depth -= 1;
        if open.is_none() {
            self.open.remove(&claim);
        }
        if !places.is_empty() && stopped == self.stopped {
            // What is found in brief is not all, and stands for no place.
            let at = if self.brief { BRIEF } else { at };
            self.failed.insert(claim, (at.to_owned(), places.clone()));
        } else if places.is_empty() && relied == self.relied {
            self.proved.insert(claim);
        }
        places
    }

    /// Whether the value fits the schema, when nobody asks why not.
    fn fits(&mut self, facts: &Facts<'a>, node: Node<'a>) -> bool {
        let brief = std::mem::replace(&mut self.brief, true);
        let fits = self.prove(facts, node, "").is_empty();
        self.brief = brief;
        fits
    }

    /// Proves what a reference stands for.
    pub(super) fn prove_target(&mut self, facts: &Facts<'a>, target: Node<'a>, pointer: &str) -> Places {
        if self.open.get(&(facts.key(), target.address())) == Some(&self.level) {
            self.stopped += 1;
            return undecided(pointer, "the schema refers to itself without going down into the value".into());
        }
        self.prove(facts, target, pointer)
    }

    fn prove_keywords(&mut self, facts: &Facts<'a>, node: Node<'a>, at: &str) -> Places {
        let Value::Object(members) = node.value else {
            if self.empty(facts) {
                return Vec::new();
            }
            let reason = format!(
                "the {} schema allows no value here; the {} one takes {}",
                self.wide,
                self.narrow,
                facts::kinds(facts.types())
            );
            return place(at, reason);
        };
        let mut places = Vec::new();
        for keyword in members.keys() {
            if let Some(value) = node.get(keyword) {
                let found = self.keyword(facts, node, keyword, value, at);
                places.extend(self.in_cases(facts, node, (keyword, value), at, found));
                if self.brief && !places.is_empty() {
                    break;
                }
            }
        }
        places
    }

    /// Tries again in cases what could not be proved as a whole.
    fn in_cases(
        &mut self,
        facts: &Facts<'a>,
        node: Node<'a>,
        (keyword, value): (&'a str, &'a Value),
        at: &str,
        places: Places,
    ) -> Places {
        if places.is_empty() || self.empty(facts) {
            return Vec::new();
        }
        let Some(cases) = self.cases(facts, matches!(keyword, "anyOf" | "oneOf" | "not" | "if" | "enum" | "const"))
        else {
            return places;
        };
        if self.steps >= STEPS || self.depth >= DEPTH {
            self.stopped += 1;
            return places;
        }
        self.depth += 1;
        let mut failed = Vec::new();
        for case in cases {
            let found = self.keyword(&case, node, keyword, value, at);
            failed = self.in_cases(&case, node, (keyword, value), at, found);
            if !failed.is_empty() {
                break;
            }
        }
        self.depth -= 1;
        failed
    }

    /// What the facts allow, as cases of which at least one holds; none when there is nothing left to split.
    fn cases(&mut self, facts: &Facts<'a>, by_type: bool) -> Option<Vec<Facts<'a>>> {
        for node in &facts.schemas {
            for keyword in ["anyOf", "oneOf"] {
                let branches = node.list(keyword);
                let Some(address) = node.get(keyword).map(|list| std::ptr::from_ref(list) as usize) else { continue };
                if facts.split.contains(&address) || branches.len() > BRANCHES {
                    continue;
                }
                self.steps += branches.len() * (1 + facts.weight() + branches.len() / 16);
                let mut base = facts.clone();
                base.split.push(address);
                let case = |at: usize| {
                    let mut case = base.clone().with(branches[at]);
                    if keyword == "oneOf" {
                        let others = branches.iter().enumerate().filter(|(other, _)| *other != at);
                        others.for_each(|(_, other)| case.add_not(*other));
                    }
                    case
                };
                return Some((0..branches.len()).map(case).collect());
            }
            if let Some(condition) = node.schema("if")
                && !facts.split.contains(&condition.address())
            {
                let mut base = facts.clone();
                base.split.push(condition.address());
                let mut cases = [base.clone().with(condition), base.with_not(condition)];
                for (case, keyword) in cases.iter_mut().zip(["then", "else"]) {
                    if let Some(consequence) = node.schema(keyword) {
                        case.add(consequence);
                    }
                }
                return Some(cases.into());
            }
        }
        if facts.exact.is_empty()
            && let Some(values) = facts.finite()
            && values.len() <= VALUES
        {
            self.steps += values.len() * facts.weight();
            return Some(values.into_iter().map(|value| facts.clone().with_exact(value)).collect());
        }
        let types = facts.types();
        if by_type && types.count_ones() > 1 {
            let one = (0..8).map(|bit| 1 << bit).filter(|bit| types & bit != 0);
            return Some(one.map(|bit| facts.clone().only(bit)).collect());
        }
        None
    }

    /// Whether it is certain that there is no such value.
    pub(super) fn empty(&mut self, facts: &Facts<'a>) -> bool {
        if facts.never {
            return true;
        }
        if self.steps >= STEPS || self.depth >= DEPTH {
            self.stopped += 1;
            return false;
        }
        self.steps += 1 + facts.weight();
        let key = facts.key();
        if let Some(known) = self.emptiness.get(&key) {
            return *known;
        }
        let (relied, stopped) = (self.relied, self.stopped);
        self.depth += 1;
        let empty = self.is_empty(facts);
        self.depth -= 1;
        if if empty { relied == self.relied } else { stopped == self.stopped } {
            self.emptiness.insert(key, empty);
        }
        empty
    }

    fn is_empty(&mut self, facts: &Facts<'a>) -> bool {
        if facts.contradicts_itself() || self.possible_types(facts) == 0 {
            return true;
        }
        for (at, forbidden) in facts.nots.iter().enumerate() {
            let mut others = facts.clone();
            if others.nots.len() > TOGETHER {
                others.nots.clear();
            } else {
                others.nots.remove(at);
            }
            if self.fits(&others, *forbidden) {
                return true;
            }
        }
        match self.cases(facts, false) {
            Some(cases) => cases.iter().all(|case| self.empty(case)),
            None => false,
        }
    }

    fn possible_types(&mut self, facts: &Facts<'a>) -> facts::Types {
        let mut types = facts.types();
        let crossed = |(least, most): (u64, Option<u64>)| most.is_some_and(|most| least > most);
        if let (Some(low), Some(high)) = (facts.bound(true), facts.bound(false)) {
            let order = low.at.cmp(&high.at);
            if order.is_gt() || (order.is_eq() && (low.open || high.open)) {
                types &= !facts::NUMBER;
            }
        }
        if types & facts::STRING != 0 && (crossed(facts.length()) || self.breaks_pattern(facts)) {
            types &= !facts::STRING;
        }
        if types & facts::ARRAY != 0 && (crossed(facts.items()) || self.lacks_item(facts)) {
            types &= !facts::ARRAY;
        }
        if types & facts::OBJECT != 0 && (crossed(self.properties_count(facts)) || self.lacks_property(facts)) {
            types &= !facts::OBJECT;
        }
        types
    }

    fn breaks_pattern(&mut self, facts: &Facts<'a>) -> bool {
        let Some(text) = facts.exact.iter().find_map(|value| value.as_str().map(str::to_owned)) else { return false };
        let patterns: Vec<_> = facts.schemas.iter().filter_map(|node| node.text("pattern")).collect();
        patterns.into_iter().any(|pattern| self.matches(pattern, &text) == Some(false))
    }

    /// One level down in the value.
    pub(super) fn below<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.level += 1;
        let result = work(self);
        self.level -= 1;
        result
    }

    /// Whether a text matches a regular expression; none when that cannot be told.
    pub(super) fn matches(&mut self, pattern: &'a str, text: &str) -> Option<bool> {
        self.steps += 1;
        let compiled = self.patterns.entry(pattern).or_insert_with(|| compile(&json!({ "pattern": pattern })));
        compiled.as_ref().map(|validator| validator.is_valid(&Value::String(text.to_owned())))
    }

    /// Whether one of the schemas that the value fits says the same.
    fn fits_as_it_is(&mut self, facts: &Facts<'a>, node: Node<'a>) -> bool {
        facts.schemas.iter().any(|known| {
            let mut seen = HashSet::new();
            let same = known.same(node, &mut seen);
            self.steps += seen.len() / 8;
            same
        })
    }
}

/// Judges a known value by one keyword alone.
pub(super) fn judge(keyword: &str, argument: &Value, value: &Value) -> bool {
    compile(&json!({ keyword: argument })).is_some_and(|validator| validator.is_valid(value))
}

fn compile(schema: &Value) -> Option<Validator> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES);
    jsonschema::options().offline().with_pattern_options(patterns).build(schema).ok()
}

pub(super) fn place(at: &str, reason: String) -> Places {
    vec![Incompatibility { pointer: at.to_owned(), reason }]
}

pub(super) fn undecided(at: &str, reason: String) -> Places {
    place(at, format!("cannot be shown to be compatible: {reason}"))
}

/// A value as a list of one.
pub(super) fn exactly<'a>(text: &str) -> Cow<'a, Value> {
    Cow::Owned(Value::String(text.to_owned()))
}
