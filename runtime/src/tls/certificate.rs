//! What a certificate says: whose it is, and when it is good.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use crate::secure::PeerIdentity;

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

impl Validity {
    /// Asks the verifier at the beginning and at the end of time. `None` for what is no certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let at = |time| {
            let usage = KeyUsage::server_auth();
            // That nobody is trusted is found out later than that the time is wrong.
            certificate
                .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[], &[], time, usage, None, None)
                .err()
        };
        let begins = match at(UnixTime::since_unix_epoch(Duration::ZERO)) {
            Some(Error::CertNotValidYet { not_before, .. }) => not_before,
            _ => UnixTime::since_unix_epoch(Duration::ZERO),
        };
        let Some(Error::CertExpired { not_after, .. }) =
            at(UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX)))
        else {
            return None;
        };
        Some(Self { from: system_time(begins)?, until: system_time(not_after)? })
    }
}

fn system_time(time: UnixTime) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()))
}

/// Whoever has shown `certificate`, which was verified. For one of the names in `allowed` it is a member's.
pub(super) fn identity(certificate: CertificateDer<'static>, allowed: &[ServerName<'_>]) -> PeerIdentity {
    let is_member = allowed.iter().any(|name| is_for(&certificate, name));
    PeerIdentity::new(described(&certificate), move |host| {
        ServerName::try_from(host).is_ok_and(|name| is_for(&certificate, &name))
    })
    .member(is_member)
}

fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(name).is_ok())
}

/// The longest description of a certificate in a log line, in names and in bytes of a serial number.
const SHOWN: usize = 8;

/// Its DNS names, and its serial number for those that have none.
fn described(certificate: &CertificateDer<'_>) -> String {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return "nobody".to_owned() };
    let names: Vec<_> = certificate.valid_dns_names().take(SHOWN).collect();
    let mut serial = String::new();
    for byte in certificate.serial().iter().take(SHOWN) {
        let _ = write!(serial, "{byte:02x}"); // Writing to a string cannot fail.
    }
    match &names[..] {
        [] => format!("the certificate with serial number {serial}.."),
        names => format!("the certificate for {} (serial number {serial}..)", names.join(", ")),
    }
}
