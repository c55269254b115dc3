//! The session without its sockets: bytes and time in; frames, datagrams, events and a deadline out.
//!
//! Contract: after each call that takes `&mut self`, the driver asks every connection's
//! [`has_frame`](Core::has_frame) and [`has_datagram`](Core::has_datagram), drains
//! [`poll_event`](Core::poll_event), and then waits until [`poll_timeout`](Core::poll_timeout) for more input.
//! Frames and datagrams are pulled one by one when their connection has room, so that what waits can still be
//! overtaken or expire. What waits for its pace makes [`has_datagram`](Core::has_datagram) true by mere time: the
//! driver asks again at [`datagram_due`](Core::datagram_due).

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    PathId, PathKind, PathStats, SessionEnd, SessionEvent, SessionStats, Switch,
    control::{Full, Inbox, Outbox, Violation},
    flow::{Arrival, FlowReceiver, FlowStats},
    inflow::Inflow,
    loss::LossMeter,
    select::{Decision, Selection},
    wire::{Frame, MAX_CONTROL_MESSAGE},
};
use crate::{
    bwe::{Bandwidth, Estimate, wire_bytes},
    connection::{CloseCode, ConnectionLost},
    datagram::{
        Content, Datagram, FLOW_END, MAX_MEDIA_PAYLOAD, Priority, Queued, SEQUENCE_END, SendQueue,
        Waiting,
    },
    feedback::{ArrivalLog, Feedback, PacketReport, SentLog},
    pacer::Pacer,
};

/// Interval of reports about a connection that carries media.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// The same where much comes by it, with sound to join, and without.
const PROMPT_REPORT_INTERVAL: Duration = Duration::from_millis(20);
const PROMPT_LONE_REPORT_INTERVAL: Duration = Duration::from_millis(40);

/// A report that is due this soon joins a packet of sound that leaves now: alone it costs three times as much.
const REPORT_JOINS: Duration = Duration::from_millis(15);

/// A report that is due waits so long for a packet of sound, where such leave: frames of 60 ms come in time.
const REPORT_WAITS: Duration = Duration::from_millis(12);

/// Sound that left so recently is followed by more.
const SOUND_STEADY: Duration = Duration::from_millis(100);

/// Interval of reports about a connection that is kept warm.
pub const STANDBY_REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// A connection that was heard no longer ago tells its path's next one what the path carries: an interval of reports
/// and half of it for jitter.
const INHERITED_FROM: Duration = Duration::from_millis(300);

/// A connection carried media if some came this recently.
const CARRIES_MEDIA: Duration = Duration::from_millis(500);

/// A report also goes another way when its connection is silent for this long: its own way back may be dead.
const REPORT_BOTH_WAYS_AFTER: Duration = Duration::from_millis(75);

/// The person is told that the call reconnects after this much silence on all connections.
pub const RECONNECTING_AFTER: Duration = Duration::from_secs(1);

/// Flows that the other side may open: a few per kind of media and participant.
pub const MAX_FLOWS: usize = 64;

/// Packets that wait for the application; it takes them at once or is stuck.
pub const MAX_RECEIVED: usize = 1024;

/// Events and packet reports that wait for somebody to take them; the oldest give way.
const MAX_EVENTS: usize = 256;
const MAX_PACKET_REPORTS: usize = 4096;

/// With so much of a queue on the connection in use, neither sound nor reports go by two: they may share the queue.
const NO_COPIES_ABOVE: Duration = Duration::from_millis(150);

/// Reports that wait for one connection; older ones are worthless.
const MAX_WAITING_REPORTS: usize = 4;

/// Switches that [`SessionStats`] remembers.
const MAX_SWITCHES: usize = 256;

/// Settings of a session's behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionConfig {
    /// Whether sound goes by two connections while one is doubtful. Off only in tests.
    pub duplication: bool,
    /// Whether media leaves a silent connection before QUIC gives it up. Off only in tests.
    pub failover: bool,
    /// Whether the limits of silence stretch with what the line is like. Off only in tests.
    pub adaptive: bool,
    /// Whether each path's capacity is estimated, and what can wait paced by it. Off only in tests.
    pub estimation: bool,
    /// Whether reports share a packet with sound where they can. Off only in tests.
    pub joined_reports: bool,
    /// Whether reports come sooner where much arrives, and what can wait does while one is late. Off only in tests.
    pub alert: bool,
    /// Whether a connection is listened to for a while that another took the place of, and what it carried is handed
    /// on. Off only in tests.
    pub handover: bool,
    /// The session ends when nothing was heard for this long.
    pub lost_after: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            duplication: true,
            failover: true,
            adaptive: true,
            estimation: true,
            joined_reports: true,
            alert: true,
            handover: true,
            lost_after: Duration::from_secs(30),
        }
    }
}

/// A control message that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Too much waits for acknowledgement; later there is room.
    #[error("too many control messages wait for acknowledgement")]
    Full,
    /// The message exceeds [`MAX_CONTROL_MESSAGE`].
    #[error("the control message is too long")]
    TooLong,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

/// A media packet that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendMediaError {
    /// Nobody accepted the call yet: see [`MediaPermit`](super::MediaPermit).
    #[error("the call was not accepted yet")]
    NotOpen,
    /// No connection lives.
    #[error("no connection lives")]
    NoPath,
    /// The payload exceeds [`MAX_MEDIA_PAYLOAD`], or the flow's number or packets are used up.
    #[error("the packet does not fit the format")]
    Format,
}

/// A media packet that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaDatagram {
    /// Which flow.
    pub flow: u64,
    /// Its place in the flow.
    pub sequence: u64,
    /// Up to [`MAX_MEDIA_PAYLOAD`] bytes.
    pub payload: Bytes,
    /// When it came.
    pub arrived: Instant,
    /// The path it came by, if by several then the first.
    pub path: PathId,
}

/// A datagram that wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The datagram.
    pub bytes: Bytes,
    /// Until when it is worth sending.
    pub expires: Instant,
    /// What it counts as.
    pub share: Share,
}

/// What an outgoing datagram counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// A media packet.
    Media,
    /// A copy of one that went by another connection.
    Copy,
    /// A report.
    Report,
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// A report is due.
    Report,
    /// The connection in use may count as silent.
    Silence,
    /// A control message goes another way.
    Resend,
    /// The person is to be told, or the session ends.
    Liveness,
}

/// For the driver's own business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// The other side has this connection too.
    Confirmed(u32),
    /// The caller chose this connection's exporter.
    Root(u32),
    /// Another connection has taken this one's place: it listens for what is under way, and is closed then.
    Retired(u32),
}

#[derive(Debug)]
struct Link {
    path: PathId,
    kind: PathKind,
    queue: SendQueue,
    reports: VecDeque<Bytes>,
    sent: SentLog,
    arrivals: ArrivalLog,
    /// None where nothing is estimated.
    bandwidth: Option<Bandwidth>,
    pacer: Pacer,
    next_report: Instant,
    inflow: Inflow,
    media_at: Option<Instant>,
    /// When sound was last given to it.
    sound_at: Option<Instant>,
    hello_sent: bool,
    hello_received: bool,
    root_due: bool,
    /// The other side said something by it.
    has_spoken: bool,
    /// Takes its place as soon as the other side speaks there.
    heir: Option<u32>,
    /// Another has taken its place: it only listens.
    retired: bool,
}

/// The state of a session. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Core {
    config: SessionConfig,
    links: BTreeMap<u32, Link>,
    selection: Selection,
    /// Path of the connection that media went by last.
    active_path: Option<PathId>,
    outbox: Outbox,
    inbox: Inbox,
    root: Option<u32>,
    media_open: bool,
    next_sequence: BTreeMap<u64, u64>,
    flows: BTreeMap<u64, FlowReceiver>,
    received: VecDeque<MediaDatagram>,
    events: VecDeque<SessionEvent>,
    notices: VecDeque<Notice>,
    reports: VecDeque<PacketReport>,
    loss: LossMeter,
    /// When anything was heard on any connection, or the session began.
    heard: Instant,
    was_up: bool,
    reconnecting: Option<Instant>,
    end: Option<SessionEnd>,
    stats: SessionStats,
}

impl Core {
    /// A session without a connection yet.
    #[must_use]
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        Self {
            selection: Selection::new(config.duplication, config.failover, config.adaptive),
            config,
            links: BTreeMap::new(),
            active_path: None,
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            root: None,
            media_open: false,
            next_sequence: BTreeMap::new(),
            flows: BTreeMap::new(),
            received: VecDeque::new(),
            events: VecDeque::new(),
            notices: VecDeque::new(),
            reports: VecDeque::new(),
            loss: LossMeter::default(),
            heard: now,
            was_up: false,
            reconnecting: None,
            end: None,
            stats: SessionStats::default(),
        }
    }

    // Connections.

    /// A connection came up, whose first round trip took `rtt`.
    pub fn link_up(
        &mut self,
        now: Instant,
        connection: u32,
        path: PathId,
        kind: PathKind,
        rtt: Duration,
    ) {
        if self.end.is_some() {
            return;
        }
        let link = Link {
            path,
            kind,
            queue: SendQueue::default(),
            reports: VecDeque::new(),
            sent: SentLog::default(),
            arrivals: ArrivalLog::new(now),
            bandwidth: self
                .config
                .estimation
                .then(|| Bandwidth::with(now, self.config.alert)),
            pacer: Pacer::default(),
            next_report: now,
            inflow: Inflow::default(),
            media_at: None,
            sound_at: None,
            hello_sent: false,
            hello_received: false,
            root_due: false,
            has_spoken: false,
            heir: None,
            retired: false,
        };
        self.links.insert(connection, link);
        self.path_stats(path, kind).connections += 1;
        self.selection.up(connection, kind, rtt, now);
        self.was_up = true;
        self.event(SessionEvent::PathUp {
            path,
            kind,
            connection,
        });
        self.note_heard(connection, now);
        self.select(now);
    }

    /// `heir` takes the place of `connection` on its path: at once, or, where `connection` lives, as soon as the other side
    /// speaks by `heir`. What completes a handshake may be lost, and until it is sent again the other side does not have
    /// `heir` yet: what went there would be lost too. Then no media of ours goes by `connection` any more, but what the
    /// other side sent before it knew still comes: [`Self::link_down`] is to follow when that is over. What the path
    /// carries is known already, if the other side was heard there just now. False: it is to be closed at once.
    pub fn link_replaced(&mut self, now: Instant, connection: u32, heir: u32) -> bool {
        if !self.config.handover {
            return false;
        }
        let lives = self.was_heard_just_now(connection, now);
        let has_spoken = self.links.get(&heir).is_none_or(|heir| heir.has_spoken);
        match self.links.get_mut(&connection) {
            Some(link) if lives && !has_spoken && !link.retired => link.heir = Some(heir),
            Some(_) | None => self.succeed(now, connection, heir),
        }
        true
    }

    fn was_heard_just_now(&self, connection: u32, now: Instant) -> bool {
        self.links.get(&connection).is_some_and(|link| {
            let silence = now.saturating_duration_since(link.arrivals.last_arrival());
            silence <= INHERITED_FROM
        })
    }

    /// `heir` has taken the place of `connection`.
    fn succeed(&mut self, now: Instant, connection: u32, heir: u32) {
        if self.was_heard_just_now(connection, now)
            && let Some(old) = self.links.remove(&connection)
        {
            let of_heir = self.links.get_mut(&heir).map(|link| &mut link.bandwidth);
            if let (Some(before), Some(Some(bandwidth))) = (&old.bandwidth, of_heir) {
                bandwidth.inherit(before);
            }
            self.links.insert(connection, old);
        }
        self.leave(connection, ConnectionLost::ClosedHere);
        self.notices.push_back(Notice::Retired(connection));
        self.select(now);
        self.check_liveness(now);
    }

    /// A connection is gone.
    pub fn link_down(&mut self, now: Instant, connection: u32, reason: ConnectionLost) {
        if !self.links.contains_key(&connection) {
            return;
        }
        self.leave(connection, reason);
        self.loss.link_down(connection);
        // `Done` is what a caller leaves that dials anew just when its first dial was taken here: nothing was said
        // about the session.
        if let ConnectionLost::ClosedByPeer(code) = reason
            && !matches!(code, CloseCode::Replaced | CloseCode::Done)
        {
            self.finish(SessionEnd::ClosedByPeer(code));
        }
        // Takes over what waited, if another connection is there.
        self.select(now);
        if let Some(link) = self.links.remove(&connection) {
            let drops = link.queue.drops();
            self.stats.expired += drops.expired;
            self.stats.overflow += drops.overflow;
            self.stats.no_path += link.queue.originals();
        }
        self.check_liveness(now);
    }

    /// Chooses a connection no more.
    fn leave(&mut self, connection: u32, reason: ConnectionLost) {
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        if std::mem::replace(&mut link.retired, true) {
            return;
        }
        let path = link.path;
        self.selection.down(connection);
        self.outbox.connection_down(connection);
        // What was acknowledged there may not have arrived.
        self.inbox.acknowledge = true;
        self.event(SessionEvent::PathDown {
            path,
            connection,
            reason,
        });
    }

    /// The connections that something may go by.
    fn living(&self) -> impl Iterator<Item = u32> {
        let links = self.links.iter().filter(|(_, link)| !link.retired);
        links.map(|(connection, _)| *connection)
    }

    /// Whether `connection` is one of the session's living ones.
    #[must_use]
    pub fn has_link(&self, connection: u32) -> bool {
        self.links
            .get(&connection)
            .is_some_and(|link| !link.retired)
    }

    /// Lets media pass from now on, both ways.
    pub fn open_media(&mut self) {
        self.media_open = true;
    }

    /// Ends the session from here.
    pub fn close(&mut self) {
        self.finish(SessionEnd::ClosedHere);
    }

    /// How the session ended, if it did.
    #[must_use]
    pub fn end(&self) -> Option<SessionEnd> {
        self.end
    }

    /// The connection that media goes by.
    #[must_use]
    pub fn active(&self) -> Option<u32> {
        self.selection.active()
    }

    /// Caller: names the connection whose exporter enters later keys, to all connections.
    pub(super) fn set_root(&mut self, number: u32) {
        self.root = Some(number);
        for link in self.links.values_mut() {
            // A Hello that is still to come names it too.
            link.root_due = link.hello_sent;
        }
    }

    // Input.

    /// A frame came on a connection's control stream.
    ///
    /// # Errors
    /// When no correct peer sends this: the connection is to be closed.
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        connection: u32,
        bytes: &Bytes,
    ) -> Result<(), Violation> {
        let Some(link) = self.links.get_mut(&connection) else {
            return Ok(());
        };
        let frame = Frame::decode(bytes).map_err(|error| {
            tracing::debug!(%error, "malformed frame");
            Violation
        })?;
        let is_hello = matches!(frame, Frame::Hello { .. });
        if is_hello == link.hello_received {
            return Err(Violation);
        }
        link.hello_received = true;
        self.note_spoken(connection, now);
        match frame {
            Frame::Hello { number, next, root } => {
                if number != connection {
                    return Err(Violation);
                }
                self.outbox.acknowledged(next)?;
                self.notices.push_back(Notice::Confirmed(connection));
                self.notices.extend(root.map(Notice::Root));
            }
            Frame::Control { sequence, bytes } => {
                let before = self.inbox.duplicate;
                self.inbox.receive(sequence, bytes)?;
                self.stats.control_received += 1 + before - self.inbox.duplicate;
            }
            Frame::Ack { next } => self.outbox.acknowledged(next)?,
            Frame::Root { number } => self.notices.push_back(Notice::Root(number)),
        }
        Ok(())
    }

    /// A datagram came on a connection.
    pub fn handle_datagram(&mut self, now: Instant, connection: u32, bytes: &Bytes) {
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        let Ok(datagram) = Datagram::decode(bytes) else {
            self.stats.malformed += 1;
            return;
        };
        link.arrivals.arrived(datagram.link_sequence, now);
        let (path, kind) = (link.path, link.kind);
        if matches!(datagram.content, Content::Media { .. }) {
            link.media_at = Some(now);
            link.inflow.arrived(now, bytes.len());
        }
        let stats = self.path_stats(path, kind);
        stats.received_datagrams += 1;
        stats.received_bytes += bytes.len() as u64;
        self.note_spoken(connection, now);
        match datagram.content {
            Content::Media {
                flow,
                sequence,
                payload,
            } => self.media_arrived(MediaDatagram {
                flow,
                sequence,
                payload,
                arrived: now,
                path,
            }),
            Content::Feedback(body) => match Feedback::decode(&body) {
                Ok(feedback) => self.feedback_arrived(now, &feedback),
                Err(_malformed) => self.stats.malformed += 1,
            },
        }
        self.select(now);
    }

    fn media_arrived(&mut self, packet: MediaDatagram) {
        if !self.media_open {
            self.stats.early += 1;
            return;
        }
        if self.flows.len() >= MAX_FLOWS && !self.flows.contains_key(&packet.flow) {
            self.stats.excess_flow += 1;
            return;
        }
        let flow = self.flows.entry(packet.flow).or_default();
        match flow.arrived(packet.sequence) {
            Arrival::New => {
                if self.received.len() >= MAX_RECEIVED {
                    self.stats.overrun += 1;
                    self.received.pop_front();
                }
                self.received.push_back(packet);
            }
            Arrival::Duplicate | Arrival::Late => {}
        }
    }

    fn feedback_arrived(&mut self, now: Instant, feedback: &Feedback) {
        self.stats.reports_received += 1;
        let Some(link) = self.links.get_mut(&feedback.about) else {
            return;
        };
        let mut news = Vec::new();
        link.sent.handle(feedback, &mut news);
        if let Some(bandwidth) = &mut link.bandwidth {
            bandwidth.handle(now, &news);
        }
        self.loss.handle(&news);
        let arrived = news.iter().filter(|report| report.arrived.is_some());
        if let Some(sent) = arrived.map(|report| report.sent).max() {
            let round = now.saturating_duration_since(sent);
            self.selection.went_round(feedback.about, round);
        }
        self.reports.extend(news);
        while self.reports.len() > MAX_PACKET_REPORTS {
            self.reports.pop_front();
        }
        self.selection.reported(feedback.about, feedback.age, now);
    }

    /// Takes a control message.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn send_control(&mut self, bytes: Bytes) -> Result<(), ControlError> {
        if self.end.is_some() {
            return Err(ControlError::Ended);
        }
        if bytes.len() > MAX_CONTROL_MESSAGE {
            return Err(ControlError::TooLong);
        }
        self.outbox.push(bytes).map_err(|Full| ControlError::Full)?;
        self.stats.control_sent += 1;
        Ok(())
    }

    /// Whether every control message was acknowledged: the other application has taken it.
    #[must_use]
    pub fn control_is_delivered(&self) -> bool {
        self.outbox.is_empty()
    }

    /// The next control message in order.
    pub fn recv_control(&mut self) -> Option<Bytes> {
        self.inbox.take()
    }

    /// Whether [`Self::recv_control`] has one.
    #[must_use]
    pub fn has_control(&self) -> bool {
        self.inbox.is_ready()
    }

    /// Takes a media packet.
    ///
    /// # Errors
    /// See [`SendMediaError`].
    pub fn send_media(
        &mut self,
        now: Instant,
        flow: u64,
        payload: Bytes,
        priority: Priority,
        expires: Instant,
    ) -> Result<(), SendMediaError> {
        if !self.media_open {
            self.stats.unopened += 1;
            return Err(SendMediaError::NotOpen);
        }
        let used_up = self
            .next_sequence
            .get(&flow)
            .is_some_and(|next| *next >= SEQUENCE_END);
        if payload.len() > MAX_MEDIA_PAYLOAD || flow >= FLOW_END || used_up {
            return Err(SendMediaError::Format);
        }
        self.select(now);
        let Some(active) = self.selection.active() else {
            self.stats.no_path += 1;
            return Err(SendMediaError::NoPath);
        };
        let packet = Queued {
            flow,
            sequence: Arc::default(),
            payload,
            priority,
            expires,
            since: now,
            copy: false,
        };
        // A silence that a full queue makes is not mended by filling it twice as fast.
        let congested = self.is_congested();
        let second = self
            .selection
            .second(now)
            .filter(|_| priority == Priority::Audio && !congested);
        if let Some(link) = second.and_then(|second| self.links.get_mut(&second)) {
            link.queue.push(Queued {
                copy: true,
                ..packet.clone()
            });
        }
        if let Some(link) = self.links.get_mut(&active) {
            link.queue.push(packet);
            if priority == Priority::Audio && self.config.joined_reports {
                link.sound_at = Some(now);
                self.write_reports(now, Some(active));
            }
        }
        Ok(())
    }

    /// What waits of a flow on the connection that media goes by. Copies elsewhere are not counted.
    #[must_use]
    pub fn waiting(&self, now: Instant, flow: u64) -> Waiting {
        let active = self
            .selection
            .active()
            .and_then(|active| self.links.get(&active));
        active.map_or_else(Waiting::default, |link| Waiting {
            is_held: link
                .bandwidth
                .as_ref()
                .is_some_and(|bandwidth| bandwidth.stuck_until(now).is_some()),
            ..link.queue.waiting(now, flow)
        })
    }

    /// Takes back what waits of a flow, on every connection.
    pub fn withdraw(&mut self, flow: u64) -> usize {
        let links = self.links.values_mut();
        let withdrawn = links.map(|link| link.queue.withdraw(flow)).sum();
        self.stats.withdrawn += withdrawn as u64;
        withdrawn
    }

    /// The next media packet that came.
    pub fn recv_media(&mut self) -> Option<MediaDatagram> {
        self.received.pop_front()
    }

    /// Whether [`Self::recv_media`] has one.
    #[must_use]
    pub fn has_media(&self) -> bool {
        !self.received.is_empty()
    }

    // Output.

    /// Whether a frame should go out on `connection`'s control stream.
    #[must_use]
    pub fn has_frame(&self, now: Instant, connection: u32) -> bool {
        let Some(link) = self.links.get(&connection).filter(|link| !link.retired) else {
            return false;
        };
        let best = self.selection.best_for_control(now);
        !link.hello_sent
            || link.root_due
            || self.inbox.acknowledge && best == Some(connection)
            || best.is_some_and(|best| self.outbox.has_due(connection, best, now))
    }

    /// The next frame for `connection`'s control stream.
    pub fn poll_frame(&mut self, now: Instant, connection: u32) -> Option<Bytes> {
        let best = self.selection.best_for_control(now);
        let link = self
            .links
            .get_mut(&connection)
            .filter(|link| !link.retired)?;
        if !link.hello_sent {
            link.hello_sent = true;
            let frame = Frame::Hello {
                number: connection,
                next: self.inbox.next(),
                root: self.root,
            };
            return Some(frame.encode());
        }
        if link.root_due {
            link.root_due = false;
            let number = self.root?;
            return Some(Frame::Root { number }.encode());
        }
        if self.inbox.acknowledge && best == Some(connection) {
            self.inbox.acknowledge = false;
            let next = self.inbox.next();
            return Some(Frame::Ack { next }.encode());
        }
        let (sequence, bytes) = self.outbox.poll(connection, best?, now)?;
        Some(Frame::Control { sequence, bytes }.encode())
    }

    /// Whether a datagram should go out on `connection`.
    #[must_use]
    pub fn has_datagram(&self, now: Instant, connection: u32) -> bool {
        self.links.get(&connection).is_some_and(|link| {
            !link.reports.is_empty()
                || self.selection.may_carry(connection, now)
                    && (link.queue.has_urgent()
                        || !link.queue.is_empty() && link.paced_until(now).is_none())
        })
    }

    /// When [`Self::has_datagram`] becomes true although nothing happens: something waits for its pace. The driver
    /// asks again then.
    #[must_use]
    pub fn datagram_due(&self, now: Instant, connection: u32) -> Option<Instant> {
        let link = self.links.get(&connection)?;
        if link.queue.is_empty() || !self.selection.may_carry(connection, now) {
            return None;
        }
        link.paced_until(now)
    }

    /// The next datagram for `connection`.
    pub fn poll_datagram(&mut self, now: Instant, connection: u32) -> Option<Outgoing> {
        let may_carry = self.selection.may_carry(connection, now);
        let link = self.links.get_mut(&connection)?;
        let mut sound = None;
        // The driver hands both over before QUIC packs them.
        let joined = self.config.joined_reports
            && may_carry
            && !link.reports.is_empty()
            && link.queue.has_urgent();
        let (content, expires, share) = if let Some(body) = link.reports.pop_front() {
            self.stats.reports_sent += 1;
            let expires = now + REPORT_INTERVAL;
            (Content::Feedback(body), expires, Share::Report)
        } else if may_carry {
            let packet = if link.paced_until(now).is_some() {
                link.queue.pop_urgent(now)?
            } else {
                link.queue.pop(now)?
            };
            let flow = packet.flow;
            let next = self.next_sequence.entry(flow).or_default();
            let first = packet.sequence.get().is_none();
            let sequence = *packet.sequence.get_or_init(|| *next);
            let share = if first {
                *next += 1;
                self.stats.sent += 1;
                Share::Media
            } else {
                self.stats.sent_copies += 1;
                Share::Copy
            };
            sound = (packet.priority == Priority::Audio).then_some(sequence);
            let content = Content::Media {
                flow,
                sequence,
                payload: packet.payload,
            };
            (content, packet.expires, share)
        } else {
            return None;
        };
        let len = content.datagram_len();
        let wire = wire_bytes(len, joined);
        let link_sequence = link.sent.sent(wire, now);
        if let Some(bandwidth) = &mut link.bandwidth {
            bandwidth.sent(now, wire);
            let bits = (wire * 8) as f64;
            link.pacer.sent(now, bits, bandwidth.pace_bps());
        }
        if let Some(sequence) = sound {
            self.loss.sent(connection, link_sequence, sequence);
        }
        let (path, kind) = (link.path, link.kind);
        let stats = self.path_stats(path, kind);
        stats.sent_datagrams += 1;
        stats.sent_bytes += len as u64;
        let datagram = Datagram {
            link_sequence,
            content,
        };
        Some(Outgoing {
            bytes: datagram.encode(),
            expires,
            share,
        })
    }

    /// A datagram from [`Self::poll_datagram`] expired while QUIC had no room, and was withdrawn. It has its number
    /// by then, so the other side counts it as lost.
    pub fn withdrawn(&mut self, share: Share) {
        match share {
            Share::Media => {
                self.stats.sent -= 1;
                self.stats.expired += 1;
            }
            Share::Copy => self.stats.sent_copies -= 1,
            Share::Report => self.stats.reports_sent -= 1,
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Whether [`Self::poll_event`] has one.
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Fates of datagrams that were sent, for an estimate of capacity: all since the last call.
    pub fn take_packet_reports(&mut self) -> Vec<PacketReport> {
        self.reports.drain(..).collect()
    }

    // Time.

    /// When [`Self::handle_timeout`] is next due, and why.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<(Instant, Deadline)> {
        if self.end.is_some() {
            return None;
        }
        let report = self.links.values().map(|link| link.report_due(now)).min();
        let living: BTreeSet<u32> = self.living().collect();
        let liveness = if self.reconnecting.is_none() && self.was_up {
            RECONNECTING_AFTER.min(self.config.lost_after)
        } else {
            self.config.lost_after
        };
        [
            report.map(|at| (at, Deadline::Report)),
            self.selection
                .deadline(now)
                .map(|at| (at, Deadline::Silence)),
            self.outbox
                .deadline(&living, now)
                .map(|at| (at, Deadline::Resend)),
            Some((self.heard + liveness, Deadline::Liveness)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.select(now);
        self.write_reports(now, None);
        self.check_liveness(now);
    }

    /// Tells of connections that may be gone.
    fn tell_silence(&mut self, now: Instant) {
        for (connection, active) in self.selection.newly_silent(now) {
            let Some(link) = self.links.get(&connection) else {
                continue;
            };
            let (path, kind) = (link.path, link.kind);
            self.event(SessionEvent::Silent { path, kind, active });
        }
    }

    /// Whether what we send stands in a queue on the connection in use.
    fn is_congested(&self) -> bool {
        self.estimate()
            .is_some_and(|estimate| estimate.queue_delay > NO_COPIES_ABOVE)
    }

    /// Writes the reports that are due. Sound leaves now by `sound`, if by any.
    fn write_reports(&mut self, now: Instant, sound: Option<u32>) {
        let active = self.selection.active();
        let congested = self.is_congested();
        let doubtful = self.selection.is_doubtful(now) && !congested;
        let second = active.into_iter().chain(self.living()).collect::<Vec<_>>();
        let mut detours = Vec::new();
        for (connection, link) in &mut self.links {
            if doubtful {
                // Whether this one lives is wanted soon.
                link.next_report = link.next_report.min(now + REPORT_INTERVAL);
            }
            let joins = sound == Some(*connection) && now + REPORT_JOINS >= link.next_report;
            if !joins && link.report_due(now) > now {
                continue;
            }
            let carries = active == Some(*connection)
                || link
                    .media_at
                    .is_some_and(|at| now.saturating_duration_since(at) < CARRIES_MEDIA);
            let prompt = self.config.alert && link.inflow.is_much(now);
            link.next_report = now
                + if prompt && link.has_sound(now) {
                    PROMPT_REPORT_INTERVAL
                } else if prompt {
                    PROMPT_LONE_REPORT_INTERVAL
                } else if carries || doubtful {
                    REPORT_INTERVAL
                } else {
                    STANDBY_REPORT_INTERVAL
                };
            let silence = now.saturating_duration_since(link.arrivals.last_arrival());
            let body = Bytes::from(link.arrivals.report(*connection, now).encode());
            if silence >= REPORT_BOTH_WAYS_AFTER && !congested && !link.retired {
                detours.push((*connection, body.clone()));
            }
            push_report(link, body);
        }
        for (about, body) in detours {
            let other = second.iter().find(|connection| **connection != about);
            if let Some(link) = other.and_then(|other| self.links.get_mut(other)) {
                push_report(link, body);
            }
        }
    }

    fn select(&mut self, now: Instant) {
        self.tell_silence(now);
        let Some(decision) = self.selection.update(now) else {
            return;
        };
        let Decision {
            from,
            to,
            reason,
            silence,
        } = decision;
        let old_path = self.active_path;
        if let Some(from) = from
            && let Some(mut link) = self.links.remove(&from)
        {
            if let Some(heir) = self.links.get_mut(&to) {
                heir.queue.take_over(&mut link.queue);
            }
            self.links.insert(from, link);
        }
        let Some(path) = self.links.get(&to).map(|link| link.path) else {
            return;
        };
        self.active_path = Some(path);
        // The first choice of all is no switch; a connection replaced on its own path is none either.
        if old_path.is_none() || old_path == Some(path) {
            return;
        }
        let switch = Switch {
            at: now,
            from: old_path,
            to: path,
            reason,
            gap: silence,
        };
        tracing::debug!(?switch, "media goes another way");
        self.stats.switches += 1;
        if self.stats.switch_log.len() < MAX_SWITCHES {
            self.stats.switch_log.push(switch);
        }
        self.event(SessionEvent::Switched(switch));
    }

    /// The other side said something by `connection`.
    fn note_spoken(&mut self, connection: u32, now: Instant) {
        self.note_heard(connection, now);
        let link = self.links.get_mut(&connection);
        if link.is_none_or(|link| std::mem::replace(&mut link.has_spoken, true)) {
            return;
        }
        let mut links = self.links.iter();
        let before = links.find(|(_, link)| link.heir == Some(connection) && !link.retired);
        if let Some(before) = before.map(|(before, _)| *before) {
            self.succeed(now, before, connection);
        }
    }

    fn note_heard(&mut self, connection: u32, now: Instant) {
        self.selection.heard(connection, now);
        self.heard = now;
        // What still comes by a connection that was replaced brings nothing back.
        if self.living().next().is_none() {
            return;
        }
        if let Some(since) = self.reconnecting.take() {
            self.event(SessionEvent::Reconnected {
                after: now.saturating_duration_since(since),
            });
        }
    }

    fn check_liveness(&mut self, now: Instant) {
        let silence = now.saturating_duration_since(self.heard);
        if silence >= self.config.lost_after {
            let end = if self.was_up {
                SessionEnd::Lost
            } else {
                SessionEnd::Unreachable
            };
            self.finish(end);
            return;
        }
        let cut = self.living().next().is_none() || silence >= RECONNECTING_AFTER;
        if self.was_up && cut && self.reconnecting.is_none() && self.end.is_none() {
            self.reconnecting = Some(self.heard);
            self.event(SessionEvent::Reconnecting);
        }
    }

    fn finish(&mut self, end: SessionEnd) {
        if self.end.is_none() {
            self.end = Some(end);
            self.event(SessionEvent::Ended(end));
        }
    }

    fn event(&mut self, event: SessionEvent) {
        // The end is the last event.
        if self.end.is_some() && !matches!(event, SessionEvent::Ended(_)) {
            return;
        }
        tracing::debug!(?event, "session");
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn path_stats(&mut self, path: PathId, kind: PathKind) -> &mut PathStats {
        self.stats
            .paths
            .entry(path)
            .or_insert_with(|| PathStats::new(kind))
    }

    /// What the connection that media goes by carries; none while there is none, or nothing is estimated.
    #[must_use]
    pub fn estimate(&self) -> Option<Estimate> {
        self.estimate_of(self.selection.active()?)
    }

    /// What one connection carries.
    #[must_use]
    pub fn estimate_of(&self, connection: u32) -> Option<Estimate> {
        let bandwidth = self.links.get(&connection)?.bandwidth.as_ref()?;
        Some(bandwidth.estimate())
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        let mut stats = self.stats.clone();
        for link in self.links.values() {
            let drops = link.queue.drops();
            stats.expired += drops.expired;
            stats.overflow += drops.overflow;
            if let Some(path) = stats.paths.get_mut(&link.path).filter(|_| !link.retired) {
                path.up = self.end.is_none();
                path.estimate = link.bandwidth.as_ref().map(Bandwidth::estimate);
            }
        }
        let active = self
            .selection
            .active()
            .and_then(|active| self.links.get(&active));
        stats.active = active.map(|link| link.path);
        stats.estimate = self.estimate();
        stats.loss = self.loss.stats();
        stats.control_resent = self.outbox.resent;
        stats.control_duplicate = self.inbox.duplicate;
        for (flow, receiver) in &self.flows {
            stats.flows.insert(*flow, receiver.stats());
        }
        for (flow, next) in &self.next_sequence {
            stats.flows.entry(*flow).or_default().sent = *next;
        }
        let sum = |field: fn(&FlowStats) -> u64| stats.flows.values().map(field).sum();
        let (received, lost) = (sum(|flow| flow.received), sum(|flow| flow.lost));
        let (duplicate, reordered) = (sum(|flow| flow.duplicate), sum(|flow| flow.reordered));
        let late = sum(|flow| flow.late);
        SessionStats {
            received,
            lost,
            duplicate,
            reordered,
            late,
            ..stats
        }
    }
}

impl Link {
    /// Whether sound leaves by it.
    fn has_sound(&self, now: Instant) -> bool {
        let recent = |at| now.saturating_duration_since(at) < SOUND_STEADY;
        self.sound_at.is_some_and(recent)
    }

    /// When the next report is due, if no sound leaves before that it could join.
    fn report_due(&self, now: Instant) -> Instant {
        if self.has_sound(now) {
            self.next_report + REPORT_WAITS
        } else {
            self.next_report
        }
    }

    /// Until when what can wait has to; `None` when it may go.
    fn paced_until(&self, now: Instant) -> Option<Instant> {
        let bandwidth = self.bandwidth.as_ref()?;
        let paced = self.pacer.next(now, bandwidth.pace_bps());
        paced.max(bandwidth.stuck_until(now))
    }
}

fn push_report(link: &mut Link, body: Bytes) {
    if link.reports.len() >= MAX_WAITING_REPORTS {
        link.reports.pop_front();
    }
    link.reports.push_back(body);
}

#[cfg(test)]
mod tests;
