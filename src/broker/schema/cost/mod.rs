//! What checking a payload with a schema costs, known before the check begins.
//!
//! A check cannot be stopped once it runs: the library knows no budget. Sixty bytes of schema that refer to themselves
//! twice for each level of a payload stand for a million steps at twenty levels. So the steps are counted first, each
//! pair of a schema and a value once, however often the check would come there: what a check repeats, counting does not.
//! A step is one schema object that is applied to one value. Where a bound by the schema alone is small enough, which it
//! is for schemas that do not refer back to themselves, nothing is counted at all.
//!
//! The count is never too low: patterns are taken to match every name, and each branch to be tried.

mod graph;

use std::collections::HashMap;

use serde_json::Value;

use self::graph::{Graph, Node};

/// How deep schemas and values together may nest in one check: each level takes room on the thread's stack.
const DEPTH: u64 = 400;

/// What the checks of one schema cost.
pub(super) struct Cost {
    graph: Graph,
    /// No value of a payload is met by more steps; the largest number where the schema refers back to itself.
    steps_per_value: u64,
    /// The longest way through schemas that are applied to the same value.
    in_place_depth: u64,
}

/// Why a check is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    /// It takes more steps than it may.
    #[error("it takes more than {0} steps")]
    Steps(u64),
    /// It nests too deep.
    #[error("schemas and values together nest deeper than {DEPTH} levels")]
    Depth,
    /// It would come back to where it is without having gone deeper into the payload.
    #[error("a reference of the schema leads back to where it begins, so it never ends")]
    Endless,
}

impl Cost {
    /// Looks at a schema.
    ///
    /// # Errors
    /// What a check with it would cost whatever the payload is, in a sentence.
    pub(super) fn of(schema: &Value) -> Result<Self, String> {
        let graph = Graph::of(schema)?;
        let mut bounds = Bounds { graph: &graph, known: vec![None; graph.nodes.len()] };
        let bound =
            bounds.of(graph.root, 0).ok_or_else(|| format!("its references nest deeper than {DEPTH} levels"))?;
        Ok(Self { steps_per_value: bound.steps, in_place_depth: bound.depth, graph })
    }

    /// The most schemas that are applied to one value because one of them is. A few lines of definitions that refer to
    /// each other twice can stand for millions. Properties and items need no such care: each has a value of its own. A
    /// reference back into what is being counted is one.
    pub(super) fn nodes_of_a_value(&self) -> u64 {
        let mut known = vec![None; self.graph.nodes.len()];
        let starts = 0..self.graph.nodes.len();
        starts.map(|at| in_place(&self.graph, at, &mut known, 0)).max().unwrap_or_default()
    }

    /// No value of a payload is met by more steps; the largest number where the payload decides.
    pub(super) fn steps_per_value(&self) -> u64 {
        self.steps_per_value
    }

    /// At least the steps that a check of a payload takes.
    ///
    /// # Errors
    /// When they are more than the budget, or nest too deep.
    pub(super) fn steps(&self, payload: &Value, budget: u64) -> Result<u64, Excess> {
        let (values, depth) = size(payload);
        let bound = values.saturating_mul(self.steps_per_value);
        if bound <= budget && depth.saturating_mul(self.in_place_depth) <= DEPTH {
            return Ok(bound);
        }
        let mut count = Count { graph: &self.graph, budget, known: HashMap::new() };
        count.applied(self.graph.root, Some(payload), 0)
    }
}

/// Nodes of a schema's document: objects and booleans.
pub(super) fn document_nodes(value: &Value) -> u64 {
    match value {
        Value::Object(members) => 1 + members.values().map(document_nodes).sum::<u64>(),
        Value::Array(items) => items.iter().map(document_nodes).sum(),
        Value::Bool(_) => 1,
        _ => 0,
    }
}

/// Schemas that are applied to a value because one is, and that one; `known` are those that were counted, and 1 for each
/// that is being counted.
fn in_place(graph: &Graph, at: usize, known: &mut [Option<u64>], depth: u64) -> u64 {
    if let Some(nodes) = known[at] {
        return nodes;
    }
    if depth > DEPTH {
        return u64::MAX;
    }
    known[at] = Some(1);
    let targets = graph.nodes[at].in_place.iter();
    let nodes = targets.fold(1_u64, |nodes, target| nodes.saturating_add(in_place(graph, *target, known, depth + 1)));
    known[at] = Some(nodes);
    nodes
}

/// The values of a payload, names of properties among them, and how deep they nest.
fn size(value: &Value) -> (u64, u64) {
    let below = |values: &mut dyn Iterator<Item = &Value>| {
        values.map(size).fold((1, 0), |(all, deepest), (values, depth)| (all + values, deepest.max(depth)))
    };
    let (values, depth) = match value {
        Value::Array(items) => below(&mut items.iter()),
        Value::Object(members) => {
            let (values, depth) = below(&mut members.values());
            (values + members.len() as u64, depth)
        }
        _ => (1, 0),
    };
    (values, depth + 1)
}

/// What holds for one schema, whatever the payload.
#[derive(Clone, Copy, Default)]
struct Bound {
    /// No value of a payload at or below the one that it is applied to is met by more steps.
    steps: u64,
    /// The steps at the value itself.
    own: u64,
    /// The same for the members and for the items of the value.
    member: u64,
    item: u64,
    /// The longest way through schemas that are applied to the same value, here or below.
    depth: u64,
    own_depth: u64,
}

impl Bound {
    /// There is none.
    const NONE: Self =
        Self { steps: u64::MAX, own: u64::MAX, member: u64::MAX, item: u64::MAX, depth: 1, own_depth: 1 };
}

/// Walks the schema once. None in `known` is new; an inner none is being looked at.
struct Bounds<'a> {
    graph: &'a Graph,
    known: Vec<Option<Option<Bound>>>,
}

impl Bounds<'_> {
    /// None where schemas are nested too deep, whatever they are applied to.
    fn of(&mut self, at: usize, depth: u64) -> Option<Bound> {
        match self.known[at] {
            Some(Some(bound)) => return Some(bound),
            // It refers back to itself: what that costs, the payload decides.
            Some(None) => return Some(Bound::NONE),
            None => {}
        }
        if depth > DEPTH {
            return None;
        }
        self.known[at] = Some(None);
        let node = &self.graph.nodes[at];
        let mut bound = Bound { own: node.weight, own_depth: 1, ..Bound::default() };
        for target in &node.in_place {
            let target = self.of(*target, depth + 1)?;
            let times = node.times();
            bound.own = bound.own.saturating_add(target.own.saturating_mul(times));
            bound.member = bound.member.saturating_add(target.member.saturating_mul(times));
            bound.item = bound.item.saturating_add(target.item.saturating_mul(times));
            bound.own_depth = bound.own_depth.max(target.own_depth + 1);
            bound.depth = bound.depth.max(target.depth);
        }
        let mut below = |bounds: &mut Self, schemas: &mut dyn Iterator<Item = usize>| -> Option<(u64, u64)> {
            let (mut all, mut largest) = (0_u64, 0);
            for schema in schemas {
                let below = bounds.of(schema, depth + 1)?;
                all = all.saturating_add(below.steps);
                largest = largest.max(below.steps);
                bound.depth = bound.depth.max(below.depth);
            }
            Some((all, largest))
        };
        let named = below(self, &mut node.properties.values().copied())?.1;
        let every_member = below(self, &mut node.every_member())?.0;
        let prefix = below(self, &mut node.prefix.iter().copied())?.1;
        let every_item = below(self, &mut node.every_item())?.0;
        bound.member = bound.member.saturating_add(named).saturating_add(every_member);
        bound.item = bound.item.saturating_add(prefix).saturating_add(every_item);
        bound.depth = bound.depth.max(bound.own_depth);
        bound.steps = bound.own.max(bound.member).max(bound.item);
        self.known[at] = Some(Some(bound));
        Some(bound)
    }
}

/// Counts the steps of one check.
struct Count<'a> {
    graph: &'a Graph,
    budget: u64,
    /// Steps of a schema at a value, by the value's address; none while they are being counted. The name of a property
    /// has no address: it is as good as any.
    known: HashMap<(usize, *const Value), Option<u64>>,
}

impl Count<'_> {
    fn applied(&mut self, at: usize, value: Option<&Value>, depth: u64) -> Result<u64, Excess> {
        let key = (at, value.map_or(std::ptr::null(), std::ptr::from_ref));
        match self.known.get(&key) {
            Some(Some(steps)) => return Ok(*steps),
            Some(None) => return Err(Excess::Endless),
            None => {}
        }
        if depth > DEPTH {
            return Err(Excess::Depth);
        }
        if self.known.len() as u64 >= self.budget {
            return Err(Excess::Steps(self.budget));
        }
        self.known.insert(key, None);
        let node = &self.graph.nodes[at];
        let mut steps = node.weight;
        for target in &node.in_place {
            let target = self.applied(*target, value, depth + 1)?;
            steps = steps.saturating_add(target.saturating_mul(node.times()));
        }
        match value {
            Some(Value::Object(members)) => {
                for (name, member) in members {
                    let named = node.properties.get(name).copied();
                    for schema in node.applied_to_member(named) {
                        steps = steps.saturating_add(self.applied(schema, Some(member), depth + 1)?);
                    }
                    if let Some(names) = node.names {
                        steps = steps.saturating_add(self.applied(names, None, depth + 1)?);
                    }
                    steps = steps.saturating_add(node.patterns.len() as u64);
                }
            }
            Some(Value::Array(items)) => {
                for (position, item) in items.iter().enumerate() {
                    for schema in node.applied_to_item(position) {
                        steps = steps.saturating_add(self.applied(schema, Some(item), depth + 1)?);
                    }
                }
            }
            _ => {}
        }
        if steps > self.budget {
            return Err(Excess::Steps(self.budget));
        }
        self.known.insert(key, Some(steps));
        Ok(steps)
    }
}

impl Node {
    /// Schemas that any member of an object may meet, and the names of members.
    fn every_member(&self) -> impl Iterator<Item = usize> {
        let single = [self.additional, self.unevaluated_members, self.names];
        self.patterns.iter().copied().chain(single.into_iter().flatten())
    }

    fn every_item(&self) -> impl Iterator<Item = usize> {
        [self.items, self.contains, self.unevaluated_items].into_iter().flatten()
    }

    /// Schemas that a member may meet; `named` is the one for its name.
    fn applied_to_member(&self, named: Option<usize>) -> impl Iterator<Item = usize> {
        let others = [self.additional.filter(|_| named.is_none()), self.unevaluated_members];
        named.into_iter().chain(self.patterns.iter().copied()).chain(others.into_iter().flatten())
    }

    fn applied_to_item(&self, position: usize) -> impl Iterator<Item = usize> {
        let own = self.prefix.get(position).copied();
        let others = [self.items.filter(|_| own.is_none()), self.contains, self.unevaluated_items];
        own.into_iter().chain(others.into_iter().flatten())
    }

    /// How often the schemas are applied that stand in place: once more where it is to be found what they left
    /// unevaluated.
    fn times(&self) -> u64 {
        if self.unevaluated_members.is_some() || self.unevaluated_items.is_some() { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests;
