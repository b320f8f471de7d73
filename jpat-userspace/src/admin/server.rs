//! The answering side of the local socket: who asks is checked here, what is answered is the runtime's business.

#[cfg(test)]
mod tests;

use std::{
    io::{self, Write as _},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream, unix::UCred},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{MAX_REQUEST, Request, Response, VERSION, Versioned, peer};
use crate::{
    config::Admin,
    connections::{Connections, accept_failed},
};

/// Connections of users who may ask. Beyond that the oldest makes room.
const PLACES: usize = 64;

/// Connections of users whose groups are being looked up.
const UNKNOWN: usize = 16;

/// Longest wait for a whole request, and for an answer to be taken.
const IDLE: Duration = Duration::from_secs(10);

/// A request that its sender may make, and where the answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is wanted.
    pub request: Request,
    /// User name of the sender, for the audit log.
    pub by: String,
    /// Process of the sender, where the kernel knows it.
    pub process: Option<u32>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Response>,
}

/// Makes the socket. Everybody may connect; what they may do is decided by their credentials.
///
/// # Errors
/// What the system said, or that somebody answers there already.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another controller answers there; give each its own socket",
        ));
    }
    // Only a socket that a dead controller left behind is removed.
    if let Ok(found) = std::fs::symlink_metadata(path)
        && !found.file_type().is_socket()
    {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket; correct `admin.socket`"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Accepts connections until the runtime is gone. `admin` follows reloads.
///
/// Who may neither ask nor change is told so and holds no connection; whoever may is served in one of `PLACES`.
pub async fn serve(listener: UnixListener, admin: watch::Receiver<Arc<Admin>>, runtime: mpsc::Sender<Asked>) {
    let (mut visitors, mut unknown) = (Connections::new(PLACES), Connections::new(UNKNOWN));
    let (recognise, mut recognised) = mpsc::channel(UNKNOWN);
    loop {
        let visitor = tokio::select! {
            () = runtime.closed() => return,
            Some(visitor) = recognised.recv() => visitor,
            accepted = listener.accept() => match accepted.and_then(|(stream, _)| Visitor::meet(stream)) {
                Ok(visitor) => {
                    let lists = Arc::clone(&admin.borrow());
                    match peer::named_by_number(lists.read.iter().chain(&lists.change), &visitor.peer) {
                        Some(true) => visitor,
                        Some(false) => {
                            visitor.turn_away();
                            continue;
                        }
                        None => {
                            unknown.serve(recognised_by_groups(visitor, lists, recognise.clone())).await;
                            continue;
                        }
                    }
                }
                Err(error) => {
                    accept_failed("the admin socket", &error).await;
                    continue;
                }
            },
        };
        let (admin, runtime) = (admin.clone(), runtime.clone());
        let conversation = async move {
            if let Err(error) = visitor.converse(&admin, &runtime).await {
                tracing::debug!("admin connection: {error}");
            }
        };
        visitors.serve(conversation).await;
    }
}

/// Lets a visitor in whose groups may ask.
async fn recognised_by_groups(visitor: Visitor, admin: Arc<Admin>, recognise: mpsc::Sender<Visitor>) {
    if peer::names(&admin.read, &visitor.peer).await || peer::names(&admin.change, &visitor.peer).await {
        // The server is gone only when the process ends.
        drop(recognise.send(visitor).await);
    } else {
        visitor.turn_away();
    }
}

/// A connection and whose it is.
#[derive(Debug)]
struct Visitor {
    stream: UnixStream,
    peer: UCred,
}

impl Visitor {
    fn meet(stream: UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        Ok(Self { stream, peer })
    }

    /// Says why nothing will be answered. A new connection has room for a line, so that this never waits.
    fn turn_away(self) {
        let told = || {
            let message = format!("user id {} is neither in `admin.read` nor in `admin.change`", self.peer.uid());
            self.stream.into_std()?.write_all(&line(refused(message))?)
        };
        if let Err(error) = told() {
            tracing::debug!("admin connection: {error}");
        }
    }

    async fn converse(self, admin: &watch::Receiver<Arc<Admin>>, runtime: &mpsc::Sender<Asked>) -> io::Result<()> {
        let (read, mut write) = self.stream.into_split();
        let mut lines = BufReader::new(read.take(MAX_REQUEST)).lines();
        while let Some(request) = timeout(IDLE, lines.next_line()).await?? {
            let lists = Arc::clone(&admin.borrow());
            let response = answer(&request, &self.peer, &lists, runtime).await;
            timeout(IDLE, write.write_all(&line(response)?)).await??;
            lines.get_mut().get_mut().set_limit(MAX_REQUEST);
        }
        Ok(())
    }
}

async fn answer(request: &str, peer: &UCred, admin: &Admin, runtime: &mpsc::Sender<Asked>) -> Response {
    let request: Request = match serde_json::from_str(request) {
        Ok(request) => request,
        Err(error) => return refused(format!("this is no request of protocol version {VERSION}: {error}")),
    };
    if !may(&request, peer, admin).await {
        let list = if request.is_change() { "admin.change" } else { "admin.read" };
        return refused(format!("user id {} is not in `{list}`", peer.uid()));
    }
    let (answer, answered) = oneshot::channel();
    let by = peer::name(peer).await;
    let process = peer.pid().and_then(|pid| pid.try_into().ok());
    if runtime.send(Asked { request, by, process, answer }).await.is_err() {
        return refused("the controller is stopping".to_owned());
    }
    answered.await.unwrap_or_else(|_| refused("the controller is stopping".to_owned()))
}

/// Who may change may ask as well.
async fn may(request: &Request, peer: &UCred, admin: &Admin) -> bool {
    !request.is_change() && peer::names(&admin.read, peer).await || peer::names(&admin.change, peer).await
}

const fn refused(message: String) -> Response {
    Response::Refused { message }
}

fn line(response: Response) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(&Versioned { version: VERSION, response })?;
    text.push(b'\n');
    Ok(text)
}
