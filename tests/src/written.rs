//! Tests as they are written: for tables of promises, each of which names its test.

/// The text of the test of that name in a file of Rust, up to the next one; none where no such test is there.
#[must_use]
pub fn text_of<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let head = format!("fn {name}(");
    let (before, body) = source.split_once(&head)?;
    let attributes = before.rsplit("}\n").next()?;
    let is_test = attributes.contains("#[test]") || attributes.contains("#[tokio::test");
    is_test.then(|| body.split("#[test]").next().unwrap_or(body))
}
