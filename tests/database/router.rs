//! A stand-in for mongos, which no registry has for this machine. It hands messages on to the
//! primary of the config servers, so that users, rights and the cluster's own collections are
//! the real ones, and does what mongos has the config servers do: adding shards and removing
//! them is their work in either case. Spreading a collection is only written down.
//!
//! What it can't show: routing, moving data, and what a real mongos refuses.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use gen_topology::health::mongo;
use mongodb::bson::{Bson, Document, doc};

/// The operation code of every message that the driver sends: `OP_MSG`.
const MESSAGE: i32 = 2013;

pub(super) struct Router {
    pub(super) port: u16,
    /// Names of the commands that were not just handed on.
    pub(super) done: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Router {
    /// A router to the config servers whose primary is at `host`; `member` makes connections
    /// as one of them.
    pub(super) fn to(
        host: String,
        member: impl Fn() -> mongo::Member + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (done, ends) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (log, over) = (Arc::clone(&done), Arc::clone(&ends));
        let member = Arc::new(member);
        let thread = std::thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(client) = client else { continue };
                let (host, member, log) = (host.clone(), Arc::clone(&member), Arc::clone(&log));
                std::thread::spawn(move || serve(client, &host, &*member, &log));
            }
        });
        Self {
            port,
            done,
            ends,
            thread: Some(thread),
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // Whoever accepts has to wake up to see it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut client: TcpStream,
    host: &str,
    member: &dyn Fn() -> mongo::Member,
    done: &Mutex<Vec<String>>,
) {
    let Ok(mut server) = TcpStream::connect(host) else {
        return;
    };
    while let Some(request) = receive(&mut client) {
        let command = body(&request);
        let name = command.keys().next().cloned().unwrap_or_default();
        let answer = if name == "hello" || name.eq_ignore_ascii_case("ismaster") {
            server.write_all(&request).expect("a server");
            let Some(answer) = receive(&mut server) else {
                return;
            };
            as_router(body(&answer))
        } else if let Some(answer) = instead(&name, &command, member) {
            done.lock().expect("a list").push(name);
            answer
        } else {
            server.write_all(&request).expect("a server");
            let Some(answer) = receive(&mut server) else {
                return;
            };
            if client.write_all(&answer).is_err() {
                return;
            }
            continue;
        };
        if client.write_all(&reply(&request, &answer)).is_err() {
            return;
        }
    }
}

/// What a config server says of itself, as mongos would.
fn as_router(mut answer: Document) -> Document {
    // Without a version the driver asks again and again, instead of waiting for news.
    for key in [
        "setName",
        "setVersion",
        "hosts",
        "me",
        "primary",
        "topologyVersion",
        "configsvr",
    ] {
        answer.remove(key);
    }
    answer.insert("msg", "isdbgrid");
    answer
}

/// What mongos has others do.
fn instead(name: &str, command: &Document, member: &dyn Fn() -> mongo::Member) -> Option<Document> {
    let answer = |command| match member().command(command) {
        Ok(answer) => answer,
        Err(error) => {
            let code = mongo::code(&error).unwrap_or(1);
            doc! { "ok": 0.0, "errmsg": mongo::words(&error), "code": code }
        }
    };
    let text = |key: &str| command.get_str(key).unwrap_or_default();
    let majority = doc! { "w": "majority" };
    let collection = |name: &str| {
        member()
            .client()
            .database("config")
            .collection::<Document>(name)
    };
    match name {
        "addShard" => Some(answer(
            doc! { "_configsvrAddShard": text("addShard"), "name": text("name"), "writeConcern": majority },
        )),
        "removeShard" => Some(answer(
            doc! { "_configsvrRemoveShard": text("removeShard"), "writeConcern": majority },
        )),
        "listShards" => {
            let shards = collection("shards").find(doc! {}).run().expect("shards");
            let shards: Vec<Bson> = shards
                .map(|shard| Bson::Document(shard.expect("a shard")))
                .collect();
            Some(doc! { "shards": shards, "ok": 1.0 })
        }
        "createIndexes" => Some(doc! { "ok": 1.0 }),
        "shardCollection" => {
            let key = command.get_document("key").expect("a key").clone();
            let entry = doc! { "_id": text("shardCollection"), "key": key };
            collection("collections")
                .insert_one(entry)
                .run()
                .expect("a write");
            Some(doc! { "ok": 1.0 })
        }
        _ => None,
    }
}

/// A whole message; none at the end.
fn receive(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message).ok()?;
    let length = number(&message, 0);
    message.resize(usize::try_from(length).ok()?, 0);
    from.read_exact(&mut message[4..]).ok()?;
    assert_eq!(number(&message, 12), MESSAGE, "a message of another kind");
    Some(message)
}

fn number(message: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(message[at..at + 4].try_into().expect("four bytes"))
}

/// The document of a message: behind header, flags and the kind of its first section.
fn body(message: &[u8]) -> Document {
    assert_eq!(message[20], 0, "the first section is the body");
    Document::from_reader(&message[21..]).expect("a document")
}

fn reply(request: &[u8], answer: &Document) -> Vec<u8> {
    let document = answer.to_vec().expect("bytes");
    let length = i32::try_from(21 + document.len()).expect("a short message");
    let mut message = Vec::new();
    for part in [length, 0, number(request, 4), MESSAGE, 0] {
        message.extend(part.to_le_bytes());
    }
    message.push(0);
    message.extend(document);
    message
}
