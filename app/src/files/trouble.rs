//! Why a file does not move, by type, and as it is kept.

use std::{fmt, path::PathBuf};

use super::{part::PartError, readable};
use crate::disk::{DiskTrouble, DiskTroubleKind};

/// Why a file failed, waits, or is not wanted. As text it is English, and stands behind what is said of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileTrouble {
    /// There is no room for it.
    Full,
    /// It cannot be written.
    Disk {
        /// Where.
        path: PathBuf,
        /// What the disk says.
        disk: DiskTrouble,
    },
    /// Too many files in this folder are called so.
    Names(PathBuf),
    /// It is larger than this many bytes, which is what the person takes.
    TooLarge(u64),
    /// Whoever offered it took it back.
    TakenBack,
    /// This person does not want it.
    NotWanted(String),
    /// It was changed, or taken away, since it was offered.
    Changed,
    /// What an older ahoy wrote down.
    Other(String),
}

/// Stands before what is kept by type. Sentences that an older version kept begin otherwise.
const TYPED: char = '\u{1}';
/// Stands between the parts.
const BREAK: char = '\n';

impl FileTrouble {
    /// As it is kept.
    #[must_use]
    pub fn to_text(&self) -> String {
        let parts: Vec<String> = match self {
            Self::Full => vec!["full".into()],
            Self::Disk { path, disk } => {
                let kind = match disk.kind {
                    DiskTroubleKind::Full => "full",
                    DiskTroubleKind::Denied => "denied",
                    DiskTroubleKind::ReadOnly => "read-only",
                    DiskTroubleKind::Missing => "missing",
                    DiskTroubleKind::Other => "other",
                };
                // What may hold a break comes last.
                let path = path.to_string_lossy().replace(BREAK, " ");
                vec!["disk".into(), kind.into(), path, disk.text.clone()]
            }
            Self::Names(folder) => vec!["names".into(), folder.to_string_lossy().into_owned()],
            Self::TooLarge(most) => vec!["too-large".into(), most.to_string()],
            Self::TakenBack => vec!["taken-back".into()],
            Self::NotWanted(person) => vec!["not-wanted".into(), person.clone()],
            Self::Changed => vec!["changed".into()],
            Self::Other(text) => return text.clone(),
        };
        format!("{TYPED}{}", parts.join(&BREAK.to_string()))
    }

    /// What was kept; none of nothing.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let other = || Self::Other(text.to_owned());
        Some(match text.strip_prefix(TYPED) {
            Some(typed) => Self::typed(typed).unwrap_or_else(other),
            None => other(),
        })
    }

    fn typed(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, BREAK);
        let which = parts.next()?;
        Some(match which {
            "full" => Self::Full,
            "disk" => {
                let kind = match parts.next()? {
                    "full" => DiskTroubleKind::Full,
                    "denied" => DiskTroubleKind::Denied,
                    "read-only" => DiskTroubleKind::ReadOnly,
                    "missing" => DiskTroubleKind::Missing,
                    _ => DiskTroubleKind::Other,
                };
                Self::Disk {
                    path: parts.next()?.into(),
                    disk: DiskTrouble {
                        kind,
                        text: parts.next()?.into(),
                    },
                }
            }
            "names" => Self::Names(parts.next()?.into()),
            "too-large" => Self::TooLarge(parts.next()?.parse().ok()?),
            "taken-back" => Self::TakenBack,
            "not-wanted" => Self::NotWanted(parts.next()?.into()),
            "changed" => Self::Changed,
            _ => return None,
        })
    }
}

impl From<&PartError> for FileTrouble {
    fn from(error: &PartError) -> Self {
        match error {
            PartError::Full => Self::Full,
            PartError::Io { path, source } => Self::Disk {
                path: path.clone(),
                disk: source.into(),
            },
            PartError::Names(folder) => Self::Names(folder.clone()),
        }
    }
}

impl fmt::Display for FileTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "{}", PartError::Full),
            Self::Disk { path, disk } => write!(f, "cannot write to {}: {disk}", path.display()),
            Self::Names(folder) => write!(f, "{}", PartError::Names(folder.clone())),
            Self::TooLarge(most) => {
                write!(f, "it is larger than the {} that you take", readable(*most))
            }
            Self::TakenBack => f.write_str("you took it back"),
            Self::NotWanted(person) => write!(f, "{person} does not want it"),
            Self::Changed => f.write_str("the file was changed or taken away since it was offered"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_an_older_version_kept_stays_as_it_was() {
        let troubles = [
            FileTrouble::Full,
            FileTrouble::Disk {
                path: "/media/stick/film.mkv".into(),
                disk: DiskTrouble {
                    kind: DiskTroubleKind::ReadOnly,
                    text: "Read-only file system\n(os error 30)".into(),
                },
            },
            FileTrouble::Names("/home/ada/Downloads".into()),
            FileTrouble::TooLarge(5_000_000),
            FileTrouble::TakenBack,
            FileTrouble::NotWanted("Grace".into()),
            FileTrouble::Changed,
            FileTrouble::Other("the file was eaten".into()),
        ];
        for trouble in troubles {
            let kept = trouble.to_text();
            assert_eq!(FileTrouble::from_text(&kept), Some(trouble), "{kept:?}");
        }
        assert_eq!(FileTrouble::from_text(""), None);
        for damaged in ["\u{1}", "\u{1}disk\nfull", "\u{1}too-large\nmuch", "\u{1}x"] {
            let read = FileTrouble::from_text(damaged);
            assert_eq!(read, Some(FileTrouble::Other(damaged.into())));
        }
    }
}
