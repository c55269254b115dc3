//! What there is to be shown: screens, windows, cameras.
//!
//! Asking the system takes time, and is done by tasks of the runtime while the list is open. The thread that draws only
//! says whether it is, and takes what is known.

use ahoy_media::video::trouble::SourceTrouble;
use tokio::{runtime::Handle, sync::watch};

/// Something that can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Names it for the engine: a target of screens, or the id of a camera.
    pub(super) id: String,
    /// Names it for a person.
    pub(super) name: String,
}

/// What is known now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ShelfView {
    /// Somebody looked.
    pub(super) listed: bool,
    /// Monitors, and all of them together.
    pub(super) screens: Vec<Item>,
    /// Windows.
    pub(super) windows: Vec<Item>,
    /// Cameras.
    pub(super) cameras: Vec<Item>,
    /// Why there are no screens.
    pub(super) error: Option<SourceTrouble>,
}

/// The near end.
#[derive(Debug)]
pub(super) struct Shelf {
    wanted: watch::Sender<bool>,
    shown: watch::Receiver<ShelfView>,
}

impl Shelf {
    /// Starts the task; it ends with this.
    pub(super) fn start(runtime: &Handle) -> Self {
        let (wanted, _) = watch::channel(false);
        let (view, shown) = watch::channel(ShelfView::default());
        #[cfg(feature = "video")]
        runtime.spawn(system::keep(wanted.subscribe(), view));
        #[cfg(not(feature = "video"))]
        drop((runtime, view));
        Self { wanted, shown }
    }

    /// What is known, and a way to wait for more.
    pub(super) fn shown(&self) -> watch::Receiver<ShelfView> {
        self.shown.clone()
    }

    /// Somebody looks at it.
    pub(super) fn look(&self, wanted: bool) {
        self.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
    }
}

#[cfg(feature = "video")]
mod system {
    use std::time::Duration;

    use ahoy_media::video::screen::{self, ScreenTarget};
    use tokio::{sync::watch, task::spawn_blocking};

    use super::{Item, ShelfView};

    /// How old the list may be.
    const LIST_INTERVAL: Duration = Duration::from_secs(2);

    pub(super) async fn keep(mut wanted: watch::Receiver<bool>, view: watch::Sender<ShelfView>) {
        while wanted.wait_for(|wanted| *wanted).await.is_ok() {
            match spawn_blocking(list).await {
                Ok(listed) => {
                    view.send_if_modified(|view| {
                        let changed = *view != listed;
                        *view = listed;
                        changed
                    });
                }
                Err(error) => tracing::error!(%error, "listing what can be shown"),
            }
            tokio::time::sleep(LIST_INTERVAL).await;
        }
    }

    fn list() -> ShelfView {
        let mut view = ShelfView {
            listed: true,
            cameras: cameras(),
            ..ShelfView::default()
        };
        match screen::list(std::process::id()) {
            Ok(found) => {
                for showable in found {
                    let place = match showable.target {
                        ScreenTarget::Window(_) => &mut view.windows,
                        ScreenTarget::Monitor(_) | ScreenTarget::All | ScreenTarget::Picked => {
                            &mut view.screens
                        }
                    };
                    place.push(Item {
                        id: showable.target.to_string(),
                        name: showable.name,
                    });
                }
            }
            Err(trouble) => view.error = Some(trouble.why),
        }
        view
    }

    #[cfg(target_os = "linux")]
    fn cameras() -> Vec<Item> {
        let item = |camera: ahoy_media::video::camera::CameraInfo| Item {
            id: camera.id,
            name: camera.name,
        };
        let cameras = ahoy_media::video::camera::list();
        cameras.there.into_iter().map(item).collect()
    }

    #[cfg(not(target_os = "linux"))]
    fn cameras() -> Vec<Item> {
        Vec::new()
    }
}
