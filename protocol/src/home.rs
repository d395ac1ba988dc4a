//! Home and owner: which node grants a store's escrow, and which hands out a fiscal series' numbers.
//!
//! Both are declared by events of which the smallest stands (see [`crate::standing`]), so every node names the same
//! one. Never here: which events are there, or what a home does.

use serde_json::json;

/// The node that is a store's home; `None`: nobody, until somebody declares it.
///
/// `declared`: what the standing StoreDeclared says. A store without one came from a v1 node, which knows no
/// homes: a node alone is its home, but of several native ones each would take itself for it. `has_native_peers`:
/// whether `node_id` has peers of its own kind.
pub fn home<'a>(declared: Option<&'a str>, node_id: &'a str, has_native_peers: bool) -> Option<&'a str> {
    declared.or((!has_native_peers).then_some(node_id))
}

/// The node that hands out the numbers of a series: the one that its declaration names, else the store's home.
pub fn owner<'a>(declared: Option<&'a str>, home: Option<&'a str>) -> Option<&'a str> {
    declared.or(home)
}

/// The payload of a StoreDeclared, as JSON text: `node_id` makes itself the home.
pub fn declaration(node_id: &str, name: &str) -> String {
    json!({ "home_node": node_id, "name": name }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;
    use crate::payload::{Payload, StoreDeclaration};

    #[test]
    fn who_is_declared_is_the_home_whoever_asks() {
        for alone in [true, false] {
            assert_eq!(home(Some("north"), "south", !alone), Some("north"));
        }
    }

    #[test]
    fn an_undeclared_store_is_at_home_with_a_node_that_is_alone_and_else_with_nobody() {
        assert_eq!(home(None, "south", false), Some("south"));
        assert_eq!(home(None, "south", true), None);
    }

    #[test]
    fn a_series_is_the_homes_unless_it_says_otherwise() {
        assert_eq!(owner(Some("north"), Some("south")), Some("north"));
        assert_eq!(owner(Some("north"), None), Some("north"));
        assert_eq!(owner(None, Some("south")), Some("south"));
        assert_eq!(owner(None, None), None);
    }

    #[test]
    fn a_declaration_is_read_as_it_was_meant() {
        let name = "La \"Bodega\"\n de Ñuñoa";
        let text = declaration("north", name);
        let read = Payload::read("StoreDeclared", &Json::parse(&text).expect("JSON"));
        let expected = StoreDeclaration {
            home_node: "north".to_owned(),
            default_warehouse_id: None,
            name: Some(name.to_owned()),
        };
        assert_eq!(read, Ok(Payload::Store(expected)));
    }
}
