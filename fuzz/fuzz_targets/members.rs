//! A payload's members, as the ledger keeps them: bytes are members in just one way, or none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orderfeed::feed::payload::Members;

fuzz_target!(|bytes: &[u8]| {
    let Some(members) = Members::from_bytes(bytes) else {
        return;
    };
    assert_eq!(members.to_bytes(), bytes);
    let seqs = members.seqs();
    assert!(!seqs.is_empty() && seqs.len() <= bytes.len());
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(
        (members.first(), members.last()),
        (seqs[0], seqs[seqs.len() - 1])
    );
});
