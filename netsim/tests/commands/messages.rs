//! `send`, `listen`, `status`.

use super::{Scene, message, messages};

#[test]
fn a_message_goes_from_one_to_the_other_with_its_ticks() {
    let scene = Scene::set();
    let sent = scene.ann.run(&["send", "bob", "hello", "--wait", "sent"]).good();
    assert!(sent.contains("sent"), "{sent}");
    let heard = scene.bob.run(&["listen", "--json", "--count", "1", "--timeout", "60"]);
    let line = heard.lines().into_iter().find(|line| line["event"] == "message").unwrap();
    assert_eq!(heard.code, Some(0));
    assert_eq!((&line["from"], &line["text"]), (&"ann".into(), &"hello".into()));
    assert_eq!(line["seq"], 1);
    assert_eq!(line["conversation"].as_str().unwrap().len(), 32);
    assert_eq!(line["id"].as_str().unwrap().len(), 16);

    // Who listens stores, and who listens with --read reads.
    let mut listening = scene.bob.start(&["listen", "--json"]);
    scene.ann.run(&["send", "bob", "two", "--wait", "delivered", "--timeout", "60"]).good();
    listening.until(|line| line["text"] == "two");
    listening.process.kill();
    let _listening = scene.bob.start(&["listen", "--json", "--read"]);
    let read = scene.ann.run(&["send", "bob", "three", "--wait", "read", "--timeout", "60"]);
    assert!(read.good().contains("read"));
}

#[test]
fn news_are_printed_while_somebody_listens() {
    let scene = Scene::set();
    scene.ann.run(&["send", "bob", "one"]).good();
    let mut ann = scene.ann.start(&["listen", "--json"]);
    ann.until(|line| line["event"] == "connection" && line["state"] == "connected");
    let mut bob = scene.bob.start(&["listen", "--json", "--read"]);
    bob.until(|line| line["text"] == "one");
    // In whatever order they come.
    let (mut is_read, mut is_online) = (false, false);
    ann.until(|line| {
        let name = line["name"] == "bob";
        is_read |=
            name && line["event"] == "receipt" && (line["delivered"] == 1 && line["read"] == 1);
        is_online |= name && line["event"] == "presence" && line["state"] == "online";
        is_read && is_online
    });
}

#[test]
fn what_is_not_there_in_time_is_exit_status_3() {
    let scene = Scene::set();
    let silence = scene.bob.run(&["listen", "--json", "--count", "1", "--timeout", "0.2"]);
    assert_eq!(silence.code, Some(3), "{silence:?}");
    let silence = scene.bob.run(&["listen", "--json", "--timeout", "0.2"]);
    assert_eq!(silence.code, Some(0), "{silence:?}");
    // Sent, but nobody fetches it.
    let args = ["send", "bob", "hello", "--wait", "delivered", "--timeout", "0.5"];
    let unheard = scene.ann.run(&args);
    assert_eq!(unheard.code, Some(3), "{unheard:?}");
    assert!(!unheard.err.is_empty());
}

#[test]
fn a_message_that_can_not_be_sent_now_goes_out_with_the_next_command() {
    let mut scene = Scene::set();
    scene.server.process().kill();
    let stuck = scene.ann.run(&["send", "bob", "first", "--timeout", "0.5"]);
    assert_eq!(stuck.code, Some(3), "{stuck:?}");
    assert!(stuck.err.contains("outbox"), "{stuck:?}");
    // A name that was never looked up, too.
    let stuck = scene.bob.run(&["send", "ann", "hi", "--timeout", "0.2"]);
    assert_eq!(stuck.code, Some(3), "{stuck:?}");
    let status = scene.ann.run(&["status", "--json"]).json();
    assert_eq!(status["outbox"], 1);
    assert_eq!(status["connected"], false);
    assert!(status["error"].is_string());

    scene.server.restart();
    scene.server.until_ready();
    scene.ann.run(&["send", "bob", "second", "--timeout", "60"]).good();
    let heard = scene.bob.run(&["listen", "--json", "--count", "2", "--timeout", "60"]).lines();
    assert_eq!(messages(&heard), [message("ann", "first"), message("ann", "second")]);
    scene.bob.run(&["send", "ann", "again", "--timeout", "60"]).good();
    let heard = scene.ann.run(&["listen", "--json", "--count", "2", "--timeout", "60"]).lines();
    assert_eq!(messages(&heard), [message("bob", "hi"), message("bob", "again")]);
    let status = scene.ann.run(&["status", "--json"]).json();
    assert_eq!((&status["outbox"], &status["connected"]), (&0.into(), &true.into()));
    assert_eq!((&status["name"], &status["error"]), (&"ann".into(), &().into()));
    let conversation = &status["conversations"][0];
    assert_eq!((&conversation["peer"], &conversation["last_seq"]), (&"bob".into(), &4.into()));
}

#[test]
fn what_can_never_be_sent_fails() {
    let scene = Scene::set();
    for args in [["send", "nobody", "hello"], ["send", "ann", "hello"], ["send", "No!", "hello"]] {
        let failed = scene.ann.run(&args);
        assert_eq!(failed.code, Some(1), "{args:?}: {failed:?}");
        assert!(failed.err.starts_with("tern: "), "{failed:?}");
    }
    assert_eq!(scene.ann.run(&["status", "--json"]).json()["outbox"], 0);
}

#[test]
fn each_message_is_printed_by_one_listen() {
    let scene = Scene::set();
    for text in ["one", "two", "three"] {
        scene.ann.run(&["send", "bob", text]).good();
    }
    let listen = |count: &str| {
        let args = ["listen", "--json", "--timeout", "60", "--count", count];
        messages(&scene.bob.run(&args).lines())
    };
    assert_eq!(listen("1"), [message("ann", "one")]);
    assert_eq!(listen("2"), [message("ann", "two"), message("ann", "three")]);
    // Killed after it has printed: what was confirmed isn't printed again.
    let mut listening = scene.bob.start(&["listen", "--json"]);
    scene.ann.run(&["send", "bob", "four"]).good();
    scene.ann.run(&["send", "bob", "five"]).good();
    listening.until(|line| line["text"] == "five");
    listening.process.kill();
    scene.ann.run(&["send", "bob", "six"]).good();
    let mut after = scene.bob.start(&["listen", "--json"]);
    let next = after.until(|line| line["event"] == "message");
    assert!(next["text"] == "six" || next["text"] == "five", "{next}");
}
