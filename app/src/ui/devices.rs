//! The person's devices: which there are, one more by link and six digits, and what to do when one is lost.
//!
//! What takes time runs beside the window: a task of the runtime reads the list, waits behind a link, and takes a device out.

use std::{pin::Pin, sync::Arc, time::Duration};

use ahoy_transport::identity::{DeviceId, NodeAddress};
use eframe::egui::{self, RichText, accesskit::Role};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};

use super::{
    backup::{self, BackupView},
    model::{self, ActionKind},
    parts::{self, Qr},
    theme::Tokens,
    words::{self, Language},
};
use crate::{
    cli::{CliError, Exit},
    engine::{handle::View, sentence},
    headless::pairing::{
        Asking, Inside, PairFace, PairPlan, host_name, named, pair_inside, revoke_here,
    },
    link::NodeLink,
    pairing::{NewDevice, PairLink},
    profile::Profile,
    settings::Settings,
    sync::SyncBook,
};

/// A link holds so long: whoever is on the way from one device to the other is not late.
const LINK_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Wishes that wait. A person cannot click faster.
const QUEUE: usize = 16;

/// A device of the person's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceRow {
    pub(super) id: DeviceId,
    /// What it is called, if that is known.
    pub(super) name: Option<String>,
    /// It is the one that shows this.
    pub(super) this: bool,
    /// When it was let in, Unix milliseconds.
    pub(super) added_at_millis: u64,
}

/// How far another device is let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Pairing {
    /// Nobody asked for that.
    #[default]
    Idle,
    /// A place to meet is being looked for.
    Preparing,
    /// Somebody may come by this link.
    Waiting(String),
    /// Somebody came, and their screen shows digits.
    Asked {
        /// What it calls itself.
        who: String,
        /// Six digits.
        code: String,
    },
    /// It is given everything.
    Giving(String),
    /// It has everything.
    Done(String),
    /// Why not.
    Failed(WhyNobody),
}

/// Why nobody was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WhyNobody {
    /// Nobody came in time.
    Expired,
    /// Whoever came did not keep to the rules.
    Untrue,
    /// Something else, in English.
    Other(String),
}

/// What is known now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DevicesView {
    pub(super) rows: Vec<DeviceRow>,
    pub(super) pairing: Pairing,
    /// Whether the last device that was to be taken out is; else why not, in English.
    pub(super) taken_out: Option<Result<(), String>>,
    pub(super) backup: BackupView,
}

/// What the person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// See the list as it is now.
    Look,
    /// Let one more in, which meets us there, or in this network where there is no such place.
    Pair(Vec<NodeAddress>),
    /// The digits are the same, or they are not.
    Answer(bool),
    /// Let nobody in after all.
    Stop,
    /// This one speaks for us no more.
    Remove(DeviceId),
    /// A backup; dialogs about it speak so.
    Backup(backup::Ask, Language),
}

/// The near end.
#[derive(Debug)]
pub(super) struct Devices {
    wishes: mpsc::Sender<Wish>,
    shown: watch::Receiver<DevicesView>,
}

impl Devices {
    /// Begins; the task ends with this.
    pub(super) fn start(runtime: &Handle, profile: Profile, inside: Inside) -> Self {
        let (wishes, wished) = mpsc::channel(QUEUE);
        let (view, shown) = watch::channel(DevicesView::default());
        runtime.spawn(serve(profile, inside, wished, view));
        Self { wishes, shown }
    }

    /// What is known, and a way to wait for more.
    pub(super) fn shown(&self) -> watch::Receiver<DevicesView> {
        self.shown.clone()
    }

    pub(super) fn wish(&self, wish: Wish) {
        if self.wishes.try_send(wish).is_err() {
            tracing::warn!("too much is asked about devices at once");
        }
    }
}

/// The window as the face of what happens.
struct Face {
    view: watch::Sender<DevicesView>,
    answers: Arc<watch::Sender<Option<oneshot::Sender<bool>>>>,
}

impl PairFace for Face {
    fn show(&mut self, link: &PairLink, _lifetime: Duration) -> Result<(), CliError> {
        note(&self.view, Pairing::Waiting(link.to_string()));
        Ok(())
    }

    fn ask(&mut self, new: &NewDevice, code: &str) -> Asking {
        let (say, said) = oneshot::channel();
        self.answers.send_replace(Some(say));
        let (who, code) = (named(new), code.to_owned());
        note(&self.view, Pairing::Asked { who, code });
        Box::pin(async move { said.await.unwrap_or(false) })
    }
}

fn note(view: &watch::Sender<DevicesView>, pairing: Pairing) {
    view.send_modify(|view| view.pairing = pairing);
}

type Waiting = Pin<Box<dyn Future<Output = Result<NewDevice, CliError>> + Send>>;

async fn serve(
    profile: Profile,
    inside: Inside,
    mut wished: mpsc::Receiver<Wish>,
    view: watch::Sender<DevicesView>,
) {
    let answers = Arc::new(watch::Sender::new(None));
    let mut waiting: Option<Waiting> = None;
    loop {
        let wish = tokio::select! {
            biased;
            wish = wished.recv() => match wish {
                Some(wish) => wish,
                None => return,
            },
            ended = async {
                match &mut waiting {
                    Some(waiting) => waiting.await,
                    None => std::future::pending().await,
                }
            } => {
                waiting = None;
                let pairing = match ended {
                    Ok(new) => Pairing::Done(named(&new)),
                    Err(error) => Pairing::Failed(why_nobody(&error)),
                };
                note(&view, pairing);
                Wish::Look
            }
        };
        match wish {
            Wish::Look => {
                let inside = inside.clone();
                let rows = by_disk(move || rows(&inside)).await.unwrap_or_default();
                view.send_if_modified(|view| {
                    let changed = view.rows != rows;
                    view.rows = rows;
                    changed
                });
            }
            Wish::Pair(places) => {
                if waiting.is_some() {
                    continue;
                }
                view.send_modify(|view| {
                    view.pairing = Pairing::Preparing;
                    view.taken_out = None;
                });
                let face = Face {
                    view: view.clone(),
                    answers: Arc::clone(&answers),
                };
                waiting = Some(Box::pin(wait(
                    profile.clone(),
                    inside.clone(),
                    places,
                    face,
                )));
            }
            Wish::Answer(same) => {
                let Some(answer) = answers.send_replace(None) else {
                    continue;
                };
                if same {
                    view.send_modify(|view| {
                        if let Pairing::Asked { who, .. } = &view.pairing {
                            view.pairing = Pairing::Giving(who.clone());
                        }
                    });
                }
                // Whoever asked may be gone.
                answer.send(same).unwrap_or_default();
            }
            Wish::Stop => {
                waiting = None;
                answers.send_replace(None);
                note(&view, Pairing::Idle);
            }
            Wish::Remove(device) => {
                let taken_out = inside.clone();
                let told = by_disk(move || {
                    let Inside { renewer, book } = &taken_out;
                    revoke_here(renewer, book.shelf(), &device.to_string())
                })
                .await;
                let now = inside.clone();
                let rows = by_disk(move || rows(&now)).await.unwrap_or_default();
                view.send_modify(|view| {
                    view.rows = rows;
                    view.taken_out = told.map(|told| told.map(drop));
                });
            }
            Wish::Backup(ask, language) => {
                backup::begin(ask, profile.clone(), inside.clone(), &view, language);
            }
        }
    }
}

async fn wait(
    profile: Profile,
    inside: Inside,
    places: Vec<NodeAddress>,
    mut face: Face,
) -> Result<NewDevice, CliError> {
    let settings = tokio::task::spawn_blocking(move || Settings::load(&profile));
    let settings = settings.await.map_err(CliError::failed)??;
    let via = if settings.homes.is_empty() {
        places.into_iter().map(NodeLink).collect()
    } else {
        Vec::new()
    };
    let plan = PairPlan {
        yes: false,
        with_root: false,
        lifetime: LINK_LIFETIME,
        lan: false,
        via,
    };
    pair_inside(&settings, inside, &plan, &mut face).await
}

/// Nothing of the command line, which says the same for those who type.
fn why_nobody(error: &CliError) -> WhyNobody {
    match error.exit {
        Exit::TimeLimit => WhyNobody::Expired,
        Exit::Authentication => WhyNobody::Untrue,
        Exit::Done | Exit::Failed | Exit::Usage | Exit::NoRoute | Exit::Media => {
            WhyNobody::Other(sentence::of(&error.message))
        }
    }
}

impl WhyNobody {
    fn sentence(&self) -> &str {
        match self {
            Self::Expired => words::link_expired(),
            Self::Untrue => words::did_not_keep_rules(),
            Self::Other(sentence) => sentence,
        }
    }
}

fn rows(inside: &Inside) -> Vec<DeviceRow> {
    let Inside { renewer, book } = inside;
    let known = renewer.look(|identity| {
        let devices = identity.log().devices().iter();
        let devices = devices.map(|device| (device.device, device.added_at_millis));
        (identity.device().id(), devices.collect::<Vec<_>>())
    });
    let Some((own, devices)) = known else {
        return Vec::new();
    };
    let sync = SyncBook(book.shelf());
    let rows = devices.into_iter().map(|(id, added_at_millis)| {
        let name = sync.device_name(id).ok().flatten();
        let this = id == own;
        let name = name.or_else(|| this.then(host_name));
        DeviceRow {
            id,
            name,
            this,
            added_at_millis,
        }
    });
    let mut rows: Vec<DeviceRow> = rows.collect();
    // This one first, then as they came.
    rows.sort_by_key(|row| (!row.this, row.added_at_millis));
    rows
}

fn short(id: DeviceId) -> String {
    id.to_string().chars().take(8).collect()
}

/// Runs what takes its time; where the runtime is gone, so is whoever asks.
async fn by_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

// --- the page ------------------------------------------------------------------------------------

impl DeviceRow {
    /// What it is called, or the start of its key.
    fn shown_name(&self) -> String {
        let named = self.name.clone();
        named.unwrap_or_else(|| words::a_device(short(self.id)))
    }
}

/// What the page remembers by itself.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The device that was pressed and has to be pressed again.
    asked: Option<DeviceId>,
    qr: Qr,
    copied: bool,
    backup: backup::Page,
}

impl Page {
    /// Draws the list, and what goes on; what the person wants.
    pub(super) fn show(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        known: &DevicesView,
        tokens: &Tokens,
    ) -> Option<Wish> {
        let mut wish = None;
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::my_devices());
            parts::caption(ui, tokens, words::devices_are());
            for row in &known.rows {
                let told = ui.push_id(row.id, |ui| self.row(ui, row, tokens)).inner;
                wish = told.or(wish.take());
            }
            let taken_out = known.taken_out.as_ref();
            let told = taken_out.map(|taken_out| match taken_out {
                Ok(()) => words::speaks_no_more().to_owned(),
                Err(why) => words::still_a_device(why),
            });
            if let Some(told) = told {
                ui.add(egui::Label::new(told).wrap());
            }
        });
        ui.add_space(tokens.size.gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::one_more_device());
            wish = self.pair(ui, view, known, tokens).or(wish.take());
        });
        ui.add_space(tokens.size.gap);
        parts::card(ui, tokens, |ui| {
            let ask = self.backup.show(ui, &known.backup, tokens);
            let asked = ask.map(|ask| Wish::Backup(ask, words::language()));
            wish = asked.or(wish.take());
        });
        ui.add_space(tokens.size.gap);
        parts::card(ui, tokens, |ui| {
            parts::title(ui, words::device_lost());
            parts::caption(ui, tokens, words::device_lost_what());
        });
        wish
    }

    fn row(&mut self, ui: &mut egui::Ui, row: &DeviceRow, tokens: &Tokens) -> Option<Wish> {
        let size = tokens.size;
        let mut wish = None;
        let added = model::local(row.added_at_millis);
        let day = words::day_of(&added);
        let since = if row.this {
            words::this_device_since(day)
        } else {
            words::another_device_since(day)
        };
        let asked = self.asked == Some(row.id);
        let area = egui::vec2(0.0, size.control_height);
        let line = egui::Layout::right_to_left(egui::Align::Center);
        let text = ui.text_style_height(&egui::TextStyle::Body)
            + ui.text_style_height(&egui::TextStyle::Small);
        let height = size.control_height.max(text);
        ui.allocate_ui_with_layout(egui::vec2(ui.available_width(), height), line, |ui| {
            if !row.this && !asked {
                let plain = ActionKind::Plain;
                let button =
                    parts::button(ui, tokens, (words::take_out(), None), plain, area, true);
                button.widget_info(|| {
                    let name = words::take_out_whom(row.shown_name());
                    egui::WidgetInfo::labeled(Role::Button, true, name)
                });
                if button.clicked() {
                    self.asked = Some(row.id);
                }
            }
            ui.with_layout(egui::Layout::top_down(egui::Align::Min), |ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                ui.add(egui::Label::new(row.shown_name()).truncate());
                let soft = tokens.colors(ui.ctx()).text_soft;
                let since = RichText::new(since).small().color(soft);
                ui.add(egui::Label::new(since).truncate());
            });
        });
        if asked {
            parts::caption(ui, tokens, words::take_out_means());
            ui.horizontal_wrapped(|ui| {
                let out = (words::take_it_out(), None);
                if parts::button(ui, tokens, out, ActionKind::Danger, area, true).clicked() {
                    self.asked = None;
                    wish = Some(Wish::Remove(row.id));
                }
                let keep = (words::keep_it(), None);
                if parts::button(ui, tokens, keep, ActionKind::Plain, area, true).clicked() {
                    self.asked = None;
                }
            });
        }
        wish
    }

    fn pair(
        &mut self,
        ui: &mut egui::Ui,
        view: &View,
        known: &DevicesView,
        tokens: &Tokens,
    ) -> Option<Wish> {
        const QR_SIDE: f32 = 240.0;
        let (colors, size) = (tokens.colors(ui.ctx()), tokens.size);
        let area = egui::vec2(0.0, size.control_height);
        let mut wish = None;
        let mut press = |ui: &mut egui::Ui, label: &str, kind, pressed: Wish| {
            if parts::button(ui, tokens, (label, None), kind, area, true).clicked() {
                wish = Some(pressed);
            }
        };
        let (primary, plain) = (ActionKind::Primary, ActionKind::Plain);
        let again = || Wish::Pair(places(view));
        match &known.pairing {
            Pairing::Idle => {
                parts::caption(ui, tokens, words::pair_how());
                press(ui, words::add_a_device(), primary, again());
            }
            Pairing::Preparing => {
                parts::caption(ui, tokens, words::looking_for_place());
                press(ui, words::cancel(), plain, Wish::Stop);
            }
            Pairing::Waiting(link) => {
                parts::caption(ui, tokens, words::pair_waiting());
                self.qr.show(ui, link, words::pair_qr(), QR_SIDE);
                let font = egui::TextStyle::Monospace.resolve(ui.style());
                let (soft, width) = (colors.text_soft, ui.available_width());
                let mut lines = egui::text::LayoutJob::simple(link.clone(), font, soft, width);
                lines.wrap.break_anywhere = true;
                ui.add(egui::Label::new(lines));
                ui.horizontal_wrapped(|ui| {
                    let label = if self.copied {
                        words::copied()
                    } else {
                        words::copy_the_link()
                    };
                    if parts::button(ui, tokens, (label, None), primary, area, true).clicked() {
                        ui.ctx().copy_text(link.clone());
                        self.copied = true;
                    }
                    press(ui, words::cancel(), plain, Wish::Stop);
                });
            }
            Pairing::Asked { who, code } => {
                self.copied = false;
                ui.add(egui::Label::new(words::pair_asked(who)).wrap());
                digits(ui, code, tokens);
                parts::caption(ui, tokens, words::pair_asked_means());
                ui.horizontal_wrapped(|ui| {
                    press(ui, words::the_same_digits(), primary, Wish::Answer(true));
                    press(
                        ui,
                        words::other_digits(),
                        ActionKind::Danger,
                        Wish::Answer(false),
                    );
                });
            }
            Pairing::Giving(who) => {
                parts::caption(ui, tokens, &words::pair_giving(who));
                press(ui, words::cancel(), plain, Wish::Stop);
            }
            Pairing::Done(who) => {
                ui.add(egui::Label::new(words::pair_done(who)).wrap());
                press(ui, words::add_another_device(), plain, again());
            }
            Pairing::Failed(why) => {
                let why = RichText::new(why.sentence()).color(colors.danger_text);
                ui.add(egui::Label::new(why).wrap());
                press(ui, words::try_again(), primary, again());
            }
        }
        wish
    }
}

/// Six digits, large enough for both screens to be seen at once.
pub(super) fn digits(ui: &mut egui::Ui, code: &str, tokens: &Tokens) {
    let colors = tokens.colors(ui.ctx());
    let text = RichText::new(code)
        .text_style(egui::TextStyle::Heading)
        .monospace()
        .size(tokens.size.title * 1.5)
        .color(colors.text);
    ui.add(egui::Label::new(text));
}

/// Where another device can meet us: supernodes that we are at.
fn places(view: &View) -> Vec<NodeAddress> {
    let up = view.standings.iter().filter(|home| home.registered);
    up.map(|home| home.address.clone()).collect()
}

#[cfg(test)]
mod tests;
