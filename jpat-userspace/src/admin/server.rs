//! The answering side of the local socket: who asks is checked here, what is answered is the runtime's business.

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use nix::unistd::{Gid, Uid, User};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream, unix::UCred},
    sync::{mpsc, oneshot, watch},
};

use super::{MAX_REQUEST, Request, Response, VERSION, Versioned};
use crate::config::{Admin, Peer};

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
pub async fn serve(listener: UnixListener, admin: watch::Receiver<Arc<Admin>>, runtime: mpsc::Sender<Asked>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (admin, runtime) = (Arc::clone(&admin.borrow()), runtime.clone());
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &admin, &runtime).await {
                tracing::debug!("admin connection: {error}");
            }
        });
    }
}

async fn converse(stream: UnixStream, admin: &Admin, runtime: &mpsc::Sender<Asked>) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(MAX_REQUEST)).lines();
    while let Some(line) = lines.next_line().await? {
        let response = answer(&line, &peer, admin, runtime).await;
        let mut text = serde_json::to_string(&Versioned { version: VERSION, response })?;
        text.push('\n');
        write.write_all(text.as_bytes()).await?;
        lines.get_mut().get_mut().set_limit(MAX_REQUEST);
    }
    Ok(())
}

async fn answer(line: &str, peer: &UCred, admin: &Admin, runtime: &mpsc::Sender<Asked>) -> Response {
    let refused = |message: String| Response::Refused { message };
    let request: Request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return refused(format!("this is no request of protocol version {VERSION}: {error}")),
    };
    let may_change = admits(&admin.change, peer);
    if !(may_change || !request.is_change() && admits(&admin.read, peer)) {
        let list = if request.is_change() { "admin.change" } else { "admin.read" };
        return refused(format!("user id {} is not in `{list}`", peer.uid()));
    }
    let (answer, answered) = oneshot::channel();
    let by = User::from_uid(Uid::from_raw(peer.uid()))
        .ok()
        .flatten()
        .map_or_else(|| peer.uid().to_string(), |user| user.name);
    if runtime
        .send(Asked { request, by, process: peer.pid().and_then(|pid| pid.try_into().ok()), answer })
        .await
        .is_err()
    {
        return refused("the controller is stopping".to_owned());
    }
    answered.await.unwrap_or_else(|_| refused("the controller is stopping".to_owned()))
}

/// Whether a list names the peer: its user, its primary group, or a group that its user belongs to.
fn admits(list: &[Peer], peer: &UCred) -> bool {
    let mut groups = None;
    list.iter().any(|allowed| match allowed {
        Peer::User(_, uid) => *uid == peer.uid(),
        Peer::Group(_, gid) => {
            *gid == peer.gid() || groups.get_or_insert_with(|| groups_of(peer)).contains(&Gid::from_raw(*gid))
        }
    })
}

fn groups_of(peer: &UCred) -> Vec<Gid> {
    let user = User::from_uid(Uid::from_raw(peer.uid())).ok().flatten();
    user.and_then(|user| {
        let name = std::ffi::CString::new(user.name).ok()?;
        nix::unistd::getgrouplist(&name, user.gid).ok()
    })
    .unwrap_or_default()
}
