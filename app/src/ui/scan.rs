//! A link read from a QR code before the camera, where one would type it.

use eframe::egui;

use super::{
    mirror::{self, Sight},
    model::ActionKind,
    parts,
    theme::Tokens,
    words,
};

/// Whether somebody holds a code up to the camera.
#[derive(Debug, Default)]
pub(super) struct Scan {
    open: bool,
    /// It was drawn since it was last asked whether the camera is needed.
    drawn: bool,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// A link was read.
    pub(super) link: Option<String>,
    /// This camera was chosen instead.
    pub(super) camera: Option<String>,
}

impl Scan {
    /// Draws the button, and what the camera sees until it sees a link that begins so.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        sight: &Sight<'_>,
        scheme: &str,
        tokens: &Tokens,
    ) -> Done {
        let mut done = Done::default();
        if !cfg!(feature = "video") {
            return done;
        }
        self.drawn = true;
        let size = tokens.size;
        let area = egui::vec2(0.0, size.control_height);
        ui.add_space(size.gap);
        let label = if self.open {
            words::scan_stop()
        } else {
            words::scan_code()
        };
        // In front of what changes, so that it stays where it is, and the keyboard with it.
        if parts::button(ui, tokens, (label, None), ActionKind::Plain, area, true).clicked() {
            self.open = !self.open;
        }
        if !self.open {
            return done;
        }
        ui.add_space(size.gap);
        parts::caption(ui, tokens, words::scan_is());
        done.camera = mirror::show(ui, sight, tokens);
        match &sight.mirror.code {
            Some(code) if code.trim().starts_with(scheme) => {
                done.link = Some(code.trim().to_owned());
                self.open = false;
                // The field it goes into is drawn already.
                ui.ctx().request_repaint();
            }
            Some(_other) => parts::caption(ui, tokens, words::scan_no_link()),
            None => {}
        }
        done
    }

    /// Nobody looks any more.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// Whether the camera is to look for codes. Nobody does on a page that was not drawn since this was asked last.
    pub(super) fn is_wanted(&mut self) -> bool {
        self.open &= std::mem::take(&mut self.drawn);
        self.open
    }
}

#[cfg(all(test, feature = "video"))]
mod tests {
    use super::*;
    use crate::{
        engine::video::WindowPictures,
        ui::{mirror::MirrorView, pace::Pace, shelf::ShelfView, stage::Stage, testing::Reader},
    };

    #[test]
    fn a_link_is_taken_once_and_what_is_none_is_said() {
        let mut reader = Reader::new();
        let tokens = reader.tokens;
        let stage = Stage::new(WindowPictures::default(), &reader.ctx, Pace::default());
        let shelf = ShelfView::default();
        let mut scan = Scan::default();
        let mut draw = |scan: &mut Scan, code: Option<&str>, press: Option<&str>| {
            let sight = Sight {
                stage: &stage,
                mirror: MirrorView {
                    trouble: None,
                    code: code.map(Into::into),
                },
                shelf: &shelf,
                camera: None,
            };
            let events = press.map(|name| reader.press(name)).into_iter().collect();
            let mut link = None;
            reader.frame(events, |ui| {
                link = scan.show(ui, &sight, "ahoy:", &tokens).link.or(link.take());
            });
            let said = reader.said().any(|said| said == words::scan_no_link());
            (link, said)
        };
        let link = "ahoy:person";
        assert_eq!(draw(&mut scan, Some(link), None), (None, false), "unasked");
        assert!(!scan.is_wanted());
        draw(&mut scan, None, None);
        draw(&mut scan, None, Some(words::scan_code()));
        assert!(scan.is_wanted());
        draw(&mut scan, None, None);
        assert_eq!(
            draw(&mut scan, Some("https://example.org"), None),
            (None, true)
        );
        let other = draw(&mut scan, Some("ahoy-pair:secret"), None);
        assert_eq!(other, (None, true), "a link for something else");
        assert!(scan.is_wanted());
        let (read, _) = draw(&mut scan, Some(" ahoy:person\n"), None);
        assert_eq!(read.as_deref(), Some(link));
        assert!(!scan.is_wanted(), "the camera is let go");

        draw(&mut scan, None, None);
        draw(&mut scan, None, Some(words::scan_code()));
        assert!(scan.is_wanted());
        assert!(!scan.is_wanted(), "another page is shown");
    }
}
