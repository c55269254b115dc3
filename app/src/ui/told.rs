//! What the engine tells by types, in words.
//!
//! The command line says the same by [`crate::engine::sentence`] and its like, in English and with commands to type.

use ahoy_nat::behaviour::NatBehaviour;

pub(super) mod trouble;

use super::words;
use crate::{
    call::{Direction, Ending, Failure, Side, Unreachable},
    chat::{MessageState, Obstacle},
    engine::{
        files::TransferView,
        handle::HomeStanding,
        lending::{LendingState, LendingView},
        sentence,
    },
    files::book::{Direction as Way, State},
    headless::doctor::{FilteringKind, MappingKind},
};

/// How a call with `name` ended, and what to do if that helps.
pub(super) fn ended(name: &str, direction: Direction, ending: Ending) -> String {
    let missed = direction == Direction::Incoming;
    match ending {
        Ending::Busy if missed => words::ended_missed_busy(name),
        Ending::NoAnswer if missed => words::ended_missed(name),
        Ending::DeclinedElsewhere if missed => words::ended_declined_own_device().into(),
        Ending::Completed { by: Side::Local } => words::ended_you_hung_up().into(),
        Ending::Completed { by: Side::Remote } => words::ended_they_hung_up(name),
        Ending::Declined { by: Side::Local } => words::ended_you_declined(name),
        Ending::Declined { by: Side::Remote } => words::ended_they_declined(name),
        Ending::DeclinedElsewhere => words::ended_they_declined_elsewhere(name),
        Ending::Busy => words::ended_busy(name),
        Ending::NoAnswer => words::ended_no_answer(name),
        Ending::Cancelled { by: Side::Local } => words::ended_you_cancelled().into(),
        Ending::Cancelled { by: Side::Remote } if missed => words::ended_they_gave_up(name),
        Ending::Cancelled { by: Side::Remote } => words::ended_before_sound(name),
        Ending::AnsweredElsewhere => words::ended_answered_own_device().into(),
        Ending::Unreachable(Unreachable::Unknown) => words::ended_unknown(name),
        Ending::Unreachable(Unreachable::Offline) => words::ended_offline(name),
        Ending::Unreachable(Unreachable::HomeBusy) => words::ended_home_busy(name),
        Ending::Unreachable(Unreachable::NoRoute) => words::ended_no_route(name),
        Ending::Unreachable(Unreachable::Untrusted) => words::ended_untrusted(name),
        Ending::Unreachable(Unreachable::Private) => words::ended_private(name),
        Ending::Unreachable(Unreachable::Flooded) => words::ended_flooded(name),
        Ending::Lost(_) => words::ended_lost(name),
        Ending::Failed(Failure::Authentication) => words::ended_impostor(name),
        Ending::Failed(Failure::Media) => words::ended_media().into(),
        Ending::Failed(Failure::Protocol) => words::ended_protocol(name),
        Ending::Failed(Failure::TimeLimit) => words::ended_time_limit(name),
        Ending::Merged { .. } => words::ended_merged(name),
    }
}

/// The way that sound takes, by its word in reports.
pub(super) fn path(path: &str) -> &str {
    match path {
        "direct" => words::path_direct(),
        "relay" => words::path_relay(),
        "tcp" => words::path_tcp(),
        "lan" => words::path_lan(),
        other => other,
    }
}

/// What became of a message to `name`.
pub(super) fn delivery(state: MessageState, name: &str) -> String {
    match state {
        MessageState::Queued(None) => words::delivery_queued().into(),
        MessageState::Queued(Some(Obstacle::Unknown)) => words::delivery_unknown(name),
        MessageState::Queued(Some(Obstacle::NoRoute)) => words::delivery_no_route(name),
        MessageState::Queued(Some(Obstacle::NoBox)) => words::delivery_no_box(name),
        MessageState::Queued(Some(Obstacle::Full)) => words::delivery_full(name),
        MessageState::Queued(Some(Obstacle::Untrusted)) => words::delivery_untrusted(name),
        MessageState::Waiting(homes) => words::delivery_waiting(homes.into(), name),
        MessageState::Delivered { .. } => words::delivery_delivered().into(),
        MessageState::Expired => words::delivery_expired(name),
    }
}

/// How a file stands. What a disk says that nobody knows stays as it says it.
pub(super) fn file(file: &TransferView) -> String {
    let (person, size) = (&file.person, words::size(file.size));
    let done = words::size(file.done);
    let because = file.trouble.as_ref();
    match (&file.state, file.direction) {
        (State::Offered, Way::Incoming) => words::file_offers(person, size),
        (State::Offered | State::Active | State::Paused, Way::Outgoing) if file.done > 0 => {
            words::file_fetches(person, done, size)
        }
        (State::Offered | State::Active | State::Paused, Way::Outgoing) => {
            words::file_offered(person)
        }
        (State::Active, Way::Incoming) if file.sources == 0 => match file.stats.banned {
            0 => words::file_waits(done, size, person),
            _ => words::file_false(done, size, person),
        },
        (State::Active, Way::Incoming) => words::file_from(done, size, file.sources as u64),
        (State::Paused, Way::Incoming) => match because {
            Some(because) => words::file_paused_why(done, size, trouble::file(because)),
            None => words::file_paused(done, size),
        },
        (State::Done, Way::Incoming) => words::file_complete().into(),
        (State::Done, Way::Outgoing) => words::file_they_have_it(person),
        (State::Refused, _) => match because {
            Some(because) => trouble::file(because),
            None => words::file_not_wanted().into(),
        },
        (State::Failed, _) => match because {
            Some(because) => trouble::file(because),
            None => words::file_failed().into(),
        },
    }
}

/// How far lending has come.
pub(super) fn lending(view: &LendingView) -> String {
    match view.state {
        LendingState::Off => words::lending_off().into(),
        LendingState::Looking => words::lending_looking().into(),
        LendingState::Unreachable => words::lending_unreachable(view.proofs.1, view.proofs.0),
        LendingState::Lending if view.busy => words::lending_busy().into(),
        LendingState::Lending => words::lending_on(view.people as u64, view.helped),
        LendingState::Metered => words::lending_metered().into(),
        LendingState::Stopping => words::lending_stopping().into(),
        LendingState::Failed => match &view.problem {
            Some(problem) => sentence::of(problem),
            None => words::lending_failed().into(),
        },
    }
}

/// Why a supernode is trusted, or not.
pub(super) fn standing(home: &HomeStanding) -> String {
    /// Less than this is nothing: what was counted fades.
    const LEAST: f64 = 0.5;
    let all = home.kept + home.broken;
    if home.lied {
        words::standing_lied().into()
    } else if all < LEAST {
        words::standing_unknown().into()
    } else {
        words::standing_words(all.round() as u64, words::decimal(home.kept, 0))
    }
}

/// What a NAT means for calls.
pub(super) fn nat(found: &NatBehaviour) -> [&'static str; 2] {
    let mapping = match MappingKind::of(found) {
        MappingKind::Inside => words::nat_inside(),
        MappingKind::None => words::nat_none(),
        MappingKind::Several => words::nat_several(),
        MappingKind::OnePort => words::nat_one_port(),
        MappingKind::ManyPorts => words::nat_many_ports(),
        MappingKind::Unseen => words::nat_unseen(),
    };
    let filtering = match FilteringKind::of(found) {
        FilteringKind::Known => words::nat_lets_known(),
        FilteringKind::Written => words::nat_lets_written(),
        FilteringKind::Unseen => words::nat_no_second_port(),
    };
    [mapping, filtering]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        call::{CallId, LostReason},
        ui::words::{Language, with},
    };

    fn endings() -> Vec<Ending> {
        let mut endings = vec![
            Ending::Busy,
            Ending::NoAnswer,
            Ending::AnsweredElsewhere,
            Ending::DeclinedElsewhere,
            Ending::Lost(LostReason::Path),
            Ending::Merged {
                into: CallId([1; 16]),
            },
        ];
        for by in [Side::Local, Side::Remote] {
            endings.extend([
                Ending::Completed { by },
                Ending::Declined { by },
                Ending::Cancelled { by },
            ]);
        }
        endings.extend(
            [
                Unreachable::Unknown,
                Unreachable::Offline,
                Unreachable::HomeBusy,
                Unreachable::NoRoute,
                Unreachable::Untrusted,
                Unreachable::Private,
                Unreachable::Flooded,
            ]
            .map(Ending::Unreachable),
        );
        endings.extend(
            [
                Failure::Authentication,
                Failure::Media,
                Failure::Protocol,
                Failure::TimeLimit,
            ]
            .map(Ending::Failed),
        );
        endings
    }

    #[test]
    fn each_way_that_a_call_ends_has_a_sentence_of_its_own_in_each_language() {
        let endings = endings();
        let mut sentences = BTreeSet::new();
        for language in [Language::English, Language::German, Language::Spanish] {
            for ending in &endings {
                let told = || ended("Grace", Direction::Outgoing, *ending);
                let sentence = with(language, told);
                assert!(sentence.ends_with('.'), "{sentence}");
                assert!(sentences.insert(sentence.clone()), "twice: {sentence}");
            }
        }
        // Whoever was called hears of it from their side.
        let missed = ended("Grace", Direction::Incoming, Ending::NoAnswer);
        assert_eq!(missed, "You missed a call from Grace.");
        assert_eq!(sentences.len(), 3 * endings.len());
    }

    #[test]
    fn what_became_of_a_message_is_said_with_the_forms_of_each_language() {
        let told = |language, state| with(language, || delivery(state, "Grace"));
        let waiting = |language| [1, 2].map(|homes| told(language, MessageState::Waiting(homes)));
        assert_eq!(
            waiting(Language::English),
            [
                "waits at 1 home until Grace comes online",
                "waits at 2 homes until Grace comes online"
            ]
        );
        assert_eq!(
            waiting(Language::German),
            [
                "wartet bei 1 Supernode, bis Grace online kommt",
                "wartet bei 2 Supernodes, bis Grace online kommt"
            ]
        );
        let english = MessageState::Queued(Some(Obstacle::Full));
        let by_engine = english.sentence("Grace");
        assert_eq!(told(Language::English, english), by_engine);
    }

    #[test]
    fn lending_says_the_same_as_to_those_who_type() {
        let view = LendingView {
            state: LendingState::Unreachable,
            proofs: (1, 3),
            ..LendingView::default()
        };
        assert_eq!(lending(&view), sentence::of(&view.sentence()));
        let spanish = with(Language::Spanish, || lending(&view));
        assert!(
            spanish.starts_with("De 3 redes consultadas, 1 "),
            "{spanish}"
        );
    }
}
