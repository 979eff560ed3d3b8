//! Jinja's tests where Python's types differ from the engine's.

use minijinja::value::{ObjectRepr, ValueKind};
use minijinja::{Environment, Value};

use super::values::{Lazy, View};

pub(super) fn add(environment: &mut Environment) {
    for unknown_to_jinja in ["safe", "int", "startingwith", "endingwith"] {
        environment.remove_test(unknown_to_jinja);
    }
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("callable", is_callable);
}

/// Whatever has a length and takes `[…]`.
fn is_sequence(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map => true,
        ValueKind::Iterable => {
            value.downcast_object_ref::<Lazy>().is_none() && value.downcast_object_ref::<View>().is_none()
        }
        _ => false,
    }
}

fn is_callable(value: &Value) -> bool {
    value.as_object().is_some_and(|object| {
        let name = object.type_name();
        object.repr() == ObjectRepr::Plain || name.ends_with("Macro") || name.ends_with("Loop")
    })
}
