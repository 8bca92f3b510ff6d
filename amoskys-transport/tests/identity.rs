//! Certificates and mutual TLS: who is let in, and who is refused for which reason.
#![cfg(feature = "pki")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use amoskys_transport::identity::pki::{Authority, Request};
use amoskys_transport::identity::{Identity, IdentityError, Role, TlsError, TlsFiles, Validity};
use rustls::{CertificateError, ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;

const DAY: Duration = Duration::from_secs(86_400);

fn identity(role: Role, name: &str) -> Identity {
    Identity {
        role,
        name: name.into(),
    }
}

/// Writes what an authority issues to the directory.
fn install(dir: &Path, authority: &Authority, request: Request, name: &str) -> TlsFiles {
    let issued = authority.issue(&request).unwrap();
    let files = TlsFiles::in_dir(dir, name);
    std::fs::write(files.ca_file(), authority.certificate_pem()).unwrap();
    std::fs::write(files.certificate_file(), issued.certificate_pem).unwrap();
    std::fs::write(files.key_file(), issued.key_pem).unwrap();
    std::fs::set_permissions(files.key_file(), Permissions::from_mode(0o600)).unwrap();
    files
}

struct Site {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Site {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            authority: Authority::create(3650 * DAY).unwrap(),
        }
    }

    fn files(&self, request: Request, name: &str) -> TlsFiles {
        install(self.dir.path(), &self.authority, request, name)
    }

    fn bus(&self) -> Arc<ServerConfig> {
        let request = Request::new(identity(Role::Bus, "bus"), DAY)
            .host("bus.example")
            .host("127.0.0.1");
        self.files(request, "bus").server_config().unwrap()
    }

    fn agent(&self) -> Arc<ClientConfig> {
        let request = Request::new(identity(Role::Agent, "ward 3"), DAY);
        self.files(request, "ward 3").client_config().unwrap()
    }
}

/// Why the server, and why the client, ended a handshake.
type Refusals = (Option<rustls::Error>, Option<rustls::Error>);

/// What each side says of the handshake; and whom the server sees.
fn shake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    host: &str,
) -> Result<Identity, Box<Refusals>> {
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, host).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    for _ in 0..20 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let at_server =
            feed(&bytes, |read| server.read_tls(read)).and_then(|()| server.process_new_packets());
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let at_client =
            feed(&bytes, |read| client.read_tls(read)).and_then(|()| client.process_new_packets());
        if at_server.is_err() || at_client.is_err() {
            return Err(Box::new((at_server.err(), at_client.err())));
        }
        if !server.is_handshaking() && !client.is_handshaking() && !client.wants_write() {
            assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
            assert_eq!(server.handshake_kind(), Some(rustls::HandshakeKind::Full));
            return Ok(Identity::of_certificate(&server.peer_certificates().unwrap()[0]).unwrap());
        }
    }
    panic!("the handshake does not end");
}

fn feed(
    mut bytes: &[u8],
    mut read: impl FnMut(&mut dyn io::Read) -> io::Result<usize>,
) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        read(&mut bytes).unwrap();
    }
    Ok(())
}

#[test]
fn both_sides_see_who_the_other_is() {
    let site = Site::new();
    for host in ["bus.example", "127.0.0.1"] {
        let seen = shake(site.bus(), site.agent(), host).unwrap();
        assert_eq!(seen, identity(Role::Agent, "ward 3"));
    }
    let files = TlsFiles::in_dir(site.dir.path(), "ward 3");
    assert!(files.certificate_file().ends_with("ward%203.pem"));
    assert_eq!(files.identity().unwrap(), identity(Role::Agent, "ward 3"));
    let left = files.validity().unwrap().left(SystemTime::now()).unwrap();
    assert!(left <= DAY && left > DAY - Duration::from_secs(60), "{left:?}");
}

#[test]
fn no_session_is_resumed() {
    let site = Site::new();
    // The same settings twice: what would be remembered is there.
    let (bus, agent) = (site.bus(), site.agent());
    shake(bus.clone(), agent.clone(), "bus.example").unwrap();
    shake(bus, agent, "bus.example").unwrap();
}

#[test]
fn refuses_a_client_of_another_authority() {
    let (site, other) = (Site::new(), Site::new());
    // It believes our authority, but has a certificate of its own.
    let stranger = {
        let request = Request::new(identity(Role::Agent, "a"), DAY);
        let files = other.files(request, "a");
        std::fs::write(files.ca_file(), site.authority.certificate_pem()).unwrap();
        files.client_config().unwrap()
    };
    let (at_server, _) = *shake(site.bus(), stranger, "bus.example").unwrap_err();
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert_eq!(at_server, Some(unknown));
}

#[test]
fn refuses_a_server_of_another_authority() {
    let (site, other) = (Site::new(), Site::new());
    let (_, at_client) = *shake(other.bus(), site.agent(), "bus.example").unwrap_err();
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert_eq!(at_client, Some(unknown));
}

#[test]
fn refuses_a_client_without_certificate() {
    let site = Site::new();
    let roots = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(site.authority.certificate().clone()).unwrap();
        roots
    };
    let nobody = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (at_server, _) = *shake(site.bus(), Arc::new(nobody), "bus.example").unwrap_err();
    assert_eq!(at_server, Some(rustls::Error::NoCertificatesPresented));
}

#[test]
fn refuses_expired_certificates_on_both_sides() {
    let site = Site::new();
    let past = Validity {
        not_before: SystemTime::now() - 9 * DAY,
        not_after: SystemTime::now() - DAY,
    };
    let expired = |error: Option<rustls::Error>| {
        matches!(
            error,
            Some(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            ))
        )
    };
    let old = Request::new(identity(Role::Agent, "old"), DAY).validity(past);
    let old = site.files(old, "old").client_config().unwrap();
    let (at_server, _) = *shake(site.bus(), old, "bus.example").unwrap_err();
    assert!(expired(at_server.clone()), "{at_server:?}");

    let old = Request::new(identity(Role::Bus, "old"), DAY)
        .host("bus.example")
        .validity(past);
    let old = site.files(old, "old").server_config().unwrap();
    let (_, at_client) = *shake(old, site.agent(), "bus.example").unwrap_err();
    assert!(expired(at_client.clone()), "{at_client:?}");
}

#[test]
fn refuses_a_server_of_another_name_and_an_agent_that_plays_the_bus() {
    let site = Site::new();
    let (_, at_client) = *shake(site.bus(), site.agent(), "other.example").unwrap_err();
    let wrong_name = matches!(
        at_client,
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ))
    );
    assert!(wrong_name, "{at_client:?}");

    // The authority gave it the host name by mistake; it still may not answer.
    let request = Request::new(identity(Role::Agent, "mallory"), DAY).host("bus.example");
    let mallory = site.files(request, "mallory").server_config().unwrap();
    let (_, at_client) = *shake(mallory, site.agent(), "bus.example").unwrap_err();
    let wrong_purpose = matches!(
        at_client,
        Some(rustls::Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
        ))
    );
    assert!(wrong_purpose, "{at_client:?}");
}

#[test]
fn several_authorities_are_believed_while_one_replaces_the_other() {
    let (old, new) = (Site::new(), Site::new());
    let (bus, agent) = (
        {
            let request = Request::new(identity(Role::Bus, "bus"), DAY).host("bus.example");
            let files = old.files(request, "bus");
            let both = old.authority.certificate_pem() + &new.authority.certificate_pem();
            std::fs::write(files.ca_file(), both).unwrap();
            files.server_config().unwrap()
        },
        {
            let request = Request::new(identity(Role::Agent, "a"), DAY);
            let files = new.files(request, "a");
            let both = new.authority.certificate_pem() + &old.authority.certificate_pem();
            std::fs::write(files.ca_file(), both).unwrap();
            files.client_config().unwrap()
        },
    );
    assert_eq!(
        shake(bus, agent, "bus.example").unwrap(),
        identity(Role::Agent, "a")
    );
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let site = Site::new();
    let files = || site.files(Request::new(identity(Role::Agent, "a"), DAY), "a");
    let error = |files: &TlsFiles| {
        let client = files.client_config().unwrap_err();
        let server = files.server_config().unwrap_err();
        assert_eq!(client.to_string(), server.to_string());
        client
    };

    for mode in [0o640, 0o604, 0o660] {
        let files = files();
        std::fs::set_permissions(files.key_file(), Permissions::from_mode(mode)).unwrap();
        let found = error(&files);
        assert!(
            matches!(&found, TlsError::LooseMode { path, mode: found } if path == files.key_file() && *found == mode),
            "{found}"
        );
    }
    let other = site.files(Request::new(identity(Role::Agent, "b"), DAY), "b");
    let ours = files();
    std::fs::copy(other.key_file(), ours.key_file()).unwrap();
    assert!(matches!(error(&ours), TlsError::Mismatch { .. }));

    type Break = fn(&TlsFiles);
    let breaks: [(Break, &str); 8] = [
        (
            |files| std::fs::remove_file(files.ca_file()).unwrap(),
            "ca.pem does not exist",
        ),
        (
            |files| std::fs::remove_file(files.certificate_file()).unwrap(),
            "a.pem does not exist",
        ),
        (
            |files| std::fs::remove_file(files.key_file()).unwrap(),
            "a.key does not exist",
        ),
        (
            |files| std::fs::write(files.ca_file(), "").unwrap(),
            "ca.pem holds no certificate",
        ),
        (
            |files| std::fs::write(files.key_file(), "x").unwrap(),
            "a.key holds no secret key",
        ),
        (
            |files| std::fs::write(files.certificate_file(), "-----BEGIN CERTIFICATE-----\nx").unwrap(),
            "a.pem holds no certificate",
        ),
        (
            |files| {
                let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
                std::fs::write(files.ca_file(), pem).unwrap();
            },
            "certificate 1 in",
        ),
        (
            |files| std::fs::write(files.ca_file(), vec![b'\n'; (1 << 20) + 1]).unwrap(),
            "ca.pem cannot be read",
        ),
    ];
    for (damage, expected) in breaks {
        let files = files();
        damage(&files);
        let found = error(&files).to_string();
        assert!(found.contains(expected), "{expected:?} is not in {found:?}");
    }
}

/// Makes a certificate with these names alone, without our library.
fn certificate_with(uris: &[&str]) -> rcgen::Certificate {
    let mut params = rcgen::CertificateParams::default();
    let names = uris
        .iter()
        .map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap()));
    params.subject_alt_names = names.collect();
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn a_certificate_names_exactly_one_identity() {
    let of = |uris: &[&str]| Identity::of_certificate(certificate_with(uris).der());
    assert_eq!(
        of(&["spiffe://site/agent", "amoskys://analyzer/x"]).unwrap(),
        identity(Role::Analyzer, "x")
    );
    assert!(matches!(of(&[]), Err(IdentityError::Missing)));
    assert!(matches!(of(&["https://amoskys/"]), Err(IdentityError::Missing)));
    assert!(matches!(
        of(&["amoskys://agent/a", "amoskys://agent/a"]),
        Err(IdentityError::Several { count: 2 })
    ));
    assert!(matches!(
        of(&["amoskys://agent/a", "AMOSKYS:x"]),
        Err(IdentityError::Several { count: 2 })
    ));
    assert!(matches!(
        of(&["amoskys://root/a"]),
        Err(IdentityError::Form { .. })
    ));

    let der = certificate_with(&["amoskys://agent/a"]).der().to_vec();
    for end in 0..der.len() {
        let cut = rustls_pki_types::CertificateDer::from(&der[..end]);
        assert!(Identity::of_certificate(&cut).is_err());
        assert!(Validity::of_certificate(&cut).is_err());
    }
    for at in 0..der.len() {
        for change in [1, 0x80] {
            let mut der = der.clone();
            der[at] ^= change;
            let der = rustls_pki_types::CertificateDer::from(der);
            let _ = (Identity::of_certificate(&der), Validity::of_certificate(&der));
        }
    }
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let site = Site::new();
    let short = Authority::create(DAY).unwrap();
    let files = install(
        site.dir.path(),
        &short,
        Request::new(identity(Role::Agent, "a"), 9 * DAY),
        "a",
    );
    assert_eq!(
        files.validity().unwrap().not_after,
        Validity::of_certificate(short.certificate()).unwrap().not_after
    );
}
