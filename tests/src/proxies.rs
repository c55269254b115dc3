//! Proxies and lines between a client and a TCP port, on this machine: HTTP CONNECT and SOCKS5 with or without a
//! password, and a line of a given rate.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

/// The name that these proxies know, for this machine. Nobody else does.
pub const NAME: &str = "node.behind-the-proxy.test";

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP CONNECT.
    Http,
    /// SOCKS5.
    Socks5,
}

/// A running proxy. It ends with this handle.
#[derive(Debug)]
pub struct Proxy {
    kind: Kind,
    addr: SocketAddr,
    connected: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts one; with a login it lets nobody else in.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(kind: Kind, login: Option<(&str, &str)>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let connected = Arc::new(AtomicUsize::new(0));
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let count = Arc::clone(&connected);
        let task = tokio::spawn(async move {
            while let Ok((stream, _peer)) = listener.accept().await {
                let (login, count) = (login.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let served = match kind {
                        Kind::Http => http(stream, login, &count).await,
                        Kind::Socks5 => socks(stream, login, &count).await,
                    };
                    // A client that goes away is no news.
                    served.unwrap_or_default();
                });
            }
        });
        Ok(Self {
            kind,
            addr,
            connected,
            task,
        })
    }

    /// How it is named, with this login if any.
    #[must_use]
    pub fn url(&self, login: Option<(&str, &str)>) -> String {
        let scheme = match self.kind {
            Kind::Http => "http",
            Kind::Socks5 => "socks5",
        };
        match login {
            Some((user, password)) => format!("{scheme}://{user}:{password}@{}", self.addr),
            None => format!("{scheme}://{}", self.addr),
        }
    }

    /// Connections that it made.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }
}

/// The address of `place`, `host:port`.
fn look_up(place: &str) -> String {
    place.replace(NAME, "127.0.0.1")
}

async fn http(
    mut client: TcpStream,
    login: Option<(String, String)>,
    connected: &AtomicUsize,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if let Some((user, password)) = login {
        let expected = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        let given = head
            .lines()
            .find_map(|line| line.strip_prefix("Proxy-Authorization: "));
        if given != Some(&expected) {
            return client
                .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                .await;
        }
    }
    let mut words = head.split(' ');
    let (Some("CONNECT"), Some(place)) = (words.next(), words.next()) else {
        return client.write_all(b"HTTP/1.1 405 No\r\n\r\n").await;
    };
    match TcpStream::connect(look_up(place)).await {
        Ok(server) => {
            connected.fetch_add(1, Ordering::SeqCst);
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            join(client, server).await
        }
        Err(_refused) => client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await,
    }
}

/// RFC 4648 section 4, bit by bit: the other implementation is the one under test.
fn base64(bytes: &[u8]) -> String {
    let bits: Vec<bool> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1 == 1))
        .collect();
    let mut text: String = bits
        .chunks(6)
        .map(|chunk| {
            let mut digit = 0u8;
            for n in 0..6 {
                digit = digit << 1 | u8::from(chunk.get(n).copied().unwrap_or(false));
            }
            char::from(match digit {
                0..26 => b'A' + digit,
                26..52 => b'a' + digit - 26,
                52..62 => b'0' + digit - 52,
                62 => b'+',
                _last => b'/',
            })
        })
        .collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

async fn socks(
    mut client: TcpStream,
    login: Option<(String, String)>,
    connected: &AtomicUsize,
) -> io::Result<()> {
    let _version = client.read_u8().await?;
    let methods = short(&mut client).await?;
    match login {
        None => client.write_all(&[5, 0]).await?,
        Some(_) if !methods.contains(&2) => return client.write_all(&[5, 0xff]).await,
        Some((user, password)) => {
            client.write_all(&[5, 2]).await?;
            let _version = client.read_u8().await?;
            let given = (short(&mut client).await?, short(&mut client).await?);
            if given != (user.into_bytes(), password.into_bytes()) {
                return client.write_all(&[1, 1]).await;
            }
            client.write_all(&[1, 0]).await?;
        }
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let host = match request[3] {
        1 => {
            let mut ip = [0; 4];
            client.read_exact(&mut ip).await?;
            std::net::Ipv4Addr::from(ip).to_string()
        }
        3 => String::from_utf8_lossy(&short(&mut client).await?).into_owned(),
        _other => return client.write_all(&[5, 8, 0, 1, 0, 0, 0, 0, 0, 0]).await,
    };
    let port = client.read_u16().await?;
    match TcpStream::connect(look_up(&format!("{host}:{port}"))).await {
        Ok(server) => {
            connected.fetch_add(1, Ordering::SeqCst);
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            join(client, server).await
        }
        Err(_refused) => client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await,
    }
}

async fn short(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn join(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .map(|_bytes| ())
}

/// Bytes that a line takes in at most before they have left it: the buffer of a router that is not bloated. The kernel
/// counts its own bookkeeping against it.
pub const LINE_BUFFER: u32 = 12 * 1024;
/// As on Ethernet. On loopback it would be more than the buffer, and TCP would wait for a window that never opens.
const SEGMENT_BYTES: u32 = 1448;

fn narrow() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Inherited by what is accepted: TCP must feel the line, not the memory of this machine.
    socket.set_recv_buffer_size(LINE_BUFFER)?;
    socket2::SockRef::from(&socket).set_tcp_mss(SEGMENT_BYTES)?;
    Ok(socket)
}

/// A line of `bits_per_second` each way to the TCP port `to`; returns where it begins. It lives as long as the tests'
/// runtime.
///
/// # Errors
/// When there is no free port.
pub fn line(to: SocketAddr, bits_per_second: u32) -> io::Result<SocketAddr> {
    let socket = narrow()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(16)?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((near, _peer)) = listener.accept().await {
            tokio::spawn(async move {
                let far = narrow()?.connect(to).await?;
                near.set_nodelay(true)?;
                far.set_nodelay(true)?;
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                let up = tokio::spawn(carry(near_in, far_out, bits_per_second));
                carry(far_in, near_out, bits_per_second).await?;
                up.abort();
                Ok::<_, io::Error>(())
            });
        }
    });
    Ok(addr)
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    bits_per_second: u32,
) -> io::Result<()> {
    let mut buffer = [0; 1500];
    let mut free = tokio::time::Instant::now();
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let bits = u32::try_from(count).unwrap_or(u32::MAX) * 8;
        let takes = Duration::from_secs(1) * bits / bits_per_second;
        free = free.max(tokio::time::Instant::now()) + takes;
        tokio::time::sleep_until(free).await;
        to.write_all(&buffer[..count]).await?;
    }
}
