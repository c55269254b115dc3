//! One connection to a supernode, as a client: requests with their answers, and what is pushed.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy_transport::{
    connection::{CloseCode, Connection, ConnectionLost},
    identity::{DeviceId, NodeAddress, UserId},
    runtime::{Runtime, RuntimeExt as _, timeout},
    tunnel::Tunnel,
};

use crate::{
    dial::Dialled,
    discovery::{announcement::Announcement, gossip::Errand, record::Record},
    supernode::{
        LocalClient,
        closed::ClosedNews,
        mailbox::{MARK_LEN, MailKey, WaitingLetter},
        protocol::{
            Consignment, MAX_MESSAGE, Push, Refusal, Registration, RelayGrant, Request, Response,
        },
        witness::Testimony,
    },
    workbench::{Desk, Unproven, Workbench},
};

/// A supernode that does not answer for this long is as good as gone: two retransmissions on a bad line.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where work was done in vain since others were faster, it begins anew after this.
const WORK_PAUSE: Duration = Duration::from_millis(500);

/// Why a request was not answered as hoped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The supernode said no.
    #[error("the supernode refused: {0}")]
    Refused(#[from] Refusal),
    /// The connection is gone.
    #[error("the connection to the supernode is lost")]
    Lost,
    /// No answer in time.
    #[error("the supernode does not answer")]
    TimedOut,
    /// The answer cannot be read, or answers something else.
    #[error("the supernode's answer makes no sense")]
    Protocol,
    /// Strangers flood the supernode, and it asks for more work than is done for one envelope.
    #[error(
        "strangers flood the supernode, and it asks for more work than this device does for one call"
    )]
    TooMuchWork,
    /// Nobody waits any more for the work that the supernode asked for.
    #[error("it is not needed any more")]
    NotNeeded,
}

impl RequestError {
    /// Why the supernode said no, if it did.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(*refusal),
            Self::Lost | Self::TimedOut | Self::Protocol | Self::TooMuchWork | Self::NotNeeded => {
                None
            }
        }
    }
}

/// What a registration brought.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Where our packets come from, as the supernode sees it. Unspecified through a tunnel, since a TCP connection
    /// says nothing about UDP, and for a supernode in this process.
    pub observed: SocketAddr,
    /// The supernode's clock, milliseconds since 1970.
    pub now_millis: u64,
    /// Credentials for its relay, if it relays.
    pub relay: Option<RelayGrant>,
}

/// A connection to a supernode, or the way to one in this process.
#[derive(Debug, Clone)]
pub struct NodeClient {
    runtime: Arc<dyn Runtime>,
    way: Way,
    /// Where it works, if not alone.
    desk: Option<Desk>,
}

#[derive(Debug, Clone)]
enum Way {
    /// A connection, and the tunnel that it goes through, open as long as it is needed here.
    Dialled(Dialled),
    Local(Arc<LocalClient>),
}

impl NodeClient {
    /// Speaks the supernode protocol on `connection`.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, connection: Connection) -> Self {
        Self {
            runtime,
            way: Way::Dialled(Dialled {
                connection,
                tunnel: None,
            }),
            desk: None,
        }
    }

    /// The same on a connection that may go through a tunnel, which stays open as long as the client or a clone.
    #[must_use]
    pub fn dialled(runtime: Arc<dyn Runtime>, dialled: Dialled) -> Self {
        Self {
            runtime,
            way: Way::Dialled(dialled),
            desk: None,
        }
    }

    /// A client of a supernode in this process.
    #[must_use]
    pub fn local(runtime: Arc<dyn Runtime>, client: Arc<LocalClient>) -> Self {
        Self {
            runtime,
            way: Way::Local(client),
            desk: None,
        }
    }

    /// The same connection, whose work is done at that desk: for whoever asks several supernodes at once.
    #[must_use]
    pub fn at(&self, desk: Desk) -> Self {
        Self {
            desk: Some(desk),
            ..self.clone()
        }
    }

    /// The tunnel that the connection goes through; `None` over UDP.
    #[must_use]
    pub fn tunnel(&self) -> Option<&Arc<Tunnel>> {
        match &self.way {
            Way::Dialled(dialled) => dialled.tunnel.as_ref(),
            Way::Local(_) => None,
        }
    }

    /// The connection underneath; `None` to a supernode in this process.
    #[must_use]
    pub fn connection(&self) -> Option<&Connection> {
        match &self.way {
            Way::Dialled(dialled) => Some(&dialled.connection),
            Way::Local(_) => None,
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Every way in which it can fail is a variant of [`RequestError`].
    pub async fn request(&self, request: &Request) -> Result<Response, RequestError> {
        let connection = match &self.way {
            Way::Dialled(dialled) => &dialled.connection,
            Way::Local(client) => return Ok(client.request(request.clone())?),
        };
        let exchange = async {
            let (mut sender, mut receiver) = connection
                .open_bi()
                .await
                .map_err(|_lost| RequestError::Lost)?;
            sender
                .send(&request.encode())
                .await
                .map_err(|_lost| RequestError::Lost)?;
            sender.finish();
            let answer = receiver
                .recv(MAX_MESSAGE)
                .await
                .map_err(|_lost| RequestError::Lost)?;
            Response::decode(&answer.ok_or(RequestError::Protocol)?)
                .map_err(|_malformed| RequestError::Protocol)
        };
        match timeout(&*self.runtime, RESPONSE_TIMEOUT, exchange).await {
            Some(Ok(Response::Refused(refusal))) => Err(RequestError::Refused(refusal)),
            Some(result) => result,
            None => Err(RequestError::TimedOut),
        }
    }

    /// Hands an envelope over, and does the work that is asked for where strangers flood the supernode, up to
    /// [`MOST_WORK`](crate::supernode::puzzle::MOST_WORK). The envelope itself goes from one attempt to the next.
    async fn consign(&self, consignment: Consignment) -> Result<Response, RequestError> {
        let desk = self.desk();
        let (mut until, mut spent) = (None, 0);
        let mut asking = Request::Consign(consignment);
        loop {
            let answer = self.request(&asking).await;
            let puzzle = match answer {
                Ok(Response::Puzzle(puzzle)) => Some(puzzle),
                // Others were faster with theirs.
                Err(RequestError::Refused(Refusal::Full)) if until.is_some() => None,
                answer => return answer,
            };
            let now = self.runtime.now();
            let until = *until.get_or_insert_with(|| desk.until(now));
            if now >= until {
                return Err(RequestError::TooMuchWork);
            }
            let Some(puzzle) = puzzle else {
                self.runtime.sleep(WORK_PAUSE).await;
                continue;
            };
            let (Request::Consign(consignment) | Request::Proven { consignment, .. }) = asking
            else {
                unreachable!("nothing else is asked here");
            };
            let working = desk.work(puzzle, consignment.envelope(), &mut spent);
            let proof = match timeout(&*self.runtime, until - now, working).await {
                Some(Ok(proof)) => proof,
                Some(Err(Unproven::TooHard)) | None => return Err(RequestError::TooMuchWork),
                Some(Err(Unproven::Cleared)) => return Err(RequestError::NotNeeded),
            };
            asking = Request::Proven { proof, consignment };
        }
    }

    fn desk(&self) -> Desk {
        let alone = || Workbench::new(Arc::clone(&self.runtime), true).desk();
        self.desk.clone().unwrap_or_else(alone)
    }

    /// Makes this device reachable at the supernode, or renews that.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn register(&self, registration: Registration) -> Result<Registered, RequestError> {
        let Response::Registered {
            mut observed,
            now_millis,
            relay,
        } = self.request(&Request::Register(registration)).await?
        else {
            return Err(RequestError::Protocol);
        };
        observed.set_ip(observed.ip().to_canonical());
        if self.tunnel().is_some() {
            observed = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        }
        Ok(Registered {
            observed,
            now_millis,
            relay: relay.map(|grant| self.located(grant)),
        })
    }

    /// The devices of `user` that are registered at the supernode. Nothing in them is verified.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn lookup(&self, user: UserId) -> Result<Vec<Registration>, RequestError> {
        let Response::Devices(devices) = self.request(&Request::Lookup { user }).await? else {
            return Err(RequestError::Protocol);
        };
        Ok(devices)
    }

    /// Hands an envelope to a device. The number names the delivery in [`Push::ReplyTo`].
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn deliver(
        &self,
        to: DeviceId,
        epoch: u64,
        envelope: Vec<u8>,
    ) -> Result<u64, RequestError> {
        self.deliver_marked(to, epoch, None, envelope).await
    }

    /// As [`Self::deliver`], marked as a contact's or not. Where strangers flood the supernode this takes work, for at most
    /// [`MOST_WORK`](crate::supernode::puzzle::MOST_WORK).
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn deliver_marked(
        &self,
        to: DeviceId,
        epoch: u64,
        mark: Option<[u8; MARK_LEN]>,
        envelope: Vec<u8>,
    ) -> Result<u64, RequestError> {
        let consignment = Consignment::Deliver {
            to,
            epoch,
            mark,
            envelope,
        };
        let answer = self.consign(consignment).await?;
        let Response::Delivered { delivery } = answer else {
            return Err(RequestError::Protocol);
        };
        Ok(delivery)
    }

    /// Answers a delivery.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn reply(&self, delivery: u64, payload: Vec<u8>) -> Result<(), RequestError> {
        let Response::Replied = self.request(&Request::Reply { delivery, payload }).await? else {
            return Err(RequestError::Protocol);
        };
        Ok(())
    }

    /// Credentials for the supernode's relay.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn relay_grant(&self) -> Result<RelayGrant, RequestError> {
        let Response::Relay(grant) = self.request(&Request::RelayGrant).await? else {
            return Err(RequestError::Protocol);
        };
        Ok(self.located(grant))
    }

    /// Makes the supernode's relay serve the relayed addresses of `relay`, another supernode, and says for how
    /// long it will. Asking again prolongs that.
    ///
    /// # Errors
    /// See [`RequestError`]; [`Refusal::UnprovenRelay`] when no such supernode is there.
    pub async fn allow_relay(&self, relay: NodeAddress) -> Result<Duration, RequestError> {
        let Response::RelayAllowed { lifetime_secs } =
            self.request(&Request::AllowRelay { relay }).await?
        else {
            return Err(RequestError::Protocol);
        };
        Ok(Duration::from_secs(lifetime_secs.into()))
    }

    /// Has the supernode keep a box for this device, which is registered there. Says how many letters wait.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn keep_box(&self, key: MailKey) -> Result<u32, RequestError> {
        let Response::BoxKept { waiting } = self.request(&Request::KeepBox { key }).await? else {
            return Err(RequestError::Protocol);
        };
        Ok(waiting)
    }

    /// The devices of `user` that have boxes at the supernode. Nothing in them is verified.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn boxes(&self, user: UserId) -> Result<Vec<Registration>, RequestError> {
        let Response::Devices(devices) = self.request(&Request::Boxes { user }).await? else {
            return Err(RequestError::Protocol);
        };
        Ok(devices)
    }

    /// Leaves an envelope in the box of a device, marked as a contact's or not. Says whether it counts as one's.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn leave(
        &self,
        (user, to): (UserId, DeviceId),
        mark: Option<[u8; MARK_LEN]>,
        envelope: Vec<u8>,
    ) -> Result<bool, RequestError> {
        let consignment = Consignment::Leave {
            user,
            to,
            mark,
            envelope,
        };
        let answer = self.consign(consignment).await?;
        let Response::Left { contact } = answer else {
            return Err(RequestError::Protocol);
        };
        Ok(contact)
    }

    /// What waits for this device, or as much of it as one answer holds.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn fetch(&self) -> Result<Vec<WaitingLetter>, RequestError> {
        let Response::Letters(letters) = self.request(&Request::Fetch).await? else {
            return Err(RequestError::Protocol);
        };
        Ok(letters)
    }

    /// This device has these letters.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn acknowledge(&self, ids: Vec<u64>) -> Result<(), RequestError> {
        let Response::Acknowledged = self.request(&Request::Acknowledge { ids }).await? else {
            return Err(RequestError::Protocol);
        };
        Ok(())
    }

    /// Leaves a record there, and says which one is held now: this one, a newer one, or none.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn publish(&self, record: &Record) -> Result<Option<Record>, RequestError> {
        let record = record.as_bytes().to_vec();
        self.record(Request::Publish { record }).await
    }

    /// The record of `user` that is held there. It is not judged.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn find(&self, user: UserId) -> Result<Option<Record>, RequestError> {
        self.record(Request::Find { user }).await
    }

    async fn record(&self, request: Request) -> Result<Option<Record>, RequestError> {
        let Response::Record(record) = self.request(&request).await? else {
            return Err(RequestError::Protocol);
        };
        record
            .map(|bytes| Record::from_bytes(&bytes))
            .transpose()
            .map_err(|_malformed| RequestError::Protocol)
    }

    /// Has the supernode sign the end of the device list that this device registered with.
    ///
    /// # Errors
    /// See [`RequestError`]; [`Refusal::Malformed`] from one that is older.
    pub async fn witness(&self) -> Result<Testimony, RequestError> {
        self.testimony(Request::Witness).await
    }

    /// What the supernode has seen of the device list of `user`. Nothing of it is judged.
    ///
    /// # Errors
    /// As [`Self::witness`].
    pub async fn witnessed(&self, user: UserId) -> Result<Testimony, RequestError> {
        self.testimony(Request::Witnessed { user }).await
    }

    async fn testimony(&self, request: Request) -> Result<Testimony, RequestError> {
        let Response::Testimony(said) = self.request(&request).await? else {
            return Err(RequestError::Protocol);
        };
        Ok(said)
    }

    /// What the supernode says of itself and of others it knows. Nothing of it is judged; what a newer version says is left
    /// out.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn supernodes(
        &self,
        errand: &Errand,
    ) -> Result<Vec<Arc<Announcement>>, RequestError> {
        let request = Request::Supernodes {
            after: errand.after.clone(),
            most: errand.most,
            own: errand.own.as_ref().map(|own| own.as_bytes().to_vec()),
        };
        let Response::Supernodes(known) = self.request(&request).await? else {
            return Err(RequestError::Protocol);
        };
        let known = known.iter();
        let known = known.filter_map(|bytes| Announcement::from_bytes(bytes).ok());
        Ok(known.map(Arc::new).collect())
    }

    /// What this supernode of our private network knows of invites, after `after` and beyond the list `seq`; it is given
    /// `revoked`, a list that is perhaps newer.
    ///
    /// # Errors
    /// See [`RequestError`]; [`Refusal::Malformed`] from one that serves everybody.
    pub async fn news(
        &self,
        seq: Option<u64>,
        after: u64,
        revoked: Option<Vec<u8>>,
    ) -> Result<ClosedNews, RequestError> {
        let request = Request::News {
            seq,
            after,
            revoked,
        };
        let Response::News(news) = self.request(&request).await? else {
            return Err(RequestError::Protocol);
        };
        Ok(news)
    }

    /// The next push. A push that cannot be read is skipped: a newer supernode may say more.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn next_push(&self) -> Result<Push, ConnectionLost> {
        let connection = match &self.way {
            Way::Dialled(dialled) => &dialled.connection,
            Way::Local(client) => {
                return client.next_push().await.ok_or(ConnectionLost::ClosedHere);
            }
        };
        loop {
            let mut stream = connection.accept_uni().await?;
            let read = timeout(&*self.runtime, RESPONSE_TIMEOUT, stream.recv(MAX_MESSAGE)).await;
            let Some(Ok(Some(message))) = read else {
                tracing::debug!("a push did not arrive whole");
                continue;
            };
            match Push::decode(&message) {
                Ok(push) => return Ok(push),
                Err(error) => tracing::debug!(%error, "a push cannot be read"),
            }
        }
    }

    /// Says good-bye.
    pub fn close(&self) {
        if let Some(connection) = self.connection() {
            connection.close(CloseCode::Done, "done");
        }
    }

    /// A relay listens where the supernode itself is reached, as far as it does not say otherwise.
    fn located(&self, mut grant: RelayGrant) -> RelayGrant {
        let Some(connection) = self.connection() else {
            return grant;
        };
        let reached = connection.remote_address();
        if grant.server.ip().is_unspecified() {
            grant.server.set_ip(reached.ip());
        }
        if grant.server.port() == 0 {
            grant.server.set_port(reached.port());
        }
        grant
    }
}
