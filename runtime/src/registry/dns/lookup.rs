//! Asks name servers what a name stands for: over UDP, and over TCP where the answer does not fit. It blocks, for a bounded time.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};

/// Where the system names its name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The largest answer over UDP that a server may send to who asks for no more.
const MAX_DATAGRAM: usize = 512;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    #[error("`{0}` is not a name that DNS can be asked for")]
    Name(String),
    #[error("no name server is known: {RESOLV_CONF} names none")]
    NoServer,
    #[error("the name server {server} gave no answer")]
    Silent {
        server: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the name server {server} answered {code:?}")]
    Refused { server: SocketAddr, code: RCODE },
    #[error("the name server {server} sent what is no answer")]
    Malformed { server: SocketAddr },
}

/// What a name stands for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// `host:port` of each.
    pub(super) addrs: BTreeSet<String>,
    /// How long that is good, in seconds, where it was said.
    pub(super) ttl: Option<u32>,
}

/// Whom to ask, and how long for one answer.
#[derive(Clone, Debug)]
pub(super) struct Servers<'a> {
    /// None means those of the system.
    pub(super) servers: &'a [SocketAddr],
    pub(super) limit: Duration,
}

impl Servers<'_> {
    /// The addresses of a host, with this port: of IPv4, or of IPv6 where it has none of these. So that no host has two names.
    pub(super) fn hosts(&self, name: &str, port: u16) -> Result<Found, LookupError> {
        let found = self.ask(name, TYPE::A, port)?;
        if found.addrs.is_empty() { self.ask(name, TYPE::AAAA, port) } else { Ok(found) }
    }

    /// The targets and ports of a service, whatever their priority and weight.
    pub(super) fn services(&self, name: &str) -> Result<Found, LookupError> {
        self.ask(name, TYPE::SRV, 0)
    }

    /// The first answer counts. That there is no such name is one: nobody is there.
    fn ask(&self, name: &str, kind: TYPE, port: u16) -> Result<Found, LookupError> {
        let of_system;
        let servers = match self.servers {
            [] => {
                of_system = name_servers(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default());
                &of_system[..]
            }
            given => given,
        };
        let query = Query::new(name, kind)?;
        let mut failed = LookupError::NoServer;
        for &server in servers {
            match query.ask(server, self.limit).and_then(|answer| query.read(&answer, server, port)) {
                Ok(found) => return Ok(found),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// Whether DNS can be asked for this name.
pub(super) fn is_name(name: &str) -> bool {
    Query::new(name, TYPE::A).is_ok()
}

struct Query<'a> {
    id: u16,
    name: Name<'a>,
    kind: TYPE,
    bytes: Vec<u8>,
}

impl<'a> Query<'a> {
    fn new(name: &'a str, kind: TYPE) -> Result<Self, LookupError> {
        let bad = || LookupError::Name(name.to_owned());
        let text = name.strip_suffix('.').unwrap_or(name);
        let parsed = Name::new(text).map_err(|_| bad())?;
        if text.is_empty() || text.split('.').any(str::is_empty) {
            return Err(bad());
        }
        // Keyed at random for each; where the answer must come from, and to, is checked as well.
        let id = RandomState::new().build_hasher().finish() as u16;
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(parsed.clone(), QTYPE::TYPE(kind), CLASS::IN.into(), false));
        let bytes = packet.build_bytes_vec().map_err(|_| bad())?;
        Ok(Self { id, name: parsed, kind, bytes })
    }

    fn ask(&self, server: SocketAddr, limit: Duration) -> Result<Vec<u8>, LookupError> {
        let silent = |source| LookupError::Silent { server, source };
        let deadline = Instant::now() + limit;
        let answer = self.ask_udp(server, deadline).map_err(silent)?;
        match Packet::parse(&answer) {
            Ok(packet) if !packet.has_flags(PacketFlag::TRUNCATION) => Ok(answer),
            // What was cut off may not even parse.
            _ => self.ask_tcp(server, deadline).map_err(silent),
        }
    }

    fn ask_udp(&self, server: SocketAddr, deadline: Instant) -> io::Result<Vec<u8>> {
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(server)?;
        socket.send(&self.bytes)?;
        let mut answer = [0; MAX_DATAGRAM];
        loop {
            socket.set_read_timeout(Some(until(deadline)?))?;
            let len = socket.recv(&mut answer)?;
            // Somebody else's guess is waited past.
            if answer.get(..2) == Some(&self.id.to_be_bytes()) {
                return Ok(answer[..len].to_vec());
            }
        }
    }

    fn ask_tcp(&self, server: SocketAddr, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&server, until(deadline)?)?;
        stream.set_write_timeout(Some(until(deadline)?))?;
        let len = u16::try_from(self.bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&len.to_be_bytes(), &self.bytes[..]].concat())?;
        let mut len = [0; 2];
        read(&mut stream, &mut len, deadline)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
        read(&mut stream, &mut answer, deadline)?;
        Ok(answer)
    }

    fn read(&self, answer: &[u8], server: SocketAddr, port: u16) -> Result<Found, LookupError> {
        let malformed = || LookupError::Malformed { server };
        let packet = Packet::parse(answer).map_err(|_| malformed())?;
        let asked = packet.questions.first();
        let is_answer = packet.id() == self.id
            && packet.has_flags(PacketFlag::RESPONSE)
            && asked.is_some_and(|it| it.qname == self.name && it.qtype == QTYPE::TYPE(self.kind));
        if !is_answer {
            return Err(malformed());
        }
        match packet.rcode() {
            RCODE::NoError => {}
            RCODE::NameError => return Ok(Found::default()),
            code => return Err(LookupError::Refused { server, code }),
        }
        let mut found = Found::default();
        for record in packet.answers {
            found.ttl = Some(found.ttl.map_or(record.ttl, |ttl| ttl.min(record.ttl)));
            // Aliases lead to what stands beside them.
            let addr = match record.rdata {
                RData::A(host) if self.kind == TYPE::A => {
                    SocketAddr::new(Ipv4Addr::from(host.address).into(), port).to_string()
                }
                RData::AAAA(host) if self.kind == TYPE::AAAA => {
                    SocketAddr::new(Ipv6Addr::from(host.address).into(), port).to_string()
                }
                RData::SRV(service) if self.kind == TYPE::SRV && !service.target.get_labels().is_empty() => {
                    format!("{}:{}", service.target, service.port)
                }
                _ => continue,
            };
            found.addrs.insert(addr);
        }
        Ok(found)
    }
}

/// How long until then.
fn until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Fills `bytes`, by then: a server that sends one byte at a time gets no more time for it.
fn read(stream: &mut TcpStream, mut bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_read_timeout(Some(until(deadline)?))?;
        let len = stream.read(bytes)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[len..];
    }
    Ok(())
}

/// The name servers that a `resolv.conf` names.
fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addrs = lines.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    addrs.map(|addr| SocketAddr::new(addr, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_name_servers_are_read_as_they_are_written() {
        let text = "# one\nsearch a.test b.test\nnameserver 10.0.0.1\n nameserver\t::1 \noptions ndots:5\nnameserver none\n";
        assert_eq!(name_servers(text), ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        assert_eq!(name_servers(""), []);
    }

    #[test]
    fn a_name_is_labels_and_a_dot_at_its_end_says_nothing() {
        let long = ["a"; 200].join(".");
        for name in ["cache.test", "cache.test.", "_peers._tcp.cache.default.svc.cluster.local", "a"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "a..b", ".a", &"x".repeat(64), &long] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_not_taken_for_one() {
        let query = Query::new("cache.test", TYPE::A).unwrap();
        let server = "127.0.0.1:53".parse().unwrap();
        let mut reply = Packet::parse(&query.bytes).unwrap().into_reply();
        let read = |packet: &Packet<'_>| query.read(&packet.build_bytes_vec().unwrap(), server, 1);
        assert_eq!(read(&reply).unwrap(), Found::default());
        assert!(
            matches!(query.read(&query.bytes, server, 1), Err(LookupError::Malformed { .. })),
            "a question"
        );
        for len in 0..query.bytes.len() {
            assert!(query.read(&query.bytes[..len], server, 1).is_err());
        }
        *reply.rcode_mut() = RCODE::NameError;
        assert_eq!(read(&reply).unwrap(), Found::default());
        *reply.rcode_mut() = RCODE::ServerFailure;
        assert!(matches!(read(&reply), Err(LookupError::Refused { code: RCODE::ServerFailure, .. })));
        *reply.rcode_mut() = RCODE::NoError;
        reply.set_id(query.id ^ 1);
        assert!(matches!(read(&reply), Err(LookupError::Malformed { .. })), "another's");
        reply.set_id(query.id);
        reply.questions[0].qname = Name::new_unchecked("other.test");
        assert!(matches!(read(&reply), Err(LookupError::Malformed { .. })), "another name");
    }
}
