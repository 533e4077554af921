//! The keywords of arrays: the first items one by one, then all the others alike.

use serde_json::Value;

use super::{
    document::{Draft, Node},
    facts::{Facts, items_of},
    prover::{Places, Prover, judge, place, undecided},
};

impl<'a> Prover<'a> {
    pub(super) fn array(
        &mut self,
        facts: &Facts<'a>,
        node: Node<'a>,
        keyword: &str,
        value: &'a Value,
        here: &str,
    ) -> Places {
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
                if known || facts.items().1.is_some_and(|most| most <= 1) || facts.exact.iter().any(|list| unique(list))
                {
                    return Vec::new();
                }
                place(
                    here,
                    format!("the {} schema takes arrays with equal items, the {} one does not", self.narrow, self.wide),
                )
            }
            "contains" => self.contains(facts, node, here),
            _ => Vec::new(),
        }
    }

    fn items(&mut self, facts: &Facts<'a>, node: Node<'a>, keyword: &str, here: &str) -> Places {
        let (prefix, rest) = items_of(node);
        let listed =
            keyword == "prefixItems" || (keyword == "items" && !prefix.is_empty() && node.draft() < Draft::D2020);
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
