//! The certificates that servers are trusted by.

use std::io;
use std::path::Path;

use ureq::tls::{PemItem, RootCerts, parse_pem};

use super::HubError;

/// The certificates that servers are trusted by: those of `SSL_CERT_FILE`, or Mozilla's.
///
/// # Errors
///
/// `SSL_CERT_FILE` names no certificates.
pub fn root_certs() -> Result<RootCerts, HubError> {
    match std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        Some(path) => certificates(Path::new(&path)),
        None => Ok(RootCerts::WebPki),
    }
}

/// The certificates of a site whose proxy signs with its own.
fn certificates(path: &Path) -> Result<RootCerts, HubError> {
    let bad = |source| HubError::BadCertificates { path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(bad)?;
    let items = parse_pem(&text).collect::<Result<Vec<_>, _>>().map_err(|error| bad(error.into_io()))?;
    let found: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    match found.is_empty() {
        true => Err(bad(io::Error::other("it has none"))),
        false => Ok(RootCerts::new_with_certs(&found)),
    }
}
