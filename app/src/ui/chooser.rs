//! The desktop's own dialog for files, where it has one.
//!
//! On Linux that is the portal (`org.freedesktop.portal.FileChooser`), asked by a thread of its own: whoever draws the window
//! never waits. Where no dialog comes, the person is told to drop the file, or to write where it is.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use eframe::egui;
use tokio::runtime::Handle;

use super::{told, words};

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chosen {
    /// These.
    Files(Vec<PathBuf>),
    /// The person wants none after all.
    Nothing,
    /// There is no dialog here.
    NoDialog,
    /// A copy is where the person wanted it.
    Kept,
    /// It is not, and why, for a person.
    NotKept(String),
}

/// Asks for files.
#[derive(Debug)]
pub(super) struct Chooser {
    runtime: Handle,
    answer: SyncSender<Chosen>,
    answers: Receiver<Chosen>,
    asking: bool,
}

impl Chooser {
    pub(super) fn new(runtime: &Handle) -> Self {
        let (answer, answers) = sync_channel(1);
        Self {
            runtime: runtime.clone(),
            answer,
            answers,
            asking: false,
        }
    }

    /// Opens the dialog, unless one is open.
    pub(super) fn ask(&mut self, ctx: &egui::Context) {
        if std::mem::replace(&mut self.asking, true) {
            return;
        }
        let (answer, ctx) = (self.answer.clone(), ctx.clone());
        let language = words::language();
        self.runtime.spawn_blocking(move || {
            // Nobody may want it any more.
            let chosen = words::with(language, system::choose);
            answer.send(chosen).unwrap_or_default();
            ctx.request_repaint();
        });
    }

    /// Has the person say where a copy of this file is to be, and makes it.
    pub(super) fn keep(&mut self, ctx: &egui::Context, file: PathBuf) {
        if std::mem::replace(&mut self.asking, true) {
            return;
        }
        let (answer, ctx) = (self.answer.clone(), ctx.clone());
        let language = words::language();
        self.runtime.spawn_blocking(move || {
            let kept = words::with(language, || {
                let name = file.file_name().unwrap_or_default();
                kept(&file, system::choose_place(&name.to_string_lossy()))
            });
            answer.send(kept).unwrap_or_default();
            ctx.request_repaint();
        });
    }

    /// What was chosen meanwhile.
    pub(super) fn poll(&mut self) -> Option<Chosen> {
        let chosen = self.answers.try_recv().ok()?;
        self.asking = false;
        Some(chosen)
    }
}

/// Has the person say where a file is to be that does not exist yet. Waits for them.
pub(super) fn place(name: &str) -> Chosen {
    system::choose_place(name)
}

/// What becomes of `file` at the place that was `chosen` for a copy.
fn kept(file: &Path, chosen: Chosen) -> Chosen {
    let place = match chosen {
        Chosen::Files(places) => match places.into_iter().next() {
            Some(place) => place,
            None => return Chosen::Nothing,
        },
        Chosen::NoDialog => return Chosen::NotKept(words::not_kept(words::no_save_dialog())),
        Chosen::Nothing | Chosen::Kept | Chosen::NotKept(_) => return chosen,
    };
    let real = |path: &Path| path.canonicalize().ok();
    if real(&place).is_some_and(|place| real(file) == Some(place)) {
        // To copy a file onto itself would empty it.
        return Chosen::Kept;
    }
    match std::fs::copy(file, &place) {
        Ok(_bytes) => Chosen::Kept,
        Err(error) => Chosen::NotKept(words::not_kept(told::trouble::disk(&(&error).into()))),
    }
}

/// The file that a URI of RFC 8089 stands for; none of another machine.
#[cfg(any(target_os = "linux", test))]
fn path_of_uri(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
    if !rest.starts_with('/') {
        return None;
    }
    let mut bytes = Vec::with_capacity(rest.len());
    let mut letters = rest.bytes();
    while let Some(byte) = letters.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [letters.next()?, letters.next()?];
        let digits = str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt as _;

        Some(std::ffi::OsString::from_vec(bytes).into())
    }
    #[cfg(not(unix))]
    {
        String::from_utf8(bytes).ok().map(PathBuf::from)
    }
}

#[cfg(target_os = "linux")]
mod system {
    use ashpd::desktop::{ResponseError, file_chooser::SelectedFiles};

    use super::{Chosen, path_of_uri, words};

    pub(super) fn choose() -> Chosen {
        let asked = async_io::block_on(async {
            let asked = SelectedFiles::open_file()
                .title(words::send_files())
                .accept_label(words::send())
                .multiple(true);
            asked.send().await?.response()
        });
        chosen(asked)
    }

    pub(super) fn choose_place(name: &str) -> Chosen {
        chosen(async_io::block_on(async {
            let asked = SelectedFiles::save_file()
                .title(words::save_as())
                .current_name(name);
            asked.send().await?.response()
        }))
    }

    fn chosen(asked: ashpd::Result<SelectedFiles>) -> Chosen {
        match asked {
            Ok(files) => {
                let paths = files.uris().iter();
                Chosen::Files(paths.filter_map(|uri| path_of_uri(uri.as_str())).collect())
            }
            Err(ashpd::Error::Response(ResponseError::Cancelled)) => Chosen::Nothing,
            Err(error) => {
                tracing::info!(%error, "no dialog for files");
                Chosen::NoDialog
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn choose() -> super::Chosen {
        super::Chosen::NoDialog
    }

    pub(super) fn choose_place(_name: &str) -> super::Chosen {
        super::Chosen::NoDialog
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uri_is_a_path_of_this_machine_or_none() {
        let path = |uri| path_of_uri(uri).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(path("file:///a/b%20c.txt"), Some("/a/b c.txt".into()));
        assert_eq!(path("file://localhost/%C3%BC"), Some("/ü".into()));
        assert_eq!(path("file://elsewhere/a"), None);
        assert_eq!(path("https://example.org/a"), None);
        assert_eq!(path("file:///a%2"), None);
        assert_eq!(path("file:///a%zz"), None);
    }

    #[test]
    fn a_copy_is_where_it_was_wanted_and_what_is_there_is_never_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("photo.jpg");
        std::fs::write(&file, "a photo").unwrap();
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        let copy = dir.path().join("copy.jpg");
        let to = |place: &Path| kept(&file, Chosen::Files(vec![place.to_owned()]));
        assert_eq!(to(&copy), Chosen::Kept);
        assert_eq!(text(&copy), "a photo");
        assert_eq!(to(&file), Chosen::Kept);
        assert_eq!(text(&file), "a photo");
        let nowhere = to(&dir.path().join("none/copy.jpg"));
        assert!(
            matches!(&nowhere, Chosen::NotKept(why) if why.contains("not saved there")),
            "{nowhere:?}"
        );
        assert_eq!(kept(&file, Chosen::Nothing), Chosen::Nothing);
        assert!(matches!(kept(&file, Chosen::NoDialog), Chosen::NotKept(_)));
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in "(file://)?.{0,40}") {
            if let Some(path) = path_of_uri(&text) {
                prop_assert!(path.is_absolute() || cfg!(windows));
            }
        }
    }
}
