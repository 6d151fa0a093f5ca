//! Orders as a planning system writes them: made up, and the same at every run.

use serde::Serialize;

use crate::feed::order::OrderType;

/// The JSON of one of the demo's orders, by its type and number.
pub(super) fn order(order_type: OrderType, number: usize) -> serde_json::Result<String> {
    let (prefix, from, to, documentation, method) = match order_type {
        OrderType::PurchaseOrder => (
            "PO-1",
            pick(&SUPPLIERS, number),
            pick(&SITES, number),
            "Goods are accepted Monday to Friday, 7:00 to 15:00. Confirm within two days.",
            pick(&["TRUCK", "PARCEL", "RAIL"], number),
        ),
        OrderType::TransferOrder => (
            "TO-2",
            pick(&SITES, number),
            pick(&SITES, number + 1),
            "Stock transfer between own sites. Mixed pallets are welcome.",
            "SHUTTLE",
        ),
        OrderType::WorkOrder => (
            "WO-3",
            pick(&SITES, number),
            pick(&SITES, number),
            "Use up the older lot first. Report scrap by line.",
            "INTERNAL",
        ),
    };
    let (name, email) = pick(&PEOPLE, number);
    let day = number % 28 + 1;
    let line_items = (0..=number % 5)
        .map(|line| {
            let (code, description, unit, price) = pick(&ITEMS, number + line * 3);
            LineItem {
                line_number: line + 1,
                item_code: code,
                item_description: description,
                quantity: (number * 7 + line * 13) % 240 + 1,
                unit_of_measure: unit,
                unit_price: price,
            }
        })
        .collect();
    serde_json::to_string(&Order {
        tracking_number: format!("{prefix}{number:05}"),
        shipping_location: from.0,
        receiving_location: to.0,
        release_date: format!("2026-03-{day:02}"),
        requested_delivery_date: format!("2026-04-{day:02}"),
        submitted_by: "nightly planning run",
        documentation,
        contact_name: name,
        contact_email: email,
        ship_method: method,
        address1: to.1,
        address2: "Goods-in, gate 3",
        address3: "",
        city: to.2,
        state: to.3,
        postal_code: to.4,
        country: "US",
        line_items,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Order {
    tracking_number: String,
    shipping_location: &'static str,
    receiving_location: &'static str,
    release_date: String,
    requested_delivery_date: String,
    submitted_by: &'static str,
    documentation: &'static str,
    contact_name: &'static str,
    contact_email: &'static str,
    ship_method: &'static str,
    address1: &'static str,
    address2: &'static str,
    address3: &'static str,
    city: &'static str,
    state: &'static str,
    postal_code: &'static str,
    country: &'static str,
    line_items: Vec<LineItem>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LineItem {
    line_number: usize,
    item_code: &'static str,
    item_description: &'static str,
    quantity: usize,
    unit_of_measure: &'static str,
    unit_price: f64,
}

/// Code, street, city, state, postal code.
type Location = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const SITES: [Location; 4] = [
    ("DC-CHI", "1200 Depot Street", "Chicago", "IL", "60608"),
    ("DC-RNO", "45 Granite Road", "Reno", "NV", "89502"),
    ("PLANT-COL", "800 Foundry Avenue", "Columbus", "OH", "43215"),
    ("DC-ATL", "9 Peachtree Yard", "Atlanta", "GA", "30318"),
];

const SUPPLIERS: [Location; 3] = [
    ("V-10023", "12 Mill Lane", "Milwaukee", "WI", "53202"),
    ("V-10419", "77 Harbor Road", "Tacoma", "WA", "98421"),
    ("V-11007", "3 Bearing Court", "Canton", "OH", "44706"),
];

const PEOPLE: [(&str, &str); 4] = [
    ("Maria Weber", "maria.weber@example.com"),
    ("James Okafor", "james.okafor@example.com"),
    ("Lin Chen", "lin.chen@example.com"),
    ("Zo\u{eb} Martin", "zoe.martin@example.com"),
];

/// Code, description, unit, price.
const ITEMS: [(&str, &str, &str, f64); 7] = [
    ("HX-M8-40", "Hex bolt M8 x 40, zinc plated", "BOX", 18.75),
    ("BRG-6204", "Deep groove ball bearing 6204-2RS", "EA", 6.48),
    ("PMP-050", "Centrifugal pump, 0.5 kW", "EA", 412.25),
    ("GSK-114", "Flange gasket DN 50", "EA", 2.15),
    ("CBL-3G15", "Cable 3 x 1.5 mm\u{b2}, 50 m", "RL", 54.95),
    ("OIL-46", "Hydraulic oil ISO VG 46, 20 l", "CAN", 89.5),
    ("FLT-H13", "Filter cartridge H13", "EA", 37.2),
];

fn pick<T: Copy>(from: &[T], number: usize) -> T {
    from[number % from.len()]
}
