//! The kinds of problem a topology can have, each with a stable name and the
//! longer text that `gen-topology explain` prints.

/// Declares a type of codes and its table in one place, so that a code can't be
/// without a name, a severity or an explanation.
macro_rules! codes {
    ($(#[$about:meta])* $type:ident { $($variant:ident $name:literal $severity:ident $explanation:literal)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "explanation() documents each of them, to the user too")]
        pub enum $type { $($variant),* }

        impl $type {
            /// Every code there is, in the order of `explain`'s list.
            pub const ALL: &[$type] = &[$($type::$variant),*];

            /// Stable name.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),* }
            }

            /// How bad it is.
            pub fn severity(self) -> $crate::topology::Severity {
                match self { $($type::$variant => $crate::topology::Severity::$severity),* }
            }

            /// What the problem is, why it matters and what to do, in a few sentences.
            pub fn explanation(self) -> &'static str {
                match self { $($type::$variant => $explanation),* }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(self.name())
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}
pub(crate) use codes;

codes! {
    /// Kind of problem. Names are stable: scripts may rely on them.
    Code {
    Encoding "encoding" Error
        "The file is not UTF-8, or begins with a byte order mark. JSON (RFC 8259) is UTF-8 without one. Save it as UTF-8; `iconv -f latin1 -t utf8` helps where the encoding is known."
    EmptyFile "empty-file" Error
        "There is nothing in the file. `gen-topology init` writes a small topology to start from."
    Syntax "syntax" Error
        "The text is not JSON. Comments and trailing commas are not JSON either: Nix reads the same file with `builtins.fromJSON`, which is strict. A key that begins with `x-` is yours and can hold remarks."
    NestedTooDeep "nested-too-deep" Error
        "Arrays or objects are nested deeper than 512 levels. No topology needs more than four; the file was probably damaged."
    DuplicateKey "duplicate-key" Error
        "A key stands twice in one object. JSON readers disagree on which one counts, so neither is taken."
    DuplicateName "duplicate-name" Error
        "Two nodes have the same name. A node's name is its host name and its directory under hosts/, so it must be its own. So must the name of an application in `apps`: programs, sockets and backends are called by it."
    UnknownKey "unknown-key" Error
        "The key means nothing here. Most of the time it is a typing error, and a setting that is silently ignored is worse than none. Keys that begin with `x-` are yours and are never looked at."
    MissingKey "missing-key" Error
        "A key that can't be derived from the others is missing."
    WrongType "wrong-type" Error
        "The value is of another type than the key needs, such as a number where text is needed. Durations and sizes are text with a unit: \"100ms\", \"2s\", \"256MiB\"."
    BadValue "bad-value" Error
        "The value has the right type and can't be read as what the key needs: an IPv4 address, a subnet, a duration, a size or one of a few words."
    OutOfRange "out-of-range" Error
        "The number, duration or size is smaller or larger than what the daemon behind it accepts. A virtual router id, for example, is one byte that must not be 0 (RFC 9568): 1 to 255."
    UnsupportedVersion "unsupported-version" Error
        "`version` says which rules the file follows. This program knows version 1."
    BadName "bad-name" Error
        "A node's name is its host name: 1 to 63 lower-case letters, digits and hyphens, neither first nor last a hyphen (RFC 1123). Lower case because host names ignore case while directories do not."
    BadSubnet "bad-subnet" Error
        "The subnet is written with host bits (10.20.0.5/24 instead of 10.20.0.0/24), or is one that hosts can't be in: loopback, multicast, link-local or a whole class of the Internet."
    SubnetTooSmall "subnet-too-small" Error
        "The subnet has fewer usable addresses than there are nodes plus the virtual IP plus one for the client that the lab measures from. Widen it; addresses already written stay valid as long as they are inside."
    AddressOutsideSubnet "address-outside-subnet" Error
        "A node's address is not in the subnet, so its neighbours would not find it and VRRP adverts would not arrive."
    AddressReserved "address-reserved" Error
        "The first address of a subnet names the subnet and the last is its broadcast address. Neither can be given to a node or a virtual IP."
    DuplicateAddress "duplicate-address" Error
        "Two nodes have the same address. Both would answer ARP for it, and traffic would go to whoever answered last."
    VipOutsideSubnet "vip-outside-subnet" Error
        "The virtual IP must be in the subnet of the load balancers: it moves by gratuitous ARP, which does not cross a router."
    VipIsNodeAddress "vip-is-node-address" Error
        "The virtual IP is also a node's own address. It has to be free, for the load balancers to pass it among themselves."
    EmptyTier "empty-tier" Error
        "A tier has no node. Each stack needs at least one load balancer and one app server, and one that has the key `database` also a database."
    NoSpareLoadBalancer "no-spare-load-balancer" Warning
        "With one load balancer there is nobody to take over the virtual IP: when it goes, everything goes. Two survive the loss of one, three the loss of two."
    NoSpareApp "no-spare-app" Warning
        "With one app server a request has nowhere else to go while it restarts or fails."
    NoSpareDatabase "no-spare-database" Warning
        "With fewer than three voting members the loss of one database stops every write, and with one member it stops reads too. Three survive the loss of one, five the loss of two. A single database is already a one-member replica set, so it grows to three without a migration."
    TooManyLoadBalancers "too-many-load-balancers" Error
        "VRRP priorities are one byte, 0 and 255 have a meaning of their own, and each load balancer needs its own: 254 at most (RFC 9568)."
    TooManyDatabases "too-many-databases" Error
        "A replica set has at most 50 members, 7 of them voting (MongoDB limit)."
    UnknownReplicaSet "unknown-replica-set" Error
        "A database says that it is in a replica set which the stack does not have. Without `database.sharding` there is one, `database.replica_set`. With it there are `config`, the first shard, which is called `database.replica_set`, and `shard-2`, `shard-3` … up to `sharding.shards`."
    EmptyReplicaSet "empty-replica-set" Error
        "A shard, or the set of config servers, has no database. Each database says with `replica_set` where it belongs; one that says nothing is in the first shard. A shard is taken away with `gen-topology scale shards=…`, after its data have been moved."
    ReplicaSetSize "replica-set-size" Warning
        "A set does not have as many databases as `database.sharding` says. That is how it is for a while when a dead database is replaced by another; at the end `gen-topology scale` makes them agree."
    SameReplicaSet "same-replica-set" Error
        "`database.replica_set` is the name of the first shard, and that of another set, too. Replica sets know each other by their names. Choose one that is neither `config` nor `shard-2`, `shard-3` …"
    TooManyVoters "too-many-voters" Error
        "A replica set has at most 7 voting members (MongoDB limit). Leave `voting` out and the first seven database nodes vote; the others keep copies."
    EvenVoters "even-voters" Error
        "An even number of voting members survives no more failures than one fewer, and has one more that can fail: 4 members survive 1, like 3. Two are worse than one: the loss of either stops writes. Use an odd number, or give one node `\"voting\": false` so that it only keeps a copy."
    MisplacedKey "misplaced-key" Error
        "The key belongs to nodes of another tier: `voting` and `replica_set` are for databases, the only nodes that elect one of themselves. `hosts`, `paths` and `nodes` belong to applications in `apps`: `app` runs on every app node and answers what no other application claims."
    NoRoute "no-route" Error
        "An application in `apps` claims neither a host nor a path, so no request would ever reach it. Give it `hosts`, `paths` or both; what none claims is `app`'s."
    RouteClash "route-clash" Error
        "Two applications, or one twice, claim the same path of the same host. A longer path and a host of one's own come first, so `/api/` and `/api/v2/` may be of two applications; the very same route can't."
    UnknownNode "unknown-node" Error
        "`nodes` of an application names something that is no app node of this topology."
    HostNotServed "host-not-served" Warning
        "An application claims a host that is not among `load_balancer.tls.names`. Its visitors come by HTTPS and get a certificate of another name."
    PortClash "port-clash" Error
        "Two listeners of one node would need the same port."
    CertificateSource "certificate-source" Error
        "`load_balancer.tls` says where its certificates come from by exactly one key: `files`, a list of PEM files, `acme`, which asks an authority such as Let's Encrypt for one, or `authority`, which makes one for a lab."
    AcmeWildcard "acme-wildcard" Error
        "An authority certifies `*.example.org` only to those who can change the names of example.org in DNS (RFC 8555, DNS-01). This stack shows by its answers over HTTP (HTTP-01) that a name is its own, and that counts for each host by itself. Name the hosts in `load_balancer.tls.names`, or bring a certificate by `files`."
    AcmePort "acme-port" Warning
        "Before it certifies a name an authority asks that name at port 80 (RFC 8555, HTTP-01); no other port will do. With another `load_balancer.port`, something before the virtual IP has to lead port 80 there, or the stack never gets a certificate."
    UnreadableCertificate "unreadable-certificate" Error
        "The file is not what a load balancer needs: in PEM, first the certificate of the site, then those of the authorities between it and the root, and its private key. A key with a password can't be used, because nobody is there to type it: `openssl pkey -in KEY -out KEY.plain` takes the password away."
    CertificateKeyMismatch "certificate-key-mismatch" Error
        "The private key is not the one that the certificate was made for. haproxy would refuse it, and so would every visitor. Most of the time one of the two was renewed and the other was not."
    CertificateExpired "certificate-expired" Error
        "The certificate, or one of its chain, is not valid any more, or not yet; browsers refuse it. With HSTS their users can't even choose to go on."
    CertificateExpires "certificate-expires" Warning
        "The certificate will soon not be valid any more. Put the renewed one in its place; `gen-topology lab renew`, or the unit gen-topology-certificates on a machine, loads it while connections go on."
    IncompleteChain "incomplete-chain" Warning
        "The last certificate of the file was made by an authority that browsers don't know. Those in between have to be in the file: browsers that have seen them elsewhere fill the gap, and all others fail. With an authority of one's own, whose root visitors were given, it is right."
    BrokenChain "broken-chain" Error
        "A certificate of the file was not signed by the one that follows it. The order is: the site's, then whoever signed it, then whoever signed that. Other certificates have no place in it."
    NameNotCertified "name-not-certified" Error
        "None of the certificates has a name of `load_balancer.tls.names`. Visitors who ask for it would get another one's certificate, and a warning."
    NameNotServed "name-not-served" Warning
        "A certificate has a name that is not among `load_balancer.tls.names`. Visitors who come by it are served all the same; either it is missing in the list, or the certificate is of something else."
    NotExportable "not-exportable" Error
        "The world that `export` writes for has no words for a part of the topology: Compose names a container's interface itself, for example, and no registry carries a mongos for containers. The message tells each such part, why, and what to do. docs/export.md has the list."
    BadAdvertInterval "bad-advert-interval" Error
        "VRRPv3 counts its advert interval in hundredths of a second, 10ms to 40.95s (RFC 9568). Failing over takes about three of them."
    HeartbeatTooSlow "heartbeat-too-slow" Error
        "Members would take a missing heartbeat for a lost primary. Keep the heartbeat at a quarter of the election time-out or less."
    ReservedVariable "reserved-variable" Error
        "The name of the environment variable is not one that a process can have, or is one that the stack itself sets for the app, or would change Python, gunicorn or the dynamic linker before the app has a say (PATH, PYTHONPATH, LD_PRELOAD, GUNICORN_CMD_ARGS …)."
    DuplicateVariable "duplicate-variable" Error
        "Two of `app.env`, `app.secrets` and `app.database_uri_env` give the same environment variable a value."
    SecretInEnvironment "secret-in-environment" Warning
        "`app.env` ends in rendered files and in the Nix store, which everybody on a machine can read. A password, token or key belongs in `app.secrets`: its value is in a file that `gen-topology secrets set NAME` writes, and the application gets it as the same variable. A name that ends in `_FILE` or `_PATH` is not warned about."
    MissingSource "missing-source" Error
        "A file or directory that `app` names is not there. Paths are relative to the topology file."
    UnlockedRequirements "unlocked-requirements" Warning
        "A line of the application's requirements has no hash, or is a directory (`-e .`) or a repository, which can have none. Packages are installed with `pip --require-hashes`, so that every app server runs the same ones today and next year; `lab up` refuses the file. Keep the names that you mean in requirements.in and make the lock of it: `uv pip compile --generate-hashes requirements.in -o requirements.txt`, or `pip-compile --generate-hashes`. The application itself needs no line: its directory is where Python looks for modules."
    }
}
