//! Names and addresses, as far as they must be tried apart from what is spoken over them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};

use crate::{Limit, Looked, Wrong, failed, ok};

/// How long looking up a name may take.
pub const NAME: Duration = Duration::from_secs(1);
/// How long this machine may take to accept a connection of its own.
pub const HERE: Duration = Duration::from_millis(500);

/// Looks up a name: `address` is a host and a port. `at`: where the name stands, for whoever must correct it.
pub async fn name(address: &str, at: &str) -> Looked<()> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let remedy = format!("getent hosts {host}; look into /etc/resolv.conf; or correct the name: {at}");
    let told = |why: &dyn std::fmt::Display| failed(format!("DNS: the name {host} does not resolve: {why}"), &remedy);
    match Limit::new(NAME, "").cut(lookup_host(address)).await {
        Ok(Ok(mut found)) => match found.next() {
            Some(found) => Ok(ok((), format!("it is {}", found.ip()))),
            None => Err(told(&"it has no address")),
        },
        Ok(Err(error)) => Err(told(&error)),
        Err(_) => Err(told(&format!("the name server did not answer within {NAME:?}"))),
    }
}

/// What is at an address of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listening {
    /// Somebody accepts connections.
    Somebody,
    /// Nobody does.
    Nobody,
}

/// Whether somebody listens at an address that a server is to listen at.
pub async fn listening(listens: SocketAddr) -> Listening {
    match tokio::time::timeout(HERE, TcpStream::connect(from_here(listens))).await {
        Ok(Ok(_)) => Listening::Somebody,
        Ok(Err(_)) | Err(_) => Listening::Nobody,
    }
}

/// Where on this machine a server is asked that listens at this address: what listens everywhere listens here.
pub fn from_here(listens: SocketAddr) -> SocketAddr {
    let ip = match listens.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    (ip, listens.port()).into()
}

/// Whether a server that does not run can listen here when it starts: nobody else does, and the address is this machine's.
/// `at`: where the address stands.
pub async fn free(listens: SocketAddr, at: &str) -> Looked<()> {
    if listening(listens).await == Listening::Somebody {
        return Err(taken(listens, at, "the server cannot start"));
    }
    is_of_this_machine(listens).map_err(|error| {
        let finding = format!("the server cannot listen here: {error}");
        failed(finding, format!("`ip address` shows this machine's addresses; correct {at}"))
    })?;
    Ok(ok((), "free, for when the server starts"))
}

/// Somebody is where a server is to listen.
pub fn taken(listens: SocketAddr, at: &str, why: &str) -> Wrong {
    let port = listens.port();
    failed(
        format!("port {port} is taken: something else listens there ({why})"),
        format!("ss -ltnp 'sport = :{port}' names it: stop it; or change {at}"),
    )
}

/// At whatever port: one is taken for a moment, and given back.
fn is_of_this_machine(listens: SocketAddr) -> io::Result<()> {
    TcpListener::bind((listens.ip(), 0)).map(drop)
}

/// An address as commands take it: host and port apart.
pub fn apart(address: &str) -> String {
    address.rsplit_once(':').map_or_else(|| address.to_owned(), |(host, port)| format!("{host} {port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(looked: Looked<()>) -> String {
        match looked {
            Ok(seen) => format!("ok: {}", seen.finding),
            Err(Wrong::Failed { finding, .. }) => finding,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_told_as_dns() {
        assert_eq!(finding(name("127.0.0.1:1", "f:1").await), "ok: it is 127.0.0.1");
        let told = finding(name("nowhere.invalid:1", "f:1").await);
        assert!(told.starts_with("DNS: the name nowhere.invalid does not resolve"), "{told}");
    }

    #[tokio::test]
    async fn an_address_is_free_taken_or_not_this_machines() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(finding(free(address, "f:1").await).contains("is taken"));
        let everywhere = (Ipv4Addr::UNSPECIFIED, address.port()).into();
        assert!(
            finding(free(everywhere, "f:1").await).contains("is taken"),
            "what listens here is in the way everywhere"
        );
        drop(listener);
        assert!(finding(free(address, "f:1").await).starts_with("ok: free"));
        // TEST-NET-1: no machine has it (RFC 5737).
        assert!(finding(free("192.0.2.1:80".parse().unwrap(), "f:1").await).contains("cannot listen here"));
    }
}
