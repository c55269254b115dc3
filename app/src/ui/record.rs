//! Where the window puts recordings.

use std::path::PathBuf;

use chrono::{DateTime, Local};
use directories::UserDirs;

use crate::engine::recording::RecordTo;

/// Letters of a name that are kept in a file's.
const MAX_NAME_CHARS: usize = 40;

/// A file of this minute, in the person's folder of films, or of documents where there is none.
pub(super) fn to_own_folder(name: &str) -> RecordTo {
    let folder = UserDirs::new().map_or_else(PathBuf::new, |folders| {
        let films = folders.video_dir().or_else(|| folders.document_dir());
        films.unwrap_or_else(|| folders.home_dir()).join("ahoy")
    });
    RecordTo {
        path: folder.join(file_name(&Local::now(), name)),
        any_number: true,
    }
}

/// By when it was and who it was with. What is said of a name may not lead into another folder.
fn file_name(now: &DateTime<Local>, name: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
    let name: String = name.chars().filter(kept).take(MAX_NAME_CHARS).collect();
    let minute = now.format("%Y-%m-%d %H.%M");
    match name.trim() {
        "" => format!("{minute}.mkv"),
        name => format!("{minute} {name}.mkv"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;

    use super::*;

    #[test]
    fn a_recording_has_the_day_and_a_name_that_stays_in_its_folder() {
        let now = Local.with_ymd_and_hms(2026, 3, 9, 8, 5, 59).unwrap();
        let name = |of| file_name(&now, of);
        assert_eq!(name("Grace Hopper"), "2026-03-09 08.05 Grace Hopper.mkv");
        assert_eq!(name("../../etc/passwd"), "2026-03-09 08.05 etcpasswd.mkv");
        assert_eq!(name("\u{202e}/.."), "2026-03-09 08.05.mkv");
        assert!(name(&"ü".repeat(1000)).chars().count() < 70);
    }

    #[test]
    fn recordings_are_beside_each_other_in_a_folder_of_their_own() {
        let to = to_own_folder("Grace");
        assert!(to.any_number);
        let folder = to.path.parent().and_then(|folder| folder.file_name());
        assert_eq!(folder, Some("ahoy".as_ref()));
    }
}
