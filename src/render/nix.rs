//! `hosts/<node>/default.nix`: a fixed skeleton that says which modules the node uses
//! and reads everything else from `node.json`, so that hardly any value is ever
//! spelled in Nix. Whatever is written is parsed by rnix first.

use anyhow::bail;

use super::{MARK, escape};
use crate::config::NodeFacts;
use crate::topology::Tier;

/// The NixOS module of a node.
///
/// # Errors
/// Only when what was made is not Nix, which is a bug of this program.
pub fn host(facts: &NodeFacts) -> anyhow::Result<String> {
    let is_router = facts.app.as_ref().and_then(|app| app.router_port).is_some();
    let (what, services) = match facts.tier {
        Tier::LoadBalancer => ("a load balancer", ["haproxy", "keepalived"].as_slice()),
        Tier::App if is_router => ("an app server", ["nginx", "app", "mongos"].as_slice()),
        Tier::App => ("an app server", ["nginx", "app"].as_slice()),
        Tier::Database => ("a database", ["mongodb"].as_slice()),
    };
    let enabled: Vec<String> = services
        .iter()
        .map(|service| format!("    {service}.enable = true;\n"))
        .collect();
    let enabled = enabled.concat();
    let text = format!(
        "# {MARK}\n\
         # {name}, {what} of the stack {stack}.\n\
         {{ lib, ... }}:\n\
         {{\n  \
           imports = [ ../../modules ];\n\n  \
           networking.hostName = {literal};\n\n  \
           services.gen-topology = {{\n    \
             enable = true;\n    \
             facts = lib.importJSON ./node.json;\n    \
             files = ./etc;\n\
         {enabled}  \
           }};\n\
         }}\n",
        stack = facts.stack,
        name = facts.name,
        literal = escape::nix(&facts.name),
    );
    parsed(text)
}

/// `text`, if it is Nix.
fn parsed(text: String) -> anyhow::Result<String> {
    let parse = rnix::Root::parse(&text);
    if let Some(error) = parse.errors().first() {
        bail!("internal error: a host's default.nix would not be valid Nix: {error}\n{text}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_nix_does_not_leave() {
        assert!(parsed("{ a = 1; }\n".into()).is_ok());
        let refused = parsed("{ a = 1 }\n".into()).unwrap_err().to_string();
        assert!(
            refused.starts_with("internal error: a host's default.nix would not be valid Nix"),
            "{refused}"
        );
    }
}
