//! What each keyword asks for, and from which facts it follows. Those of objects
//! and arrays, which go down into the value, are in files of their own.

use serde_json::Value;

use super::{
    REPORTED,
    bounds::{Bound, count, equal},
    document::{Draft, Node},
    facts::{ARRAY, FRACTION, Facts, NUMBER, OBJECT, STRING, bounds_of, kinds, types_of},
    prover::{Places, Prover, STEPS, judge, place, undecided},
};
use crate::words::{child, short};

impl<'a> Prover<'a> {
    /// Why the keyword may not hold.
    pub(super) fn keyword(
        &mut self,
        facts: &Facts<'a>,
        node: Node<'a>,
        keyword: &str,
        value: &'a Value,
        at: &str,
    ) -> Places {
        let here = child(at, keyword);
        let types = facts.types();
        match keyword {
            "type" => self.kind(facts, types_of(value, node.draft()), &here),
            "enum" => self.values(facts, &value.as_array().map_or_else(Vec::new, |list| list.iter().collect()), &here),
            "const" => self.values(facts, &[value], &here),
            "$ref" => match node.reference().flatten() {
                Some((target, pointer)) => self.prove_target(facts, target, &pointer),
                None => undecided(&here, format!("what `{}` refers to is not looked into", short(value))),
            },
            "$dynamicRef" | "$recursiveRef" => {
                undecided(&here, format!("what `{keyword}` refers to depends on the way there"))
            }
            "allOf" => self.all(facts, &node.list(keyword), &here),
            "anyOf" => self.any(facts, &node.list(keyword), &here),
            "oneOf" => self.one(facts, &node.list(keyword), &here),
            "not" => {
                if self.empty(&facts.clone().with(node.at(value))) {
                    return Vec::new();
                }
                let reason = format!("the {} schema may take values that the {} one forbids", self.narrow, self.wide);
                undecided(&here, reason)
            }
            "if" => self.conditional(facts, node, at),
            "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" if types & NUMBER != 0 => {
                self.bound(facts, node, keyword, &here)
            }
            "multipleOf" if types & NUMBER != 0 => self.multiple(facts, value, &here),
            "minLength" | "maxLength" if types & STRING != 0 => {
                self.counted(facts.length(), keyword, value, "strings", "characters", &here)
            }
            "pattern" if types & STRING != 0 => self.pattern(facts, value, &here),
            "contentEncoding" | "contentMediaType" if types & STRING != 0 => {
                if facts.schemas.iter().any(|known| known.get(keyword) == Some(value)) {
                    return Vec::new();
                }
                undecided(&here, format!("in this draft `{keyword}` {} is checked", short(value)))
            }
            _ if types & OBJECT != 0 && is_of_objects(keyword) => self.object(facts, node, keyword, value, &here),
            _ if types & ARRAY != 0 => self.array(facts, node, keyword, value, &here),
            _ => Vec::new(),
        }
    }

    fn kind(&self, facts: &Facts<'a>, wanted: u8, here: &str) -> Places {
        let types = facts.types();
        if types & !wanted == 0 {
            return Vec::new();
        }
        let more = if wanted & NUMBER != 0 && types & FRACTION & !wanted != 0 { ", with fractions" } else { "" };
        let reason = format!(
            "the {} schema takes {}{more}, the {} one only {}",
            self.narrow,
            kinds(types),
            self.wide,
            kinds(wanted)
        );
        place(here, reason)
    }

    fn values(&mut self, facts: &Facts<'a>, allowed: &[&Value], here: &str) -> Places {
        let Some(values) = facts.finite() else {
            let listed = shown(allowed);
            let reason =
                format!("the {} schema takes other values too, the {} one only {listed}", self.narrow, self.wide);
            return place(here, reason);
        };
        self.steps += values.len() * allowed.len() / 64;
        if self.steps >= STEPS {
            return undecided(here, "the lists are too long to compare".into());
        }
        let mut places = Vec::new();
        for value in values {
            if !allowed.iter().any(|known| equal(known, &value))
                && !self.empty(&facts.clone().with_exact(value.clone()))
            {
                let reason = format!(
                    "{} is taken by the {} schema, the {} one takes only {}",
                    short(&value),
                    self.narrow,
                    self.wide,
                    shown(allowed)
                );
                places.extend(place(here, reason));
                if places.len() >= REPORTED {
                    break;
                }
            }
        }
        places
    }

    fn all(&mut self, facts: &Facts<'a>, parts: &[Node<'a>], here: &str) -> Places {
        let mut places = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            places.extend(self.prove(facts, *part, &format!("{here}/{at}")));
        }
        places
    }

    fn any(&mut self, facts: &Facts<'a>, branches: &[Node<'a>], here: &str) -> Places {
        let mut nearest: Option<Places> = None;
        for (at, branch) in branches.iter().enumerate() {
            let found = self.prove(facts, *branch, &format!("{here}/{at}"));
            if found.is_empty() {
                return found;
            }
            if nearest.as_ref().is_none_or(|known| found.len() < known.len()) {
                nearest = Some(found);
            }
        }
        self.no_branch(facts, here, nearest)
    }

    fn one(&mut self, facts: &Facts<'a>, branches: &[Node<'a>], here: &str) -> Places {
        let mut nearest: Option<Places> = None;
        for (at, branch) in branches.iter().enumerate() {
            let mut found = self.prove(facts, *branch, &format!("{here}/{at}"));
            if found.is_empty() {
                for (other, node) in branches.iter().enumerate().filter(|(other, _)| *other != at) {
                    if !self.empty(&facts.clone().with(*node)) {
                        let reason = format!("what fits this schema of `oneOf` may fit schema {other} of it too");
                        found.extend(undecided(&format!("{here}/{at}"), reason));
                        break;
                    }
                }
            }
            if found.is_empty() {
                return found;
            }
            if nearest.as_ref().is_none_or(|known| found.len() < known.len()) {
                nearest = Some(found);
            }
        }
        self.no_branch(facts, here, nearest)
    }

    fn no_branch(&self, facts: &Facts<'a>, here: &str, nearest: Option<Places>) -> Places {
        let why = nearest.and_then(|places| places.into_iter().next());
        let why =
            why.map_or_else(String::new, |place| format!("; the nearest fails at {}: {}", place.pointer, place.reason));
        let reason = format!(
            "no schema of it takes all that the {} schema takes here ({}){why}",
            self.narrow,
            kinds(facts.types())
        );
        undecided(here, reason)
    }

    fn conditional(&mut self, facts: &Facts<'a>, node: Node<'a>, at: &str) -> Places {
        let Some(condition) = node.schema("if") else { return Vec::new() };
        let mut places = Vec::new();
        if let Some(consequence) = node.schema("then") {
            places.extend(self.prove(&facts.clone().with(condition), consequence, &child(at, "then")));
        }
        if let Some(consequence) = node.schema("else") {
            places.extend(self.prove(&facts.clone().with_not(condition), consequence, &child(at, "else")));
        }
        places
    }

    fn bound(&self, facts: &Facts<'a>, node: Node<'a>, keyword: &str, here: &str) -> Places {
        let lower = keyword.ends_with("inimum");
        // In draft 4 the exclusive forms are said together with the others.
        if node.draft() == Draft::D4 && keyword.starts_with("exclusive") {
            return Vec::new();
        }
        let open = keyword.starts_with("exclusive");
        let (known, whole) = (facts.bound(lower), facts.types() & FRACTION == 0);
        for wanted in bounds_of(node, lower) {
            if node.draft() != Draft::D4 && wanted.open != open {
                continue;
            }
            let tight = if whole { wanted.clone().whole(lower) } else { wanted.clone() };
            let stricter = |known: &Bound| if lower { tight.above(known) } else { tight.below(known) };
            if known.as_ref().is_none_or(stricter) {
                let (old, new) = (Bound::describe(known, lower), Bound::describe(Some(wanted), lower));
                return place(
                    here,
                    format!("the {} schema takes {old}, the {} one only {new}", self.narrow, self.wide),
                );
            }
        }
        Vec::new()
    }

    fn multiple(&self, facts: &Facts<'a>, wanted: &Value, here: &str) -> Places {
        if facts.exact.iter().any(|value| judge("multipleOf", wanted, value)) {
            return Vec::new();
        }
        let known: Vec<&Value> = facts.schemas.iter().filter_map(|node| node.get("multipleOf")).collect();
        // Above this a divisor is no longer exact in the library.
        let exact = |value: &Value| count(value).filter(|divisor| (1..1 << 53).contains(divisor));
        let follows = |value: &&Value| {
            equal(value, wanted) || exact(wanted).is_some_and(|b| exact(value).is_some_and(|a| a % b == 0))
        };
        if known.iter().any(follows) || (exact(wanted) == Some(1) && facts.types() & FRACTION == 0) {
            return Vec::new();
        }
        let reason = match known.first() {
            Some(known) => format!(
                "the {} schema takes multiples of {known}, the {} one only those of {wanted}",
                self.narrow, self.wide
            ),
            None => {
                format!("the {} schema takes any number, the {} one only multiples of {wanted}", self.narrow, self.wide)
            }
        };
        place(here, reason)
    }

    fn pattern(&mut self, facts: &Facts<'a>, wanted: &'a Value, here: &str) -> Places {
        let Some(pattern) = wanted.as_str() else { return Vec::new() };
        if matches!(pattern, "" | "^" | ".*") || facts.schemas.iter().any(|node| node.get("pattern") == Some(wanted)) {
            return Vec::new();
        }
        let known = facts.exact.iter().find_map(|value| value.as_str().map(str::to_owned));
        if known.is_some_and(|text| self.matches(pattern, &text) == Some(true)) {
            return Vec::new();
        }
        match facts.schemas.iter().find_map(|node| node.text("pattern")) {
            Some(known) => undecided(
                here,
                format!("whether all that matches the pattern `{known}` matches `{pattern}` is not looked into"),
            ),
            None => {
                let reason = format!(
                    "the {} schema takes any string, the {} one only those that match `{pattern}`",
                    self.narrow, self.wide
                );
                place(here, reason)
            }
        }
    }

    /// A least or greatest number of something.
    pub(super) fn counted(
        &self,
        (least, most): (u64, Option<u64>),
        keyword: &str,
        wanted: &Value,
        of: &str,
        what: &str,
        here: &str,
    ) -> Places {
        let Some(wanted) = count(wanted) else { return undecided(here, format!("`{keyword}` is {wanted}")) };
        let (narrow, wide) = (self.narrow, self.wide);
        if keyword.starts_with("min") {
            if least >= wanted {
                return Vec::new();
            }
            return place(
                here,
                format!("the {narrow} schema takes {of} of {least} {what}, the {wide} one needs {wanted}"),
            );
        }
        match most {
            Some(most) if most <= wanted => Vec::new(),
            Some(most) => {
                place(here, format!("the {narrow} schema takes {of} of {most} {what}, the {wide} one at most {wanted}"))
            }
            None => place(
                here,
                format!("the {narrow} schema takes {of} of any size, the {wide} one at most {wanted} {what}"),
            ),
        }
    }
}

fn shown(values: &[&Value]) -> String {
    let listed: Vec<_> = values.iter().take(5).map(|value| short(value)).collect();
    let more =
        if values.len() > listed.len() { format!(" and {} more", values.len() - listed.len()) } else { String::new() };
    format!("{}{more}", listed.join(", "))
}

fn is_of_objects(keyword: &str) -> bool {
    matches!(
        keyword,
        "properties"
            | "patternProperties"
            | "additionalProperties"
            | "unevaluatedProperties"
            | "propertyNames"
            | "required"
            | "minProperties"
            | "maxProperties"
            | "dependentRequired"
            | "dependentSchemas"
            | "dependencies"
    )
}
