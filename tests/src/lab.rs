//! The laboratory: real kernels. Network namespaces stand for machines and routers, nftables rules of the crate
//! `patchbay` for their NATs, and the program runs in them as separate processes.
//!
//! ```text
//!   alice ── router ──┐                 ┌── router ── bob
//!                     ├── "internet" ───┤
//!   (behind any NAT)  │                 │   (behind any NAT)
//!                 node, other: public, IPv4 and IPv6
//! ```
//!
//! Everything lies in namespaces of this process and is gone when it ends. Root is not needed where user
//! namespaces allow it, see [`runner`].
//!
//! No NAT is believed by its label: [`behaviour`] probes each from inside. Links are never impaired here: a
//! kernel without netem accepts such a wish and ignores it (`patchbay` reports success all the same), so
//! tests of loss and delay belong to the simulator.

use std::{
    ffi::OsStr,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use patchbay::{
    Device, Firewall, IpSupport, NatConfig, NatFiltering, NatMapping, Router, RouterPreset,
};

use crate::process::{Running, start_by};

pub mod behaviour;
pub mod capture;
pub mod runner;
pub mod talk;

/// The public name of the supernode, for both families.
pub const NODE_NAME: &str = "node.example";

/// What stands between a machine and the internet. Words of RFC 4787.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nat {
    /// A public address, IPv4 and IPv6, and no firewall.
    None,
    /// Endpoint-independent mapping and filtering.
    Full,
    /// Endpoint-independent mapping, address-dependent filtering.
    Addr,
    /// Endpoint-independent mapping, address-and-port-dependent filtering: most homes.
    Port,
    /// Address-and-port-dependent mapping and filtering, random ports.
    Symmetric,
    /// A home router like [`Self::Port`] behind a provider's like it.
    Cgnat,
    /// A home router like [`Self::Port`] behind a provider's like [`Self::Symmetric`].
    CgnatSymmetric,
    /// Like [`Self::Port`], and only TCP to port 443 leaves.
    UdpBlocked,
    /// IPv6 alone, behind a stateful firewall without translation.
    V6Only,
}

impl Nat {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Full,
        Self::Addr,
        Self::Port,
        Self::Symmetric,
        Self::Cgnat,
        Self::CgnatSymmetric,
        Self::UdpBlocked,
        Self::V6Only,
    ];

    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Full => "full",
            Self::Addr => "addr",
            Self::Port => "port",
            Self::Symmetric => "symmetric",
            Self::Cgnat => "cgnat",
            Self::CgnatSymmetric => "cgnat-sym",
            Self::UdpBlocked => "udpblocked",
            Self::V6Only => "v6only",
        }
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A machine.
#[derive(Clone)]
pub struct Host {
    device: Device,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.device.name()).finish()
    }
}

/// A router, with or without a NAT.
#[derive(Clone)]
pub struct Gateway {
    router: Router,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gateway").field(&self.router.name()).finish()
    }
}

/// A machine and the routers between it and the internet, the nearest first.
#[derive(Debug, Clone)]
pub struct Site {
    /// What the routers do.
    pub nat: Nat,
    /// The machine.
    pub host: Host,
    /// The routers.
    pub gateways: Vec<Gateway>,
}

/// A small internet.
pub struct Lab {
    runtime: Arc<tokio::runtime::Runtime>,
    net: patchbay::Lab,
    centre: Router,
    /// A public machine with both families: the supernode's.
    pub node: Host,
    /// Another one.
    pub other: Host,
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lab").finish_non_exhaustive()
    }
}

fn mapped(mapping: NatMapping, filtering: NatFiltering) -> NatConfig {
    NatConfig::builder()
        .mapping(mapping)
        .filtering(filtering)
        .build()
        .expect("the kernel can do all pairs used here")
}

fn home_nat() -> NatConfig {
    mapped(
        NatMapping::EndpointIndependent,
        NatFiltering::AddressAndPortDependent,
    )
}

fn symmetric_nat() -> NatConfig {
    mapped(
        NatMapping::EndpointDependent,
        NatFiltering::AddressAndPortDependent,
    )
}

/// A router that does not answer strangers. Without it, Linux takes an unsolicited packet for its own, answers
/// with ICMP, and remembers the flow, which then costs a later outgoing flow its port: no home router does that.
const HUSH: &str = r#"
table inet hush {
    chain input {
        type filter hook input priority -5; policy accept;
        ct state established,related accept
        iifname { "ix", "wan" } meta l4proto { tcp, udp } drop
    }
}
"#;

impl Lab {
    /// Two public machines and nobody else.
    ///
    /// # Panics
    /// When namespaces or nftables cannot be used: [`runner`] asks first.
    #[must_use]
    pub fn new() -> Self {
        Self::try_new().unwrap_or_else(|error| panic!("no laboratory here: {error}"))
    }

    /// As [`Self::new`].
    ///
    /// # Errors
    /// When namespaces or nftables cannot be used.
    pub fn try_new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let (net, centre, node, other) = runtime.block_on(async {
            let told = |error| format!("{error:#}");
            let builder = patchbay::Lab::builder();
            let net = if runner::is_real_root() {
                builder.allow_real_root()
            } else {
                builder
            };
            let net = net.build().await.map_err(told)?;
            let public = net.add_router("centre").preset(RouterPreset::Public);
            let centre = public.build().await.map_err(told)?;
            let node = net.add_device("node").uplink(centre.id());
            let node = node.build().await.map_err(told)?;
            let other = net.add_device("other").uplink(centre.id());
            let other = other.build().await.map_err(told)?;
            Ok::<_, String>((net, centre, node, other))
        })?;
        let lab = Self {
            runtime: Arc::new(runtime),
            net,
            centre,
            node: Host { device: node },
            other: Host { device: other },
        };
        lab.introduce(&lab.node);
        Ok(lab)
    }

    /// Tells a machine the supernode's name.
    fn introduce(&self, host: &Host) {
        for ip in [self.node.ip().into(), IpAddr::V6(self.node.ip6())] {
            host.device
                .set_host(NODE_NAME, ip)
                .expect("a lab's machine has its own list of names");
        }
    }

    /// A machine behind `nat`.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn site(&self, name: &str, nat: Nat) -> Site {
        let add = |name: &str| self.net.add_router(name);
        let translated = |config: NatConfig| vec![add(name).nat(config)];
        let home_behind = |config: NatConfig| {
            let carrier = self.build(add(&format!("{name}-isp")).nat(config));
            let home = add(name).upstream(carrier.router.id()).nat(home_nat());
            vec![self.build(home), carrier]
        };
        let gateways = match nat {
            Nat::None => vec![add(name).preset(RouterPreset::Public)],
            Nat::Full => translated(mapped(
                NatMapping::EndpointIndependent,
                NatFiltering::EndpointIndependent,
            )),
            Nat::Addr => translated(mapped(
                NatMapping::EndpointIndependent,
                NatFiltering::AddressDependent,
            )),
            Nat::Port => translated(home_nat()),
            Nat::Symmetric => translated(symmetric_nat()),
            Nat::Cgnat => return self.with_machine(name, nat, home_behind(home_nat())),
            Nat::CgnatSymmetric => {
                return self.with_machine(name, nat, home_behind(symmetric_nat()));
            }
            Nat::UdpBlocked => vec![
                add(name)
                    .nat(home_nat())
                    .firewall_custom(|rules| rules.block_udp().allow_tcp(&[443])),
            ],
            Nat::V6Only => vec![
                add(name)
                    .preset(RouterPreset::Public)
                    .ip_support(IpSupport::V6Only)
                    .firewall(Firewall::BlockInbound),
            ],
        };
        let gateways = gateways.into_iter().map(|builder| self.build(builder));
        let gateways = gateways.collect();
        self.with_machine(name, nat, gateways)
    }

    /// Two homes like [`Nat::Port`] behind one provider's router like it, that sends packets for its own
    /// public address back inside (`hairpin`; RFC 4787 section 6, with the external source address) or drops them.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn neighbours(&self, names: [&str; 2], hairpin: bool) -> [Site; 2] {
        let config = NatConfig::builder()
            .mapping(NatMapping::EndpointIndependent)
            .filtering(NatFiltering::AddressAndPortDependent)
            .hairpin(hairpin)
            .build()
            .expect("the kernel can do it");
        let [first, _] = names;
        let carrier = self.build(self.net.add_router(&format!("{first}-isp")).nat(config));
        if hairpin {
            let own = carrier.ip();
            // Before patchbay's own rule, which would show the neighbour an inner address.
            carrier.nft(&format!(
                r#"table ip turned {{
                    chain post {{
                        type nat hook postrouting priority 90; policy accept;
                        oifname != "ix" ct status dnat snat to {own}
                    }}
                }}"#
            ));
        }
        names.map(|name| {
            let home = self.net.add_router(name);
            let home = self.build(home.upstream(carrier.router.id()).nat(home_nat()));
            self.with_machine(name, Nat::Port, vec![home, carrier.clone()])
        })
    }

    /// Another machine in the local network of `site`.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn beside(&self, site: &Site, name: &str) -> Host {
        self.machine(name, &site.gateways[0])
    }

    fn build(&self, builder: patchbay::RouterBuilder) -> Gateway {
        let router = self
            .runtime
            .block_on(builder.build())
            .unwrap_or_else(|error| panic!("a router cannot be built: {error:#}"));
        let gateway = Gateway { router };
        if gateway.router.nat_config().is_some() {
            gateway.nft(HUSH);
        }
        gateway
    }

    fn with_machine(&self, name: &str, nat: Nat, gateways: Vec<Gateway>) -> Site {
        let host = self.machine(&format!("{name}-pc"), &gateways[0]);
        Site {
            nat,
            host,
            gateways,
        }
    }

    fn machine(&self, name: &str, at: &Gateway) -> Host {
        let builder = self.net.add_device(name).uplink(at.router.id());
        let device = self
            .runtime
            .block_on(builder.build())
            .unwrap_or_else(|error| panic!("machine {name} cannot be built: {error:#}"));
        let host = Host { device };
        self.introduce(&host);
        host
    }

    /// Unplugs the machine and plugs it in behind the nearest router of `to`, where it gets another address.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn replug(&self, host: &Host, to: &Site) {
        let interface = host.device.default_iface().expect("a machine has one");
        self.runtime
            .block_on(interface.replug(to.gateways[0].router.id()))
            .unwrap_or_else(|error| panic!("{host:?} cannot be moved: {error:#}"));
        // The address was there before the other end of the cable was in the router. Whom the machine asked for
        // meanwhile, the kernel asks for again only after a second (ARP). Elsewhere an address comes over the cable,
        // which works by then: let it ask anew.
        host.tool("ip", &["neighbour", "flush", "dev", interface.name()]);
    }

    /// Takes the machine's interface down, or up again.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn plug(&self, host: &Host, up: bool) {
        let interface = host.device.default_iface().expect("a machine has one");
        let done = self.runtime.block_on(async {
            if up {
                interface.link_up().await
            } else {
                interface.link_down().await
            }
        });
        done.unwrap_or_else(|error| panic!("the link of {host:?}: {error:#}"));
    }

    /// The router of the public machines.
    #[must_use]
    pub fn centre(&self) -> Gateway {
        Gateway {
            router: self.centre.clone(),
        }
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// Its IPv4 address.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.device.ip().expect("this machine has IPv4")
    }

    /// Its IPv6 address.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn ip6(&self) -> Ipv6Addr {
        self.device.ip6().expect("this machine has IPv6")
    }

    /// All its addresses.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        let v4 = self.device.ip().map(IpAddr::V4);
        v4.into_iter()
            .chain(self.device.ip6().map(IpAddr::V6))
            .collect()
    }

    /// Runs `work` on a thread in its namespace; one piece at a time. Sockets made there stay there.
    ///
    /// # Panics
    /// When the namespace is gone.
    pub fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        self.device
            .run_sync(move || Ok(work()))
            .expect("a machine of a living lab runs")
    }

    /// A UDP socket on it.
    ///
    /// # Errors
    /// What the system says.
    pub fn udp(&self, addr: SocketAddr) -> io::Result<UdpSocket> {
        self.run(move || UdpSocket::bind(addr))
    }

    /// Starts a program on it.
    ///
    /// # Errors
    /// What the system says.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.run(move || command.spawn())
    }

    /// Starts `ahoy` on it, with a profile in `home`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start<S: AsRef<OsStr>>(
        &self,
        home: &Path,
        log: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Running {
        let log = (!log.is_empty()).then_some((OsStr::new("RUST_LOG"), OsStr::new(log)));
        start_by(home, log, arguments, |command| self.spawn(command))
    }

    /// Runs a tool on it and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments);
        printed(program, self.run(move || command.output()))
    }
}

impl Gateway {
    /// Its address towards the internet.
    ///
    /// # Panics
    /// When it has no IPv4.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.router.uplink_ip().expect("this router has IPv4")
    }

    /// Its addresses in the network behind it, which are nobody else's either.
    #[must_use]
    pub fn inner_ips(&self) -> Vec<IpAddr> {
        let v4 = self.router.downstream_gw().map(IpAddr::V4);
        v4.into_iter()
            .chain(self.router.downstream_gw_v6().map(IpAddr::V6))
            .collect()
    }

    fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        self.router
            .run_sync(move || Ok(work()))
            .expect("a router of a living lab runs")
    }

    /// Starts a program on it: a port mapping service, for example.
    ///
    /// # Errors
    /// What the system says.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.run(move || command.spawn())
    }

    /// Runs a tool on it and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments);
        printed(program, self.run(move || command.output()))
    }

    /// Adds rules.
    ///
    /// # Panics
    /// When the kernel refuses them.
    pub fn nft(&self, rules: &str) {
        let rules = rules.to_owned();
        let output = self.run(move || {
            let mut command = Command::new("nft");
            command.args(["-f", "-"]).stdin(Stdio::piped());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take().expect("it is piped");
            io::Write::write_all(&mut stdin, rules.as_bytes())?;
            drop(stdin);
            child.wait_with_output()
        });
        printed("nft", output);
    }

    /// Drops everything from and to `ip` that would pass here.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn cut(&self, ip: Ipv4Addr) {
        self.nft(&format!(
            "table ip cut {{\nchain forward {{\ntype filter hook forward priority -10; policy accept;\n\
             ip saddr {ip} drop\nip daddr {ip} drop\n}}\n}}\n"
        ));
    }

    /// Loses all bindings and connections, as a router does that starts anew.
    ///
    /// # Panics
    /// When the tools fail.
    pub fn forget(&self) {
        // Where there is no table of mappings, there is none to forget.
        let map = ["flush", "map", "ip", "nat", "fullcone"];
        let keeps_map = self
            .router
            .nat_config()
            .is_some_and(|config| matches!(config.mapping, NatMapping::EndpointIndependent));
        if keeps_map {
            self.tool("nft", &map);
        }
        self.tool("conntrack", &["-F"]);
    }

    /// Flows that it keeps in mind.
    ///
    /// # Panics
    /// When the tool fails.
    #[must_use]
    pub fn flows(&self) -> usize {
        let count = self.tool("conntrack", &["-C"]);
        count.trim().parse().expect("conntrack counts")
    }
}

#[track_caller]
fn printed(program: &str, output: io::Result<Output>) -> String {
    let output = output.unwrap_or_else(|error| panic!("{program} does not run: {error}"));
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
