//! `register`, `devices`.

use serde_json::Value;

use super::{Scene, message, messages};
use crate::support::tern::Tern;

#[test]
fn a_home_is_one_device_of_one_account() {
    let scene = Scene::set();
    let again = scene.ann.try_register(&scene.server, "ann", &[]);
    assert_eq!(again.code, Some(1), "{again:?}");
    let taken = Tern::new(&scene.path().join("cem")).try_register(&scene.server, "ann", &[]);
    assert_eq!(taken.code, Some(1), "{taken:?}");
    let nobody = Tern::new(&scene.path().join("dot")).run(&["send", "ann", "hello"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.err.contains("register"), "{nobody:?}");

    // One process at a time acts as a device.
    let mut listening = scene.ann.start(&["listen", "--json"]);
    listening.until(|line| line["event"] == "connection");
    let second = scene.ann.run(&["status"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("another process"), "{second:?}");
}

#[test]
fn devices_are_linked_get_everything_and_are_removed() {
    let scene = Scene::set();
    let link = || scene.ann.run(&["devices", "--json", "link"]).json()["token"].clone();
    let second = Tern::new(&scene.path().join("ann-2"));
    let token = link();
    let more = ["--link", token.as_str().unwrap(), "--label", "laptop"];
    second.try_register(&scene.server, "ann", &more).good();
    // A link is good for one device.
    let third = Tern::new(&scene.path().join("ann-3"));
    let used = third.try_register(&scene.server, "ann", &more);
    assert_eq!(used.code, Some(1), "{used:?}");

    let devices = scene.ann.run(&["devices", "--json"]).json()["devices"].clone();
    let devices = devices.as_array().unwrap();
    assert_eq!(devices.len(), 2);
    let laptop = devices.iter().find(|device| device["label"] == "laptop").unwrap();
    assert_eq!(laptop["this"], false);

    scene.bob.run(&["send", "ann", "to both"]).good();
    scene.ann.run(&["send", "bob", "from one"]).good();
    let listen = |tern: &Tern, count: &str| {
        let heard = tern.run(&["listen", "--json", "--timeout", "60", "--count", count]);
        messages(&heard.lines())
    };
    assert_eq!(listen(&second, "2"), [message("bob", "to both"), message("ann", "from one")]);
    assert_eq!(listen(&scene.ann, "1"), [message("bob", "to both")]);

    let id = laptop["id"].as_str().unwrap();
    scene.ann.run(&["devices", "remove", id]).good();
    let again = scene.ann.run(&["devices", "remove", id]);
    assert_eq!(again.code, Some(1), "{again:?}");
    let gone = second.run(&["send", "bob", "am I there?", "--timeout", "60"]);
    assert_eq!(gone.code, Some(1), "{gone:?}");
    let left = scene.ann.run(&["devices", "--json"]).json();
    assert_eq!(left["devices"].as_array().map(Vec::len), Some(1), "{left}");
    assert_eq!(left["devices"][0]["this"], Value::Bool(true));
}

#[test]
fn a_removed_device_that_listens_is_told() {
    let scene = Scene::set();
    let token = scene.ann.run(&["devices", "--json", "link"]).json()["token"].clone();
    let second = Tern::new(&scene.path().join("ann-2"));
    second.try_register(&scene.server, "ann", &["--link", token.as_str().unwrap()]).good();
    let id = second.run(&["status", "--json"]).json()["device"].clone();
    let mut listening = second.start(&["listen", "--json"]);
    listening.until(|line| line["state"] == "connected");
    scene.ann.run(&["devices", "remove", id.as_str().unwrap()]).good();
    listening.until(|line| line["state"] == "stopped");
    assert_eq!(listening.process.wait("the end of listen").code(), Some(1));
}
