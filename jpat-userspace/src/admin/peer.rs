//! What the host knows of who is at the other end: numbers from the socket, names and groups from the user database.

use std::ffi::CString;

use nix::unistd::{Gid, Uid, User};
use tokio::{net::unix::UCred, sync::Semaphore, task::spawn_blocking};

use crate::config::Peer;

/// Questions to the user database at a time. It may be a directory server that does not answer.
static LOOKUPS: Semaphore = Semaphore::const_new(4);

/// Whether lists name the peer, as far as its numbers tell: its user, or its primary group. Nothing if the user
/// database has to be asked, because a group is listed that its user may belong to.
pub(super) fn named_by_number<'a>(lists: impl IntoIterator<Item = &'a Peer>, peer: &UCred) -> Option<bool> {
    let mut groups = false;
    for allowed in lists {
        match allowed {
            Peer::User(_, uid) if *uid == peer.uid() => return Some(true),
            Peer::Group(_, gid) if *gid == peer.gid() => return Some(true),
            Peer::User(..) => {}
            Peer::Group(..) => groups = true,
        }
    }
    (!groups).then_some(false)
}

/// Whether a list names the peer: its user, its primary group, or a group that its user belongs to.
pub(super) async fn names(list: &[Peer], peer: &UCred) -> bool {
    if let Some(known) = named_by_number(list, peer) {
        return known;
    }
    let uid = peer.uid();
    let groups = look_up(move || groups_of(uid)).await.unwrap_or_default();
    list.iter().any(|allowed| match allowed {
        Peer::User(..) => false,
        Peer::Group(_, gid) => groups.contains(&Gid::from_raw(*gid)),
    })
}

/// The peer's user name, else its number. Root has its name without a user database.
pub(super) async fn name(peer: &UCred) -> String {
    let uid = peer.uid();
    if uid == 0 {
        return "root".to_owned();
    }
    let user = look_up(move || User::from_uid(Uid::from_raw(uid)).ok().flatten()).await.flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

/// Asks on a thread of its own, because the answer may take as long as it likes.
async fn look_up<T: Send + 'static>(question: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let permit = LOOKUPS.acquire().await.ok()?;
    let asking = move || {
        let answer = question();
        drop(permit);
        answer
    };
    spawn_blocking(asking).await.ok()
}

fn groups_of(uid: u32) -> Vec<Gid> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.and_then(|user| nix::unistd::getgrouplist(&CString::new(user.name).ok()?, user.gid).ok()).unwrap_or_default()
}
