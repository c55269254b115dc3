//! Which window is meant.

use crate::video::{
    live::Trouble,
    trouble::{Named, SourceTrouble},
};

/// A window that can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WindowInfo {
    pub(super) id: u32,
    pub(super) title: String,
}

/// At most so many windows are named to a person.
const MAX_NAMED: usize = 8;

/// Longer titles are cut, in characters.
const MAX_TITLE: usize = 60;

/// A title as it may be printed: whoever wrote it is a stranger, such as a page in a browser.
pub(super) fn printable(title: &str) -> String {
    let is_harmless = |character: &char| {
        let turns_text = matches!(*character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        !character.is_control() && !turns_text
    };
    title.chars().filter(is_harmless).take(MAX_TITLE).collect()
}

fn list(windows: &[&WindowInfo]) -> Named {
    let names = windows.iter().take(MAX_NAMED);
    let names = names.map(|window| format!("“{}” ({:#x})", printable(&window.title), window.id));
    Named {
        names: names.collect(),
        more: windows.len().saturating_sub(MAX_NAMED),
    }
}

/// The number of a window, as X11's tools print it: `0x1e00003`.
fn id(wanted: &str) -> Option<u32> {
    let digits = wanted.strip_prefix("0x")?;
    u32::from_str_radix(digits, 16).ok()
}

/// The window that `wanted` names: by its number, its title, or a part of it, whatever the case.
pub(super) fn choose(windows: &[WindowInfo], wanted: &str) -> Result<WindowInfo, Trouble> {
    let lower = wanted.to_lowercase();
    let by = |matches: &dyn Fn(&WindowInfo) -> bool| -> Vec<&WindowInfo> {
        windows.iter().filter(|window| matches(window)).collect()
    };
    let found = match id(wanted) {
        Some(id) => by(&|window| window.id == id),
        None => [
            by(&|window| window.title == wanted),
            by(&|window| window.title.to_lowercase() == lower),
            by(&|window| window.title.to_lowercase().contains(&lower)),
        ]
        .into_iter()
        .find(|found| !found.is_empty())
        .unwrap_or_default(),
    };
    match found.as_slice() {
        [window] => Ok((*window).clone()),
        [] => {
            let all: Vec<&WindowInfo> = windows.iter().collect();
            Err(Trouble::new(SourceTrouble::WindowUnknown {
                window: printable(wanted),
                there: list(&all),
            }))
        }
        several => Err(Trouble::new(SourceTrouble::WindowAmbiguous {
            window: printable(wanted),
            first: several[0].id,
            several: list(several),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::source::TroubleKind;

    fn windows() -> Vec<WindowInfo> {
        [
            (0x20_0001, "Letter"),
            (0x20_0002, "letter to Bo"),
            (0x20_0003, "Terminal"),
            (0x20_0004, "terminal"),
        ]
        .map(|(id, title)| WindowInfo {
            id,
            title: title.into(),
        })
        .into()
    }

    #[test]
    fn a_window_is_found_by_number_title_or_part_of_it_and_never_guessed() {
        let id = |wanted: &str| choose(&windows(), wanted).map(|window| window.id & 0xf);
        assert_eq!(id("0x200003"), Ok(3));
        assert_eq!(id("Letter"), Ok(1), "the whole title counts more");
        assert_eq!(id("Terminal"), Ok(3));
        assert_eq!(id("to bo"), Ok(2));
        assert_eq!(id("LETTER"), Ok(1));
        for (wanted, part) in [
            ("term", "window:0x200003"),
            ("TERMINAL", "Several windows are called “TERMINAL”"),
            ("Film", "There are: “Letter” (0x200001), “letter to Bo”"),
            ("0x99", "No window is called “0x99”"),
        ] {
            let trouble = choose(&windows(), wanted).unwrap_err();
            assert_eq!(trouble.why.kind(), TroubleKind::Missing);
            let sentence = trouble.why.to_string();
            assert!(sentence.contains(part), "{sentence}");
        }
        let none = choose(&[], "x").unwrap_err();
        assert!(none.why.to_string().contains("No window is open"));
    }

    #[test]
    fn titles_of_strangers_do_nothing_to_the_terminal() {
        let nasty = WindowInfo {
            id: 1,
            title: format!("a\u{1b}[2J\u{202e}b\n{}", "x".repeat(500)),
        };
        let sentence = choose(&[nasty], "other").unwrap_err().why.to_string();
        assert!(sentence.contains("“a[2Jbxxx"), "{sentence}");
        assert!(!sentence.contains(['\u{1b}', '\u{202e}', '\n']));
        assert!(sentence.len() < 300);
    }

    #[test]
    fn of_many_windows_a_few_are_named() {
        let many: Vec<WindowInfo> = (1..50)
            .map(|id| WindowInfo {
                id,
                title: format!("no {id}"),
            })
            .collect();
        let sentence = choose(&many, "other").unwrap_err().why.to_string();
        assert!(sentence.ends_with("41 more."), "{sentence}");
    }
}
