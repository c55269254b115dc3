//! `--assert EXPR`: what must hold in a report.
//!
//! An expression is `path op value`: a dotted path into the report's JSON, with numbers for places in lists;
//! one of `<`, `<=`, `>`, `>=`, `==`, `!=`; a number or a word, in quotes or not. `setup.accept_to_first_audio_ms < 100`,
//! `participants.0.audio.packets.lost == 0`, `outcome == completed`. What was not measured fails.

use std::{fmt, str::FromStr};

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
}

/// Longer ones first: `<=` begins with `<`.
const OPERATORS: [(&str, Comparison); 6] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("!=", Comparison::Unequal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

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
        let found = self.path.split('.').try_fold(report, |value, step| {
            step.parse::<usize>()
                .ok()
                .and_then(|place| value.get(place))
                .or_else(|| value.get(step))
        });
        let Some(found) = found.filter(|value| !value.is_null()) else {
            return fail(format!(
                "{} was not measured, or is no field of the report",
                self.path
            ));
        };
        let numbers = found.as_f64().zip(self.expected.parse::<f64>().ok());
        let holds = match (self.comparison, numbers) {
            (Comparison::Less, Some((found, expected))) => found < expected,
            (Comparison::AtMost, Some((found, expected))) => found <= expected,
            (Comparison::Greater, Some((found, expected))) => found > expected,
            (Comparison::AtLeast, Some((found, expected))) => found >= expected,
            (Comparison::Equal, Some((found, expected))) => found == expected,
            (Comparison::Unequal, Some((found, expected))) => found != expected,
            (Comparison::Equal, None) => word(found) == self.expected,
            (Comparison::Unequal, None) => word(found) != self.expected,
            (
                Comparison::Less | Comparison::AtMost | Comparison::Greater | Comparison::AtLeast,
                None,
            ) => return fail(format!("{} is no number", word(found))),
        };
        if holds {
            Ok(())
        } else {
            fail(format!("it is {}", word(found)))
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
        let at = text.find(['<', '>', '=', '!']).ok_or_else(help)?;
        let (path, rest) = text.split_at(at);
        let (comparison, expected) = OPERATORS
            .iter()
            .find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)))
            .ok_or_else(help)?;
        let (path, expected) = (path.trim(), unquoted(expected.trim()));
        let clean = |part: &str| !part.is_empty() && !part.contains(['<', '>', '=', '!']);
        if !clean(path) || !clean(expected) || path.split('.').any(str::is_empty) {
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
pub fn junit(name: &str, results: &[(Assertion, Result<(), AssertionFailure>)]) -> String {
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    let cases: String = results
        .iter()
        .map(|(assertion, result)| {
            let case = format!("  <testcase name=\"{}\"", escaped(&assertion.text));
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
         failures=\"{failed}\">\n{cases}</testsuite>\n",
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
        ] {
            assert_eq!(check(holds), Ok(()), "{holds}");
        }
    }

    #[test]
    fn what_does_not_hold_says_what_was_found() {
        let failures = [
            ("setup.connect_ms < 90", "it is 90.5"),
            ("setup.ring_ms < 90", "was not measured"),
            ("participants.1.audio == 1", "was not measured"),
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
            "", "a==\"\"", "setup", "<3", "a<", "a=3", "a<b<c", "a..b<1", "a<>1", "a=<1",
        ] {
            assert!(text.parse::<Assertion>().is_err(), "{text}");
        }
    }

    #[test]
    fn results_become_xml_that_holds_any_text() {
        let bad: Assertion = "a < \"&\u{1}".parse().unwrap();
        let failure = bad.check(&json!({"a": 5})).unwrap_err();
        let good: Assertion = "b==1".parse().unwrap();
        let xml = junit("sim seed 1", &[(bad, Err(failure)), (good, Ok(()))]);
        assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
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
