//! Which labels are selected.

use std::{collections::BTreeMap, str::FromStr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Whether a selector of a workload matches these labels.
#[must_use]
pub fn is_selected(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let matches = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    matches && selector.match_expressions.iter().flatten().all(|rule| meets(rule, labels))
}

fn meets(rule: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&rule.key);
    let listed = value.is_some_and(|value| rule.values.iter().flatten().any(|one| one == value));
    match rule.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        _ => value.is_none(),
    }
}

/// A selector as it is written on a command line: `app=web,tier!=cache,env in (a, b),!old`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selector(LabelSelector);

/// Why text is no selector.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no label selector: write KEY=VALUE, KEY!=VALUE, KEY in (A, B), KEY notin (A, B), KEY or !KEY"
)]
pub struct SelectorError(String);

impl Selector {
    /// Whether it matches these labels.
    #[must_use]
    pub fn is_met(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        is_selected(&self.0, labels.unwrap_or(&BTreeMap::new()))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let rules = parts(text).into_iter().filter(|part| !part.trim().is_empty());
        let rules = rules.map(|part| rule(part.trim()).ok_or_else(|| SelectorError(part.trim().to_owned())));
        let rules = rules.collect::<Result<_, _>>()?;
        Ok(Self(LabelSelector { match_expressions: Some(rules), match_labels: None }))
    }
}

/// What is between commas, but for those in parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut deep = false;
    let separates = move |c: char| {
        deep = (deep || c == '(') && c != ')';
        c == ',' && !deep
    };
    text.split(separates).collect()
}

fn rule(part: &str) -> Option<LabelSelectorRequirement> {
    let of = |key: &str, operator: &str, values: Option<Vec<String>>| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let key = key.trim();
        (!key.is_empty() && key.chars().all(plain)).then(|| LabelSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values,
        })
    };
    let one = |value: &str| Some(vec![value.trim().to_owned()]);
    if let Some((head, list)) = part.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        let (key, word) = head.trim().rsplit_once(char::is_whitespace)?;
        let values = Some(list.split(',').map(|value| value.trim().to_owned()).collect());
        return match word {
            "in" => of(key, "In", values),
            "notin" => of(key, "NotIn", values),
            _ => None,
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return of(key, "NotIn", one(value));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return of(key, "In", one(value));
    }
    match part.strip_prefix('!') {
        Some(key) => of(key, "DoesNotExist", None),
        None => of(part, "Exists", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_kubectl_reads_them() {
        let labels: BTreeMap<String, String> =
            [("app", "web"), ("tier", "front")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app=web,tier=back", false),
            ("app!=web", false),
            ("other!=web", true),
            ("app", true),
            ("!app", false),
            ("!other", true),
            ("app in (web, db),tier notin (back)", true),
            ("app in (db)", false),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Selector>().unwrap().is_met(Some(&labels)), expected, "{text}");
        }
        assert!("app in web)".parse::<Selector>().is_err());
        assert!("a b=c".parse::<Selector>().is_err());
        assert!(!"app=web".parse::<Selector>().unwrap().is_met(None));
    }
}
