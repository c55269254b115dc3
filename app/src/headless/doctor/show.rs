//! The report as text: a column of marks, a column of names, and room for sentences.

use std::io::{self, IsTerminal, Write};

use super::{
    Report,
    findings::{Finding, Group, Standing},
};
use crate::cli::{CliError, print_line};

/// Width of a line where the terminal does not say otherwise; longer ones are hard to read anyway.
const WIDTH: usize = 80;
const MARK: usize = 9;
/// The narrowest column of names.
const NAME: usize = 14;

/// Says on a terminal that something is being done; takes it back when dropped.
pub(super) struct Busy(bool);

pub(super) fn busy() -> Busy {
    let terminal = io::stderr().is_terminal();
    if terminal {
        told(write!(
            io::stderr(),
            "Looking around; this takes a few seconds …"
        ));
    }
    Busy(terminal)
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0 {
            // Back to the start of the line, and clear it.
            told(write!(io::stderr(), "\r\x1b[K"));
        }
    }
}

/// What the person is to do now; beside the report, which comes at the end.
pub(super) fn say(sentence: &str) {
    told(writeln!(io::stderr(), "{sentence}"));
}

/// A terminal that is gone needs no progress.
fn told(written: io::Result<()>) {
    written
        .and_then(|()| io::stderr().flush())
        .unwrap_or_default();
}

/// What is between the parts of a line.
#[derive(Clone, Copy)]
struct Style {
    colours: bool,
}

impl Style {
    /// Colours for eyes alone (no-color.org).
    fn of_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            colours: wanted && io::stdout().is_terminal(),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";

/// A word and a colour.
fn mark(standing: Standing) -> (&'static str, &'static str) {
    match standing {
        Standing::Ok => ("ok", "32"),
        Standing::Note => ("note", "33"),
        Standing::Fail => ("FAIL", "1;31"),
        Standing::Unknown => ("?", "2"),
    }
}

pub(super) fn print(report: &Report) -> Result<(), CliError> {
    let text = text(report, Style::of_stdout());
    print_line(text.trim_end())
}

fn text(report: &Report, style: Style) -> String {
    let names = report
        .findings
        .iter()
        .map(|finding| finding.what().chars().count());
    let name = names.max().unwrap_or(0).max(NAME) + 2;
    let mut out = String::new();
    for group in Group::ALL {
        let of_group = |finding: &&Finding| finding.group == group;
        let mut findings = report.findings.iter().filter(of_group).peekable();
        if findings.peek().is_none() {
            continue;
        }
        out.push_str(&style.paint(BOLD, group.title()));
        out.push('\n');
        for finding in findings {
            add(&mut out, finding, name, style);
        }
        out.push('\n');
    }
    out.push_str(&style.paint(BOLD, &report.verdict));
    out.push('\n');
    out
}

fn add(out: &mut String, finding: &Finding, name: usize, style: Style) {
    let (word, colour) = mark(finding.standing);
    let (indent, room) = (MARK + name, WIDTH.saturating_sub(MARK + name).max(30));
    out.push_str("  ");
    out.push_str(&style.paint(colour, word));
    out.push_str(&" ".repeat((MARK - 2).saturating_sub(word.len())));
    out.push_str(finding.what());
    out.push_str(&" ".repeat(name.saturating_sub(finding.what().chars().count())));
    let mut lines = wrapped(&finding.found, room).into_iter();
    out.push_str(&lines.next().unwrap_or_default());
    out.push('\n');
    let mut more = |text: &str, first: &str, code: &str| {
        for (n, line) in wrapped(text, room - first.len()).iter().enumerate() {
            let lead = if n == 0 { first } else { &"   "[..first.len()] };
            out.push_str(&" ".repeat(indent));
            out.push_str(&style.paint(code, &format!("{lead}{line}")));
            out.push('\n');
        }
    };
    for line in lines {
        more(&line, "", "0");
    }
    if !finding.meaning.is_empty() {
        more(&finding.meaning, "", DIM);
    }
    if let Some(advice) = &finding.advice {
        more(advice, "-> ", "0");
    }
}

/// Lines of at most `room` characters, broken at spaces; a longer word has a line of its own.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let findings = vec![
            Finding::ok(Group::Network, "UDP", "a port opens", ""),
            Finding::fail(
                Group::Supernodes,
                "192.0.2.1:4433",
                "does not answer",
                "It is down, or a firewall between here and there drops UDP, and nothing else is to be had from it.",
                "Ask its owner.",
            ),
        ];
        Report {
            ok: false,
            verdict: "To be mended.".into(),
            ..Report::new(findings, Vec::new())
        }
    }

    #[test]
    fn lines_are_short_and_stand_in_columns() {
        let plain = text(&report(), Style { colours: false });
        assert_eq!(
            plain,
            "Network\n\
            \x20 ok     UDP             a port opens\n\
            \n\
            Supernodes\n\
            \x20 FAIL   192.0.2.1:4433  does not answer\n\
            \x20                        It is down, or a firewall between here and there drops\n\
            \x20                        UDP, and nothing else is to be had from it.\n\
            \x20                        -> Ask its owner.\n\
            \n\
            To be mended.\n"
        );
        assert!(plain.lines().all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let coloured = text(&report(), Style { colours: true });
        assert!(coloured.contains("\x1b[1;31mFAIL\x1b[0m"));
        let mut stripped = String::new();
        for (n, part) in coloured.split('\x1b').enumerate() {
            let shown = match n {
                0 => part,
                _ => part.split_once('m').map_or(part, |(_code, rest)| rest),
            };
            stripped.push_str(shown);
        }
        assert_eq!(stripped, text(&report(), Style { colours: false }));
    }
}
