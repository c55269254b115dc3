//! Starting with the session: a desktop entry in the folder that desktops look into (the XDG autostart specification). The
//! file itself says whether it is on: whoever switches it off by the desktop's own settings has switched it off.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

const ENTRY: &str = "ahoy.desktop";

/// Where it is, or would be; none where the system has no such folder.
fn path() -> Option<PathBuf> {
    let folders = directories::BaseDirs::new()?;
    Some(folders.config_dir().join("autostart").join(ENTRY))
}

/// Whether ahoy starts with the session.
#[must_use]
pub fn is_on() -> bool {
    cfg!(target_os = "linux") && path().is_some_and(|path| counts(&path))
}

/// From the next session on ahoy starts with it, without a window, on the profile in `home` where one is named; or no more.
///
/// # Errors
/// When the file cannot be written or removed, or this system starts programs in another way.
pub fn set(on: bool, home: Option<&Path>) -> io::Result<()> {
    let path = path().filter(|_| cfg!(target_os = "linux"));
    let path = path.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
    put(&path, on, &std::env::current_exe()?, home)
}

/// Desktops note in the file itself that it is switched off.
fn counts(path: &Path) -> bool {
    let Ok(text) = fs::read_to_string(path) else {
        return false;
    };
    let off = ["Hidden=true", "X-GNOME-Autostart-enabled=false"];
    !text.lines().any(|line| off.contains(&line.trim()))
}

fn put(path: &Path, on: bool, program: &Path, home: Option<&Path>) -> io::Result<()> {
    if !on {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _gone => Ok(()),
        };
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, entry(program, home))
}

fn entry(program: &Path, home: Option<&Path>) -> String {
    let mut exec = quoted(program.as_os_str());
    exec.push_str(" --hidden");
    if let Some(home) = home {
        exec.push_str(" --home ");
        exec.push_str(&quoted(home.as_os_str()));
    }
    format!(
        "[Desktop Entry]\nType=Application\nName=ahoy\nComment=Rings when somebody calls\nExec={exec}\nIcon=ahoy\n\
         Terminal=false\nX-GNOME-Autostart-enabled=true\n"
    )
}

/// As the Desktop Entry specification wants arguments of `Exec`: quoted, what has a meaning in quotes behind a backslash
/// that is itself one in the file, and a per cent sign twice.
fn quoted(argument: &OsStr) -> String {
    let mut quoted = String::from('"');
    for letter in argument.to_string_lossy().chars() {
        match letter {
            '"' | '`' | '$' => {
                quoted.push_str("\\\\");
                quoted.push(letter);
            }
            '\\' => quoted.push_str("\\\\\\\\"),
            '%' => quoted.push_str("%%"),
            '\n' => quoted.push_str("\\n"),
            _usual => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_written_and_removed_and_the_desktops_word_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config/autostart/ahoy.desktop");
        let program = Path::new("/usr/bin/ahoy");
        assert!(!counts(&path));
        put(&path, true, program, None).unwrap();
        assert!(counts(&path));
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\nExec=\"/usr/bin/ahoy\" --hidden\n"),
            "{text}"
        );
        for off in ["Hidden=true", "X-GNOME-Autostart-enabled=false"] {
            fs::write(&path, format!("{text}{off}\n")).unwrap();
            assert!(!counts(&path), "{off}");
        }
        for _twice in 0..2 {
            put(&path, false, program, None).unwrap();
            assert!(!path.exists());
        }
    }

    #[test]
    fn odd_paths_stay_what_they_are() {
        let text = entry(Path::new("/a b/100%"), Some(Path::new("/$HOME/\"x\\y")));
        let exec = text.lines().find(|line| line.starts_with("Exec=")).unwrap();
        assert_eq!(
            exec,
            r#"Exec="/a b/100%%" --hidden --home "/\\$HOME/\\"x\\\\y""#
        );
    }
}
