use super::*;
use crate::{
    chat::{Content, Line, MessageId},
    files::{TransferId, fetch::FetchStats, trouble::FileTrouble},
    ui::testing::Reader,
};

const GRACE: UserId = UserId([7; 32]);

/// A file on its way between Grace and us.
pub(in crate::ui) fn file(n: u8, direction: Direction, state: State) -> TransferView {
    TransferView {
        id: TransferId([n; 16]),
        direction,
        user: GRACE,
        person: "Grace".into(),
        name: format!("photo {n}.jpg"),
        at_millis: 1_700_000_000_000 + u64::from(n) * 60_000,
        size: 10_000_000,
        done: 0,
        rate: 0,
        sources: 0,
        state,
        path: None,
        trouble: None,
        sentence: "as it stands".into(),
        stats: FetchStats::default(),
    }
}

fn labels(file: &TransferView) -> Vec<&'static str> {
    buttons(file).iter().map(|button| button.label).collect()
}

#[test]
fn each_state_offers_what_can_be_done_and_nothing_else() {
    use Direction::{Incoming, Outgoing};
    let cases: [(Direction, State, &[&str]); 12] = [
        (Incoming, State::Offered, &["Accept", "Refuse"]),
        (Incoming, State::Active, &["Pause", "Cancel"]),
        (Incoming, State::Paused, &["Go on", "Cancel"]),
        (Incoming, State::Done, &["Open folder", "Save as…"]),
        (Incoming, State::Refused, &[]),
        (Incoming, State::Failed, &[]),
        (Outgoing, State::Offered, &["Take back"]),
        (Outgoing, State::Active, &["Take back"]),
        (Outgoing, State::Paused, &["Take back"]),
        (Outgoing, State::Done, &[]),
        (Outgoing, State::Refused, &[]),
        (Outgoing, State::Failed, &[]),
    ];
    for (direction, state, expected) in cases {
        let file = file(1, direction, state);
        assert_eq!(labels(&file), expected, "{file:?}");
    }
    let large = TransferView {
        trouble: Some(FileTrouble::TooLarge(5_000_000)),
        ..file(1, Incoming, State::Refused)
    };
    assert_eq!(labels(&large), ["Accept all the same"]);
}

#[test]
fn time_left_is_told_as_people_do_and_only_while_something_moves() {
    let moving = |done, rate| TransferView {
        done,
        rate,
        ..file(1, Direction::Incoming, State::Active)
    };
    let told = |file: &TransferView| pace(file).unwrap();
    assert_eq!(told(&moving(0, 1_000_000)), "1.0 MB/s · 10 s left");
    assert_eq!(told(&moving(9_999_999, 1_000_000)), "1.0 MB/s · 1 s left");
    assert_eq!(told(&moving(0, 100_000)), "100.0 kB/s · 2 min left");
    assert_eq!(told(&moving(0, 1000)), "1.0 kB/s · 3 h left");
    assert_eq!(pace(&moving(0, 0)), None, "it stands still");
    let paused = TransferView {
        state: State::Paused,
        ..moving(5, 5)
    };
    assert_eq!(pace(&paused), None);
    assert_eq!(progress(&moving(2_500_000, 1)), Some(0.25));
    assert_eq!(
        progress(&file(1, Direction::Incoming, State::Offered)),
        None
    );
}

#[test]
fn files_stand_between_messages_by_their_time() {
    let message = |n: u8| Message {
        id: MessageId([n; 16]),
        user: GRACE,
        at_millis: 1_700_000_000_000 + u64::from(n) * 60_000,
        content: Content::Text(n.to_string()),
        line: Line::Received,
    };
    let mut chat = ChatView {
        user: GRACE,
        name: "Grace".into(),
        messages: vec![message(2), message(4)],
    };
    let others = TransferView {
        user: UserId([8; 32]),
        ..file(3, Direction::Incoming, State::Done)
    };
    let files = [
        file(1, Direction::Incoming, State::Done),
        others,
        file(3, Direction::Outgoing, State::Done),
    ];
    let order = |chat: &ChatView| -> Vec<String> {
        let rows = rows(Some(chat), &files, GRACE);
        let named = rows.iter().map(|row| match row {
            Row::Message(index, _) => format!("message {index}"),
            Row::File(file) => file.name.clone(),
        });
        named.collect()
    };
    let expected = ["photo 1.jpg", "message 0", "photo 3.jpg", "message 1"];
    assert_eq!(order(&chat), expected);
    // Where not all that was written is shown, no file stands before it.
    chat.messages = vec![message(2); MAX_SHOWN];
    assert!(!order(&chat).contains(&"photo 1.jpg".to_owned()));
    assert_eq!(rows(None, &files, GRACE).len(), 2);
}

#[test]
fn what_is_pressed_is_told_and_long_names_stay_inside() {
    let mut reader = Reader::new();
    let tokens = reader.tokens;
    for width in [320.0, 900.0] {
        reader.width = width;
        let mut file = file(1, Direction::Incoming, State::Active);
        file.name = "W".repeat(200);
        file.rate = 5;
        let mut pressed = None;
        let mut draw = |reader: &mut Reader, events| {
            reader.frame(events, |ui| {
                let widest = ui.available_width() * 0.8;
                let act = show(ui, &file, "12:00", widest, &tokens);
                pressed = act.or(pressed);
            });
        };
        draw(&mut reader, vec![]);
        reader.assert_inside("a file");
        let press = reader.press(&format!("Pause: {}", file.name));
        draw(&mut reader, vec![press]);
        assert_eq!(pressed, Some(FileAct::Change(FileChange::Pause)));
    }
}
