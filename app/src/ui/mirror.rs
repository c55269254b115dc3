//! The camera outside of calls: who looks at it, and for how long.
//!
//! A camera takes its time to open and to close, so a task of the runtime does both. The thread that draws says which camera
//! it wants to see, if any; as soon as it wants none, the camera is let go.

use std::sync::Arc;

use ahoy_media::video::{latest::Latest, source::TroubleKind};
use eframe::egui::{self, Label, RichText};
use tokio::{runtime::Handle, sync::watch};

use super::{
    parts,
    shelf::ShelfView,
    stage::Stage,
    theme::Tokens,
    words::{self, Word},
};
use crate::engine::video::VideoIn;

/// What is known now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MirrorView {
    /// Why there is no picture.
    pub(super) trouble: Option<TroubleKind>,
    /// The text of the code that was held up last.
    pub(super) code: Option<Arc<str>>,
}

/// What somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) camera: VideoIn,
    /// Codes are read, too.
    pub(super) scans: bool,
}

/// What is known of cameras.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    pub(super) stage: &'a Stage,
    pub(super) mirror: MirrorView,
    pub(super) shelf: &'a ShelfView,
    /// The camera that was chosen.
    pub(super) camera: Option<&'a String>,
}

/// The near end.
#[derive(Debug)]
pub(super) struct Mirror {
    wanted: watch::Sender<Option<Wanted>>,
    shown: watch::Receiver<MirrorView>,
}

impl Mirror {
    /// Starts the task, which ends with this and puts pictures there.
    pub(super) fn start(runtime: &Handle, latest: Latest) -> Self {
        let (wanted, _) = watch::channel(None);
        let (view, shown) = watch::channel(MirrorView::default());
        #[cfg(feature = "video")]
        runtime.spawn(system::keep(wanted.subscribe(), latest, view));
        #[cfg(not(feature = "video"))]
        drop((runtime, latest, view));
        Self { wanted, shown }
    }

    /// What is known, and a way to wait for more.
    pub(super) fn shown(&self) -> watch::Receiver<MirrorView> {
        self.shown.clone()
    }

    /// Somebody looks at this camera, or at none.
    pub(super) fn look(&self, wanted: Option<Wanted>) {
        self.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
    }

    /// What is looked at.
    #[cfg(test)]
    pub(super) fn wanted(&self) -> Option<Wanted> {
        self.wanted.borrow().clone()
    }
}

#[cfg(feature = "video")]
mod system {
    use ahoy_media::video::{latest::Latest, source::TroubleKind};
    use tokio::{sync::watch, task::spawn_blocking};

    use super::{MirrorView, Wanted};
    use crate::engine::video::{self, MirrorTold};

    pub(super) async fn keep(
        mut wanted: watch::Receiver<Option<Wanted>>,
        latest: Latest,
        view: watch::Sender<MirrorView>,
    ) {
        loop {
            let input = match wanted.wait_for(Option::is_some).await {
                Ok(wanted) => wanted.clone(),
                Err(_closed) => return,
            };
            let Some(Wanted { camera, scans }) = input.clone() else {
                continue;
            };
            view.send_replace(MirrorView::default());
            let told = view.clone();
            let tell = move |news| {
                told.send_if_modified(|view| match news {
                    MirrorTold::Trouble(trouble) => {
                        *view = MirrorView {
                            trouble,
                            ..MirrorView::default()
                        };
                        true
                    }
                    MirrorTold::Code(code) => {
                        let is_new = view.code.as_deref() != Some(&*code);
                        view.code = Some(code.into());
                        is_new
                    }
                });
            };
            let open = video::Mirror::start(camera, latest.clone(), scans, tell);
            let open = open.inspect_err(|error| {
                tracing::error!(error, "no camera is looked at");
                view.send_replace(MirrorView {
                    trouble: Some(TroubleKind::Failed),
                    ..MirrorView::default()
                });
            });
            let over = wanted.wait_for(|wanted| *wanted != input).await.is_err();
            view.send_replace(MirrorView::default());
            // Closing takes a moment, and so may opening, which is waited for.
            if spawn_blocking(move || drop(open)).await.is_err() {
                tracing::error!("the camera was closed in disorder");
            }
            view.send_replace(MirrorView::default());
            if over {
                return;
            }
        }
    }
}

/// What is to be said where there is no picture.
fn sentence(trouble: Option<TroubleKind>) -> Word {
    match trouble {
        None => words::mirror_opens,
        Some(TroubleKind::Missing) => words::mirror_missing,
        Some(TroubleKind::Denied) => words::mirror_denied,
        Some(TroubleKind::Busy) => words::mirror_busy,
        Some(TroubleKind::Gone) => words::mirror_gone,
        Some(TroubleKind::Hidden | TroubleKind::Locked | TroubleKind::Failed) => {
            words::mirror_failed
        }
    }
}

/// Draws the picture, or why there is none, and what else could be looked at; which camera was chosen instead.
pub(super) fn show(ui: &mut egui::Ui, sight: &Sight<'_>, tokens: &Tokens) -> Option<String> {
    let (shelf, trouble) = (sight.shelf, sight.mirror.trouble);
    let size = tokens.size;
    if !sight.stage.mirror(ui, tokens) {
        let text = RichText::new(sentence(trouble)());
        let text = if trouble.is_some() {
            text.color(tokens.colors(ui.ctx()).danger_text)
        } else {
            text
        };
        ui.add(Label::new(text).wrap());
    }
    // One is no choice.
    if shelf.cameras.len() < 2 {
        return None;
    }
    ui.add_space(size.gap);
    let names: Vec<&str> = shelf.cameras.iter().map(|item| &*item.name).collect();
    let place = |id: &String| shelf.cameras.iter().position(|item| item.id == *id);
    let place = sight.camera.and_then(place).unwrap_or(0);
    let role = egui::accesskit::Role::RadioButton;
    let picked = parts::choice(ui, tokens, (role, &names), place)?;
    Some(shelf.cameras.get(picked)?.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::video::WindowPictures,
        ui::{pace::Pace, shelf::Item, testing::Reader},
    };

    #[test]
    fn each_trouble_has_a_sentence_of_its_own_and_a_camera_is_chosen_by_name() {
        let mut reader = Reader::new();
        let tokens = reader.tokens;
        let stage = Stage::new(WindowPictures::default(), &reader.ctx, Pace::default());
        let item = |id: &str, name: &str| Item {
            id: id.into(),
            name: name.into(),
        };
        let shelf = ShelfView {
            listed: true,
            cameras: vec![item("usb-1", "Front"), item("usb-2", "Back")],
            ..ShelfView::default()
        };
        let sight = |trouble| Sight {
            stage: &stage,
            mirror: MirrorView {
                trouble,
                ..MirrorView::default()
            },
            shelf: &shelf,
            camera: None,
        };
        let troubles = [
            None,
            Some(TroubleKind::Missing),
            Some(TroubleKind::Denied),
            Some(TroubleKind::Busy),
            Some(TroubleKind::Gone),
            Some(TroubleKind::Failed),
        ];
        let mut said = std::collections::BTreeSet::new();
        for trouble in troubles {
            let sight = sight(trouble);
            reader.frame(vec![], |ui| {
                show(ui, &sight, &tokens);
            });
            let told = reader.text(|text| text == sentence(trouble)());
            assert!(told.is_some(), "{trouble:?}");
            said.extend(told);
        }
        assert_eq!(said.len(), troubles.len());
        let press = reader.press("Back");
        let mut chosen = None;
        reader.frame(vec![press], |ui| {
            chosen = show(ui, &sight(None), &tokens).or(chosen.take());
        });
        assert_eq!(chosen.as_deref(), Some("usb-2"));
    }
}
