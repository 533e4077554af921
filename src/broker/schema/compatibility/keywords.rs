//! What each keyword asks for, and from which facts it follows. Those of objects and arrays go down into the value.

use serde_json::Value;

use super::{
    bounds::{Bound, count, equal},
    document::{Draft, Node},
    facts::{ARRAY, FRACTION, Facts, NUMBER, OBJECT, STRING, bounds_of, items_of, texts, types_of},
    prover::{Places, Prover, exactly, judge, kinds, place, undecided},
};
use crate::broker::schema::violations::{child, short};

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
                Some((target, pointer)) => self.prove(facts, target, &pointer),
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
            _ if types & OBJECT != 0 && self.is_of_objects(keyword) => self.object(facts, node, keyword, value, &here),
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
        let reason =
            format!("the {} schema takes {}{more}, the {} one only {}", self.narrow, kinds(types), self.wide, kinds(wanted));
        place(here, reason)
    }

    fn values(&mut self, facts: &Facts<'a>, allowed: &[&Value], here: &str) -> Places {
        let Some(values) = facts.finite() else {
            let listed = shown(allowed);
            let reason = format!("the {} schema takes other values too, the {} one only {listed}", self.narrow, self.wide);
            return place(here, reason);
        };
        let mut places = Vec::new();
        for value in values {
            if !allowed.iter().any(|known| equal(known, &value))
                && !self.empty(&facts.clone().with_exact(value.clone()))
            {
                let reason =
                    format!("{} is taken by the {} schema, the {} one takes only {}", short(&value), self.narrow, self.wide, shown(allowed));
                places.extend(place(here, reason));
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
        let why = why.map_or_else(String::new, |place| format!("; the nearest fails at {}: {}", place.pointer, place.reason));
        let reason = format!("no schema of it takes all that the {} schema takes here ({}){why}", self.narrow, kinds(facts.types()));
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
            let tight = if whole { wanted.whole(lower) } else { wanted };
            let stricter = |known: Bound| if lower { tight.above(known) } else { tight.below(known) };
            if known.is_none_or(stricter) {
                let (old, new) = (Bound::describe(known, lower), Bound::describe(Some(wanted), lower));
                return place(here, format!("the {} schema takes {old}, the {} one only {new}", self.narrow, self.wide));
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
            Some(known) => format!("the {} schema takes multiples of {known}, the {} one only those of {wanted}", self.narrow, self.wide),
            None => format!("the {} schema takes any number, the {} one only multiples of {wanted}", self.narrow, self.wide),
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
            Some(known) => {
                undecided(here, format!("whether all that matches the pattern `{known}` matches `{pattern}` is not looked into"))
            }
            None => {
                let reason = format!("the {} schema takes any string, the {} one only those that match `{pattern}`", self.narrow, self.wide);
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
            return place(here, format!("the {narrow} schema takes {of} of {least} {what}, the {wide} one needs {wanted}"));
        }
        match most {
            Some(most) if most <= wanted => Vec::new(),
            Some(most) => place(here, format!("the {narrow} schema takes {of} of {most} {what}, the {wide} one at most {wanted}")),
            None => place(here, format!("the {narrow} schema takes {of} of any size, the {wide} one at most {wanted} {what}")),
        }
    }

    fn is_of_objects(&self, keyword: &str) -> bool {
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

    fn object(&mut self, facts: &Facts<'a>, node: Node<'a>, keyword: &str, value: &'a Value, here: &str) -> Places {
        match keyword {
            "required" => {
                let missing = texts(Some(value)).filter(|name| !facts.requires(name));
                missing
                    .flat_map(|name| {
                        let reason = format!("property `{name}` is required; the {} schema takes objects without it", self.narrow);
                        place(here, reason)
                    })
                    .collect()
            }
            "minProperties" | "maxProperties" => {
                self.counted(self.properties_count(facts), keyword, value, "objects", "properties", here)
            }
            "properties" => self.properties(facts, value, node, here),
            "patternProperties" => self.pattern_properties(facts, value, node, here),
            "additionalProperties" => self.rest_of_properties(facts, node, here),
            // What other keywords evaluate is left out, so this asks for more than is due.
            "unevaluatedProperties" if node.get("additionalProperties").is_none() => {
                self.rest_of_properties(facts, node, here)
            }
            "propertyNames" => self.property_names(facts, node, value, here),
            "dependentRequired" | "dependentSchemas" | "dependencies" => self.dependencies(facts, node, value, here),
            _ => Vec::new(),
        }
    }

    fn properties(&mut self, facts: &Facts<'a>, value: &'a Value, node: Node<'a>, here: &str) -> Places {
        let mut places = Vec::new();
        for (name, schema) in value.as_object().into_iter().flatten() {
            let property = self.property(facts, name);
            let at = child(here, name);
            let found = self.below(|prover| prover.prove(&property, node.at(schema), &at));
            let unknown = property.schemas.is_empty() && property.exact.is_empty() && property.nots.is_empty();
            if found.is_empty() || !unknown {
                places.extend(found);
                continue;
            }
            // The commonest edit that breaks history; say what it is.
            let reason = format!(
                "property `{name}` has no schema in the {} schema, which takes any value there; the {} one does not: \
                 give it in an object that is closed with `additionalProperties: false`, or check that no stored \
                 message has one and update without the check",
                self.narrow, self.wide
            );
            places.extend(place(&at, reason));
        }
        places
    }

    fn pattern_properties(&mut self, facts: &Facts<'a>, value: &'a Value, node: Node<'a>, here: &str) -> Places {
        let mut places = Vec::new();
        for (pattern, schema) in value.as_object().into_iter().flatten() {
            let at = child(here, pattern);
            let mut claims = self.other_property(facts, Some(pattern), &[]);
            for name in self.names(facts, node) {
                if self.matches(pattern, &name) != Some(false) {
                    claims.push(self.property(facts, &name));
                }
            }
            places.extend(self.first_failure(&claims, node.at(schema), &at));
        }
        places
    }

    /// `additionalProperties`, and what is not evaluated.
    fn rest_of_properties(&mut self, facts: &Facts<'a>, node: Node<'a>, here: &str) -> Places {
        let keyword = if node.get("additionalProperties").is_some() { "additionalProperties" } else { "unevaluatedProperties" };
        let Some(schema) = node.schema(keyword) else { return Vec::new() };
        let patterns: Vec<&'a str> = node.map("patternProperties").into_iter().flatten().map(|(p, _)| p.as_str()).collect();
        let listed = node.map("properties");
        let mut places = Vec::new();
        for name in self.names(facts, node) {
            let matched = patterns.iter().any(|pattern| self.matches(pattern, &name) == Some(true));
            if matched || listed.is_some_and(|map| map.contains_key(&name)) {
                continue;
            }
            let property = self.property(facts, &name);
            let found = self.below(|prover| prover.prove(&property, schema, here));
            places.extend(found.into_iter().map(|mut found| {
                found.reason = format!("property `{name}`: {}", found.reason);
                found
            }));
        }
        let others = self.other_property(facts, None, &patterns);
        let found = self.first_failure(&others, schema, here);
        places.extend(found.into_iter().map(|mut found| {
            found.reason = format!("properties that are not listed: {}", found.reason);
            found
        }));
        places
    }

    fn first_failure(&mut self, claims: &[Facts<'a>], schema: Node<'a>, at: &str) -> Places {
        for claim in claims {
            let found = self.below(|prover| prover.prove(claim, schema, at));
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    fn property_names(&mut self, facts: &Facts<'a>, node: Node<'a>, value: &'a Value, here: &str) -> Places {
        let mut any = Facts::default().only(STRING);
        facts.schemas.iter().filter_map(|node| node.schema("propertyNames")).for_each(|names| any.add(names));
        let mut claims = Vec::new();
        if !self.other_property(facts, None, &[]).is_empty() {
            claims.push(any.clone());
        }
        for name in self.names(facts, node) {
            let property = self.property(facts, &name);
            if !self.below(|prover| prover.empty(&property)) {
                claims.push(any.clone().with_exact(exactly(&name)));
            }
        }
        self.first_failure(&claims, node.at(value), here)
    }

    fn dependencies(&mut self, facts: &Facts<'a>, node: Node<'a>, value: &'a Value, here: &str) -> Places {
        let mut places = Vec::new();
        for (name, due) in value.as_object().into_iter().flatten() {
            let property = self.property(facts, name);
            if self.below(|prover| prover.empty(&property)) {
                continue;
            }
            let with = facts.clone().with_property(name);
            let at = child(here, name);
            if due.is_array() {
                for missing in texts(Some(due)).filter(|missing| !with.requires(missing)) {
                    let reason = format!("with `{name}`, property `{missing}` is required; the {} schema takes objects without it", self.narrow);
                    places.extend(place(&at, reason));
                }
            } else {
                places.extend(self.prove(&with, node.at(due), &at));
            }
        }
        places
    }

    fn array(&mut self, facts: &Facts<'a>, node: Node<'a>, keyword: &str, value: &'a Value, here: &str) -> Places {
        match keyword {
            "minItems" | "maxItems" => self.counted(facts.items(), keyword, value, "arrays", "items", here),
            // Each of them stands for the whole of the items once.
            "prefixItems" | "items" | "additionalItems" => self.items(facts, node, keyword, here),
            "unevaluatedItems" => {
                let (prefix, rest) = items_of(node);
                if rest.is_some() {
                    return Vec::new();
                }
                self.tail(facts, node, prefix.len(), node.at(value), here)
            }
            "uniqueItems" if value == &Value::Bool(true) => {
                let known = facts.schemas.iter().any(|node| node.get("uniqueItems") == Some(value));
                let unique = |list: &Value| judge("uniqueItems", value, list);
                if known || facts.items().1.is_some_and(|most| most <= 1) || facts.exact.iter().any(|list| unique(list)) {
                    return Vec::new();
                }
                place(here, format!("the {} schema takes arrays with equal items, the {} one does not", self.narrow, self.wide))
            }
            "contains" => self.contains(facts, node, here),
            _ => Vec::new(),
        }
    }

    fn items(&mut self, facts: &Facts<'a>, node: Node<'a>, keyword: &str, here: &str) -> Places {
        let (prefix, rest) = items_of(node);
        let listed = keyword == "prefixItems" || (keyword == "items" && !prefix.is_empty() && node.draft() < Draft::D2020);
        if !listed {
            return match rest {
                Some(rest) => self.tail(facts, node, prefix.len(), rest, here),
                None => Vec::new(),
            };
        }
        let most = facts.items().1.unwrap_or(u64::MAX);
        let mut places = Vec::new();
        for (index, schema) in prefix.iter().enumerate().filter(|(index, _)| (*index as u64) < most) {
            let item = self.item(facts, index);
            places.extend(self.below(|prover| prover.prove(&item, *schema, &format!("{here}/{index}"))));
        }
        places
    }

    /// All items from an index on.
    fn tail(&mut self, facts: &Facts<'a>, node: Node<'a>, from: usize, schema: Node<'a>, here: &str) -> Places {
        let most = facts.items().1.unwrap_or(u64::MAX);
        // The last index stands for all after it.
        let last = self.prefix(facts, Some(node)).max(from);
        let claims: Vec<_> = (from..=last).filter(|at| (*at as u64) < most).map(|at| self.item(facts, at)).collect();
        self.first_failure(&claims, schema, here)
    }

    fn contains(&mut self, facts: &Facts<'a>, node: Node<'a>, here: &str) -> Places {
        let Some(wanted) = node.schema("contains") else { return Vec::new() };
        let (least, most) = (node.count("minContains").unwrap_or(1), node.count("maxContains"));
        let (known_least, known_most) = facts.items();
        let last = self.prefix(facts, None);
        let items: Vec<_> = (0..=last).map(|index| self.item(facts, index)).collect();
        let enough = least == 0
            || (known_least >= least && self.first_failure(&items, wanted, here).is_empty())
            || facts.schemas.iter().any(|known| {
                known.count("minContains").unwrap_or(1) >= least
                    && known.schema("contains").is_some_and(|item| {
                        self.below(|prover| prover.prove(&Facts::of(item), wanted, here)).is_empty()
                    })
            });
        if !enough {
            let reason = format!("the {} schema takes arrays without such an item", self.narrow);
            return undecided(here, reason);
        }
        let Some(most) = most else { return Vec::new() };
        let few = known_most.is_some_and(|known| known <= most)
            || facts.schemas.iter().any(|known| {
                known.count("maxContains").is_some_and(|known| known <= most)
                    && known.schema("contains").is_some_and(|item| {
                        self.below(|prover| prover.prove(&Facts::of(wanted), item, here)).is_empty()
                    })
            });
        if few {
            return Vec::new();
        }
        undecided(here, format!("the {} schema may take arrays with more than {most} such items", self.narrow))
    }
}

fn shown(values: &[&Value]) -> String {
    let listed: Vec<_> = values.iter().take(5).map(|value| short(value)).collect();
    let more = if values.len() > listed.len() { format!(" and {} more", values.len() - listed.len()) } else { String::new() };
    format!("{}{more}", listed.join(", "))
}
