//! `--assert EXPR`: what must hold in a report.
//!
//! An expression is `path op value`: a dotted path into the report's JSON; one of `<`, `<=`, `>`, `>=`, `==`,
//! `!=` and `~`, which asks whether a text contains another; a number, a percentage or a word, in quotes or not.
//! In a path, numbers, `first` and `last` are places in lists, and `len` is how long a list or text is.
//! `setup.accept_to_first_audio_ms < 100`, `network.loss_fraction <= 2%`, `outcome == completed`,
//! `paths.last.kind == direct`, `network.switches.len == 0`. What was not measured fails, except where it is
//! meant to be: `cost == absent`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use serde_json::Value;

/// One expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    text: String,
    path: String,
    comparison: Comparison,
    expected: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Greater,
    AtLeast,
    Equal,
    Unequal,
    Contains,
}

/// The value of what was not measured.
const ABSENT: &str = "absent";

/// Longer ones first: `<=` begins with `<`.
const OPERATORS: [(&str, Comparison); 7] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("!=", Comparison::Unequal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("~", Comparison::Contains),
];

/// What an operator begins with.
const SIGNS: [char; 5] = ['<', '>', '=', '!', '~'];

/// Why an assertion does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{assertion} does not hold: {why}")]
pub struct AssertionFailure {
    /// The expression.
    pub assertion: String,
    /// What was found instead.
    pub why: String,
}

impl Assertion {
    /// The path into the report.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it holds in `report`.
    ///
    /// # Errors
    /// [`AssertionFailure`] when it does not.
    pub fn check(&self, report: &Value) -> Result<(), AssertionFailure> {
        let fail = |why: String| {
            Err(AssertionFailure {
                assertion: self.text.clone(),
                why,
            })
        };
        let found = match look_up(report, &self.path) {
            Ok(found) => Some(found).filter(|value| !value.is_null()),
            Err(_) if self.expected == ABSENT => None,
            Err(why) => return fail(why),
        };
        let Some(found) = found else {
            return match self.comparison {
                Comparison::Equal if self.expected == ABSENT => Ok(()),
                Comparison::Less
                | Comparison::AtMost
                | Comparison::Greater
                | Comparison::AtLeast
                | Comparison::Equal
                | Comparison::Unequal
                | Comparison::Contains => fail(format!("{} was not measured", self.path)),
            };
        };
        let numbers = found.as_f64().zip(number(&self.expected));
        let holds = match (self.comparison, numbers) {
            (Comparison::Less, Some((found, expected))) => found < expected,
            (Comparison::AtMost, Some((found, expected))) => found <= expected,
            (Comparison::Greater, Some((found, expected))) => found > expected,
            (Comparison::AtLeast, Some((found, expected))) => found >= expected,
            (Comparison::Equal, Some((found, expected))) => found == expected,
            (Comparison::Unequal, Some((found, expected))) => found != expected,
            (Comparison::Equal, None) => word(&found) == self.expected,
            (Comparison::Unequal, None) => word(&found) != self.expected,
            (Comparison::Contains, _) => word(&found).contains(&self.expected),
            (
                Comparison::Less | Comparison::AtMost | Comparison::Greater | Comparison::AtLeast,
                None,
            ) => return fail(format!("{} is no number", word(&found))),
        };
        if holds {
            Ok(())
        } else {
            fail(format!("it is {}", word(&found)))
        }
    }
}

/// A number, or a percentage as a fraction.
fn number(text: &str) -> Option<f64> {
    match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().ok().map(|value: f64| value / 100.0),
        None => text.parse().ok(),
    }
}

/// What stands in `report` at `path`; null where a field is there and empty.
///
/// # Errors
/// A sentence with what stands there instead.
fn look_up<'a>(report: &'a Value, path: &str) -> Result<Cow<'a, Value>, String> {
    let mut value = report;
    let mut walked = Vec::new();
    for step in path.split('.') {
        let next = match (value, step) {
            (Value::Array(items), "first") => items.first(),
            (Value::Array(items), "last") => items.last(),
            (Value::Array(items), "len") => return Ok(Cow::Owned(items.len().into())),
            (Value::Array(items), _) => step.parse().ok().and_then(|place: usize| items.get(place)),
            (Value::String(text), "len") => {
                return Ok(Cow::Owned(text.chars().count().into()));
            }
            (Value::Object(fields), _) => fields.get(step),
            (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => None,
        };
        let Some(next) = next else {
            return Err(nothing_there(value, &walked, step));
        };
        value = next;
        walked.push(step);
    }
    Ok(Cow::Borrowed(value))
}

fn nothing_there(value: &Value, walked: &[&str], step: &str) -> String {
    let place = match walked {
        [] => String::from("the report"),
        [..] => walked.join("."),
    };
    match value {
        Value::Object(fields) => {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            let names = names.join(", ");
            format!("{step} was not measured, or is no field of {place}, which has {names}")
        }
        Value::Array(items) => format!(
            "{place} has {} entries: expected a number below that, first, last or len, not {step}",
            items.len()
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            format!("{place} is {}, in which there is no {step}", word(value))
        }
    }
}

/// A word as scripts like to write it, in quotes.
fn unquoted(word: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(word)
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), String::from)
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help =
            || String::from("expected an expression such as 'network.loss_fraction <= 0.02'");
        let at = text.find(SIGNS).ok_or_else(help)?;
        let (path, rest) = text.split_at(at);
        let (comparison, expected) = OPERATORS
            .iter()
            .find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)))
            .ok_or_else(help)?;
        let (path, raw) = (path.trim(), expected.trim());
        let expected = unquoted(raw);
        // In quotes anything may stand.
        let quoted = expected.len() < raw.len();
        let clean = !expected.is_empty() && (quoted || !expected.contains(SIGNS));
        if !clean || path.is_empty() || path.split('.').any(str::is_empty) {
            return Err(help());
        }
        Ok(Self {
            text: String::from(text.trim()),
            path: String::from(path),
            comparison,
            expected: String::from(expected),
        })
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Results in the form that JUnit made common: one test suite `name`, one case per assertion.
#[must_use]
pub fn junit(
    name: &str,
    talk: Duration,
    results: &[(Assertion, Result<(), AssertionFailure>)],
) -> String {
    // Virtual time, and the same for all: they are about one call.
    let seconds = format!("time=\"{:.3}\"", talk.as_secs_f64());
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    let cases: String = results
        .iter()
        .map(|(assertion, result)| {
            let case = format!(
                "  <testcase classname=\"ahoy.sim\" name=\"{}\" {seconds}",
                escaped(&assertion.text)
            );
            match result {
                Ok(()) => format!("{case}/>\n"),
                Err(failure) => format!(
                    "{case}>\n    <failure message=\"{}\"/>\n  </testcase>\n",
                    escaped(&failure.why)
                ),
            }
        })
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" \
         failures=\"{failed}\" \
         errors=\"0\" {seconds}>\n{cases}</testsuite>\n",
        escaped(name),
        results.len()
    )
}

fn escaped(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '&' => String::from("&amp;"),
            '<' => String::from("&lt;"),
            '>' => String::from("&gt;"),
            '"' => String::from("&quot;"),
            // XML has no place for these, not even escaped.
            control if control.is_control() => String::from(" "),
            plain => String::from(plain),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let report = json!({
            "outcome": "completed", "setup": {"connect_ms": 90.5, "ring_ms": null},
            "participants": [{"audio": {"packets": {"lost": 2}}}], "security": {"post_quantum": true},
        });
        let assertion: Assertion = text.parse().unwrap();
        assertion
            .check(&report)
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn numbers_words_and_places_in_lists_can_be_compared() {
        for holds in [
            "setup.connect_ms<100",
            "setup.connect_ms >= 90.5",
            "setup.connect_ms != 90",
            " participants.0.audio.packets.lost == 2",
            "outcome == completed",
            "outcome == \"completed\"",
            "outcome != lost",
            "security.post_quantum == true",
            "participants.first.audio.packets.lost == 2",
            "participants.last.audio.packets.lost < 300%",
            "participants.len == 1",
            "outcome.len == 9",
            "outcome ~ complete",
            "outcome != 'a <b> == c'",
            "cost == absent",
            "setup.ring_ms == absent",
            "setup.connect_ms != absent",
        ] {
            assert_eq!(check(holds), Ok(()), "{holds}");
        }
    }

    #[test]
    fn what_does_not_hold_says_what_was_found() {
        let failures = [
            ("setup.connect_ms < 90", "it is 90.5"),
            ("setup.ring_ms < 90", "was not measured"),
            ("participants.1.audio == 1", "has 1 entries"),
            ("setup.conect_ms < 90", "which has connect_ms, ring_ms"),
            ("outcome.length < 90", "in which there is no length"),
            ("cost != absent", "was not measured"),
            ("setup.connect_ms == absent", "it is 90.5"),
            ("outcome ~ lost", "it is completed"),
            ("outcome < 3", "completed is no number"),
            ("outcome == lost", "it is completed"),
        ];
        for (text, why) in failures {
            let told = check(text).unwrap_err();
            assert!(told.contains(why) && told.contains(text), "{told}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in [
            "", "a==\"\"", "setup", "<3", "a<", "a=3", "a<b<c", "a..b<1", "a<>1", "a=<1", "a~",
        ] {
            assert!(text.parse::<Assertion>().is_err(), "{text}");
        }
    }

    #[test]
    fn results_become_xml_that_holds_any_text() {
        let bad: Assertion = "a < \"&\u{1}".parse().unwrap();
        let failure = bad.check(&json!({"a": 5})).unwrap_err();
        let good: Assertion = "b==1".parse().unwrap();
        let xml = junit(
            "sim seed 1",
            Duration::from_millis(1500),
            &[(bad, Err(failure)), (good, Ok(()))],
        );
        assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
        assert!(xml.contains("time=\"1.500\""), "{xml}");
        assert!(xml.contains("name=\"a &lt; &quot;&amp; \""), "{xml}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            if let Ok(assertion) = text.parse::<Assertion>() {
                let report = json!({"a": [1, {"b": "c"}]});
                if let Err(failure) = assertion.check(&report) {
                    prop_assert!(!failure.why.is_empty());
                }
            }
        }
    }
}
