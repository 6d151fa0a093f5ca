//! What an order looks like.

/// A purchase order of eleven lines, 1.2 KB.
pub(crate) fn order(number: u64) -> String {
    let lines: Vec<String> = (1..=11)
        .map(|line| {
            let item = number * 31 + line;
            format!(
                r#"{{"Line":{line},"Item":"IT-{item:08}","Quantity":{}.00,"Unit":"PCE","DueDate":"2026-12-{:02}"}}"#,
                1 + item % 400,
                1 + item % 28
            )
        })
        .collect();
    format!(
        r#"{{"TrackingNumber":{number},"Supplier":"S-{:05}","Site":"HAM-2","Currency":"EUR","Incoterm":"DAP Hamburg","Buyer":"m.petersen","Lines":[{}]}}"#,
        number % 977,
        lines.join(",")
    )
}
