use proptest::prelude::*;

use super::*;

const ALICE: (UserId, DeviceId) = (UserId([1; 32]), DeviceId([2; 32]));
const BOB: (UserId, DeviceId) = (UserId([3; 32]), DeviceId([4; 32]));
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs one instant to start from"
    )]
    Instant::now()
}

fn registration() -> Arc<Registration> {
    Arc::new(Registration {
        epoch: 5,
        certificate: vec![1],
        log: vec![2],
        seal_key: vec![3],
    })
}

fn node(n: u8) -> NodeId {
    ahoy_transport::identity::NodeKeys::from_seed(&[n; 32]).id()
}

fn capability() -> MailCapability {
    MailCapability::from_bytes([7; 32])
}

fn key() -> MailKey {
    capability().at(node(1))
}

fn source(n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    [198, 51, high, low].into()
}

fn envelope(n: u32) -> Vec<u8> {
    let mut envelope = vec![0; 2048];
    envelope[..4].copy_from_slice(&n.to_be_bytes());
    envelope
}

/// Bob's box.
fn with_bob(now: Instant, limits: MailLimits) -> Mailbox {
    let mut mailbox = Mailbox::new(limits, 100);
    assert_eq!(mailbox.keep(now, BOB, HOME, registration(), key()), Ok(0));
    mailbox
}

fn by_contact(mailbox: &mut Mailbox, now: Instant, n: u32) -> Result<Left, Refusal> {
    let mark = key().mark(BOB, &envelope(n));
    mailbox.leave(now, source(1), BOB, Some(&mark), envelope(n))
}

fn by_stranger(mailbox: &mut Mailbox, now: Instant, from: u16, n: u32) -> Result<Left, Refusal> {
    mailbox.leave(now, source(from), BOB, None, envelope(n))
}

/// The sums are those of what is there.
fn check(mailbox: &Mailbox) {
    let sum = |bytes: fn(&Kept) -> usize| mailbox.boxes.values().map(bytes).sum::<usize>();
    assert_eq!(mailbox.bytes, sum(Kept::bytes));
    assert_eq!(mailbox.stranger_bytes, sum(|kept| kept.strangers.bytes));
    let opened = mailbox.opened.values();
    let (boxes, bytes) = opened.fold((0, 0), |(boxes, bytes), opened| {
        (boxes + opened.boxes, bytes + opened.bytes)
    });
    assert_eq!((boxes, bytes), (mailbox.boxes.len(), mailbox.bytes));
    for kept in mailbox.boxes.values() {
        for lane in kept.lanes() {
            let bytes: usize = lane.letters.iter().map(|held| held.envelope.len()).sum();
            assert_eq!(lane.bytes, bytes);
        }
    }
}

#[test]
fn a_letter_waits_until_its_device_has_it() {
    let now = now();
    let mut mailbox = with_bob(now, MailLimits::default());
    let (contact, fresh) = (true, true);
    assert_eq!(
        by_contact(&mut mailbox, now, 1),
        Ok(Left { contact, fresh })
    );
    // Left again: the same letter.
    let fresh = false;
    assert_eq!(
        by_contact(&mut mailbox, now, 1),
        Ok(Left { contact, fresh })
    );
    let waiting = mailbox.fetch(now, BOB);
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].envelope, envelope(1));
    assert_eq!(
        mailbox.fetch(now, BOB),
        waiting,
        "asking takes nothing away"
    );
    assert!(mailbox.fetch(now, ALICE).is_empty());
    mailbox.acknowledge(ALICE, &[waiting[0].id]);
    assert_eq!(mailbox.counters().waiting, 1, "only its owner can");
    mailbox.acknowledge(BOB, &[waiting[0].id]);
    assert!(mailbox.fetch(now, BOB).is_empty());
    let counters = mailbox.counters();
    let expected = MailCounters {
        boxes: 1,
        left_by_contacts: 1,
        duplicates: 1,
        fetched: 2,
        acknowledged: 1,
        ..MailCounters::default()
    };
    assert_eq!(counters, expected);
    check(&mailbox);
}

#[test]
fn a_box_that_is_not_there_takes_nothing() {
    let now = now();
    let mut mailbox = with_bob(now, MailLimits::default());
    let left = mailbox.leave(now, source(1), ALICE, None, envelope(1));
    assert_eq!(left, Err(Refusal::UnknownDevice));
    // Another person who claims the same device id.
    let other = (UserId([9; 32]), BOB.1);
    let left = mailbox.leave(now, source(1), other, None, envelope(1));
    assert_eq!(left, Err(Refusal::UnknownDevice));
    assert!(mailbox.boxes(now, ALICE.0).is_empty());
    let boxes = mailbox.boxes(now, BOB.0);
    assert_eq!(boxes.len(), 1);
    assert_eq!(boxes[0].epoch, 0, "whether it is on is not told");
    let none = MailLimits {
        boxes: 0,
        ..MailLimits::default()
    };
    let mut closed = Mailbox::new(none, 0);
    let kept = closed.keep(now, BOB, HOME, registration(), key());
    assert_eq!(kept, Err(Refusal::NoMail));
}

#[test]
fn letters_and_boxes_have_their_time() {
    let start = now();
    let mut mailbox = with_bob(start, MailLimits::default());
    by_contact(&mut mailbox, start, 1).unwrap();
    // The device is seen again, so the box lives on; the letter does not.
    mailbox.seen(start + 10 * DAY, BOB, None);
    let late = start + 14 * DAY - Duration::from_secs(1);
    assert_eq!(mailbox.fetch(late, BOB).len(), 1);
    assert_eq!(mailbox.fetch(start + 14 * DAY + SWEEP, BOB).len(), 0);
    assert_eq!(mailbox.counters().expired, 1);
    // Asking counts as being seen.
    let seen = start + 14 * DAY + SWEEP;
    by_contact(&mut mailbox, seen + DAY, 2).unwrap();
    let last = seen + 14 * DAY - Duration::from_secs(1);
    assert_eq!(mailbox.boxes(last, BOB.0).len(), 1);
    assert_eq!(mailbox.boxes(last + SWEEP, BOB.0).len(), 0);
    let counters = mailbox.counters();
    assert_eq!((counters.boxes_expired, counters.waiting_bytes), (1, 0));
    check(&mailbox);
}

/// Ten thousand letters from a thousand addresses, then one of a contact.
fn flood(limits: MailLimits) -> (Mailbox, Result<Left, Refusal>) {
    let now = now();
    let mut mailbox = with_bob(now, limits);
    for n in 0..10_000_u32 {
        let from = u16::try_from(n % 1000).unwrap();
        by_stranger(&mut mailbox, now, from, n).unwrap_or(Left {
            contact: false,
            fresh: false,
        });
    }
    let contact = by_contact(&mut mailbox, now, 1_000_000);
    check(&mailbox);
    (mailbox, contact)
}

#[test]
fn a_flood_of_strangers_leaves_a_contacts_lane_untouched() {
    let (mut mailbox, contact) = flood(MailLimits::default());
    assert!(contact.is_ok_and(|left| left.contact));
    let counters = mailbox.counters();
    assert_eq!(counters.left_by_strangers, 20);
    assert_eq!(counters.waiting, 21);
    assert_eq!(mailbox.fetch(now(), BOB)[0].envelope, envelope(1_000_000));
}

#[test]
fn without_lanes_a_flood_crowds_contacts_out() {
    let lanes = false;
    let (_mailbox, contact) = flood(MailLimits {
        lanes,
        ..MailLimits::default()
    });
    assert_eq!(contact, Err(Refusal::BoxFull));
}

#[test]
fn a_mark_is_for_one_home_one_box_and_one_envelope() {
    let now = now();
    let mut mailbox = with_bob(now, MailLimits::default());
    let good = key().mark(BOB, &envelope(1));
    let at_another_home = capability().at(node(2)).mark(BOB, &envelope(1));
    let for_another = key().mark(ALICE, &envelope(1));
    let of_another = MailCapability::from_bytes([8; 32])
        .at(node(1))
        .mark(BOB, &envelope(1));
    let mut changed = good;
    changed[15] ^= 1;
    for (n, mark) in (1..).zip([at_another_home, for_another, of_another, changed]) {
        let left = mailbox.leave(now, source(n), BOB, Some(&mark), envelope(1));
        // It is left all the same: an old capability must not silence anybody.
        assert!(left.is_ok_and(|left| !left.contact));
        let ids: Vec<u64> = mailbox.fetch(now, BOB).iter().map(|held| held.id).collect();
        mailbox.acknowledge(BOB, &ids);
    }
    let left = mailbox.leave(now, source(1), BOB, Some(&good), envelope(2));
    assert!(left.is_ok_and(|left| !left.contact), "another envelope");
    let left = mailbox.leave(now, source(1), BOB, Some(&good), envelope(1));
    assert!(left.is_ok_and(|left| left.contact));
    assert_eq!(good.len(), MARK_LEN);
    assert_eq!(good[..4], MARK_GOLDEN, "the bytes stay what they are");
}

const MARK_GOLDEN: [u8; 4] = [106, 1, 113, 23];

#[test]
fn each_limit_refuses_exactly_what_is_above_it() {
    let now = now();
    let base = MailLimits::default;
    let size = envelope(0).len();
    let full = Err(Refusal::BoxFull);
    type Try = fn(&mut Mailbox, Instant, u32) -> Result<Left, Refusal>;
    let contact: Try = by_contact;
    let stranger: Try = |mailbox, now, n| by_stranger(mailbox, now, u16::try_from(n).unwrap(), n);
    let one_stranger: Try = |mailbox, now, n| by_stranger(mailbox, now, 1, n);
    let cases: [(MailLimits, Try, usize, Result<Left, Refusal>); 8] = [
        (
            MailLimits {
                letters: 5,
                ..base()
            },
            contact,
            5,
            full,
        ),
        (
            MailLimits {
                letter_bytes: 5 * size,
                ..base()
            },
            contact,
            5,
            full,
        ),
        (
            MailLimits {
                bytes: 5 * size,
                ..base()
            },
            contact,
            5,
            full,
        ),
        (
            MailLimits {
                bytes_per_source: 5 * size,
                ..base()
            },
            contact,
            5,
            full,
        ),
        (
            MailLimits {
                stranger_letters: 5,
                ..base()
            },
            stranger,
            5,
            full,
        ),
        (
            MailLimits {
                stranger_bytes: 5 * size,
                ..base()
            },
            stranger,
            5,
            full,
        ),
        (base(), one_stranger, 4, full),
        (
            MailLimits {
                stranger_burst: 3,
                ..base()
            },
            one_stranger,
            3,
            Err(Refusal::TooFast),
        ),
    ];
    for (index, (limits, leave, room, refused)) in cases.into_iter().enumerate() {
        let mut mailbox = with_bob(now, limits);
        for n in 0..room {
            let left = leave(&mut mailbox, now, u32::try_from(n).unwrap());
            assert!(left.is_ok(), "case {index}, letter {n}: {left:?}");
        }
        let n = u32::try_from(room).unwrap();
        assert_eq!(leave(&mut mailbox, now, n), refused, "case {index}");
        // Without the limit there is room for one more.
        let mut mailbox = with_bob(now, base());
        let before = if refused == Err(Refusal::TooFast) {
            0
        } else {
            room
        };
        let more = if index == 6 {
            MailLimits {
                stranger_letters_per_source: 9,
                ..base()
            }
        } else {
            base()
        };
        mailbox.limits = more;
        for n in 0..=before {
            assert!(leave(&mut mailbox, now, u32::try_from(n).unwrap()).is_ok());
        }
        check(&mailbox);
    }
    let too_long = vec![0; MAX_ENVELOPE + 1];
    let mut mailbox = with_bob(now, base());
    for bad in [too_long, Vec::new()] {
        let left = mailbox.leave(now, source(1), BOB, None, bad);
        assert_eq!(left, Err(Refusal::Malformed));
    }
}

#[test]
fn who_writes_too_fast_may_go_on_later_and_others_meanwhile() {
    let start = now();
    let limits = MailLimits {
        stranger_burst: 1,
        stranger_letters_per_source: 9,
        ..MailLimits::default()
    };
    let mut mailbox = with_bob(start, limits);
    by_stranger(&mut mailbox, start, 1, 0).unwrap();
    assert_eq!(
        by_stranger(&mut mailbox, start, 1, 1),
        Err(Refusal::TooFast)
    );
    assert!(by_stranger(&mut mailbox, start, 2, 2).is_ok());
    assert!(
        by_contact(&mut mailbox, start, 3).is_ok(),
        "from there, too"
    );
    let soon = start + Duration::from_secs(29);
    assert_eq!(by_stranger(&mut mailbox, soon, 1, 1), Err(Refusal::TooFast));
    let later = start + Duration::from_secs(62);
    assert!(by_stranger(&mut mailbox, later, 1, 1).is_ok());
    // Whoever is silent for long enough is forgotten.
    mailbox.fetch(start + DAY, BOB);
    assert!(mailbox.senders.is_empty());
}

#[test]
fn strangers_from_everywhere_wake_a_device_only_so_often() {
    let start = now();
    // Every letter is fetched at once, so the lane is always empty.
    let taken = |per_hour| {
        let mut mailbox = with_bob(
            start,
            MailLimits {
                box_stranger_letters_per_hour: per_hour,
                ..MailLimits::default()
            },
        );
        let mut taken = 0;
        for n in 0..3600_u16 {
            let at = start + Duration::from_secs(n.into());
            taken += u32::from(by_stranger(&mut mailbox, at, n, n.into()).is_ok());
            let ids: Vec<u64> = mailbox.fetch(at, BOB).iter().map(|held| held.id).collect();
            mailbox.acknowledge(BOB, &ids);
        }
        assert!(by_contact(&mut mailbox, start, 9999).is_ok());
        taken
    };
    assert!((270..=280).contains(&taken(240)), "{}", taken(240));
    assert_eq!(taken(3600), 3600);
}

#[test]
fn nobody_pushes_another_ones_box_out() {
    let now = now();
    let limits = MailLimits {
        boxes: 20,
        boxes_per_source: 15,
        ..MailLimits::default()
    };
    let mut mailbox = with_bob(now, limits);
    by_contact(&mut mailbox, now, 1).unwrap();
    let mut kept = 0;
    for n in 0..200_u8 {
        let owner = (UserId([n; 32]), DeviceId([9; 32]));
        let result = mailbox.keep(now, owner, source(1), registration(), key());
        kept += usize::from(result.is_ok());
    }
    assert_eq!(kept, 15, "as many as one source may open");
    for n in 0..200_u8 {
        let owner = (UserId([n; 32]), DeviceId([10; 32]));
        let result = mailbox.keep(now, owner, source(n.into()), registration(), key());
        kept += usize::from(result.is_ok());
    }
    assert_eq!(kept, 19, "and as many as there is room for");
    assert_eq!(mailbox.fetch(now, BOB).len(), 1, "Bob's is there");
    check(&mailbox);
}

#[test]
fn of_ones_own_devices_the_one_seen_least_lately_makes_room() {
    let start = now();
    let mut mailbox = with_bob(start, MailLimits::default());
    let mut at = start;
    for n in 10..10 + u8::try_from(MAX_DEVICES).unwrap() {
        at += DAY / 10;
        let owner = (BOB.0, DeviceId([n; 32]));
        mailbox
            .keep(at, owner, HOME, registration(), key())
            .unwrap();
    }
    let devices: Vec<DeviceId> = mailbox.of_person(BOB.0).map(|(owner, _)| owner.1).collect();
    assert_eq!(devices.len(), MAX_DEVICES);
    assert!(!devices.contains(&BOB.1));
    check(&mailbox);
}

#[test]
fn what_is_fetched_fits_a_message_and_contacts_come_first() {
    let now = now();
    let mut mailbox = with_bob(now, MailLimits::default());
    by_stranger(&mut mailbox, now, 1, 0).unwrap();
    for n in 1..200_u32 {
        let mut long = vec![0; 4096];
        long[..4].copy_from_slice(&n.to_be_bytes());
        let mark = key().mark(BOB, &long);
        let left = mailbox.leave(now, source(1), BOB, Some(&mark), long);
        assert!(left.is_ok());
    }
    let mut seen = 0;
    loop {
        let letters = mailbox.fetch(now, BOB);
        if letters.is_empty() {
            break;
        }
        let ids: Vec<u64> = letters.iter().map(|letter| letter.id).collect();
        seen += letters.len();
        let message = super::super::protocol::Response::Letters(letters).encode();
        assert!(message.len() <= MAX_MESSAGE);
        mailbox.acknowledge(BOB, &ids);
    }
    assert_eq!(seen, 200);
    check(&mailbox);
}

#[derive(Debug, Clone)]
enum Op {
    Keep {
        who: u8,
        from: u8,
    },
    Leave {
        who: u8,
        from: u8,
        n: u8,
        marked: bool,
    },
    Take {
        who: u8,
        count: usize,
    },
    Pass {
        hours: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..6_u8, 0..3_u8).prop_map(|(who, from)| Op::Keep { who, from }),
        (0..6_u8, 0..3_u8, any::<u8>(), any::<bool>()).prop_map(|(who, from, n, marked)| {
            Op::Leave {
                who,
                from,
                n,
                marked,
            }
        }),
        (0..6_u8, 0..9_usize).prop_map(|(who, count)| Op::Take { who, count }),
        (0..100_u8).prop_map(|hours| Op::Pass { hours }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_bounds_hold_and_the_sums_are_right(ops in prop::collection::vec(op(), 0..200)) {
        let limits = MailLimits {
            boxes: 4,
            boxes_per_source: 2,
            bytes: 9_000,
            stranger_bytes: 3_000,
            bytes_per_source: 6_000,
            letters: 5,
            stranger_letters: 3,
            ..MailLimits::default()
        };
        let mut now = now();
        let mut mailbox = Mailbox::new(limits.clone(), 0);
        let owner = |who| (UserId([who / 2; 32]), DeviceId([who; 32]));
        for op in ops {
            match op {
                Op::Keep { who, from } => {
                    mailbox
                        .keep(now, owner(who), source(from.into()), registration(), key())
                        .unwrap_or_default();
                }
                Op::Leave { who, from, n, marked } => {
                    let envelope = vec![n; 100 + usize::from(n) * 8];
                    let mark = marked.then(|| key().mark(owner(who), &envelope));
                    let left = mailbox.leave(now, source(from.into()), owner(who), mark.as_ref(), envelope);
                    prop_assert!(left.is_err() || left.unwrap().contact == marked);
                }
                Op::Take { who, count } => {
                    let letters = mailbox.fetch(now, owner(who));
                    let ids: Vec<u64> = letters.iter().take(count).map(|letter| letter.id).collect();
                    mailbox.acknowledge(owner(who), &ids);
                }
                Op::Pass { hours } => now += Duration::from_secs(3600) * u32::from(hours),
            }
            check(&mailbox);
            prop_assert!(mailbox.boxes.len() <= limits.boxes);
            prop_assert!(mailbox.bytes <= limits.bytes);
            prop_assert!(mailbox.stranger_bytes <= limits.stranger_bytes);
            for kept in mailbox.boxes.values() {
                prop_assert!(kept.contacts.letters.len() <= limits.letters);
                prop_assert!(kept.strangers.letters.len() <= limits.stranger_letters);
            }
        }
    }
}

#[test]
fn boxes_are_there_after_a_restart_with_all_that_waits_and_their_times() {
    const MILLIS: u64 = 1_800_000_000_000;
    let limits = MailLimits::default();
    // An instant that has a past.
    let start = now() + 3 * DAY;
    let mut mailbox = Mailbox::new(limits.clone(), 100);
    mailbox.track();
    assert_eq!(mailbox.keep(start, BOB, HOME, registration(), key()), Ok(0));
    assert_eq!(
        mailbox.keep(start, ALICE, HOME, registration(), key()),
        Ok(0)
    );
    by_contact(&mut mailbox, start, 1).unwrap();
    let later = start + DAY;
    mailbox
        .leave(later, source(2), BOB, None, envelope(2))
        .unwrap();
    mailbox.seen(later, BOB, None);
    let kept = mailbox.take_changes(later, MILLIS);
    assert_eq!(kept.len(), 2);
    assert!(mailbox.take_changes(later, MILLIS).is_empty(), "once");

    let restored = |now: Instant, now_millis: u64, limits: &MailLimits| {
        let mut mailbox = Mailbox::new(limits.clone(), 7_000);
        for (key, kept) in &kept {
            let kept = kept.as_ref().unwrap();
            mailbox.restore(now, now_millis, key, kept).unwrap();
            for length in 0..kept.len() {
                let cut =
                    Mailbox::new(limits.clone(), 1).restore(now, now_millis, key, &kept[..length]);
                cut.unwrap_err();
            }
        }
        mailbox
    };
    let mut again = restored(later, MILLIS, &limits);
    let before = mailbox.counters();
    let counted = again.counters();
    assert_eq!(
        (counted.boxes, counted.waiting, counted.waiting_bytes),
        (before.boxes, before.waiting, before.waiting_bytes)
    );
    let letters = |mailbox: &mut Mailbox| -> Vec<(u64, Vec<u8>)> {
        let fetched = mailbox.fetch(later, BOB);
        fetched
            .into_iter()
            .map(|letter| (letter.id, letter.envelope))
            .collect()
    };
    assert_eq!(letters(&mut again), letters(&mut mailbox));
    // The same letter once more is none, contacts' marks count, and what the device has goes.
    assert!(!by_contact(&mut again, later, 1).unwrap().fresh);
    assert!(by_contact(&mut again, later, 3).unwrap().contact);
    again.acknowledge(BOB, &[100]);
    assert_eq!(letters(&mut again).len(), 2);

    // What had a day left yesterday is gone by tomorrow.
    let last = Duration::from_secs(limits.letter_lifetime_secs);
    let millis = u64::try_from(last.as_millis()).unwrap();
    let end = later + last - Duration::from_secs(1);
    let mut old = restored(end, MILLIS + millis - 1000, &limits);
    assert_eq!(old.fetch(end, BOB).len(), 1, "the first one expired");
    // No more is taken in than there is room for.
    let small = MailLimits { boxes: 1, ..limits };
    assert_eq!(restored(later, MILLIS, &small).counters().boxes, 1);
    // A box that is gone is told as gone.
    mailbox.remove(BOB);
    let gone = mailbox.take_changes(later, MILLIS);
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].1, None);
}
