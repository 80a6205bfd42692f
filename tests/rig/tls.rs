//! A TLS client that believes every certificate and tells what it was given, and certificates for servers.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};
use rustls::{HandshakeKind, SupportedProtocolVersion};

use super::client::{Response, read_response};

/// Makes NAME.crt and NAME.key in `directory`: `ecdsa` or `rsa`, for `names` as openssl takes them.
pub fn make_certificate(directory: &Path, name: &str, names: &str, algorithm: &str) {
    let kind: &[&str] = match algorithm {
        "ecdsa" => &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        other => &[other],
    };
    // The key first, and each at once: whoever reloads on the way finds a pair that does not fit, or one that does.
    let path = |extension: &str| directory.join(format!("{name}.{extension}"));
    let unfinished = |extension: &str| directory.join(format!("{name}.{extension}.new"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-subj", "/CN=test", "-days", "9", "-newkey"])
        .args(kind)
        .args(["-addext", &format!("subjectAltName={names}"), "-keyout"])
        .arg(unfinished("key"))
        .arg("-out")
        .arg(unfinished("crt"))
        .output()
        .expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for extension in ["key", "crt"] {
        std::fs::rename(unfinished(extension), path(extension)).expect("a file");
    }
}

/// The certificate in a file.
pub fn certificate(directory: &Path, name: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(directory.join(format!("{name}.crt"))).expect("a certificate").to_vec()
}

/// What a client can do. Tickets are kept in it: who comes again with the same one may resume.
pub type Abilities = Arc<ClientConfig>;

/// Everything that rustls can.
pub fn able() -> Abilities {
    with(aws_lc_rs::default_provider(), rustls::ALL_VERSIONS, None)
}

/// The same, that speaks HTTP/2 alone.
pub fn able_http2() -> Abilities {
    let mut config = (*able()).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

pub fn of_version(version: &'static SupportedProtocolVersion) -> Abilities {
    with(aws_lc_rs::default_provider(), &[version], None)
}

/// One that can verify these signatures alone.
pub fn of_schemes(schemes: &[SignatureScheme]) -> Abilities {
    with(aws_lc_rs::default_provider(), rustls::ALL_VERSIONS, Some(schemes.to_vec()))
}

fn with(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    schemes: Option<Vec<SignatureScheme>>,
) -> Abilities {
    let all = provider.signature_verification_algorithms.supported_schemes();
    let verifier = Arc::new(Believer(schemes.unwrap_or(all)));
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions);
    let builder = builder.expect("versions").dangerous().with_custom_certificate_verifier(verifier);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct Believer(Vec<SignatureScheme>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// One connection with TLS agreed upon.
pub struct TlsClient(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl TlsClient {
    /// Asks for `name`; a name that is an address asks for none.
    pub fn connect(address: SocketAddr, name: &str, able: &Abilities) -> std::io::Result<TlsClient> {
        TlsClient::connect_after(b"", address, name, able)
    }

    /// Sends `first` before the handshake, as a proxy does.
    pub fn connect_after(
        first: &[u8],
        address: SocketAddr,
        name: &str,
        able: &Abilities,
    ) -> std::io::Result<TlsClient> {
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        socket.write_all(first)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        TlsClient::over(socket, name, able)
    }

    /// On a connection that is there.
    pub fn over(mut socket: TcpStream, name: &str, able: &Abilities) -> std::io::Result<TlsClient> {
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut connection = ClientConnection::new(able.clone(), name).map_err(std::io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(TlsClient(BufReader::new(StreamOwned::new(connection, socket))))
    }

    pub fn session(&self) -> &ClientConnection {
        &self.0.get_ref().conn
    }

    /// What the server showed.
    pub fn certificate(&self) -> Vec<u8> {
        self.session().peer_certificates().expect("a handshake")[0].to_vec()
    }

    pub fn is_resumed(&self) -> bool {
        self.session().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub fn send(&mut self, text: &str) -> std::io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes())
    }

    pub fn read(&mut self) -> std::io::Result<Response> {
        read_response(&mut self.0, false)
    }

    pub fn get(&mut self, target: &str) -> std::io::Result<Response> {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: afflux.test\r\n\r\n"))?;
        self.read()
    }

    /// What lies beneath: reads and writes bytes.
    pub fn into_stream(self) -> StreamOwned<ClientConnection, TcpStream> {
        self.0.into_inner()
    }

    /// Reads to the end: an error where it is not said.
    pub fn read_to_end(&mut self) -> std::io::Result<String> {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.0, &mut rest).map(|_| rest)
    }
}
