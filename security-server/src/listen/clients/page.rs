//! Whether a web page calls. A page of any origin can send what it likes to a loopback address, and one whose name was made to
//! mean that address even reads the answer: so no page calls here, and a door without TLS is called by a name of its own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use proto::refusal::Code;

use crate::refusal::Refusal;

/// What browsers say of where a request comes from; no program of an agency says it.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// A program's request, and no web page's. `hosts`: the names by which a door without TLS is called, besides `localhost` and
/// addresses. With TLS the certificate says it.
pub(super) fn is_none(hosts: Option<&BTreeSet<String>>, head: &Parts) -> Result<(), Refusal> {
    if head.headers.contains_key(ORIGIN) {
        return Err(
            Refusal::new(Code::BrowserRefused, "the call carries an Origin").telling("remove the Origin header")
        );
    }
    // `none`: a person typed the address.
    if head.headers.get_all(SEC_FETCH_SITE).iter().any(|site| site != "none") {
        let why = "the call carries a Sec-Fetch-Site of a page";
        return Err(Refusal::new(Code::BrowserRefused, why).telling("remove the Sec-Fetch-Site header"));
    }
    let Some(hosts) = hosts else { return Ok(()) };
    let said = head.headers.get_all(HOST).iter().map(|host| Authority::try_from(host.as_bytes()).ok());
    // Said in either place, HTTP/2's own and HTTP/1's, or in both: each must be ours, and one must be said.
    let mut said = head.uri.authority().cloned().map(Some).into_iter().chain(said).peekable();
    if said.peek().is_some() && said.all(|host| host.is_some_and(|host| is_ours(hosts, host.host()))) {
        return Ok(());
    }
    let why = "the call's Host is no name of this door: list it under `hosts` of [[clients]] if it is one";
    let detail = "name localhost, an address, or a name that the configuration file lists under `hosts`, as Host";
    Err(Refusal::new(Code::BrowserRefused, why).telling(detail))
}

/// A name server can give a stranger's name this address; it cannot give it `localhost` or an address for a name.
fn is_ours(hosts: &BTreeSet<String>, host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok()
        || hosts.iter().any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_called_by_its_own_names_and_addresses_only() {
        let named = BTreeSet::from(["bus.moj.internal".to_owned()]);
        let called = |hosts, uri: &str, host: &[&str]| {
            let mut request = http::Request::post(uri);
            for host in host {
                request = request.header(HOST, *host);
            }
            is_none(hosts, &request.body(()).unwrap().into_parts().0).is_ok()
        };
        for host in ["localhost", "LOCALHOST:5590", "127.0.0.1:5590", "[::1]:5590", "10.0.0.7", "Bus.moj.internal:1"] {
            assert!(called(Some(&named), "/a.B/C", &[host]), "{host}");
            assert!(called(Some(&named), &format!("http://{host}/a.B/C"), &[]), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:5590", "a b", ""]
        {
            assert!(!called(Some(&named), "/a.B/C", &[host]), "{host}");
        }
        assert!(!called(Some(&named), "/a.B/C", &[]), "no name at all");
        assert!(!called(Some(&named), "/a.B/C", &["localhost", "evil.example"]), "two names");
        assert!(!called(Some(&named), "http://evil.example/a.B/C", &["localhost"]), "two places");
        assert!(called(None, "/a.B/C", &["bus.example"]), "TLS says it");
    }

    #[test]
    fn what_a_browser_sends_along_is_refused() {
        for (name, value, passes) in [
            ("origin", "http://localhost:5590", false),
            ("origin", "null", false),
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "same-origin", false),
            ("sec-fetch-site", "none", true),
            ("x-other", "1", true),
        ] {
            let request = http::Request::post("http://localhost/a.B/C").header(name, value).body(()).unwrap();
            assert_eq!(is_none(Some(&BTreeSet::new()), &request.into_parts().0).is_ok(), passes, "{name}: {value}");
        }
    }
}
