//! The same from `/proc/net/tcp` and `tcp6` (proc_pid_net(5)), for kernels without `tcp_diag`.

use std::{fs, io};

use jpat_common::addr::{self, Addr};

use super::Socket;

/// Every TCP socket, as one list after the other has them.
pub(super) fn tcp() -> io::Result<Vec<Socket>> {
    let v4 = fs::read_to_string("/proc/self/net/tcp")?;
    let v6 = match fs::read_to_string("/proc/self/net/tcp6") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    Ok(v4.lines().chain(v6.lines()).filter_map(socket).collect())
}

/// "sl local_address rem_address st …"; the first line is the heading.
fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (local, local_port) = end(words.next()?)?;
    let (peer, peer_port) = end(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    Some(Socket { state, local, local_port, peer, peer_port })
}

/// An address in words of this host's byte order, and a port.
fn end(text: &str) -> Option<(Addr, [u8; 2])> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?.to_be_bytes();
    let word = |at: usize| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => addr::from_v4(word(0)?),
        32 => [word(0)?, word(1)?, word(2)?, word(3)?].as_flattened().try_into().ok()?,
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn p8_it_tells_what_sock_diag_tells() {
        let listener = TcpListener::bind("[::]:0").or_else(|_no_ipv6| TcpListener::bind("127.0.0.1:0")).unwrap();
        let client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        let (server, _) = listener.accept().unwrap();
        // Sockets of others come and go.
        let of_ours = |socket: &&Socket| {
            let port = listener.local_addr().unwrap().port().to_be_bytes();
            socket.local_port == port || socket.peer_port == port
        };
        let here = tcp().unwrap();
        let mut here: Vec<_> = here.iter().filter(of_ours).collect();
        let there = super::super::dump().unwrap();
        let mut there: Vec<_> = there.iter().filter(of_ours).collect();
        here.sort();
        there.sort();
        assert_eq!((here.len(), &here), (3, &there), "a listener and both ends");
        drop((client, server));
    }

    #[test]
    fn headings_and_cut_lines_are_no_sockets() {
        let line = "   0: 0100007F:1F90 0200007F:C350 01 00000000:00000000";
        assert_eq!(socket(line).unwrap().peer_port, [0xc3, 0x50]);
        for line in ["", "  sl  local_address rem_address   st", "0: 0100007F:1F90", "0: 0100:1 0200:2 01", "0: x y z"]
        {
            assert_eq!(socket(line), None, "{line}");
        }
    }
}
