//! A receiver that is as fast as one can be: a thread a connection, no HTTP library, no look at
//! the body. It notes when requests begin to arrive and when they are answered.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A receiver on a loopback port, until the process ends.
pub(crate) struct Receiver {
    address: SocketAddr,
    seen: Arc<(Mutex<Vec<Request>>, Condvar)>,
}

/// When a request came and went.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// Its first bytes were there.
    pub(crate) arrived: Instant,
    /// Its answer was written.
    pub(crate) answered: Instant,
}

impl Receiver {
    /// Each request is answered 200, after `delay`; with `None` never.
    pub(crate) fn new(delay: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::<(Mutex<Vec<Request>>, Condvar)>::default();
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, delay, &shared));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/orders", self.address)
    }

    /// Waits for so many requests to be answered, and returns them all.
    pub(crate) fn wait_for(&self, requests: usize) -> Vec<Request> {
        let (seen, grew) = &*self.seen;
        let seen = seen.lock().expect("no panic elsewhere");
        let (seen, timeout) = grew
            .wait_timeout_while(seen, PATIENCE, |seen| seen.len() < requests)
            .expect("no panic elsewhere");
        assert!(!timeout.timed_out(), "{} of {requests} came", seen.len());
        seen.clone()
    }
}

/// Nothing here takes so long, unless it is broken.
const PATIENCE: Duration = Duration::from_mins(10);

/// A second from the first of these requests to the last answer: so many of them.
pub(crate) fn rate(requests: &[Request]) -> f64 {
    let (Some(first), Some(last)) = (requests.first(), requests.last()) else {
        return 0.0;
    };
    requests.len() as f64 / (last.answered - first.arrived).as_secs_f64()
}

fn serve(mut stream: TcpStream, delay: Option<Duration>, shared: &(Mutex<Vec<Request>>, Condvar)) {
    stream.set_nodelay(true).expect("a TCP socket");
    let mut buffer = vec![0; 256 * 1024];
    let mut filled = 0;
    loop {
        let mut arrived = None;
        let head_end = loop {
            if let Some(end) = find(&buffer[..filled], b"\r\n\r\n") {
                break end + 4;
            }
            match stream.read(&mut buffer[filled..]) {
                Ok(0) => return,
                Ok(read) => {
                    arrived.get_or_insert_with(Instant::now);
                    filled += read;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_gone) => return,
            }
        };
        let length = content_length(&buffer[..head_end]);
        let mut body_read = filled - head_end;
        while body_read < length {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => body_read += read,
            }
        }
        filled = 0;
        match delay {
            Some(Duration::ZERO) => {}
            Some(delay) => thread::sleep(delay),
            None => loop {
                thread::park();
            },
        }
        if stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .is_err()
        {
            return;
        }
        let answered = Instant::now();
        let arrived = arrived.unwrap_or(answered);
        let (seen, grew) = shared;
        seen.lock()
            .expect("no panic elsewhere")
            .push(Request { arrived, answered });
        grew.notify_all();
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|found| found == wanted)
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head);
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .expect("each request says how long it is (D6)")
}
