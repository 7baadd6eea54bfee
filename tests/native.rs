//! The daemons' own files are read as the daemons read them, and nothing that can
//! stand in one makes the program panic or lose a directive.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::BTreeMap;
use std::path::Path;

use gen_topology::native::haproxy::{self, Check};
use gen_topology::native::keepalived::{self, State};
use gen_topology::native::{Directive, mongod};
use gen_topology::topology::{Millis, Source, Topology};
use gen_topology::{config, render};
use proptest::prelude::*;

use crate::common::REPOSITORY;

const HAPROXY: &str = r#"
global
    maxconn 100   # a remark
    log "stdout with blank" format\ raw 'a "quoted" \n word' a#b
    unheard-of thing
defaults one
    mode http
    timeout server 10
    timeout connect 4s
    option redispatch
    retries 2
defaults two from one
    timeout server 1500us
    no option redispatch
    default-server inter 5s fall 4
backend app from two
    option httpchk GET /old
    http-check send meth HEAD uri /ready
    http-check expect status 200
    default-server check fastinter 100ms on-error mark-down
    server a 10.0.0.1:80 inter 1m no-check rise 9 weight 10
    server b 10.0.0.2:80 backup
    default-server fall 2
    server c 10.0.0.3:80 track other/c
listen other from one
    bind :80,10.0.0.9:81 transparent
    retry-on all-retryable-errors
    option tcp-check
    server c 10.0.0.3:80 check inter 3s
frontend www
    bind *:90
"#;

fn haproxy() -> haproxy::Config {
    haproxy::Config::parse(HAPROXY).unwrap()
}

#[test]
fn words_are_split_as_haproxy_does() {
    let config = haproxy();
    let log = config.global(&["log"]).unwrap();
    let words = [
        "log",
        "stdout with blank",
        "format raw",
        "a \"quoted\" \\n word",
        "a",
    ];
    assert_eq!(log.words, words);
    assert_eq!(log.line, 4);
    assert_eq!(&HAPROXY[log.span_of(1)], "\"stdout with blank\"");
    assert_eq!(&HAPROXY[log.span_of(2)], "format\\ raw");
    assert!(config.global(&["unheard-of", "thing"]).is_some());
    assert_eq!(config.global(&["maxconn"]).unwrap().words.len(), 2);
}

#[test]
fn defaults_are_inherited() {
    let config = haproxy();
    let app = config.proxy("backend", "app").unwrap();
    assert_eq!(app.mode(), "http");
    assert_eq!(
        app.timeout("server"),
        Some(Millis::new(2)),
        "rounded up, the nearest counts"
    );
    assert_eq!(app.timeout("connect"), Some(Millis::new(4000)));
    assert_eq!(app.timeout("check"), None);
    assert_eq!(app.redispatch(), None, "`no option` takes it away");
    assert_eq!(app.retries(), 2);
    assert_eq!(app.retry_on(), ["conn-failure"]);
    let other = config.proxy("backend", "other").unwrap();
    assert_eq!(other.kind(), "listen");
    assert_eq!(other.redispatch(), Some(-1));
    assert_eq!(
        other.timeout("server"),
        Some(Millis::new(10)),
        "milliseconds without a unit"
    );
    assert_eq!(other.retry_on(), ["all-retryable-errors"]);
    assert_eq!(other.binds()[0].addresses, [":80", "10.0.0.9:81"]);
    assert_eq!(other.binds()[0].options, ["transparent"]);
    assert!(matches!(other.check(), Check::Other(line) if line.word(1) == "tcp-check"));
    // Without `from`, the last defaults before it.
    let www = config.proxy("frontend", "www").unwrap();
    assert_eq!(www.timeout("server"), Some(Millis::new(2)));
    assert!(config.proxy("frontend", "app").is_none());
}

#[test]
fn servers_have_what_default_server_gives_them() {
    let config = haproxy();
    let app = config.proxy("backend", "app").unwrap();
    let servers = app.servers();
    let [a, b, c] = &servers[..] else {
        panic!("{servers:?}");
    };
    assert_eq!((a.fall(), a.rise()), (4, 9));
    assert_eq!(a.inter(), Millis::new(60_000));
    assert_eq!(a.fastinter(), Millis::new(100));
    assert_eq!(a.downinter(), Millis::new(60_000));
    assert!(!a.has("check") && b.has("check") && b.has("backup"));
    assert_eq!(b.inter(), Millis::new(5000));
    assert_eq!(b.value("on-error"), Some("mark-down"));
    assert_eq!(
        c.fall(),
        2,
        "a default-server line holds for what is below it"
    );
    // 5 s + 3 × 100 ms + 4 × 500 ms.
    assert_eq!(b.longest_detection(Millis::new(500)), Millis::new(7300));
    let (proxy, tracked) = config.checked(&app, c).unwrap();
    assert_eq!(
        (proxy.name(), tracked.inter()),
        ("other", Millis::new(3000))
    );
    let Check::Http(check) = app.check() else {
        panic!("{:?}", app.check());
    };
    assert_eq!((check.method, check.uri), ("HEAD", "/ready"));
    assert_eq!(check.expect[0].words[2..], ["status", "200"]);
    assert!(!check.disable_on_404);
}

#[test]
fn what_haproxy_could_not_split_is_refused_with_its_line() {
    for (text, line, what) in [
        ("global\n  log \"open\n", 2, "double quote"),
        ("global\n\n  log 'open\n", 3, "single quote"),
        ("maxconn 3\n", 1, "before the first section"),
    ] {
        let error = haproxy::Config::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text:?}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(!text[error.span].is_empty());
    }
    let early = haproxy::Config::parse(".if defined(X)\n.endif\nglobal\n").unwrap();
    assert_eq!(early.sections.len(), 2);
}

#[test]
fn a_circle_of_tracking_ends() {
    let text = "backend a\n server x 1:1 track b/x\nbackend b\n server x 1:1 track a/x\n";
    let config = haproxy::Config::parse(text).unwrap();
    let proxy = config.proxy("backend", "a").unwrap();
    assert!(config.checked(&proxy, &proxy.servers()[0]).is_none());
}

const KEEPALIVED: &str = r#"
! a remark
global_defs {
    vrrp_version 3   # another
    enable_script_security
    script_user "some user"
}
vrrp_script chk
{
    script "/bin/check with \
words"
    interval 2
    fall 3
    weight -5
}
include other/*.conf
vrrp_track_file state { file /run/state
 weight 2 }
vrrp_instance VI_1{
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 101
    advert_int 0.25
    nopreempt
    preempt_delay 5
    authentication { auth_type PASS
        auth_pass ${SECRET}
    }
    unicast_src_ip 10.0.0.1
    unicast_peer { 10.0.0.2
        10.0.0.3
    }
    track_script { chk weight -20 }
    track_file {
        state
    }
    virtual_ipaddress {
        10.0.0.10/24 dev eth1 label eth1:0
        10.0.0.11
    }
    unheard_of { thing 1 }
}
"#;

#[test]
fn keepalived_is_read() {
    let config = keepalived::Config::parse(KEEPALIVED).unwrap();
    assert_eq!(config.global.version, Some(3));
    assert_eq!(config.global.script_user.as_deref(), Some("some user"));
    assert!(config.global.enable_script_security && !config.global.reload_check_config);
    assert_eq!(config.includes[0].word(1), "other/*.conf");
    let script = config.script("chk").unwrap();
    assert_eq!(script.script, "/bin/check with words");
    assert_eq!(
        (script.interval, script.fall, script.weight),
        (2, 3, Some(-5))
    );
    assert_eq!(script.directive.line, 8);
    assert!((script.longest_detection_of_hang() - 8.0).abs() < 1e-9);
    assert_eq!(config.track_file("state").unwrap().weight, 2);
    let [instance] = &config.instances[..] else {
        panic!("{:?}", config.instances);
    };
    assert_eq!(instance.name, "VI_1");
    assert_eq!(
        (instance.state, instance.priority, instance.version),
        (State::Master, 101, 3)
    );
    assert_eq!(instance.virtual_router_id, Some(51));
    assert!(
        instance.nopreempt && instance.preempts(),
        "MASTER takes nopreempt back"
    );
    assert_eq!(instance.preempt_delay, Some(5.0));
    let peers: Vec<_> = instance
        .unicast_peers
        .iter()
        .map(|peer| &*peer.address)
        .collect();
    assert_eq!(peers, ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(config.script_weight(&instance.track_scripts[0]), -20);
    assert_eq!(instance.track_files[0].name, "state");
    let [first, second] = &instance.addresses[..] else {
        panic!("{:?}", instance.addresses);
    };
    assert_eq!(
        (&*first.address, first.prefix, first.device.as_deref()),
        ("10.0.0.10", Some(24), Some("eth1"))
    );
    assert_eq!((&*second.address, second.prefix), ("10.0.0.11", None));
    assert_eq!(
        instance.authentication.as_ref().unwrap().pass.as_deref(),
        Some("${SECRET}")
    );
    assert!(instance.block.child("unheard_of").unwrap().braced);
    // 3 × 0.25 + 155/256 × 0.25.
    assert!((instance.master_down() - 0.901_367).abs() < 1e-5);
    assert_eq!(
        &KEEPALIVED[instance.block.child("priority").unwrap().head.span_of(1)],
        "101"
    );
}

#[test]
fn version_2_counts_whole_seconds() {
    let text = "vrrp_instance A {\n advert_int 0.1\n priority 100\n}\n";
    let config = keepalived::Config::parse(text).unwrap();
    let instance = &config.instances[0];
    assert_eq!(instance.version, 2, "the default");
    assert!((instance.advert_interval() - 1.0).abs() < 1e-9);
    assert!((instance.skew() - 156.0 / 256.0).abs() < 1e-9);
}

#[test]
fn words_are_split_as_keepalived_does() {
    let text = "a ab\" c 'd\"'e f'g h\\#i \"\\\"j\" it's ${X}y # k\nl \\\n  m{ n }\n";
    let blocks = keepalived::Config::parse(text).unwrap().blocks;
    assert_eq!(
        blocks[0].head.words,
        ["a", "ab c 'de fg", "h#i", "\"j", "it's", "${X}y"]
    );
    assert_eq!(
        (&blocks[1].head.words[..], blocks[1].head.line),
        (&["l".to_owned(), "m".into()][..], 2)
    );
    assert_eq!(blocks[1].children[0].head.words, ["n"]);
}

#[test]
fn a_fraction_of_a_second_between_scripts_is_ignored() {
    let text = "vrrp_script a {\n interval 0.2\n fall 2\n}\n";
    let config = keepalived::Config::parse(text).unwrap();
    assert_eq!(
        (config.scripts[0].interval, config.scripts[0].timeout),
        (1, 1)
    );
}

#[test]
fn braces_out_of_place_are_refused_with_their_line() {
    for (text, line, what) in [
        ("a {\n b 1\n", 1, "not closed"),
        ("a {\n}\n}\n", 3, "never opened"),
        ("\n{ }\n", 2, "no name"),
        ("a \"open\n b\"", 1, "not closed"),
        (&"a {\n".repeat(40), 33, "deeper"),
    ] {
        let error = keepalived::Config::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text:?}: {error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    assert!(keepalived::Config::parse(&"a { ".repeat(1_000_000)).is_err());
}

#[test]
fn mongod_is_read() {
    let text = "# a remark\nreplication:\n  replSetName: rs0\nstorage.journal.enabled: false\nsetParameter: { a: 1 }\n";
    let config = mongod::Config::parse(text).unwrap();
    assert_eq!(config.replica_set(), Some("rs0"));
    assert_eq!(
        config.setting("storage.journal.enabled").unwrap().as_bool(),
        Some(false)
    );
    assert_eq!(config.parameter("a").unwrap().as_u64(), Some(1));
    assert!(config.setting("storage.nothing").is_none());
    assert_eq!(config.place("replication.replSetName").unwrap().0, 3);
    assert_eq!(config.place("storage.journal.enabled").unwrap().0, 4);
    let error = mongod::Config::parse("a: 1\nb: [\n").unwrap_err();
    assert!(error.line >= 2, "{error}");
    // The older form.
    let old = mongod::Config::parse("dbpath = /var/lib/mongodb\nreplSet = rs0\n").unwrap();
    assert_eq!(old.replica_set(), Some("rs0"));
    assert_eq!(old.place("replication.replSetName").unwrap().0, 2);
    assert!(mongod::Config::parse("name = value\n").is_err());
    assert_eq!(mongod::Config::parse("").unwrap().replica_set(), None);
}

/// Every file that we render for every example, by node and path.
fn rendered() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for example in [
        "topology.json",
        "examples/ha.json",
        "examples/large.json",
        "examples/sharded.json",
        "examples/single.json",
    ] {
        let path = Path::new(REPOSITORY).join(example);
        let source = Source {
            base: path.parent().unwrap().to_path_buf(),
            bytes: std::fs::read(&path).unwrap(),
            path,
        };
        let topology = Topology::check(&source, &|path| path.exists())
            .topology
            .unwrap();
        for node in render::render(&config::resolve(&topology)).unwrap() {
            for (file, text) in node.files {
                files.insert(format!("{example}/{}/{file}", node.node), text.to_string());
            }
        }
    }
    files
}

/// The lines of `text` that are neither empty nor a remark, with blanks made one.
fn plain_lines(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn flat(blocks: &[keepalived::Block], found: &mut Vec<String>) {
    for block in blocks {
        let open = if block.braced { " {" } else { "" };
        found.push(format!("{}{open}", block.head.words.join(" ")));
        flat(&block.children, found);
        if block.braced {
            found.push("}".into());
        }
    }
}

#[test]
fn every_directive_of_our_own_files_is_seen() {
    let (mut proxies, mut blocks, mut databases, mut routers) = (0, 0, 0, 0);
    for (name, text) in rendered() {
        if name.ends_with(render::HAPROXY) {
            let config = haproxy::Config::parse(&text).unwrap();
            let mut seen = Vec::new();
            for section in &config.sections {
                seen.push(section.head.words.join(" "));
                seen.extend(section.directives.iter().map(|line| line.words.join(" ")));
            }
            assert_eq!(seen, plain_lines(&text), "{name}");
            for proxy in config.proxies().filter(haproxy::Proxy::is_backend) {
                assert!(!proxy.servers().is_empty());
                proxies += 1;
            }
        } else if name.ends_with(render::KEEPALIVED) {
            let config = keepalived::Config::parse(&text).unwrap();
            let mut seen = Vec::new();
            flat(&config.blocks, &mut seen);
            let expected: Vec<_> = plain_lines(&text)
                .iter()
                .map(|line| line.replace('"', ""))
                .collect();
            assert_eq!(seen, expected, "{name}");
            assert_eq!(
                (
                    config.instances.len(),
                    config.scripts.len(),
                    config.track_files.len()
                ),
                (1, 1, 1)
            );
            blocks += 1;
        } else if name.ends_with(render::MONGOD) {
            let config = mongod::Config::parse(&text).unwrap();
            assert!(
                config.replica_set().is_some() && config.cache_size_gb().is_some(),
                "{name}"
            );
            let role = config.cluster_role();
            let expected = match config.replica_set() {
                Some("config") => Some("configsvr"),
                Some(set) if set.starts_with("shard-") => Some("shardsvr"),
                _ => None,
            };
            assert_eq!(role, expected, "{name}");
            databases += 1;
        } else if name.ends_with(render::MONGOS) {
            let config = mongod::Config::parse(&text).unwrap();
            let servers = config.text("sharding.configDB").unwrap();
            assert_eq!(
                servers, "config/10.20.0.41:27017,10.20.0.42:27017,10.20.0.43:27017",
                "{name}"
            );
            assert!(config.text("security.keyFile").is_some() && config.replica_set().is_none());
            routers += 1;
        }
    }
    assert!(
        proxies > 10 && blocks > 5 && databases > 5 && routers == 2,
        "{proxies} {blocks} {databases} {routers}"
    );
}

/// Whether what a directive says about its places is true of `text`.
fn sound(directive: &Directive, text: &str) -> bool {
    directive.words.len() == directive.spans.len()
        && directive
            .spans
            .iter()
            .all(|span| text.get(span.clone()).is_some_and(|word| !word.is_empty()))
        && 1 + text[..directive.span().start].matches('\n').count() == directive.line
}

/// Text that has a chance of meaning something.
fn plausible() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("global"),
        Just("defaults"),
        Just("backend"),
        Just("listen"),
        Just("from"),
        Just("x"),
        Just("server"),
        Just("default-server"),
        Just("track"),
        Just("x/x"),
        Just("inter"),
        Just("fall"),
        Just("18446744073709551615"),
        Just("99999999999999999999d"),
        Just("option"),
        Just("httpchk"),
        Just("no"),
        Just("{"),
        Just("}"),
        Just("\""),
        Just("'"),
        Just("\\"),
        Just("\\\n"),
        Just("#"),
        Just("!"),
        Just("${"),
        Just("vrrp_instance"),
        Just("vrrp_script"),
        Just("priority"),
        Just("advert_int"),
        Just("-1"),
        Just("1e308"),
        Just("nan"),
        Just("interval"),
        Just("virtual_ipaddress"),
        Just("é"),
        Just("replication:"),
        Just("- a"),
        Just("bind"),
        Just("retry-on"),
        Just("timeout"),
        Just("check"),
    ];
    let gap = prop_oneof![Just(""), Just(" "), Just("\n"), Just("\n  "), Just("\r\n")];
    prop::collection::vec((word, gap), 0..60).prop_map(|parts| {
        parts
            .into_iter()
            .flat_map(|(word, gap)| [word, gap])
            .collect()
    })
}

proptest! {
    #[test]
    fn nothing_makes_the_readers_panic(text in prop_oneof![plausible(), any::<String>()]) {
        if let Ok(config) = haproxy::Config::parse(&text) {
            for section in &config.sections {
                prop_assert!(section.directives.iter().all(|line| sound(line, &text)));
            }
            for proxy in config.proxies() {
                let _ = (proxy.check(), proxy.redispatch(), proxy.retry_on(), proxy.binds(), proxy.timeout("x"));
                for server in proxy.servers() {
                    let _ = server.longest_detection(server.check_timeout(None));
                    let _ = (config.checked(&proxy, &server), server.longest_return(Millis::new(u64::MAX)));
                }
            }
        }
        if let Ok(config) = keepalived::Config::parse(&text) {
            prop_assert!(config.blocks.iter().all(|block| sound(&block.head, &text)));
            for instance in &config.instances {
                prop_assert!(instance.master_down() >= 0.0);
            }
            for script in &config.scripts {
                prop_assert!(script.longest_detection_of_hang() >= 0.0);
            }
        }
        if let Ok(config) = mongod::Config::parse(&text) {
            let _ = (config.replica_set(), config.place("replication.replSetName"));
        }
    }
}
