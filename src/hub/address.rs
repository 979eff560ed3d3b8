//! Addresses: what an answer may redirect to, and how they are written.

use ureq::http::Uri;

/// Characters of an address that are shown.
const SHOWN: usize = 200;

/// Scheme and host of an address.
pub fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find(['/', '?', '#']).map_or(url, |end| &url[..host + end])
}

/// Whether it has a scheme and a host that can be asked.
pub fn is_one(url: &str) -> bool {
    let uri = url.parse::<Uri>().ok();
    uri.is_some_and(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")))
}

/// An address as it is shown: without what is behind `?`, which may be a key to a file, and not too long.
pub fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &url[..at]),
        None => url.to_owned(),
    }
}

/// Where a redirect from `url` leads, or why it is not followed: the way must not become less safe than it was.
pub fn redirected(url: &str, location: &str) -> Result<String, String> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let next = match location {
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{}{location}", origin(url)),
        _ => location.to_owned(),
    };
    if !is_one(&next) {
        return Err(format!("it redirects to `{}`, which is no address", shown(&next)));
    }
    let is_safe = |url: &str| url.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("https:"));
    match is_safe(url) && !is_safe(&next) {
        true => Err(format!(
            "it redirects from https to `{}`, where anybody on the way reads along",
            shown(&next)
        )),
        false => Ok(next),
    }
}

/// Escapes what an address cannot hold, and slashes unless they are to be kept.
pub fn encode(text: &str, keep: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ if keep.as_bytes().contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_leads_from_https_to_http_nor_to_what_is_no_address() {
        let from = "https://hub.example/api/models/a/b";
        for (location, to) in [
            ("/x?y=1", "https://hub.example/x?y=1"),
            ("https://store.example/x", "https://store.example/x"),
            ("HTTPS://store.example/x", "HTTPS://store.example/x"),
            ("//store.example/x", "https://store.example/x"),
        ] {
            assert_eq!(redirected(from, location), Ok(to.to_owned()));
        }
        for location in ["http://hub.example/x", "HTTP://hub.example/x", "http://127.0.0.1/x"] {
            let why = redirected(from, location).unwrap_err();
            assert!(why.contains("from https to") && why.contains(location), "{why}");
            assert_eq!(redirected("http://hub.example/x", location), Ok(location.to_owned()));
        }
        for location in ["", "x", "file:///etc/passwd", "ftp://a/b", "https://", "https:// a/"] {
            assert!(redirected(from, location).unwrap_err().contains("no address"), "{location}");
        }
    }

    #[test]
    fn an_origin_is_no_other_site_that_begins_alike() {
        for (url, is) in [
            ("https://hub.example/x", "https://hub.example"),
            ("https://hub.example", "https://hub.example"),
            ("https://hub.example?x/y", "https://hub.example"),
            ("https://hub.example.evil/x", "https://hub.example.evil"),
            ("https://hub.example@evil/x", "https://hub.example@evil"),
            ("https://hub.example:444/x", "https://hub.example:444"),
        ] {
            assert_eq!(origin(url), is);
        }
    }

    #[test]
    fn a_signature_is_not_shown() {
        assert_eq!(shown("https://store.example/x?Signature=secret"), "https://store.example/x");
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), SHOWN + 1);
    }
}
