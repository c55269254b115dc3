//! What a file from somebody else is called here: the name they gave it, with everything taken out that could make it
//! another file, another place, or look like something else.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::link::is_deceptive;

/// Longest name, in bytes: what every file system takes is 255, and a number and the end of a part file are added.
const MAX_BYTES: usize = 200;
/// Longest ending that survives when a name is cut, in bytes with its dot.
const MAX_ENDING: usize = 16;
/// What is left without any name.
const NAMELESS: &str = "file";

/// Names that Windows gives to devices, with any ending.
const DEVICES: [&str; 8] = [
    "con", "prn", "aux", "nul", "conin$", "conout$", "clock$", "$mft",
];

/// A name without folders, streams, devices, controls and disguises; never empty, never hidden, at most 200 bytes.
#[must_use]
pub fn harmless(claimed: &str) -> String {
    // Whatever comes before is a place, by somebody's rules.
    let last = claimed.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name = String::new();
    for c in last.chars() {
        if c.is_control() || is_deceptive(c) || is_invisible(c) {
            continue;
        }
        // A colon begins a stream on NTFS; the others are patterns, pipes and quotes somewhere.
        name.push(match c {
            ':' | '*' | '?' | '"' | '<' | '>' | '|' | '$' | '`' | '%' | '~' => '_',
            c if c.is_whitespace() => ' ',
            c => c,
        });
    }
    // Windows drops dots and blanks at the end; a dot first hides, a dash first is an option to programs.
    let trimmed = name
        .trim_end_matches(['.', ' '])
        .trim_start_matches(['.', ' ', '-']);
    let mut name = trimmed.to_owned();
    let stem = name.split('.').next().unwrap_or_default();
    if is_device(stem.trim_end()) {
        name.insert(0, '_');
    }
    let name = cut(&name);
    if name.is_empty() {
        return NAMELESS.into();
    }
    name
}

/// The same with a number, for where the name is taken: `a (2).txt`.
#[must_use]
pub fn numbered(name: &str, number: u32) -> String {
    let (stem, ending) = halves(name);
    format!("{stem} ({number}){ending}")
}

fn halves(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= MAX_ENDING => {
            name.split_at_checked(at).unwrap_or((name, ""))
        }
        Some(_) | None => (name, ""),
    }
}

/// The ending says what it is and stays.
fn cut(name: &str) -> String {
    if name.len() <= MAX_BYTES {
        return name.to_owned();
    }
    let (stem, ending) = halves(name);
    let at = stem.floor_char_boundary(MAX_BYTES - ending.len());
    let stem = stem
        .get(..at)
        .unwrap_or_default()
        .trim_end_matches(['.', ' ']);
    format!("{stem}{ending}")
}

fn is_device(stem: &str) -> bool {
    let stem = stem.to_lowercase();
    let numbered = |kind: &str| {
        let rest = stem.strip_prefix(kind);
        // Windows takes superscript digits for digits here.
        rest.is_some_and(|rest| {
            let mut digits = rest.chars();
            matches!(
                (digits.next(), digits.next()),
                (Some('0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}'), None)
            )
        })
    };
    DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

/// Joiners may shape a script in a name that is shown; in the name of a file they make two that look alike.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_lose_what_makes_them_something_else() {
        for (claimed, kept) in [
            ("report.pdf", "report.pdf"),
            ("Ferien in Österreich.jpg", "Ferien in Österreich.jpg"),
            ("../../etc/passwd", "passwd"),
            ("/etc/cron.d/x", "x"),
            ("C:\\Windows\\system32\\evil.dll", "evil.dll"),
            ("..", "file"),
            ("", "file"),
            (".bashrc", "bashrc"),
            ("-rf", "rf"),
            ("a.txt:evil.exe", "a.txt_evil.exe"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("COM1.log", "_COM1.log"),
            ("com\u{b9}", "_com\u{b9}"),
            ("command.txt", "command.txt"),
            ("photo\u{202e}gpj.exe", "photogpj.exe"),
            ("a\u{200b}b\0c\n.txt", "abc.txt"),
            ("trailing. . .", "trailing"),
            ("$HOME`id`.sh", "_HOME_id_.sh"),
            ("tab\there", "tabhere"),
            ("no\u{a0}break", "no break"),
        ] {
            assert_eq!(harmless(claimed), kept, "{claimed:?}");
        }
        let long = format!("{}.tar.gz", "ü".repeat(300));
        let kept = harmless(&long);
        assert!(kept.len() <= MAX_BYTES && kept.ends_with("ü.gz"), "{kept}");
    }

    #[test]
    fn numbers_come_before_the_ending() {
        assert_eq!(numbered("a.txt", 2), "a (2).txt");
        assert_eq!(numbered("README", 3), "README (3)");
    }

    proptest! {
        #[test]
        fn a_name_is_one_name(claimed in "\\PC{0,400}|[./\\\\: -]{0,20}|.{0,300}") {
            let name = harmless(&claimed);
            prop_assert!(!name.is_empty() && name.len() <= MAX_BYTES);
            prop_assert_eq!(Path::new(&name).components().count(), 1);
            let only = Path::new(&name).components().next();
            prop_assert!(matches!(only, Some(Component::Normal(_))));
            prop_assert!(!name.contains([':', '/', '\\', '\0']) && !name.starts_with('.'));
            prop_assert_eq!(harmless(&name), name.clone());
            prop_assert!(harmless(&numbered(&name, 2)).len() < 255);
        }
    }
}
