//! Answers, well formed and otherwise.

use std::time::Duration;

use insta::assert_snapshot;

use super::{Bad, Trial, trial};
use crate::support::Receiver;

/// An answer with this line first, and nothing in it.
fn line(line: &str) -> Bad {
    Bad::answering(line, format!("{line}\r\ncontent-length: 0\r\n\r\n"))
}

/// D7: 2xx is a success; everything else is not.
#[test]
fn each_class_of_status() {
    assert_snapshot!(trial(&[
        line("HTTP/1.1 200 OK"),
        line("HTTP/1.1 201 Created"),
        line("HTTP/1.1 202 Accepted"),
        line("HTTP/1.1 204 No Content"),
        line("HTTP/1.1 299 X"),
        line("HTTP/1.0 200 OK"),
        line("HTTP/1.1 200"),
        line("HTTP/1.1 300 X"),
        line("HTTP/1.1 304 Not Modified"),
        line("HTTP/1.1 400 Bad Request"),
        line("HTTP/1.1 401 Unauthorized"),
        line("HTTP/1.1 404 Not Found"),
        line("HTTP/1.1 410 Gone"),
        line("HTTP/1.1 422 Unprocessable"),
        line("HTTP/1.1 500 Internal Server Error"),
        line("HTTP/1.1 503 Service Unavailable"),
        line("HTTP/1.1 600 X"),
        line("HTTP/1.1 999 X"),
    ]), @"
    HTTP/1.1 200 OK
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    HTTP/1.1 201 Created
        answered delivered 201 -
        delivered 1 purchase_order in … ms (answered 201)
    HTTP/1.1 202 Accepted
        answered delivered 202 -
        delivered 1 purchase_order in … ms (answered 202)
    HTTP/1.1 204 No Content
        answered delivered 204 -
        delivered 1 purchase_order in … ms (answered 204)
    HTTP/1.1 299 X
        answered delivered 299 -
        delivered 1 purchase_order in … ms (answered 299)
    HTTP/1.0 200 OK
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    HTTP/1.1 200
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    HTTP/1.1 300 X
        answered failed 300 -
        WARN 1 purchase_order not delivered (answered 300); next attempt at …
    HTTP/1.1 304 Not Modified
        answered failed 304 -
        WARN 1 purchase_order not delivered (answered 304); next attempt at …
    HTTP/1.1 400 Bad Request
        answered failed 400 -
        WARN 1 purchase_order not delivered (answered 400); next attempt at …
    HTTP/1.1 401 Unauthorized
        answered failed 401 -
        WARN 1 purchase_order not delivered (answered 401); next attempt at …
    HTTP/1.1 404 Not Found
        answered failed 404 -
        WARN 1 purchase_order not delivered (answered 404); next attempt at …
    HTTP/1.1 410 Gone
        answered failed 410 -
        ERROR 1 purchase_order not delivered, the webhook is deactivated: answered 410
    HTTP/1.1 422 Unprocessable
        answered failed 422 -
        WARN 1 purchase_order not delivered (answered 422); next attempt at …
    HTTP/1.1 500 Internal Server Error
        answered failed 500 -
        WARN 1 purchase_order not delivered (answered 500); next attempt at …
    HTTP/1.1 503 Service Unavailable
        answered failed 503 -
        WARN 1 purchase_order not delivered (answered 503); next attempt at …
    HTTP/1.1 600 X
        answered failed 600 -
        WARN 1 purchase_order not delivered (answered 600); next attempt at …
    HTTP/1.1 999 X
        answered failed 999 -
        WARN 1 purchase_order not delivered (answered 999); next attempt at …
    ");
}

#[test]
fn what_is_no_status() {
    assert_snapshot!(trial(&[
        line("HTTP/1.1 099 X"),
        line("HTTP/1.1 000 X"),
        line("HTTP/1.1 0 X"),
        line("HTTP/1.1 2OO OK"),
        line("HTTP/1.1 -200 OK"),
        line("HTTP/1.1 2000 OK"),
        line("HTTP/1.1"),
        line("HTTP/1.2 200 OK"),
        line("HTTP/2 200 OK"),
        line("http/1.1 200 OK"),
        line("ICY 200 OK"),
        line("SSH-2.0-OpenSSH_9.2"),
        Bad::closing_after("HTTP/0.9", "<html>your order was taken</html>"),
        Bad::closing_after("an HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        Bad::closing_after("HTTP/2 frames", b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff"),
        Bad::closing_after("nothing but NULs", vec![0; 100]),
        Bad::closing_after("a header without a colon", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
        Bad::closing_after("a header's name with a blank", "HTTP/1.1 200 OK\r\na b: c\r\n\r\n"),
        Bad::closing_after("a NUL in a header", "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n"),
    ]), @"
    HTTP/1.1 099 X
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed); next attempt at …
    HTTP/1.1 000 X
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed); next attempt at …
    HTTP/1.1 0 X
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed); next attempt at …
    HTTP/1.1 2OO OK
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed); next attempt at …
    HTTP/1.1 -200 OK
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed); next attempt at …
    HTTP/1.1 2000 OK
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP status-code parsed); next attempt at …
    HTTP/1.1
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    HTTP/1.2 200 OK
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    HTTP/2 200 OK
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    http/1.1 200 OK
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    ICY 200 OK
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    SSH-2.0-OpenSSH_9.2
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    HTTP/0.9
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    an HTTP/2 preface
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    HTTP/2 frames
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    nothing but NULs
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    a header without a colon
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP header parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP header parsed); next attempt at …
    a header's name with a blank
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP header parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP header parsed); next attempt at …
    a NUL in a header
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP header parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP header parsed); next attempt at …
    ");
}

/// D6: a redirect is a failure, wherever it leads; nobody else is asked.
#[test]
fn redirects() {
    let target = Receiver::ok();
    let moved = |status: &str, location: &str| {
        let head =
            format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        Bad::answering(
            format!("{status} to {}", location.replace(&target.url(), "TARGET")),
            head,
        )
    };
    assert_snapshot!(trial(&[
        moved("301", &target.url()),
        moved("302", &target.url()),
        moved("303", &target.url()),
        moved("307", &target.url()),
        moved("308", &target.url()),
        moved("302", "/orders"),
        moved("302", ""),
        Bad::answering("302 without a location", "HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n"),
        moved("302", &target.url()).with("success_status = [\"3xx\"]"),
    ]), @"
    301 to TARGET
        answered failed 301 -
        WARN 1 purchase_order not delivered (answered 301); next attempt at …
    302 to TARGET
        answered failed 302 -
        WARN 1 purchase_order not delivered (answered 302); next attempt at …
    303 to TARGET
        answered failed 303 -
        WARN 1 purchase_order not delivered (answered 303); next attempt at …
    307 to TARGET
        answered failed 307 -
        WARN 1 purchase_order not delivered (answered 307); next attempt at …
    308 to TARGET
        answered failed 308 -
        WARN 1 purchase_order not delivered (answered 308); next attempt at …
    302 to /orders
        answered failed 302 -
        WARN 1 purchase_order not delivered (answered 302); next attempt at …
    302 to 
        answered failed 302 -
        WARN 1 purchase_order not delivered (answered 302); next attempt at …
    302 without a location
        answered failed 302 -
        WARN 1 purchase_order not delivered (answered 302); next attempt at …
    302 to TARGET
        answered delivered 302 -
        delivered 1 purchase_order in … ms (answered 302)
    ");
    assert!(target.arrived().is_empty());
}

/// D8: what is announced of the body, and what comes, changes nothing about the status.
#[test]
fn lengths_that_are_wrong() {
    let body = |headers: &str, body: &str| {
        Bad::closing_after(
            format!("{headers}{body}").escape_default().to_string(),
            format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}"),
        )
    };
    assert_snapshot!(trial(&[
        body("content-length: 4\r\ntransfer-encoding: chunked\r\n", "4\r\ndone\r\n0\r\n\r\n"),
        body("content-length: 4\r\ncontent-length: 4\r\n", "done"),
        body("content-length: 4, 4\r\n", "done"),
        body("content-length: 4\r\ncontent-length: 5\r\n", "done!"),
        body("content-length: -1\r\n", "done"),
        body("content-length: +4\r\n", "done"),
        body("content-length: four\r\n", "done"),
        body("content-length:\r\n", "done"),
        body("content-length: 18446744073709551614\r\n", "done"),
        body("content-length: 18446744073709551616\r\n", "done"),
        body("content-length: 100\r\n", "half"),
        body("content-length: 1\r\n", "more than that"),
        body("", "until the end"),
        body("transfer-encoding: chunked\r\n", "8\r\nhalf"),
        body("transfer-encoding: chunked\r\n", "zz\r\ndone\r\n0\r\n\r\n"),
        body("transfer-encoding: chunked\r\n", "ffffffffffffffff\r\ndone"),
        body("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\ndone"),
        body("transfer-encoding: chunked\r\n", "4\r\ndone\r\n0\r\nhalf-a-trailer"),
        body("transfer-encoding: gzip\r\n", "done"),
        body("transfer-encoding: chunked, gzip\r\n", "4\r\ndone\r\n0\r\n\r\n"),
        body("content-encoding: no-such\r\ncontent-length: 4\r\n", "done"),
    ]), @r"
    content-length: 4\r\ntransfer-encoding: chunked\r\n4\r\ndone\r\n0\r\n\r\n
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    content-length: 4\r\ncontent-length: 4\r\ndone
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    content-length: 4, 4\r\ndone
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    content-length: 4\r\ncontent-length: 5\r\ndone!
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid content-length parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid content-length parsed); next attempt at …
    content-length: -1\r\ndone
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid content-length parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid content-length parsed); next attempt at …
    content-length: +4\r\ndone
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid content-length parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid content-length parsed); next attempt at …
    content-length: four\r\ndone
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid content-length parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid content-length parsed); next attempt at …
    content-length:\r\ndone
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid content-length parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid content-length parsed); next attempt at …
    content-length: 18446744073709551614\r\ndone
        waiting unknown - the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length: message head is too large); next attempt at …
    content-length: 18446744073709551616\r\ndone
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid content-length parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid content-length parsed); next attempt at …
    content-length: 100\r\nhalf
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    content-length: 1\r\nmore than that
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    until the end
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    transfer-encoding: chunked\r\n8\r\nhalf
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    transfer-encoding: chunked\r\nzz\r\ndone\r\n0\r\n\r\n
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    transfer-encoding: chunked\r\nffffffffffffffff\r\ndone
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    transfer-encoding: chunked\r\nfffffffffffffffff\r\ndone
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    transfer-encoding: chunked\r\n4\r\ndone\r\n0\r\nhalf-a-trailer
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    transfer-encoding: gzip\r\ndone
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    transfer-encoding: chunked, gzip\r\n4\r\ndone\r\n0\r\n\r\n
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    content-encoding: no-such\r\ncontent-length: 4\r\ndone
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    ");
}

/// Bytes beyond an answer are no answer to the next request.
#[test]
fn what_follows_an_answer_answers_nothing() {
    let beyond = |label: &str, answer: &'static str| {
        Bad::new(label, move |peer| {
            peer.request();
            peer.meanwhile();
            // Over the same connection it says no more, over another one that it is out of order.
            let out_of_order = "HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n";
            peer.say(if peer.number == 1 {
                answer
            } else {
                out_of_order
            });
            peer.until_closed();
        })
        .with("timeout = \"1s\"")
        .until(2)
    };
    let (text, _) = Trial { orders: 2, ..Trial::default() }.run(&[
        beyond("204 with a body", "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\ndone"),
        beyond("204 and an answer", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        beyond("two answers", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 201 OK\r\ncontent-length: 0\r\n\r\n"),
        beyond("half an answer", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 201"),
        beyond("a blank line", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n\r\n"),
    ]);
    assert_snapshot!(text, @"
    204 with a body
        answered delivered 204 -
        answered failed 500 -
        delivered 1 purchase_order in … ms (answered 204)
        WARN 1 purchase_order not delivered (answered 500); next attempt at …
    204 and an answer
        answered delivered 204 -
        answered failed 500 -
        delivered 1 purchase_order in … ms (answered 204)
        WARN 1 purchase_order not delivered (answered 500); next attempt at …
    two answers
        answered delivered 200 -
        answered failed 500 -
        delivered 1 purchase_order in … ms (answered 200)
        WARN 1 purchase_order not delivered (answered 500); next attempt at …
    half an answer
        answered delivered 200 -
        answered failed 500 -
        delivered 1 purchase_order in … ms (answered 200)
        WARN 1 purchase_order not delivered (answered 500); next attempt at …
    a blank line
        answered delivered 200 -
        answered failed 500 -
        delivered 1 purchase_order in … ms (answered 200)
        WARN 1 purchase_order not delivered (answered 500); next attempt at …
    ");
}

/// Interim answers are none.
#[test]
fn interim_answers() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    assert_snapshot!(trial(&[
        Bad::answering("100, then 200", format!("HTTP/1.1 100 Continue\r\n\r\n{ok}")),
        Bad::answering("102, then 200", format!("HTTP/1.1 102 Processing\r\n\r\n{ok}")),
        Bad::answering("103 three times, then 200", format!("{}{ok}", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(3))),
        Bad::answering("199, then 500", "HTTP/1.1 199 X\r\n\r\nHTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"),
        Bad::closing_after("100, and no more", "HTTP/1.1 100 Continue\r\n\r\n"),
        Bad::answering("101 unasked for", "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
        Bad::answering("101 without a word why", "HTTP/1.1 101 X\r\n\r\n"),
        Bad::new("100 over and over", |peer| {
            peer.request();
            peer.say_endlessly(
                b"HTTP/1.1 100 Continue\r\n\r\n",
                Some(Duration::from_millis(20)),
            );
        })
        .with("timeout = \"1s\""),
    ]), @"
    100, then 200
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    102, then 200
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    103 three times, then 200
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    199, then 500
        answered failed 500 -
        WARN 1 purchase_order not delivered (answered 500); next attempt at …
    100, and no more
        waiting unknown - the receiver closed the connection before it had answered: connection closed before message completed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver closed the connection before it had answered: connection closed before message completed); next attempt at …
    101 unasked for
        answered failed 101 -
        WARN 1 purchase_order not delivered (answered 101); next attempt at …
    101 without a word why
        answered failed 101 -
        WARN 1 purchase_order not delivered (answered 101); next attempt at …
    100 over and over
        waiting unknown - no answer within 1s (timeout)
        WARN 1 purchase_order not delivered (timed out while waiting for the answer: no answer within 1s (timeout)); next attempt at …
    ");
}

/// D8: what came is told as it came: nothing is unpacked.
#[test]
fn a_gzip_bomb_stays_packed() {
    let bomb = gzip_bomb(10_000_000);
    assert!(bomb.len() < 70_000, "{}", bomb.len());
    let head = "HTTP/1.1 500 X\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\n\r\n";
    let answer = [head.as_bytes(), &bomb].concat();
    let (text, site) = Trial::default().run(&[Bad::closing_after("a gzip bomb", answer)]);
    assert_snapshot!(text, @"
    a gzip bomb
        answered failed 500 -
        WARN 1 purchase_order not delivered (answered 500); next attempt at …
    ");
    let begins = "SELECT hex(substr(answer, 1, 3)) FROM attempts WHERE status = 500";
    assert_snapshot!(site.ledger_rows(begins), @"1FEFBFBD08");
}

/// Compressed NULs, at least so many: a NUL, and then over and over: 258 bytes that are like the one before.
fn gzip_bomb(unpacked: usize) -> Vec<u8> {
    // The last block, with fixed codes; a literal.
    let mut bits = String::from("110") + "00110000";
    for _ in 0..=unpacked / 258 {
        bits += "1100010100000";
    }
    // The end of the block.
    bits += "0000000";
    let mut bomb = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    for byte in bits.as_bytes().chunks(8) {
        let bits = byte.iter().enumerate();
        bomb.push(bits.map(|(place, bit)| (bit - b'0') << place).sum());
    }
    bomb
}
