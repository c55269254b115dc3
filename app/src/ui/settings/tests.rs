//! The page is worked by the names that a screen reader tells.

use ahoy_transport::identity::{NodeAddress, NodeKeys};
use eframe::egui::{Event, Key};

use super::super::devices::DevicesView;
use super::*;
use crate::{settings::SettingsSwitch as Switch, ui::testing::Reader};

/// The page, and what it is about.
struct Bench {
    reader: Reader,
    page: Page,
    view: View,
    ledger: LedgerView,
}

impl Bench {
    fn at(tab: Tab) -> Self {
        let mut page = Page::default();
        page.open_at(tab);
        let mut bench = Self {
            reader: Reader::new(),
            page,
            view: View::default(),
            ledger: LedgerView {
                settings: Some(Settings::default()),
                ..LedgerView::default()
            },
        };
        bench.frame(vec![]);
        bench
    }

    fn frame(&mut self, events: Vec<Event>) -> Done {
        let mut done = Done::default();
        let tokens = self.reader.tokens;
        let (desk, nat, history) = (
            DeskView::default(),
            NatReports::default(),
            History::default(),
        );
        self.reader.frame(events, |ui| {
            let known = Known {
                desk: &desk,
                ledger: &self.ledger,
                nat: &nat,
                history: &history,
                devices: &DevicesView::default(),
            };
            let told = self.page.show(ui, &self.view, known, &tokens);
            done.commands.extend(told.commands);
            done.changes.extend(told.changes);
            done.first_steps |= told.first_steps;
        });
        done
    }

    fn press(&mut self, name: &str) -> Done {
        let press = self.reader.press(name);
        self.frame(vec![press])
    }

    /// Types into a field.
    fn write(&mut self, field: &str, text: &str) {
        let focus = self.reader.focus(field);
        self.frame(vec![focus]);
        self.frame(vec![Event::Text(text.into())]);
    }
}

#[test]
fn every_switch_of_the_network_is_found_by_its_name_and_switched() {
    let tabs = [
        (Tab::Network, &GETTING_THROUGH[..]),
        (Tab::Privacy, &FINDING[..]),
        (Tab::Privacy, &DURING_CALLS[..]),
        (Tab::Privacy, &OPENING[..]),
        (Tab::Look, &WINDOW[..]),
    ];
    for (tab, lines) in tabs {
        let mut bench = Bench::at(tab);
        for (which, label, _sentence) in lines {
            let on = Settings::default().is_on(*which);
            let done = bench.press(label());
            assert_eq!(
                done.changes,
                [SettingsChange::Switch(*which, !on)],
                "{}",
                label()
            );
        }
    }
    let shown = [&GETTING_THROUGH[..], &FINDING, &DURING_CALLS, &OPENING].concat();
    assert_eq!(shown.len() + WINDOW.len(), 10, "one line for each switch");
    assert!(
        WINDOW
            .iter()
            .any(|(which, ..)| *which == Switch::KeepRunning)
    );
}

#[test]
fn what_is_chosen_about_strangers_holds_at_once_and_is_saved() {
    let mut bench = Bench::at(Tab::Privacy);
    let done = bench.press("Nobody");
    assert_eq!(done.commands, [Command::Strangers(Strangers::Drop)]);
    assert_eq!(done.changes, [SettingsChange::Strangers(Strangers::Drop)]);
    let done = bench.press("Hide my address");
    assert_eq!(done.changes, [SettingsChange::Path(PathPolicy::Relay)]);
}

#[test]
fn a_name_is_typed_and_saved() {
    let mut bench = Bench::at(Tab::You);
    bench.write("Your name", "Zoë");
    let done = bench.press("Save");
    assert_eq!(done.commands, [Command::Name("Zoë".into())]);
    assert_eq!(done.changes, [SettingsChange::Name("Zoë".into())]);
    assert!(bench.press("Show them again").first_steps);
}

#[test]
fn a_supernode_is_added_by_its_link_and_nonsense_is_one_sentence() {
    let mut bench = Bench::at(Tab::Network);
    let node = NodeKeys::from_seed(&[1; 32]).id();
    let home = NodeLink(NodeAddress::new(node, "192.0.2.1:443".parse().unwrap()));
    bench.write("Link of a supernode", "ahoy:nonsense");
    let done = bench.press("Add");
    assert_eq!(done, Done::default());
    assert!(
        bench
            .page
            .wrong
            .as_ref()
            .unwrap()
            .contains("no supernode's link")
    );
    bench.page.home.clear();
    bench.write("Link of a supernode", &home.to_string());
    let done = bench.press("Add");
    assert_eq!(done.changes, [SettingsChange::AddHome(home.clone())]);
    assert_eq!(bench.page.wrong, None);
    let settings = bench.ledger.settings.as_mut().unwrap();
    settings.homes.push(home.clone());
    bench.frame(vec![]);
    let done = bench.press(&format!("Remove {home}"));
    assert_eq!(done.changes, [SettingsChange::RemoveHome(home)]);
}

#[test]
fn tabs_lead_to_every_part_and_keys_have_a_list() {
    let mut bench = Bench::at(Tab::Sound);
    for tab in Tab::ALL {
        if bench.page.tab != tab {
            bench.press(tab.label());
        }
        assert_eq!(bench.page.tab, tab);
        bench.frame(vec![]);
    }
    assert_eq!(bench.page.tab, Tab::Keys);
    for (title, lines) in keys::SHEET {
        assert!(!title().is_empty());
        assert!(lines.iter().all(|(_keys, what)| !what().is_empty()));
    }
    bench.frame(vec![Reader::key(Key::Tab, true)]);
}

#[test]
fn colours_and_size_are_chosen() {
    let mut bench = Bench::at(Tab::Look);
    let done = bench.press("Light");
    assert_eq!(done.changes, [SettingsChange::Theme(ThemeChoice::Light)]);
    let slider = bench.reader.press("Size of everything");
    bench.frame(vec![slider]);
    assert_eq!(theme_of(ThemeChoice::Dark), egui::ThemePreference::Dark);
}

#[test]
fn nothing_is_wider_than_the_page() {
    let link = format!("ahoy:{}", "a".repeat(300));
    for width in [268.0, 348.0, 560.0] {
        for tab in Tab::ALL {
            let mut bench = Bench::at(tab);
            bench.reader.width = width;
            bench.view.link = Some(link.clone());
            bench.frame(vec![]);
            bench.frame(vec![]);
            bench.reader.assert_inside(&format!("{tab:?}"));
        }
    }
}
