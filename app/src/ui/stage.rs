//! Where pictures are seen: the other side's as large as there is room, our own in its corner.

mod gl;

use std::sync::Arc;

use ahoy_media::video::latest::{Latest, Newest};
use eframe::{
    egui::{
        self, Align2, Color32, CornerRadius, FontId, PaintCallback, Rect, Sense, Shape, Vec2,
        WidgetInfo, accesskit::Role,
    },
    egui_glow::CallbackFn,
    glow,
};

use self::gl::{Easel, Place};
use super::{
    model,
    pace::{Pace, Part},
    theme::{self, Tokens},
    words,
};
use crate::engine::{handle::CallView, video::WindowPictures};

/// Our own picture takes so much of the stage's width, and is so wide at least and at most.
const OWN_SHARE: f32 = 0.22;
const OWN_LEAST: f32 = 96.0;
const OWN_MOST: f32 = 260.0;
/// Nor higher than this share of the stage's height.
const OWN_HEIGHT: f32 = 0.4;
/// From the corner of the stage.
const OWN_INSET: f32 = 12.0;
/// The disc with the first letter of a name, where there is no picture.
const DISC_RADIUS: f32 = 40.0;

/// Pictures, and what draws them.
#[derive(Debug)]
pub(super) struct Stage {
    pictures: WindowPictures,
    easel: Easel,
    theirs: Option<Newest>,
    own: Option<Newest>,
    /// Where we see ourselves outside of calls.
    mirror: Latest,
    mirrored: Option<Newest>,
    pace: Pace,
}

/// The largest rectangle of this shape in the middle of `outer`.
fn fit(outer: Rect, width: u32, height: u32) -> Rect {
    let (width, height) = (width.max(1) as f32, height.max(1) as f32);
    let factor = (outer.width() / width).min(outer.height() / height);
    Rect::from_center_size(outer.center(), Vec2::new(width, height) * factor)
}

impl Stage {
    pub(super) fn new(pictures: WindowPictures, ctx: &egui::Context, pace: Pace) -> Self {
        let mirror = Latest::default();
        for latest in [&pictures.theirs, &pictures.own, &mirror] {
            let ctx = ctx.clone();
            latest.on_change(move || ctx.request_repaint_of(egui::ViewportId::ROOT));
        }
        Self {
            pictures,
            easel: Easel::default(),
            theirs: None,
            own: None,
            mirror,
            mirrored: None,
            pace,
        }
    }

    /// Where pictures of a camera are put that nobody else sees.
    pub(super) fn mirror_place(&self) -> Latest {
        self.mirror.clone()
    }

    /// Takes the newest pictures. Never waits: whoever changes one in this moment asks for another look.
    pub(super) fn look(&mut self) {
        self.pictures.theirs.look(&mut self.theirs);
        self.pictures.own.look(&mut self.own);
        self.mirror.look(&mut self.mirrored);
    }

    /// Whether there is something to be seen.
    pub(super) fn has_picture(&self) -> bool {
        self.theirs.is_some() || self.own.is_some()
    }

    /// Gives back what the graphics card holds.
    pub(super) fn destroy(&self, gl: &glow::Context) {
        self.easel.destroy(gl);
    }

    /// Draws all of it into `area`. Whether it was double-clicked.
    pub(super) fn show(&self, ui: &egui::Ui, area: Rect, call: &CallView, tokens: &Tokens) -> bool {
        // Pictures stand on dark whatever the page does.
        let colors = tokens.dark;
        let ground = tokens.colors(ui.ctx()).stage;
        let rounding = tokens.size.card_radius;
        let corner = CornerRadius::same(theme::radius(rounding));
        ui.painter().rect_filled(area, corner, ground);
        let response = ui.interact(area, ui.scope_id().with("stage"), Sense::click());
        let name = &call.name;
        let told = model::stage_words(call);
        match &self.theirs {
            Some(theirs) => {
                let size = theirs.frame.size();
                let place = fit(area, size.width(), size.height());
                self.picture(ui, place, Place::Theirs, theirs, rounding);
                response.widget_info(|| {
                    WidgetInfo::labeled(Role::Image, true, words::picture_of(name))
                });
                if let Some(told) = told {
                    pill(ui, area, &told, colors.on_fill);
                }
            }
            None => {
                let told = told.unwrap_or_else(|| words::shows_no_picture(name));
                response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &told));
                self.placeholder(ui, area, call, &told, tokens);
            }
        }
        if let Some(own) = &self.own {
            self.own(ui, area, own, tokens);
        }
        if self.easel.is_broken() {
            pill(ui, area, words::cannot_draw(), colors.danger_text);
        }
        response.double_clicked()
    }

    /// Draws what the camera sees outside of a call, if there is a picture of it.
    pub(super) fn mirror(&self, ui: &mut egui::Ui, tokens: &Tokens) -> bool {
        /// Higher would leave no room for what is said below it.
        const MOST_HEIGHT: f32 = 240.0;
        let Some(mirrored) = &self.mirrored else {
            return false;
        };
        let size = mirrored.frame.size();
        let most = Vec2::new(ui.available_width(), MOST_HEIGHT);
        let shape = fit(
            Rect::from_min_size(egui::Pos2::ZERO, most),
            size.width(),
            size.height(),
        );
        let (rect, response) = ui.allocate_exact_size(shape.size(), Sense::hover());
        self.picture(ui, rect, Place::Mirror, mirrored, tokens.size.radius);
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, words::own_picture()));
        true
    }

    fn own(&self, ui: &egui::Ui, area: Rect, own: &Newest, tokens: &Tokens) {
        let size = own.frame.size();
        let width = (area.width() * OWN_SHARE).clamp(OWN_LEAST, OWN_MOST);
        let most = Vec2::new(width, area.height() * OWN_HEIGHT);
        let shape = fit(
            Rect::from_min_size(egui::Pos2::ZERO, most),
            size.width(),
            size.height(),
        );
        let corner = area.max - Vec2::splat(OWN_INSET);
        let place = Rect::from_min_max(corner - shape.size(), corner);
        let radius = tokens.size.radius;
        self.picture(ui, place, Place::Own, own, radius);
        // Told from the picture behind it by an edge.
        let rounding = CornerRadius::same(theme::radius(radius));
        let edge = egui::Stroke::new(1.0, Color32::from_white_alpha(70));
        ui.painter()
            .rect_stroke(place, rounding, edge, egui::StrokeKind::Outside);
        let response = ui.interact(place, ui.scope_id().with("own picture"), Sense::hover());
        response.widget_info(|| {
            let name = if own.is_mirrored {
                words::own_picture()
            } else {
                words::what_you_show()
            };
            WidgetInfo::labeled(Role::Image, true, name)
        });
    }

    fn picture(&self, ui: &egui::Ui, rect: Rect, place: Place, newest: &Newest, radius: f32) {
        let (easel, pace, newest) = (self.easel.clone(), self.pace.clone(), newest.clone());
        let callback = CallbackFn::new(move |info, painter| {
            let radius = radius * info.pixels_per_point;
            pace.time(Part::Paint, || {
                easel.paint(painter.gl(), &info, place, &newest, radius);
            });
        });
        ui.painter().add(Shape::Callback(PaintCallback {
            rect,
            callback: Arc::new(callback),
        }));
    }

    fn placeholder(
        &self,
        ui: &egui::Ui,
        area: Rect,
        call: &CallView,
        words: &str,
        tokens: &Tokens,
    ) {
        let (colors, size) = (tokens.dark, tokens.size);
        let painter = ui.painter();
        let centre = area.center() - Vec2::new(0.0, size.margin);
        let radius = DISC_RADIUS.min(area.height() / 4.0);
        painter.circle_filled(centre, radius, colors.control);
        let first: String = call
            .name
            .chars()
            .take(1)
            .flat_map(char::to_uppercase)
            .collect();
        let font = FontId::proportional(radius);
        painter.text(centre, Align2::CENTER_CENTER, first, font, colors.text);
        let below = centre + Vec2::new(0.0, radius + size.gap * 2.0);
        let wrap = area.width() - 2.0 * size.margin;
        let font = FontId::proportional(size.body);
        let galley = painter.layout(words.to_owned(), font, colors.text_soft, wrap);
        let corner = below - Vec2::new(galley.size().x / 2.0, 0.0);
        painter.galley(corner, galley, colors.text_soft);
    }
}

/// Words over a picture.
fn pill(ui: &egui::Ui, area: Rect, words: &str, color: Color32) {
    const PADDING: Vec2 = Vec2::new(14.0, 8.0);
    let font = egui::TextStyle::Body.resolve(ui.style());
    let wrap = area.width() - 4.0 * PADDING.x;
    let galley = ui.painter().layout(words.to_owned(), font, color, wrap);
    let size = galley.size() + 2.0 * PADDING;
    let top = egui::pos2(area.center().x - size.x / 2.0, area.top() + PADDING.x);
    let rect = Rect::from_min_size(top, size);
    let rounding = CornerRadius::same(theme::radius(size.y / 2.0));
    ui.painter()
        .rect_filled(rect, rounding, Color32::from_black_alpha(170));
    ui.painter().galley(rect.min + PADDING, galley, color);
    let response = ui.interact(rect, ui.scope_id().with(words), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, words));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_keeps_its_shape_and_touches_two_sides() {
        let area = Rect::from_min_size(egui::pos2(10.0, 20.0), Vec2::new(800.0, 400.0));
        for (width, height) in [(1280, 720), (720, 1280), (641, 361), (2, 8000)] {
            let place = fit(area, width, height);
            assert!(area.expand(0.01).contains_rect(place));
            let shape = place.width() / place.height();
            assert!((shape / (width as f32 / height as f32) - 1.0).abs() < 1e-3);
            let (free_x, free_y) = (area.width() - place.width(), area.height() - place.height());
            assert!(free_x.min(free_y).abs() < 0.01);
            assert_eq!(place.center(), area.center());
        }
    }
}
