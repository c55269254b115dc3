//! Judging whom somebody claims to be: certificate, device log and what we knew before, together.
//!
//! This is asked of a caller, from the offer, and of a callee, from what its home told. Each call thereby
//! checks that both sides see the same device logs.

use ahoy_transport::identity::{
    CertificateError, DeviceCertificate, LogPosition, UserId, VerifiedDevice,
    log::{DeviceLog, ForkProof, HeadCheck, LogError, LogRelation},
};

/// What somebody showed.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The person it must be, where that is known: the one we call.
    pub expected: Option<UserId>,
    /// The device's certificate.
    pub certificate: &'a DeviceCertificate,
    /// The device log that came with it; empty when none did.
    pub log: &'a [u8],
    /// The head of the log by the device's own word.
    pub head: Option<LogPosition>,
}

/// Why somebody is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The certificate does not count.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The log that came with it is not valid.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log contradicts the one we know: here is the proof, for the person and for others.
    #[error(
        "this person's device list contradicts the one seen before: somebody may be posing as them"
    )]
    Fork(ForkProof),
    /// The head contradicts the log, and the log that would prove it did not come.
    #[error("this person's device list seems to contradict the one seen before")]
    HeadConflict,
    /// The device was taken out of the log.
    #[error("this device was revoked by its owner")]
    Revoked,
}

/// Somebody who is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Who it is.
    pub device: VerifiedDevice,
    /// The longest log we know of now, to be given to the store when the person is a contact.
    pub log: Option<DeviceLog>,
    /// The device speaks of a newer log than we have: get it.
    pub needs_log: bool,
}

/// Judges a claim against `pinned`, the longest log of that person seen before. `now_millis` is Unix time.
///
/// Without any log, or with one that ends before the certificate was issued, only a certificate by the
/// person's own root key counts: it proves itself.
///
/// # Errors
/// One variant per reason.
pub fn judge(
    claim: Claim<'_>,
    pinned: Option<&DeviceLog>,
    now_millis: u64,
) -> Result<Judged, ClaimError> {
    let user = claim.expected.unwrap_or(claim.certificate.fields().user);
    if claim.certificate.fields().user != user {
        return Err(CertificateError::WrongUser.into());
    }
    let offered = if claim.log.is_empty() {
        None
    } else {
        Some(DeviceLog::from_bytes(user, claim.log)?)
    };
    let log = match (pinned, offered) {
        (Some(pinned), Some(offered)) => match pinned.compare(&offered) {
            LogRelation::Same | LogRelation::Extends => Some(offered),
            // The device missed something that we know.
            LogRelation::Rollback => Some(pinned.clone()),
            LogRelation::Fork(proof) => return Err(ClaimError::Fork(proof)),
            LogRelation::OtherUser => return Err(LogError::WrongUser.into()),
        },
        (Some(pinned), None) => Some(pinned.clone()),
        (None, offered) => offered,
    };
    let Some(log) = log else {
        return Ok(Judged {
            device: claim.certificate.verify(now_millis, user)?,
            log: None,
            needs_log: true,
        });
    };
    let issued_at = log.check_head(claim.certificate.fields().log);
    let head = claim
        .head
        .map_or(HeadCheck::Same, |head| log.check_head(head));
    if issued_at == HeadCheck::Conflict || head == HeadCheck::Conflict {
        return Err(ClaimError::HeadConflict);
    }
    if log.was_revoked(claim.certificate.fields().device) {
        return Err(ClaimError::Revoked);
    }
    let device = if issued_at == HeadCheck::Newer {
        claim.certificate.verify(now_millis, user)?
    } else {
        claim.certificate.verify_in_log(now_millis, user, &log)?
    };
    Ok(Judged {
        device,
        log: Some(log),
        needs_log: issued_at == HeadCheck::Newer || head == HeadCheck::Newer,
    })
}

#[cfg(test)]
mod tests {
    use ahoy_transport::identity::{DeviceKeys, log::LogOp};
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;
    use crate::identity::Identity;

    const NOW: u64 = 1_800_000_000_000;

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    fn grown(identity: &Identity, seed: u8) -> (Identity, DeviceKeys) {
        let keys = DeviceKeys::generate(&mut rng(seed), NOW);
        let mut identity = identity.clone();
        let op = LogOp::AddDevice {
            device: keys.id(),
            noise_static: keys.noise_public(),
            sealed_name: vec![],
        };
        identity.append(op, NOW).unwrap();
        (identity, keys)
    }

    fn ask(
        identity: &Identity,
        log: &[u8],
        pinned: Option<&DeviceLog>,
    ) -> Result<Judged, ClaimError> {
        let claim = Claim {
            expected: None,
            certificate: identity.certificate(),
            log,
            head: Some(identity.log().head()),
        };
        judge(claim, pinned, NOW)
    }

    #[test]
    fn a_stranger_is_believed_by_its_roots_word_and_its_log() {
        let bo = Identity::create(&mut rng(1), NOW);
        let alone = ask(&bo, &[], None).unwrap();
        assert!(alone.needs_log && alone.log.is_none());
        let with_log = ask(&bo, &bo.log().to_bytes(), None).unwrap();
        assert!(!with_log.needs_log);
        assert_eq!(with_log.log.as_ref(), Some(bo.log()));
        assert_eq!(with_log.device, alone.device);
    }

    #[test]
    fn whoever_answers_for_somebody_must_be_that_person() {
        let (bo, eve) = (
            Identity::create(&mut rng(1), NOW),
            Identity::create(&mut rng(2), NOW),
        );
        let log = eve.log().to_bytes();
        let claim = Claim {
            expected: Some(bo.user()),
            certificate: eve.certificate(),
            log: &log,
            head: None,
        };
        assert_eq!(
            judge(claim, None, NOW),
            Err(CertificateError::WrongUser.into())
        );
        // Bo's certificate with Eve's log.
        assert_eq!(ask(&bo, &log, None), Err(LogError::WrongUser.into()));
    }

    #[test]
    fn news_of_a_log_are_taken_and_old_ones_ignored() {
        let old = Identity::create(&mut rng(1), NOW);
        let (new, _keys) = grown(&old, 5);
        let judged = ask(&new, &new.log().to_bytes(), Some(old.log())).unwrap();
        assert_eq!(judged.log.as_ref(), Some(new.log()));
        assert!(!judged.needs_log);
        // The device itself is behind: it is still in the set.
        let judged = ask(&old, &old.log().to_bytes(), Some(new.log())).unwrap();
        assert_eq!(judged.log.as_ref(), Some(new.log()));
        // It is ahead and its log did not fit: the root's word counts, and we fetch the rest.
        let judged = ask(&new, &[], Some(old.log())).unwrap();
        assert!(judged.needs_log);
    }

    #[test]
    fn a_device_ahead_of_our_log_is_not_believed_by_its_own_word() {
        let mut phone = Identity::create(&mut rng(1), NOW);
        let pinned = phone.log().clone();
        phone.append(LogOp::SetHomes(vec![]), NOW).unwrap();
        phone.root = None;
        phone.certify(NOW);
        assert_eq!(
            ask(&phone, &[], Some(&pinned)),
            Err(CertificateError::NotInLog.into())
        );
        assert!(ask(&phone, &phone.log().to_bytes(), Some(&pinned)).is_ok());
    }

    #[test]
    fn a_stolen_device_is_out_where_its_revocation_is_known() {
        let owner = Identity::create(&mut rng(1), NOW);
        let root = owner.root().unwrap().clone();
        let mut stolen = Identity::join(root, owner.log().clone(), &mut rng(2), NOW).unwrap();
        stolen.root = None;
        let mut owner = Identity {
            log: stolen.log().clone(),
            ..owner
        };
        owner
            .append(LogOp::RevokeDevice(stolen.device().id()), NOW)
            .unwrap();
        let known = owner.log();
        // Whether it shows its old log, none, or the true one.
        for log in [stolen.log().to_bytes(), vec![], known.to_bytes()] {
            assert_eq!(ask(&stolen, &log, Some(known)), Err(ClaimError::Revoked));
        }
        let unaware = ask(&stolen, &stolen.log().to_bytes(), Some(stolen.log()));
        assert!(unaware.is_ok(), "who does not know of it cannot refuse");
        eprintln!("threat 21: refused in 3 of 3 ways to come");
    }

    #[test]
    fn two_stories_are_noticed_in_one_call() {
        let start = Identity::create(&mut rng(1), NOW);
        let (shown_to_us, _keys) = grown(&start, 5);
        let (shown_to_others, _keys) = grown(&start, 6);
        let outcome = ask(
            &shown_to_others,
            &shown_to_others.log().to_bytes(),
            Some(shown_to_us.log()),
        );
        let Err(ClaimError::Fork(proof)) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(
            ForkProof::from_bytes(proof.as_bytes()).is_ok(),
            "and proved"
        );
        assert_eq!(
            ask(&shown_to_others, &[], Some(shown_to_us.log())),
            Err(ClaimError::HeadConflict),
            "also when only the head came"
        );
        eprintln!("threat 7: noticed and proved in 1 call");
    }
}
