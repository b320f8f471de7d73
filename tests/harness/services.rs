//! Real services inside a namespace: TCP and UDP echo, the demo HTTPS page, plain HTTP documents. All listen on the
//! wildcard address of both families and stop when dropped.

use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    sync::oneshot,
};

use crate::{https, netns::NetNs};

/// What listens where.
#[derive(Clone, Debug)]
pub enum Service {
    /// Sends back what comes, on this TCP port.
    TcpEcho(u16),
    /// Sends back each datagram, on this UDP port.
    UdpEcho(u16),
    /// Answers every request over TLS with a short page, on this TCP port.
    Https(u16),
    /// Serves documents over HTTP, on this TCP port.
    Http(u16, Documents),
}

/// Documents by path; changing them changes what is served.
#[derive(Clone, Debug, Default)]
pub struct Documents(Arc<Mutex<BTreeMap<String, String>>>);

/// Running services.
#[derive(Debug)]
pub struct Services {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Services {
    /// Starts them and returns when all of them listen.
    ///
    /// # Errors
    /// If one cannot listen.
    pub fn start(ns: &NetNs, services: Vec<Service>) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = ns.thread("services", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                for service in services {
                    service.listen().await?;
                }
                ready.send(()).context("nobody waits for the services")?;
                // An error means that the owner is gone, which stops them as well.
                let _stop = stopped.await;
                Ok(())
            })
        })?;
        let listening = is_ready.recv();
        let mut services = Self { stop: Some(stop), thread: Some(thread) };
        match listening {
            Ok(()) => Ok(services),
            Err(_) => Err(services.join().err().unwrap_or_else(|| anyhow::anyhow!("the services ended"))),
        }
    }

    fn join(&mut self) -> Result<()> {
        drop(self.stop.take());
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => Ok(()),
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _result = thread.join();
        }
    }
}

impl Documents {
    /// Serves `text` at `path` from now on.
    pub fn put(&self, path: &str, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), text);
    }

    fn at(&self, path: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }
}

impl Service {
    async fn listen(self) -> Result<()> {
        match self {
            Self::TcpEcho(port) => {
                let listener = tcp(port).await?;
                tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(async move {
                            let (mut read, mut write) = stream.into_split();
                            tokio::io::copy(&mut read, &mut write).await
                        });
                    }
                });
            }
            Self::UdpEcho(port) => {
                let socket = UdpSocket::bind(wildcard(port)).await.with_context(|| format!("listen on udp/{port}"))?;
                tokio::spawn(async move {
                    let mut buffer = vec![0; 65_536];
                    loop {
                        // An ICMP error of an earlier answer comes as an error here and ends nothing.
                        if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                            let _unreachable = socket.send_to(&buffer[..length], from).await;
                        }
                    }
                });
            }
            Self::Https(port) => {
                let (listener, acceptor) = (tcp(port).await?, https::acceptor()?);
                tokio::spawn(async move {
                    while let Ok((stream, from)) = listener.accept().await {
                        let acceptor = acceptor.clone();
                        tokio::spawn(async move {
                            let stream = acceptor.accept(stream).await.context("TLS handshake")?;
                            answer(stream, |_path| Some(https::page(from.ip().to_canonical()))).await
                        });
                    }
                });
            }
            Self::Http(port, documents) => {
                let listener = tcp(port).await?;
                tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        let documents = documents.clone();
                        tokio::spawn(async move { answer(stream, |path| documents.at(path)).await });
                    }
                });
            }
        }
        Ok(())
    }
}

/// Reads one request and answers it (RFC 9112).
async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    document: impl FnOnce(&str) -> Option<String>,
) -> Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") && request.len() < 16_384 {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&request);
    let found = document(text.split(' ').nth(1).unwrap_or("/"));
    let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
    let body = found.unwrap_or_default();
    let kind = if body.starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" };
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn tcp(port: u16) -> Result<TcpListener> {
    TcpListener::bind(wildcard(port)).await.with_context(|| format!("listen on tcp/{port}"))
}

/// `::` takes IPv4 as well unless a sysctl says otherwise.
const fn wildcard(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}
