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

impl Reader {
    pub(super) fn new() -> Self {
        let (ctx, tokens) = (egui::Context::default(), Tokens::load());
        ctx.enable_accesskit();
        tokens.apply(&ctx);
        Self {
            ctx,
            tokens,
            nodes: BTreeMap::new(),
            width: 420.0,
            dropped: Vec::new(),
        }
    }

    /// Draws a frame behind these events. A frame may be laid out twice.
    pub(super) fn frame(&mut self, events: Vec<Event>, draw: impl FnMut(&mut egui::Ui)) {
        let screen = egui::Rect::from_min_size(egui::Pos2::ZERO, egui::vec2(self.width, 1200.0));
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
