//! What an authenticated peer, or a stranger in a handshake, makes of the session layers.

use std::time::Duration;

use ahoy_transport::{
    datagram::{Content, Datagram},
    feedback::{Feedback, SentLog},
    noise::{MAX_FRAME_BYTES, parse_frame},
    session::{PathId, PathKind, SessionConfig, core::Core},
};
use bytes::Bytes;

use super::turn::{Script, origin};

/// Frames on the CRYPTO stream, as they pile up there.
pub fn noise_frame(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(frame)) = parse_frame(rest) {
        assert!(frame.consumed <= rest.len() && frame.consumed <= MAX_FRAME_BYTES);
        assert_eq!(frame.body.len() + 3, frame.consumed);
        // A frame is the same however much follows it, and none before it is whole.
        let (whole, after) = rest.split_at(frame.consumed);
        assert_eq!(parse_frame(whole), Ok(Some(frame)));
        assert!(matches!(parse_frame(&whole[..whole.len() - 1]), Ok(None)));
        rest = after;
    }
}

/// Datagrams on a session's connections: read by themselves, and fed to a session.
pub fn session_datagram(bytes: &[u8]) {
    let whole = Bytes::copy_from_slice(bytes);
    if let Ok(datagram) = Datagram::decode(&whole) {
        assert_eq!(Datagram::decode(&datagram.encode()), Ok(datagram.clone()));
        if let Content::Feedback(body) = datagram.content
            && let Ok(feedback) = Feedback::decode(&body)
        {
            assert_eq!(Feedback::decode(&feedback.encode()), Ok(feedback.clone()));
            let mut sent = SentLog::default();
            for n in 0..32 {
                sent.sent(1000, origin() + Duration::from_millis(n));
            }
            let mut reports = Vec::new();
            sent.handle(&feedback, &mut reports);
            assert!(reports.len() <= 32);
        }
    }
    let mut now = origin();
    let mut core = Core::new(SessionConfig::default(), now);
    for (n, kind) in (0..).zip([PathKind::Relay, PathKind::Direct]) {
        core.link_up(now, n, PathId(n), kind, Duration::ZERO);
    }
    core.open_media();
    let mut script = Script::new(bytes);
    while let Some((op, arg)) = script.op() {
        now += Duration::from_millis(u64::from(arg >> 4));
        let datagram = Bytes::copy_from_slice(script.bytes(usize::from(op) * 4));
        core.handle_datagram(now, u32::from(arg & 1), &datagram);
        while core.recv_media().is_some() {}
        while core.poll_event().is_some() {}
        for connection in 0..2 {
            for _ in 0..8 {
                if core.poll_datagram(now, connection).is_none() {
                    break;
                }
            }
        }
    }
}
