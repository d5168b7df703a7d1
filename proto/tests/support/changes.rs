//! How a case of the corpus differs from the good file that it is made of.

use serde_json::Value;

/// Sets or removes one place of a file.
pub fn apply(file: &mut Value, change: &Value) {
    let (last, way) = change["at"].as_array().unwrap().split_last().unwrap();
    let place = way.iter().fold(file, |place, step| match step {
        Value::String(name) => &mut place[name.as_str()],
        step => &mut place[number(step)],
    });
    match (last, change.get("set")) {
        (Value::String(name), Some(value)) => place[name.as_str()] = value.clone(),
        (Value::String(name), None) => _ = place.as_object_mut().unwrap().remove(name).unwrap(),
        (at, Some(value)) => place[number(at)] = value.clone(),
        (at, None) => panic!("an entry of a list is never removed alone: {at}"),
    }
}

fn number(number: &Value) -> usize {
    usize::try_from(number.as_u64().unwrap()).unwrap()
}
