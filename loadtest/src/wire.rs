//! A connection to the server: TCP, or TLS over it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The name that is asked for.
const NAME: &str = "tracker.example";

/// Of visitors, where the server runs on this machine. The kernel remembers each for a while: with a hundred thousand of them
/// looking one up would be a part of what is measured.
const ADDRESSES: u32 = 1_000;

/// Where to, and how.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// What stands in `Host`.
    pub host: String,
    pub is_tls: bool,
}

impl Target {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub fn parse(url: &str) -> anyhow::Result<Target> {
        use std::net::ToSocketAddrs;
        let wrong = || anyhow::anyhow!("{url}: http://HOST:PORT or https://HOST:PORT is allowed");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let is_tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let host = rest.trim_end_matches('/');
        let with_port =
            if host.contains(':') { host.to_owned() } else { format!("{host}:{}", if is_tls { 443 } else { 80 }) };
        let address = with_port.to_socket_addrs()?.next().ok_or_else(wrong)?;
        Ok(Target { address, host: host.into(), is_tls })
    }

    pub fn local(address: SocketAddr, is_tls: bool) -> Target {
        Target { address, host: address.to_string(), is_tls }
    }
}

pub enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

#[derive(Clone)]
pub struct Connector {
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Connector {
    /// `resumes`: a client that comes again brings its ticket. Otherwise each is new to the server.
    pub fn new(resumes: bool) -> anyhow::Result<Connector> {
        let with = |protocol: &[u8]| -> anyhow::Result<TlsConnector> {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = Arc::new(Believer(provider.signature_verification_algorithms.supported_schemes()));
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            let mut config = builder.with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            if !resumes {
                config.resumption = Resumption::disabled();
            }
            Ok(TlsConnector::from(Arc::new(config)))
        };
        Ok(Connector { http1: with(b"http/1.1")?, http2: with(b"h2")? })
    }

    /// `from` tells which of many addresses of this machine the visitor has, where the server runs here too.
    pub async fn http1(&self, target: &Target, from: u32) -> io::Result<Wire> {
        let socket = tcp(target.address, from).await?;
        if !target.is_tls {
            return Ok(Wire::Plain(socket));
        }
        Ok(Wire::Tls(Box::new(self.http1.connect(name()?, socket).await?)))
    }

    pub async fn http2(&self, target: &Target, from: u32) -> io::Result<TlsStream<TcpStream>> {
        let socket = tcp(target.address, from).await?;
        self.http2.connect(name()?, socket).await
    }
}

fn name() -> io::Result<ServerName<'static>> {
    ServerName::try_from(NAME).map_err(io::Error::other)
}

async fn tcp(address: SocketAddr, from: u32) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    if address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        // Visitors have addresses of their own, and each has ports of its own: they do not run out.
        let number = from % ADDRESSES;
        socket.bind(SocketAddr::from(([127, 0, (number / 250) as u8, (number % 250 + 1) as u8], 0)))?;
    }
    socket.connect(address).await
}

impl Wire {
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.write_all(bytes).await,
            Wire::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// More bytes behind those that are there; 0 at the end.
    pub async fn read(&mut self, to: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.read_buf(to).await,
            Wire::Tls(stream) => stream.read_buf(to).await,
        }
    }
}

/// This program measures: whose certificate it is shown is none of its business, and checking it would cost the processor
/// as much as the server's part of the handshake.
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let target = Target::parse("https://127.0.0.1:8443/").unwrap();
        assert_eq!((target.address.port(), target.host.as_str(), target.is_tls), (8443, "127.0.0.1:8443", true));
        assert_eq!(Target::parse("http://127.0.0.1").unwrap().address.port(), 80);
        assert!(Target::parse("ftp://127.0.0.1").is_err() && Target::parse("127.0.0.1:80").is_err());
    }
}
