//! How we are reached, and how the call goes: for those who want to know.

use eframe::egui::{self, RichText};

use super::{
    history::{self, History, Lamp, MAX_SAMPLES, Sample},
    model::{self, ActionKind},
    parts,
    theme::{Colors, Tokens},
    told,
    words::{self, Word},
};
use crate::engine::{
    handle::{CallView, HomeStanding, View},
    nat::NatReports,
};

/// Homes and NAT.
pub(super) fn here(ui: &mut egui::Ui, view: &View, nat: &NatReports, tokens: &Tokens) {
    let colors = tokens.colors(ui.ctx());
    parts::title(ui, words::now());
    ui.horizontal_top(|ui| {
        let reachable = model::is_reachable(&view.homes);
        parts::dot(
            ui,
            if reachable {
                colors.ok
            } else {
                colors.text_soft
            },
        );
        let line = RichText::new(model::reachability(&view.homes));
        ui.add(egui::Label::new(line).wrap());
    });
    for home in &view.standings {
        standing(ui, home, tokens);
    }
    ui.add_space(tokens.size.gap);
    parts::title(ui, words::your_router());
    let families = [("IPv4", &nat.v4), ("IPv6", &nat.v6)];
    let mut is_known = false;
    for (family, found) in families {
        let Some(found) = found else { continue };
        is_known = true;
        for line in told::nat(found) {
            parts::caption(ui, tokens, &words::family_line(family, line));
        }
    }
    if !is_known {
        parts::caption(ui, tokens, words::not_measured_yet());
    }
}

/// A supernode where we are, or want to be, registered, and what is thought of it.
fn standing(ui: &mut egui::Ui, home: &HomeStanding, tokens: &Tokens) {
    let colors = tokens.colors(ui.ctx());
    parts::text_row(ui, |ui| {
        let color = match (home.bad, home.registered) {
            (true, _) => colors.danger,
            (false, true) => colors.ok,
            (false, false) => colors.text_soft,
        };
        parts::dot(ui, color);
        ui.vertical(|ui| {
            let name = RichText::new(
                home.address
                    .to_string()
                    .rsplit('@')
                    .next()
                    .unwrap_or_default(),
            );
            ui.add(egui::Label::new(name.small()).truncate());
            let color = if home.bad {
                colors.danger_text
            } else {
                colors.text_soft
            };
            let told = RichText::new(standing_line(home)).small().color(color);
            ui.add(egui::Label::new(told).wrap());
        });
    });
}

/// How a supernode does, and why that is thought, in a line.
pub(super) fn standing_line(home: &HomeStanding) -> String {
    let mut told = vec![if home.registered {
        words::standing_in().to_owned()
    } else {
        words::standing_silent().to_owned()
    }];
    if let Some(rtt) = home.rtt {
        told.push(words::standing_away(rtt.as_millis()));
    }
    told.push(told::standing(home));
    told.join(" · ")
}

/// What is measured of the call.
pub(super) fn call(ui: &mut egui::Ui, view: &View, history: &History, tokens: &Tokens) {
    let call = view.call.as_ref().filter(|call| !model::is_over(call));
    let Some(call) = call else {
        parts::card(ui, tokens, |ui| {
            parts::caption(ui, tokens, words::call_page_empty());
        });
        return;
    };
    let gap = tokens.size.gap;
    parts::card(ui, tokens, |ui| {
        path(ui, call, tokens);
        lamp(ui, call, history, tokens);
    });
    ui.add_space(gap);
    parts::card(ui, tokens, |ui| {
        parts::title(ui, words::last_five_minutes());
        if history.samples.is_empty() {
            parts::caption(ui, tokens, words::first_second());
            return;
        }
        for plot in PLOTS {
            draw(ui, tokens, history, &plot);
        }
        ui.add_space(gap);
        let area = egui::vec2(0.0, tokens.size.control_height);
        let copy = (words::copy_as_text(), None);
        if parts::button(ui, tokens, copy, ActionKind::Plain, area, true).clicked() {
            ui.ctx().copy_text(history::as_text(call, history));
        }
    });
    if let Some(search) = call.search {
        ui.add_space(gap);
        parts::card(ui, tokens, |ui| {
            parts::caption(
                ui,
                tokens,
                &words::search_took(search.packets, search.flows),
            );
        });
    }
}

/// How good the call is, and what limits it.
pub(super) fn lamp(ui: &mut egui::Ui, call: &CallView, history: &History, tokens: &Tokens) {
    let Some((lamp, sentence)) = told(call, history) else {
        return;
    };
    let colors = tokens.colors(ui.ctx());
    parts::text_row(ui, |ui| {
        parts::dot(ui, color_of(lamp, &colors));
        let text = match lamp {
            Lamp::Good | Lamp::Fair => colors.text_soft,
            Lamp::Poor => colors.danger_text,
        };
        let line = RichText::new(sentence).small().color(text);
        ui.add(egui::Label::new(line).wrap());
    });
}

/// The same as words.
pub(super) fn told(call: &CallView, history: &History) -> Option<(Lamp, String)> {
    let now = history.now().filter(|_| history.call == Some(call.id))?;
    Some(history::quality(&call.name, &now))
}

fn color_of(lamp: Lamp, colors: &Colors) -> egui::Color32 {
    match lamp {
        Lamp::Good => colors.ok,
        Lamp::Fair => colors.text_soft,
        Lamp::Poor => colors.danger,
    }
}

/// A picture of the way that sound takes.
fn path(ui: &mut egui::Ui, call: &CallView, tokens: &Tokens) {
    const HEIGHT: f32 = 44.0;
    const NODE: f32 = 6.0;
    let colors = tokens.colors(ui.ctx());
    let between = model::path_stations(call.path);
    let area = egui::vec2(ui.available_width(), HEIGHT);
    let (rect, response) = ui.allocate_exact_size(area, egui::Sense::hover());
    let stations: Vec<&str> = std::iter::once(words::station_you())
        .chain(between)
        .chain([call.name.as_str()])
        .collect();
    let painter = ui.painter();
    let font = egui::TextStyle::Small.resolve(ui.style());
    let y = rect.top() + NODE + 2.0;
    let space = rect.width() / stations.len() as f32;
    let x = |index: usize| rect.left() + space * (index as f32 + 0.5);
    let is_gone = call.path.is_none();
    let color = if is_gone { colors.text_soft } else { colors.ok };
    let ends = [egui::pos2(x(0), y), egui::pos2(x(stations.len() - 1), y)];
    let stroke = egui::Stroke::new(2.0, color);
    if is_gone {
        painter.extend(egui::Shape::dashed_line(&ends, stroke, 6.0, 6.0));
    } else {
        painter.line_segment(ends, stroke);
    }
    for (index, station) in stations.iter().enumerate() {
        let at = egui::pos2(x(index), y);
        painter.circle_filled(at, NODE, color);
        let mut job = egui::text::LayoutJob::simple_singleline(
            (*station).to_owned(),
            font.clone(),
            colors.text,
        );
        job.wrap = egui::text::TextWrapping::truncate_at_width(space - 4.0);
        let galley = ui.fonts_mut(|fonts| fonts.layout_job(job));
        let corner = egui::pos2(at.x - galley.size().x / 2.0, y + NODE + 4.0);
        ui.painter().galley(corner, galley, colors.text);
    }
    response.widget_info(|| {
        let told = words::way_of_sound(stations.join(", "));
        egui::WidgetInfo::labeled(egui::accesskit::Role::Image, true, told)
    });
}

/// A line of the plots.
struct Plot {
    name: Word,
    unit: &'static str,
    /// Top of the scale while everything is below.
    least_top: f32,
    of: fn(&Sample) -> Option<f32>,
}

const PLOTS: [Plot; 8] = [
    Plot {
        name: words::plot_rtt,
        unit: "ms",
        least_top: 100.0,
        of: |sample| sample.rtt_ms,
    },
    Plot {
        name: words::plot_lost_here,
        unit: "%",
        least_top: 10.0,
        of: |sample| Some(sample.loss_here),
    },
    Plot {
        name: words::plot_lost_there,
        unit: "%",
        least_top: 10.0,
        of: |sample| sample.loss_there,
    },
    Plot {
        name: words::plot_restored,
        unit: "%",
        least_top: 10.0,
        of: |sample| Some(sample.restored),
    },
    Plot {
        name: words::plot_invented,
        unit: "%",
        least_top: 10.0,
        of: |sample| Some(sample.invented),
    },
    Plot {
        name: words::plot_buffer,
        unit: "ms",
        least_top: 100.0,
        of: |sample| Some(sample.buffer_ms),
    },
    Plot {
        name: words::plot_sent,
        unit: "kbit/s",
        least_top: 50.0,
        of: |sample| Some(sample.sent_kbps),
    },
    Plot {
        name: words::plot_capacity,
        unit: "kbit/s",
        least_top: 100.0,
        of: |sample| sample.capacity_kbps,
    },
];

fn draw(ui: &mut egui::Ui, tokens: &Tokens, history: &History, plot: &Plot) {
    let values: Vec<Option<f32>> = history
        .samples
        .iter()
        .map(|sample| (plot.of)(sample).filter(|_| !sample.gap))
        .collect();
    let now = match values.last().copied().flatten() {
        Some(value) if plot.unit == "%" => words::plot_value(words::decimal(value, 1), plot.unit),
        Some(value) => words::plot_value(words::decimal(value, 0), plot.unit),
        None => words::not_measured().to_owned(),
    };
    let scale = (MAX_SAMPLES, plot.least_top);
    parts::plot(ui, tokens, ((plot.name)(), &now), &values, scale);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ahoy_transport::identity::{NodeAddress, NodeKeys};

    use super::*;
    use crate::{
        engine::handle::{Phase, StatsView},
        ui::{model::tests::call as call_view, testing::Reader},
    };

    #[test]
    fn each_figure_is_told_by_name_and_all_are_copied_as_text() {
        let mut talking = call_view(Phase::Incoming);
        let since = talking.started;
        talking.phase = Phase::Talking { since };
        talking.rtt = Some(Duration::from_millis(42));
        let mut history = History::default();
        for second in 0..4 {
            talking.stats = Some(StatsView {
                packets_received: 45 * second,
                packets_lost: 5 * second,
                samples_played: 48_000 * second,
                bytes_sent: 4000 * second,
                ..StatsView::default()
            });
            history.look(&talking, since + Duration::from_secs(second));
        }
        let view = View {
            call: Some(talking),
            ..View::default()
        };
        let mut reader = Reader::new();
        let tokens = reader.tokens;
        for _ in 0..2 {
            reader.frame(vec![], |ui| call(ui, &view, &history, &tokens));
        }
        for figure in [
            "Round trip: 42 ms",
            "Lost on the way to you: 10.0 %",
            "Lost on the way there: not measured",
            "Voice sent: 32 kbit/s",
        ] {
            assert!(reader.has(figure), "{figure}");
        }
        assert!(
            reader
                .text(|text| text.starts_with("10 % of the packets of Grace"))
                .is_some()
        );
        let press = reader.press("Copy as text");
        reader.frame(vec![press], |ui| call(ui, &view, &history, &tokens));
        let text = as_text(&view, &history);
        assert!(text.lines().count() > 3 && text.contains("42.0"), "{text}");
    }

    fn as_text(view: &View, history: &History) -> String {
        let call = view.call.as_ref();
        call.map(|call| history::as_text(call, history))
            .unwrap_or_default()
    }

    #[test]
    fn a_supernode_is_told_with_what_is_thought_of_it() {
        let keys = NodeKeys::generate(&mut rand_core::OsRng);
        let home = HomeStanding {
            address: NodeAddress::new(keys.id(), "192.0.2.1:443".parse().unwrap()),
            registered: true,
            kept: 19.6,
            broken: 0.5,
            least: 0.9,
            rtt: Some(Duration::from_millis(12)),
            bad: false,
            lied: false,
            why: "of about 20 words it kept 20".into(),
        };
        let line = standing_line(&home);
        assert_eq!(
            line,
            format!("calls come in through it · 12 ms away · {}", home.why)
        );
        let lied = HomeStanding {
            registered: false,
            lied: true,
            ..home.clone()
        };
        let line = standing_line(&lied);
        assert!(
            line.starts_with("does not answer") && line.contains("nobody signed"),
            "{line}"
        );
        let unknown = HomeStanding {
            kept: 0.1,
            broken: 0.0,
            ..home
        };
        assert!(standing_line(&unknown).contains("nothing is known of it yet"));
    }
}
