//! Which ends of a person's device list supernodes have signed, as the person's [records](super::record) say, and what does not
//! go together. Sans-IO.
//!
//! Whoever has a person's key, stolen or not, can sign a newer record with another device list, and show it to some. The
//! supernodes where the person's devices are registered signed the end of the list that they saw
//! ([`witness`](crate::supernode::witness)), and stand in the person's own record. A reader counts those whom it knows by its own
//! table, each network once: a supernode that the thief made up is in no table, or in one network. Records that contradict each
//! other, one of which is countersigned, are worth a word. They never keep a call from going out: who calls for the first time
//! has nothing else to go by.

use std::collections::BTreeSet;

use ahoy_transport::identity::{
    LogPosition, NodeId,
    log::{DeviceLog, HeadCheck},
};

use super::{record::Record, rendezvous::Network};
use crate::supernode::witness::Cosigned;

/// A list that changed longer ago than this was seen by the supernodes of its person, and its record was signed anew since: both
/// happens within the hour.
pub const UNWITNESSED_AFTER_MILLIS: u64 = 3 * 3_600_000;

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// So many networks of witnesses signed another list at the same place.
    Contradicted(usize),
    /// So many networks of witnesses signed a longer list.
    Behind(usize),
    /// Nobody signed the end of its list, although there was time.
    Unwitnessed,
}

/// In how many networks somebody signed the end of the list that this record speaks of, of those whom `network_of` knows.
#[must_use]
pub fn support(record: &Record, network_of: impl Fn(NodeId) -> Option<Network>) -> usize {
    let known = record.witnesses().iter();
    let known = known.filter_map(|signed| Some((network_of(signed.witness())?, signed)));
    let mut networks = BTreeSet::new();
    for (network, signed) in known {
        // Signatures are looked at last: they cost most.
        if !networks.contains(&network) && signed.is_authentic() {
            networks.insert(network);
        }
    }
    networks.len()
}

/// What is wrong with the `newest` record of a person beside `others` of the same person, all of them signed by the person.
/// `log`: the list that was shown for it, if one was.
#[must_use]
pub fn doubt(
    newest: &Record,
    others: &[Record],
    log: Option<&DeviceLog>,
    network_of: impl Fn(NodeId) -> Option<Network>,
    now_millis: u64,
) -> Option<Doubt> {
    let head = newest.fields().log_head;
    let log = log.filter(|log| log.head() == head);
    let mut worst = None;
    for other in others {
        let doubt = match place(head, log, other.fields().log_head) {
            HeadCheck::Same | HeadCheck::Older => continue,
            HeadCheck::Newer => Doubt::Behind,
            HeadCheck::Conflict => Doubt::Contradicted,
        };
        let witnesses = support(other, &network_of);
        if witnesses > 0 && worst.is_none_or(|(most, _)| witnesses > most) {
            worst = Some((witnesses, doubt(witnesses)));
        }
    }
    if let Some((_, doubt)) = worst {
        return Some(doubt);
    }
    let is_old = log.is_some_and(|log| {
        now_millis.saturating_sub(log.changed_at_millis()) > UNWITNESSED_AFTER_MILLIS
    });
    let signed = newest.witnesses().iter().any(Cosigned::is_authentic);
    (is_old && !signed).then_some(Doubt::Unwitnessed)
}

/// How another end stands to `head`, as far as can be told without its list.
fn place(head: LogPosition, log: Option<&DeviceLog>, other: LogPosition) -> HeadCheck {
    match log {
        Some(log) => log.check_head(other),
        None if other == head => HeadCheck::Same,
        None if other.n == head.n => HeadCheck::Conflict,
        None if other.n > head.n => HeadCheck::Newer,
        None => HeadCheck::Older,
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use ahoy_transport::identity::{
        DeviceKeys, NodeKeys, RootKey,
        log::{LogOp, LogSigner},
    };
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;
    use crate::discovery::record::RecordFields;

    const NOW: u64 = 1_800_000_000_000;
    const LATER: u64 = NOW + UNWITNESSED_AFTER_MILLIS + 1;

    fn root() -> RootKey {
        RootKey::from_seed(&[1; 32])
    }

    fn log(devices: &[u64]) -> DeviceLog {
        let device = |n: u64| DeviceKeys::generate(&mut ChaCha20Rng::seed_from_u64(n), NOW);
        let mut log = DeviceLog::create(&root(), &device(devices[0]), NOW);
        for n in &devices[1..] {
            let keys = device(*n);
            let op = LogOp::AddDevice {
                device: keys.id(),
                noise_static: keys.noise_public(),
                sealed_name: vec![],
            };
            log.append(op, LogSigner::Root(&root()), NOW).unwrap();
        }
        log
    }

    fn node(n: u8) -> NodeKeys {
        NodeKeys::from_seed(&[n; 32])
    }

    fn record(seq: u64, log: &DeviceLog, witnesses: &[u8]) -> Record {
        let fields = RecordFields {
            user: root().user(),
            seq,
            not_after_millis: NOW + 1,
            log_head: log.head(),
            homes: vec![],
            sealed: vec![],
        };
        let sign = |n: &u8| Cosigned::issue(&node(*n), root().user(), log.head(), NOW);
        let witnesses: Vec<Cosigned> = witnesses.iter().map(sign).collect();
        Record::issue_witnessed(fields, &witnesses, &root())
    }

    /// Knows the supernodes 1 to 9, of which 3 is in the network of 2.
    fn network_of(id: NodeId) -> Option<Network> {
        let known = (1..10).find(|n| node(*n).id() == id)?;
        Some(Network::V4([if known == 3 { 2 } else { known }, 0]))
    }

    #[test]
    fn each_network_that_is_known_counts_once() {
        let log = log(&[1]);
        let count = |witnesses: &[u8]| support(&record(1, &log, witnesses), network_of);
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[1, 2, 4]), 3);
        assert_eq!(count(&[1, 2, 3]), 2, "two of one network");
        assert_eq!(count(&[1, 20, 21]), 1, "nobody knows those");
        let forged = record(1, &log, &[1]);
        let mut bytes = forged.as_bytes().to_vec();
        let at = bytes.len() - 64 - 1;
        bytes[at] ^= 1;
        let forged = Record::from_bytes(&bytes).unwrap();
        assert_eq!(support(&forged, network_of), 0);
    }

    #[test]
    fn what_witnesses_signed_and_the_newest_record_leaves_out_is_told() {
        let (first, longer, other) = (log(&[1]), log(&[1, 2]), log(&[1, 3]));
        let doubt = |newest: &Record, others: &[Record], log: Option<&DeviceLog>| {
            doubt(newest, others, log, network_of, NOW)
        };
        let honest = record(1, &longer, &[1, 2, 4]);
        let thief = record(2, &other, &[20]);
        assert_eq!(
            doubt(&thief, from_ref(&honest), None),
            Some(Doubt::Contradicted(3))
        );
        // As well when the newest one is the honest one, and the other has its own witness among those that are known.
        let known = record(2, &other, &[9]);
        assert_eq!(doubt(&honest, &[known], None), Some(Doubt::Contradicted(1)));
        assert_eq!(
            doubt(&honest, from_ref(&thief), None),
            None,
            "nobody known signed it"
        );
        // One from before the last device.
        let back = record(3, &first, &[1]);
        assert_eq!(
            doubt(&back, from_ref(&honest), None),
            Some(Doubt::Behind(3))
        );
        // What goes on is as it should be.
        assert_eq!(doubt(&honest, &[record(0, &first, &[1, 2])], None), None);
        // With the list at hand, ends at other places are compared, too.
        let grown = log(&[1, 3, 4]);
        let thief = record(2, &grown, &[]);
        assert_eq!(doubt(&thief, from_ref(&honest), None), None);
        let told = doubt(&thief, &[honest], Some(&grown));
        assert_eq!(told, Some(Doubt::Contradicted(3)));
    }

    #[test]
    fn a_list_that_nobody_signs_is_doubtful_after_a_while() {
        let log = log(&[1]);
        let judge = |record: &Record, at| doubt(record, &[], Some(&log), network_of, at);
        let nobody = record(1, &log, &[]);
        assert_eq!(judge(&nobody, NOW), None);
        assert_eq!(judge(&nobody, LATER), Some(Doubt::Unwitnessed));
        assert_eq!(judge(&record(1, &log, &[20]), LATER), None, "by somebody");
        assert_eq!(
            doubt(&nobody, &[], None, network_of, LATER),
            None,
            "how old is it?"
        );
    }
}
