//! The server on a real socket, over a runtime that answers all.

use std::{io::Read as _, os::unix::net::UnixStream as Client, path::PathBuf};

use nix::unistd::{Gid, Uid};

use super::*;
use crate::{
    admin::{ModeName, client},
    config::Peer,
};

#[test]
fn idle_connections_keep_nobody_out() {
    let server = Server::start(own_user(), Vec::new());
    let idle: Vec<_> = (0..4 * PLACES).map(|_| Client::connect(&server.socket).unwrap()).collect();
    assert_eq!(client::request(&server.socket, &Request::Status).unwrap(), Response::Mode { mode: ModeName::Audit });
    let first = idle.first().unwrap();
    first.set_read_timeout(Some(IDLE)).unwrap();
    assert_eq!(first.try_clone().unwrap().read(&mut [0]).unwrap(), 0, "the oldest made room");
}

#[test]
fn who_may_nothing_is_told_so_at_once_and_holds_no_connection() {
    // A group that has to be looked up, and nothing to look up.
    for read in [Vec::new(), vec![Peer::Group("nobody's".to_owned(), u32::MAX - 1)]] {
        let server = Server::start(read, Vec::new());
        let mut idle = Client::connect(&server.socket).unwrap();
        idle.set_read_timeout(Some(IDLE)).unwrap();
        let mut told = String::new();
        idle.read_to_string(&mut told).unwrap();
        assert!(told.contains("is neither in `admin.read` nor in `admin.change`"), "{told}");
        for _ in 0..100 {
            let Response::Refused { message } = client::request(&server.socket, &Request::Status).unwrap() else {
                panic!("answered")
            };
            assert!(told.contains(&message), "{message}");
        }
    }
}

#[test]
fn who_may_read_may_not_change() {
    let server = Server::start(own_user(), Vec::new());
    let Response::Refused { message } = client::request(&server.socket, &Request::Reload).unwrap() else {
        panic!("answered")
    };
    assert!(message.ends_with("is not in `admin.change`"), "{message}");
    let server = Server::start(Vec::new(), vec![Peer::Group("own".to_owned(), Gid::effective().as_raw())]);
    for request in [Request::Status, Request::Reload] {
        let answer = client::request(&server.socket, &request).unwrap();
        assert_eq!(answer, Response::Mode { mode: ModeName::Audit });
    }
}

fn own_user() -> Vec<Peer> {
    vec![Peer::User("own".to_owned(), Uid::effective().as_raw())]
}

/// Answers every request that may be made with a mode; ends when dropped.
struct Server {
    socket: PathBuf,
    _dir: tempfile::TempDir,
    _end: oneshot::Sender<()>,
}

impl Server {
    fn start(read: Vec<Peer>, change: Vec<Peer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let (_admin, lists) = watch::channel(Arc::new(Admin { socket: socket.clone(), read, change, metrics: None }));
        let (end, ended) = oneshot::channel::<()>();
        let (ask, mut asked) = mpsc::channel::<Asked>(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let listener = bind(&socket).unwrap();
        drop(entered);
        std::thread::spawn(move || {
            runtime.spawn(serve(listener, lists, ask));
            runtime.spawn(async move {
                while let Some(Asked { answer, .. }) = asked.recv().await {
                    drop(answer.send(Response::Mode { mode: ModeName::Audit }));
                }
            });
            runtime.block_on(async { drop(ended.await) });
        });
        Self { socket, _dir: dir, _end: end }
    }
}
