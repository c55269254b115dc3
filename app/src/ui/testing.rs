//! A screen that nobody sees, worked by the names that a screen reader tells.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use eframe::egui::{
    self, Event, Key,
    accesskit::{Action, ActionRequest, Node, NodeId, TreeId},
};

use super::theme::Tokens;

/// The screen, and what is told of it.
pub(super) struct Reader {
    pub(super) ctx: egui::Context,
    pub(super) tokens: Tokens,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) width: f32,
    pub(super) height: f32,
    /// What is painted, as far as it is text.
    pub(super) texts: Vec<Painted>,
    /// What falls on the window with the next frame.
    pub(super) dropped: Vec<PathBuf>,
}

/// A file that is dropped.
#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("nobody reads it here".into())
    }
}

/// A text on the screen.
#[derive(Debug, Clone)]
pub(super) struct Painted {
    pub(super) text: String,
    /// Where its letters are.
    rect: egui::Rect,
    /// Nothing of it is seen outside of this.
    clip: egui::Rect,
    /// It was cut to the room that there was.
    is_cut: bool,
}

impl Painted {
    fn seen(&self) -> egui::Rect {
        self.rect.intersect(self.clip)
    }
}

fn note_texts(shape: &egui::Shape, clip: egui::Rect, texts: &mut Vec<Painted>) {
    if let egui::Shape::Vec(shapes) = shape {
        for shape in shapes {
            note_texts(shape, clip, texts);
        }
    }
    if let egui::Shape::Text(text) = shape {
        let rect = text.galley.mesh_bounds.translate(text.pos.to_vec2());
        let painted = Painted {
            text: text.galley.text().to_owned(),
            rect,
            clip,
            is_cut: text.galley.elided,
        };
        if painted.seen().is_positive() {
            texts.push(painted);
        }
    }
}

impl Reader {
    /// What is wrong with texts on the screen: cut, beyond an edge, or one over the other. Above and below, pages scroll.
    pub(super) fn faults(&self) -> Vec<String> {
        /// Letters may reach into each other's space so far, in points.
        const SLACK: f32 = 2.0;
        let mut faults = Vec::new();
        for (index, one) in self.texts.iter().enumerate() {
            let text = &one.text;
            if one.is_cut {
                faults.push(format!("{text:?} is cut"));
            }
            if one.rect.left() < one.clip.left() - SLACK
                || one.rect.right() > one.clip.right() + SLACK
            {
                faults.push(format!("{text:?} goes beyond the edge"));
            }
            for other in &self.texts[index + 1..] {
                let both = one.seen().intersect(other.seen());
                if both.width() > SLACK && both.height() > SLACK {
                    faults.push(format!("{text:?} and {:?} overlap", other.text));
                }
            }
        }
        faults
    }

    /// All that is said, by text or by name.
    pub(super) fn said(&self) -> impl Iterator<Item = &str> {
        let named = self.nodes.values();
        let named = named.flat_map(|node| [node.label(), node.value()]);
        let painted = self.texts.iter().map(|painted| painted.text.as_str());
        named.flatten().chain(painted)
    }

    pub(super) fn new() -> Self {
        let (ctx, tokens) = (egui::Context::default(), Tokens::load());
        ctx.enable_accesskit();
        tokens.apply(&ctx);
        Self {
            ctx,
            tokens,
            nodes: BTreeMap::new(),
            width: 420.0,
            height: 1200.0,
            texts: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// Draws a frame behind these events. A frame may be laid out twice.
    pub(super) fn frame(&mut self, events: Vec<Event>, draw: impl FnMut(&mut egui::Ui)) {
        let screen =
            egui::Rect::from_min_size(egui::Pos2::ZERO, egui::vec2(self.width, self.height));
        let input = egui::RawInput {
            screen_rect: Some(screen),
            events,
            dropped_files: std::mem::take(&mut self.dropped)
                .into_iter()
                .map(|path| Arc::new(Dropped(path)) as egui::DroppedFileHandle)
                .collect(),
            ..egui::RawInput::default()
        };
        let mut output = self.ctx.run_ui(input, draw);
        // Nobody draws them.
        output.textures_delta.clear();
        self.texts.clear();
        for egui::epaint::ClippedShape {
            clip_rect, shape, ..
        } in &output.shapes
        {
            note_texts(shape, clip_rect.intersect(screen), &mut self.texts);
        }
        let tree = output.platform_output.accesskit_update.unwrap();
        self.nodes = tree
            .nodes
            .into_iter()
            .map(|(id, node)| (id.0, node))
            .collect();
    }

    pub(super) fn node(&self, name: &str) -> (NodeId, &Node) {
        let mut named = self
            .nodes
            .iter()
            .filter(|(_id, node)| node.label() == Some(name));
        let (id, node) = named
            .next()
            .unwrap_or_else(|| panic!("nothing is called {name}"));
        assert!(named.next().is_none(), "two things are called {name}");
        (NodeId(*id), node)
    }

    /// What a screen reader does to press something.
    pub(super) fn press(&self, name: &str) -> Event {
        Event::AccessKitActionRequest(ActionRequest {
            action: Action::Click,
            target_tree: TreeId::ROOT,
            target_node: self.node(name).0,
            data: None,
        })
    }

    /// Nothing that is told of ends beyond the right edge.
    #[track_caller]
    pub(super) fn assert_inside(&self, what: &str) {
        for node in self.nodes.values() {
            let name = node.label().or(node.value()).unwrap_or_default();
            if let Some(bounds) = node.bounds() {
                let (right, width) = (bounds.x1, f64::from(self.width));
                assert!(
                    right <= width + 1.0,
                    "{what}: {name:?} ends at {right} of {width}"
                );
            }
        }
    }

    /// Whether something is called that.
    pub(super) fn has(&self, name: &str) -> bool {
        self.nodes.values().any(|node| node.label() == Some(name))
    }

    /// The longest text that is told of and of which that is true: each line of one is told of, too.
    pub(super) fn text(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let texts = self.nodes.values().filter_map(|node| node.value());
        let found = texts.filter(|text| wanted(text));
        found.max_by_key(|text| text.len()).map(str::to_owned)
    }

    /// What a screen reader does to go to something.
    pub(super) fn focus(&self, name: &str) -> Event {
        Event::AccessKitActionRequest(ActionRequest {
            action: Action::Focus,
            target_tree: TreeId::ROOT,
            target_node: self.node(name).0,
            data: None,
        })
    }

    /// A key that goes down, or comes up.
    pub(super) fn key(key: Key, pressed: bool) -> Event {
        Event::Key {
            key,
            physical_key: None,
            pressed,
            repeat: false,
            modifiers: egui::Modifiers::NONE,
        }
    }
}
