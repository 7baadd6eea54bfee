//! The demonstration: the old stack's own promises, as a first look and a few faults of
//! the catalogue.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;

use super::trial;
use crate::health::http;
use crate::lab::Lab;

/// The faults of the demonstration, in order.
pub const FAULTS: [&str; 7] = [
    "lb-reboot",
    "app-reboot",
    "gunicorn-stop",
    "gunicorn-kill",
    "app-power-off",
    "haproxy-kill",
    "lb-power-off",
];

/// Visitors of the first look.
const VISITORS: usize = 40;

/// Shows that the page and its data come through the virtual IP, and which app
/// servers answer different visitors. Returns a sentence for each.
///
/// # Errors
/// If there is no page or the entry is not on it.
pub fn look(lab: &Lab, interrupted: &dyn Fn() -> bool) -> anyhow::Result<Vec<String>> {
    let target = trial::target(lab);
    let client = http::client(Duration::from_secs(10));
    trial::wait_until_whole(lab, interrupted)?;
    let entry = "stored through the virtual IP";
    let body = serde_json::json!({ "text": entry }).to_string();
    let stored = http::hand_in(&client, target, "/api/entries", "application/json", &body)?;
    ensure!(
        stored.status == 201,
        "an entry could not be stored: POST /api/entries answered HTTP {}; the demonstration shows the \
         demo app; for an application of your own use `lab up` and `faults run`",
        stored.status
    );
    let page = http::visit(&client, target, "/")?;
    ensure!(
        page.status == 200 && page.body.contains(entry),
        "the page does not show what was stored"
    );
    let mut by_node = BTreeMap::<String, usize>::new();
    for _ in 0..VISITORS {
        let node = http::visit(&client, target, "/")?.node.unwrap_or_default();
        *by_node.entry(node).or_default() += 1;
    }
    let shares: Vec<String> = by_node
        .iter()
        .map(|(node, count)| format!("{node} {count}"))
        .collect();
    Ok(vec![
        format!(
            "the page and what was stored come through {}",
            target.address
        ),
        format!("{VISITORS} visitors were served by {}", shares.join(", ")),
    ])
}
