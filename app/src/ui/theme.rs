//! Design tokens from `assets/tokens.toml`, and egui's style made from them.

use eframe::egui::{
    self, Color32, CornerRadius, FontFamily, FontId, Stroke, TextStyle, Theme as Mode,
};
use serde::Deserialize;

const TOKENS: &str = include_str!("../../../assets/tokens.toml");

/// Colours of one mode, by meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawColors")]
pub struct Colors {
    /// Behind everything.
    pub window: Color32,
    /// Behind a group of things.
    pub card: Color32,
    /// An idle control.
    pub control: Color32,
    /// Between things.
    pub line: Color32,
    /// Text that matters.
    pub text: Color32,
    /// Text that explains.
    pub text_soft: Color32,
    /// The one thing to do here.
    pub accent: Color32,
    /// It is well.
    pub ok: Color32,
    /// It ends something.
    pub danger: Color32,
    /// Text that tells of something wrong.
    pub danger_text: Color32,
    /// Text on `accent` and `danger`, and on `stage`.
    pub on_fill: Color32,
    /// Around pictures: dark in both modes.
    pub stage: Color32,
}

/// Lengths in points.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Sizes {
    /// Body text.
    pub body: f32,
    /// Titles.
    pub title: f32,
    /// Captions.
    pub caption: f32,
    /// Between neighbours.
    pub gap: f32,
    /// Around a page.
    pub margin: f32,
    /// Around a narrow page, and inside a card.
    pub margin_small: f32,
    /// A page below this width is narrow.
    pub narrow: f32,
    /// A single column is no wider than this.
    pub column: f32,
    /// A page of this width has room for two columns.
    pub two_columns: f32,
    /// Two columns together are no wider than this.
    pub pair: f32,
    /// Height of a button or a field.
    pub control_height: f32,
    /// Height of the buttons of a call.
    pub call_height: f32,
    /// Corners of controls.
    pub radius: f32,
    /// Corners of cards.
    pub card_radius: f32,
}

/// All tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Tokens {
    /// For dark mode.
    pub dark: Colors,
    /// For light mode.
    pub light: Colors,
    /// For both.
    pub size: Sizes,
}

#[derive(Deserialize)]
struct RawColors {
    window: String,
    card: String,
    control: String,
    line: String,
    text: String,
    text_soft: String,
    accent: String,
    ok: String,
    danger: String,
    danger_text: String,
    on_fill: String,
    stage: String,
}

impl TryFrom<RawColors> for Colors {
    type Error = String;

    fn try_from(raw: RawColors) -> Result<Self, String> {
        let color = |text: &str| {
            Color32::from_hex(text).map_err(|error| format!("colour {text}: {error:?}"))
        };
        Ok(Self {
            window: color(&raw.window)?,
            card: color(&raw.card)?,
            control: color(&raw.control)?,
            line: color(&raw.line)?,
            text: color(&raw.text)?,
            text_soft: color(&raw.text_soft)?,
            accent: color(&raw.accent)?,
            ok: color(&raw.ok)?,
            danger: color(&raw.danger)?,
            danger_text: color(&raw.danger_text)?,
            on_fill: color(&raw.on_fill)?,
            stage: color(&raw.stage)?,
        })
    }
}

impl Tokens {
    /// The tokens that this program was built with.
    ///
    /// # Panics
    /// When `assets/tokens.toml` was broken at build time; a test reads it.
    #[must_use]
    pub fn load() -> Self {
        toml::from_str(TOKENS)
            .expect("assets/tokens.toml is part of the program and read by a test")
    }

    /// The colours that `ctx` shows now.
    #[must_use]
    pub fn colors(&self, ctx: &egui::Context) -> Colors {
        match ctx.theme() {
            Mode::Dark => self.dark,
            Mode::Light => self.light,
        }
    }

    /// Dresses egui in the tokens, both modes.
    pub fn apply(&self, ctx: &egui::Context) {
        for (mode, colors) in [(Mode::Dark, self.dark), (Mode::Light, self.light)] {
            ctx.style_mut_of(mode, |style| self.style(style, &colors));
        }
    }

    fn style(&self, style: &mut egui::Style, colors: &Colors) {
        let size = &self.size;
        let font = |points| FontId::new(points, FontFamily::Proportional);
        style.text_styles = [
            (TextStyle::Small, font(size.caption)),
            (TextStyle::Body, font(size.body)),
            (TextStyle::Button, font(size.body)),
            (TextStyle::Heading, font(size.title)),
            (
                TextStyle::Monospace,
                FontId::new(size.caption, FontFamily::Monospace),
            ),
        ]
        .into();
        style.spacing.item_spacing = egui::vec2(size.gap, size.gap);
        style.spacing.button_padding = egui::vec2(14.0, 8.0);
        style.spacing.interact_size.y = size.control_height;

        let visuals = &mut style.visuals;
        visuals.panel_fill = colors.window;
        visuals.window_fill = colors.card;
        visuals.extreme_bg_color = colors.control;
        visuals.text_edit_bg_color = Some(colors.control);
        visuals.override_text_color = Some(colors.text);
        visuals.weak_text_color = Some(colors.text_soft);
        visuals.hyperlink_color = colors.accent;
        visuals.selection.bg_fill = colors.accent.gamma_multiply(0.4);
        visuals.selection.stroke = Stroke::new(1.0, colors.accent);
        let widgets = &mut visuals.widgets;
        for (widget, fill) in [
            (&mut widgets.noninteractive, colors.card),
            (&mut widgets.inactive, colors.control),
            (&mut widgets.hovered, colors.line),
            (&mut widgets.active, colors.line),
            (&mut widgets.open, colors.control),
        ] {
            widget.corner_radius = CornerRadius::same(radius(size.radius));
            widget.bg_fill = fill;
            widget.weak_bg_fill = fill;
            widget.bg_stroke = Stroke::NONE;
            widget.fg_stroke = Stroke::new(1.0, colors.text);
        }
        // The keyboard's place must be seen.
        widgets.hovered.bg_stroke = Stroke::new(1.0, colors.text_soft);
        widgets.active.bg_stroke = Stroke::new(2.0, colors.text);
    }
}

/// A corner radius as egui stores it.
#[must_use]
pub fn radius(points: f32) -> u8 {
    // Saturates, and tokens are small.
    points as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contrast ratio of WCAG 2.2, 1 to 21.
    fn contrast(a: Color32, b: Color32) -> f32 {
        let luminance = |color: Color32| {
            let linear = egui::Rgba::from(color);
            0.2126 * linear.r() + 0.7152 * linear.g() + 0.0722 * linear.b()
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_can_be_read_on_every_background_it_stands_on() {
        let tokens = Tokens::load();
        for colors in [tokens.dark, tokens.light] {
            for (text, background) in [
                (colors.text, colors.window),
                (colors.text, colors.card),
                (colors.text, colors.control),
                (colors.text_soft, colors.window),
                (colors.text_soft, colors.card),
                (colors.text_soft, colors.control),
                (colors.ok, colors.card),
                (colors.danger_text, colors.window),
                (colors.danger_text, colors.card),
                (colors.danger_text, colors.control),
                (colors.on_fill, colors.accent),
                (colors.on_fill, colors.danger),
                (colors.on_fill, colors.stage),
            ] {
                let ratio = contrast(text, background);
                assert!(ratio >= 4.5, "{text:?} on {background:?}: {ratio:.2}");
            }
        }
    }
}
