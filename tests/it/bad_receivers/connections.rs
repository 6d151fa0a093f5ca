//! Connections that are refused, break, stall, or close at the wrong time.

use std::time::Duration;

use insta::assert_snapshot;

use super::{Bad, Trial, trial};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const DRIP: Option<Duration> = Some(Duration::from_millis(20));

#[test]
fn no_answer_comes() {
    assert_snapshot!(trial(&[
        Bad::refusing(),
        Bad::new("resets when a request comes", |peer| {
            peer.until_something_comes();
            peer.meanwhile();
            peer.reset();
        }),
        Bad::new("resets where TLS begins", |peer| {
            peer.until_something_comes();
            peer.meanwhile();
            peer.reset();
        })
        .at("https://127.0.0.1"),
        Bad::new("reads and closes", |peer| {
            peer.request();
            peer.meanwhile();
        }),
        Bad::new("reads and resets", |peer| {
            peer.request();
            peer.meanwhile();
            peer.reset();
        }),
        Bad::new("never answers", |peer| {
            peer.request();
            peer.until_closed();
        })
        .with("timeout = \"1s\""),
        Bad::new("never answers, and that is well", |peer| {
            peer.request();
            peer.until_closed();
        })
        .with("timeout = \"1s\"\non_timeout = \"delivered\""),
        Bad::new("never reads", |peer| {
            peer.meanwhile();
            peer.until_something_comes();
            peer.until_the_end();
        })
        .with("timeout = \"1s\""),
        Bad::new("drips headers", |peer| {
            peer.request();
            peer.say("HTTP/1.1 200 OK\r\nx: ");
            peer.say_endlessly(b"x", DRIP);
        })
        .with("timeout = \"1s\""),
        Bad::closing_after("closes within the status line", "HTTP/1.1 20"),
        Bad::closing_after("closes within the headers", "HTTP/1.1 200 OK\r\ncontent-le"),
        Bad::new("resets within the headers", |peer| {
            peer.request();
            peer.meanwhile();
            peer.say("HTTP/1.1 200 OK\r\ncontent-le");
            peer.reset();
        }),
    ]), @"
    refuses
        connect failed - the receiver refused the connection: nothing listens there: tcp connect error: Connection refused (os error 111)
        WARN 1 purchase_order not delivered (broke off while connecting: the receiver refused the connection: nothing listens there: tcp connect error: Connection refused (os error 111)); next attempt at …
    resets when a request comes
        waiting unknown - the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)); next attempt at …
    resets where TLS begins
        tls failed - the receiver broke off the connection before it had answered: Connection reset by peer (os error 104)
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver broke off the connection before it had answered: Connection reset by peer (os error 104)); next attempt at …
    reads and closes
        waiting unknown - the receiver closed the connection before it had answered: connection closed before message completed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver closed the connection before it had answered: connection closed before message completed); next attempt at …
    reads and resets
        waiting unknown - the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)); next attempt at …
    never answers
        waiting unknown - no answer within 1s (timeout)
        WARN 1 purchase_order not delivered (timed out while waiting for the answer: no answer within 1s (timeout)); next attempt at …
    never answers, and that is well
        waiting delivered - no answer within 1s (timeout)
        delivered 1 purchase_order in … ms (timed out while waiting for the answer: no answer within 1s (timeout))
    never reads
        waiting unknown - no answer within 1s (timeout)
        WARN 1 purchase_order not delivered (timed out while waiting for the answer: no answer within 1s (timeout)); next attempt at …
    drips headers
        waiting unknown - no answer within 1s (timeout)
        WARN 1 purchase_order not delivered (timed out while waiting for the answer: no answer within 1s (timeout)); next attempt at …
    closes within the status line
        waiting unknown - the receiver closed the connection before it had answered: connection closed before message completed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver closed the connection before it had answered: connection closed before message completed); next attempt at …
    closes within the headers
        waiting unknown - the receiver closed the connection before it had answered: connection closed before message completed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver closed the connection before it had answered: connection closed before message completed); next attempt at …
    resets within the headers
        waiting unknown - the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)); next attempt at …
    ");
}

/// D8: the body of an answer delays the next request by 2 s at the most, however it comes; also here, where it does
/// not end before the other side closes.
#[test]
fn a_body_without_end_delays_the_next_request_shortly() {
    let endless = |label: &str, head: &'static str, piece: Vec<u8>, pause: Option<Duration>| {
        Bad::new(label, move |peer| {
            peer.request();
            peer.meanwhile();
            peer.say(head);
            let said = peer.say_endlessly(&piece, pause);
            // What the kernel buffers on both sides, and what is read.
            assert!(said < 64 << 20, "{said} bytes went into an answer");
        })
        .until(2)
    };
    let (text, site) = Trial {
        orders: 2,
        ..Trial::default()
    }
    .run(&[
        endless(
            "drips",
            "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
            vec![b'x'],
            DRIP,
        ),
        endless(
            "drips in chunks",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n".to_vec(),
            DRIP,
        ),
        endless(
            "drips half a chunk's length",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"0".to_vec(),
            DRIP,
        ),
        endless(
            "drips an extension of a chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;",
            b"x".to_vec(),
            DRIP,
        ),
        endless(
            "drips trailers",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            b"x: y\r\n".to_vec(),
            DRIP,
        ),
        endless(
            "floods",
            "HTTP/1.1 200 OK\r\n\r\n",
            vec![b'x'; 100_000],
            None,
        ),
        endless(
            "floods with chunks",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n".repeat(10_000),
            None,
        ),
        endless(
            "floods with trailers",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            b"x: y\r\n".repeat(10_000),
            None,
        ),
        endless(
            "floods after a failure",
            "HTTP/1.1 500 X\r\n\r\n",
            vec![b'x'; 100_000],
            None,
        )
        .until(1),
    ]);
    assert_snapshot!(text, @"
    drips
        answered delivered 200 -
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        delivered 1 purchase_order in … ms (answered 200)
    drips in chunks
        answered delivered 200 -
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        delivered 1 purchase_order in … ms (answered 200)
    drips half a chunk's length
        answered delivered 200 -
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        delivered 1 purchase_order in … ms (answered 200)
    drips an extension of a chunk
        answered delivered 200 -
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        delivered 1 purchase_order in … ms (answered 200)
    drips trailers
        answered delivered 200 -
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        delivered 1 purchase_order in … ms (answered 200)
    floods
        answered delivered 200 -
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        delivered 1 purchase_order in … ms (answered 200)
    floods with chunks
        answered delivered 200 -
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        delivered 1 purchase_order in … ms (answered 200)
    floods with trailers
        answered delivered 200 -
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        delivered 1 purchase_order in … ms (answered 200)
    floods after a failure
        answered failed 500 -
        WARN 1 purchase_order not delivered (answered 500); next attempt at …
    ");
    let kept = "SELECT DISTINCT status, max(length(answer)) FROM attempts GROUP BY status";
    assert_snapshot!(site.ledger_rows(kept), @"
    200 256
    500 2048
    ");
}

#[test]
fn headers_without_end() {
    let flood = |label: &str, piece: Vec<u8>| {
        Bad::new(label, move |peer| {
            peer.request();
            peer.meanwhile();
            peer.say("HTTP/1.1 200 OK\r\n");
            let said = peer.say_endlessly(&piece, None);
            assert!(said < 64 << 20, "{said} bytes went into headers");
        })
    };
    assert_snapshot!(trial(&[
        flood("one header without end", vec![b'x'; 10_000]),
        flood("a header's value without end", [b"a: ".to_vec(), vec![b'x'; 10_000]].concat()),
        flood("headers without end", b"a: b\r\n".repeat(1_000)),
        flood("NULs without end", vec![0; 10_000]),
        flood("line ends without end", b"\r\n".repeat(1_000)),
        Bad::answering("100 headers", format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "a: b\r\n".repeat(99))),
        Bad::answering("101 headers", format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "a: b\r\n".repeat(100))),
        Bad::answering("a header of 300 KB", format!("HTTP/1.1 200 OK\r\na: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(300_000))),
        Bad::answering("a header of 5 MB", format!("HTTP/1.1 200 OK\r\na: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(5_000_000))),
    ]), @"
    one header without end
        waiting unknown - the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large); next attempt at …
    a header's value without end
        waiting unknown - the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large); next attempt at …
    headers without end
        waiting unknown - the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large); next attempt at …
    NULs without end
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP header parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP header parsed); next attempt at …
    line ends without end
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    100 headers
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    101 headers
        waiting unknown - the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large); next attempt at …
    a header of 300 KB
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    a header of 5 MB
        waiting unknown - the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large); next attempt at …
    ");
}

/// A connection that closes between two requests is no failure.
#[test]
fn closing_after_each_answer_costs_nothing() {
    let (text, site) = Trial {
        orders: 50,
        ..Trial::default()
    }
    .run(&[
        Bad::closing_after(
            "says that it closes",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        )
        .until(50),
        Bad::closing_after("HTTP/1.0", "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n").until(50),
        Bad::closing_after(
            "closes at the end of the body",
            "HTTP/1.1 200 OK\r\n\r\ndone",
        )
        .until(50),
    ]);
    drop(text);
    assert_snapshot!(site.ledger_rows(
        "SELECT name, attempts.outcome, count(*) FROM attempts JOIN payloads USING (payload_id)
         JOIN webhooks USING (webhook_id) WHERE name <> 'good' GROUP BY name, outcome"
    ), @"
    bad_0 delivered 50
    bad_1 delivered 50
    bad_2 delivered 50
    ");
}

/// A request that was written to a kept connection that closes: nobody knows whether it was taken. It is an attempt,
/// and goes again as the next one, under the same id; never twice within one attempt.
#[test]
fn closing_just_before_the_next_request() {
    let closing = |label: &str, reads: bool, resets: bool| {
        Bad::new(label, move |peer| {
            peer.request();
            peer.meanwhile();
            peer.say(OK);
            if peer.number > 1 {
                peer.until_closed();
            } else if reads {
                peer.request();
            } else {
                peer.until_something_comes();
            }
            if resets {
                peer.reset();
            }
        })
        .with("retry_gap = \"10ms\"")
        .until(3)
    };
    let (text, _) = Trial {
        orders: 2,
        ..Trial::default()
    }
    .run(&[
        closing("reads the next request, and closes", true, false),
        closing("reads the next request, and resets", true, true),
        closing("resets without reading the next request", false, true),
    ]);
    assert_snapshot!(text, @"
    reads the next request, and closes
        answered delivered 200 -
        waiting unknown - the receiver closed the connection before it had answered: connection closed before message completed
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver closed the connection before it had answered: connection closed before message completed); next attempt at …
        delivered 1 purchase_order in … ms (answered 200)
    reads the next request, and resets
        answered delivered 200 -
        waiting unknown - the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)); next attempt at …
        delivered 1 purchase_order in … ms (answered 200)
    resets without reading the next request
        answered delivered 200 -
        waiting unknown - the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)); next attempt at …
        delivered 1 purchase_order in … ms (answered 200)
    ");
}

/// Large requests: answered before they were read, or taken slowly.
#[test]
fn requests_that_are_not_taken() {
    const LARGE: &str =
        "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (text, _) = Trial {
        order_bytes: 8 << 20,
        ..Trial::default()
    }
    .run(&[
        Bad::new("answers 413 early, and reads on", |peer| {
            peer.until_something_comes();
            peer.meanwhile();
            peer.say(LARGE);
            peer.until_closed();
        }),
        Bad::new(
            "answers 413 early, reads no more, and resets later",
            |peer| {
                peer.until_something_comes();
                peer.meanwhile();
                peer.say(LARGE);
                peer.until_the_end();
                peer.reset();
            },
        )
        .taking(4096),
        Bad::new("answers 413 early, and closes at once", |peer| {
            peer.until_something_comes();
            peer.meanwhile();
            peer.say(LARGE);
        })
        .taking(4096),
        Bad::new("answers 200 early, and reads no more", |peer| {
            peer.until_something_comes();
            peer.meanwhile();
            peer.say(OK);
            peer.until_the_end();
        })
        .taking(4096),
        Bad::new("stops reading", |peer| {
            peer.until_something_comes();
            peer.until_the_end();
        })
        .taking(4096)
        .with("timeout = \"2s\"\non_timeout = \"delivered\""),
        Bad::new("resets while the request comes", |peer| {
            peer.until_something_comes();
            peer.meanwhile();
            peer.reset();
        })
        .taking(4096),
    ]);
    assert_snapshot!(text, @"
    answers 413 early, and reads on
        answered failed 413 -
        WARN 1 purchase_order not delivered (answered 413); next attempt at …
    answers 413 early, reads no more, and resets later
        answered failed 413 -
        WARN 1 purchase_order not delivered (answered 413); next attempt at …
    answers 413 early, and closes at once
        answered failed 413 -
        WARN 1 purchase_order not delivered (answered 413); next attempt at …
    answers 200 early, and reads no more
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    stops reading
        sending unknown - no answer within 2s (timeout)
        WARN 1 purchase_order not delivered (timed out while sending: no answer within 2s (timeout)); next attempt at …
    resets while the request comes
        sending unknown - the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)
        WARN 1 purchase_order not delivered (broke off while sending: the receiver broke off the connection before it had answered: connection error: Connection reset by peer (os error 104)); next attempt at …
    ");
}

/// D7: what was taken in full, however slowly, and then not answered in time, is delivered where the configuration
/// says so. What is still on this side, in the kernel's hands or the daemon's, is not.
#[test]
fn slow_receivers_of_which_no_answer_is_expected() {
    const NO_ANSWER: &str = "timeout = \"3s\"\non_timeout = \"delivered\"";
    let slow = |label: &str, takes_all: bool| {
        Bad::new(label, move |peer| {
            peer.until_something_comes();
            peer.meanwhile();
            if takes_all {
                peer.request();
            }
            peer.until_the_end();
        })
        .taking(4096)
        .with(NO_ANSWER)
    };
    let (text, _) = Trial {
        order_bytes: 100_000,
        ..Trial::default()
    }
    .run(&[
        slow("takes all of it", true),
        slow("takes all of it, known by name", true).at("http://localhost"),
        slow("takes the beginning", false),
        slow("takes the beginning, known by name", false).at("http://localhost"),
    ]);
    assert_snapshot!(text, @"
    takes all of it
        waiting delivered - no answer within 3s (timeout)
        delivered 1 purchase_order in … ms (timed out while waiting for the answer: no answer within 3s (timeout))
    takes all of it, known by name
        waiting delivered - no answer within 3s (timeout)
        delivered 1 purchase_order in … ms (timed out while waiting for the answer: no answer within 3s (timeout))
    takes the beginning
        sending unknown - no answer within 3s (timeout)
        WARN 1 purchase_order not delivered (timed out while sending: no answer within 3s (timeout)); next attempt at …
    takes the beginning, known by name
        sending unknown - no answer within 3s (timeout)
        WARN 1 purchase_order not delivered (timed out while sending: no answer within 3s (timeout)); next attempt at …
    ");
}
