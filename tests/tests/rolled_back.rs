//! A record from before is played again, by commands: whoever has seen the newer one is not led astray. Every program is a
//! process of its own; the supernode's game is played by hand.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{path::Path, sync::Arc};

use ahoy::link::{Link, NodeLink};
use ahoy_nat::{
    client::NodeClient,
    discovery::record::{Record, RecordError, RecordRules},
};
use ahoy_tests::{
    device::Device,
    process::{Running, run, speech, start},
    threat,
};
use ahoy_transport::{
    endpoint::NodeAuth,
    identity::UserId,
    runtime::{Runtime, TokioRuntime},
};

fn supernode(folder: &Path, listen: &str) -> (Running, NodeLink) {
    // Nobody takes it for a home whom it was not named to.
    let config = folder.with_extension("toml");
    std::fs::write(&config, "[network]\nannounce = false\n").unwrap();
    let config = config.display().to_string();
    let arguments = [
        "supernode",
        "--listen",
        listen,
        "--print-link",
        "--config",
        &config,
    ];
    let running = start(folder, arguments);
    let link = running.first_line().parse().unwrap();
    (running, link)
}

async fn client(me: &Device, NodeLink(node): &NodeLink) -> NodeClient {
    let addr = node.socket_addr().unwrap();
    me.dial(node.node, addr, NodeAuth::Anonymous).await.unwrap()
}

/// The record of `user` there, once it is newer than `than`.
async fn newer(me: &Device, node: &NodeLink, user: UserId, than: u64) -> Record {
    let client = client(me, node).await;
    loop {
        let found = client.find(user).await.unwrap();
        match found.filter(|found| found.fields().seq > than) {
            Some(found) => return found,
            None => tokio::time::sleep(std::time::Duration::from_millis(300)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_from_before_leads_nobody_astray_who_has_seen_the_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (first, first_link) = supernode(&at("first"), "127.1.0.1:0");
    let (_second, second_link) = supernode(&at("second"), "127.2.0.1:0");
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let me = Device::new(runtime);
    let (home, moved) = (first_link.to_string(), second_link.to_string());

    // Alice is at the first supernode, and says so there; then she moves.
    let answer = |via: &str| start(&at("alice"), ["answer", "--auto", "--via", via]);
    let alice = answer(&home);
    let Ok(Link::Person(link)) = alice.first_line().parse() else {
        panic!("a person's link");
    };
    let old = newer(&me, &first_link, link.user, 0).await;
    assert!(!old.fields().homes.contains(&second_link.0));
    alice.interrupt();
    alice.finish().expect_code(0);
    let alice = answer(&moved);
    assert!(alice.first_line().starts_with("ahoy:"));
    let new = newer(&me, &first_link, link.user, old.fields().seq).await;
    assert!(new.fields().homes.contains(&second_link.0));

    // Bob knows her key alone, and finds her by the newer record.
    let speech = speech().display().to_string();
    let whom = format!("ahoy:{}", link.user);
    run(&at("bob"), ["contact", "add", &whom, "--name", "Alice"]).expect_code(0);
    let call = |name: &str| {
        let arguments = [
            "call",
            &whom,
            "--via",
            &home,
            "--for",
            "2",
            "--timeout",
            "20",
            "--audio-in",
            &speech,
            "--audio-out",
            "null",
        ];
        run(&at(name), arguments)
    };
    call("bob").expect_code(0);

    // The first supernode forgets, and shows the record of before again.
    first.kill();
    let listen = first_link.0.socket_addr().unwrap().to_string();
    let (first, _link) = supernode(&at("first"), &listen);
    let told = client(&me, &first_link).await;
    let held = told.publish(&old).await.unwrap();
    assert_eq!(held, Some(old.clone()), "it is a valid record");
    call("bob").expect_code(0);

    // Only memory tells: whoever has none takes the old one, and finds nobody where it leads.
    let now_millis = me.runtime.unix_millis();
    let judge =
        |known: Option<&Record>| RecordRules::default().judge(known, &old, link.user, now_millis);
    assert_eq!(
        (judge(None), judge(Some(&new))),
        (Ok(()), Err(RecordError::Older))
    );
    threat(
        8,
        "by commands: a supernode that shows the record of before leads no contact astray who has seen the newer one",
    );
    alice.interrupt();
    first.kill();
}
