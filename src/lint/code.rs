//! The kinds of trap that `lint` knows, each with a stable name and the longer
//! text that `gen-topology explain` prints.

crate::topology::codes! {
    /// Kind of trap. Names are stable: scripts may rely on them, and none is also a code of `check`.
    Code {
    Unreadable "unreadable" Error
        "The daemon itself could not read the file: a quote or a brace is not closed, or the YAML is broken. haproxy refuses to start then; Keepalived drops what it can't place and goes on with the rest. `haproxy -c -f FILE` and `keepalived -t -f FILE` tell more."

    RemovedWord "removed-word" Warning
        "A newer haproxy refuses to start with this word: what it stood for has another name, or is gone. The file works until the next upgrade, and then no load balancer comes up again. Write the newer word now; haproxy has known it for years."
    ValueIgnored "value-ignored" Error
        "Keepalived does not take a value outside of its range. It writes a line to its log, and goes on with its default, or without the instance if the value was the `virtual_router_id`."
    UnicastSourceMissing "unicast-source-missing" Error
        "For an IPv6 instance with `unicast_peer` and without `unicast_src_ip` Keepalived takes the interface's link-local address and can't bind it: the instance stays in FAULT, and the virtual IP is on no node (measured with 2.2.7). Name the node's own address."
    RealServerUnchecked "real-server-unchecked" Error
        "A `real_server` without a check is never taken out: the kernel goes on sending connections to a machine that is gone. Give each one a `TCP_CHECK`, or better an `HTTP_GET` of a path that the app answers."
    NoTracking "no-tracking" Error
        "The VRRP instance watches neither a script nor a file nor a process, so that only the death of the whole machine moves the virtual IP. When haproxy ends, the address stays where nobody listens. Track haproxy: a file that its supervisor writes is fastest, a script that asks haproxy itself finds a hung one, too. Where Keepalived hands connections to the kernel (`virtual_server`), track the interface towards the real servers."
    TrackUndefined "track-undefined" Error
        "The VRRP instance tracks a name that the file does not declare. Keepalived logs one line and goes on without it, so nothing is watched. Most of the time it is a typing error, or the declaration is in a file that is not included."
    WeightBelowGap "weight-below-gap" Error
        "The weight is not larger than the gap between the two priorities: a load balancer whose check fails still has the higher one and keeps the virtual IP, so the stack never fails over (acassen/keepalived#2599). Leave the weight out. A failed check is FAULT then, whatever the gap."
    NopreemptWithWeight "nopreempt-with-weight" Error
        "With `nopreempt` a backup accepts adverts of any priority, so a master that lowered its priority because a check failed keeps the virtual IP. Leave the weight out: FAULT gives the address up in any case (acassen/keepalived#2483)."
    NopreemptIgnored "nopreempt-ignored" Warning
        "Keepalived takes `nopreempt` back where the initial state is MASTER, and says so in the log only. The virtual IP then moves back when the node returns, and every open connection is reset once more. Begin as BACKUP on all nodes; priorities decide."
    EqualPriorities "equal-priorities" Warning
        "Two load balancers have the same priority. The higher address wins, backups wait equally long and may both become master for a moment, and a weight of any size decides alone. Give each its own, high and apart: 254, 244, 234."
    TwoMasters "two-masters" Warning
        "More than one node begins as MASTER. Each takes the virtual IP when it starts, without listening first, and the lower one has to give it back: one needless move, which resets every open connection. Begin as BACKUP on all nodes; priorities decide."
    SlowAdverts "slow-adverts" Warning
        "A backup takes over when adverts have been missing for `down_timer_adverts` (3) intervals and its own skew, (256 - priority) / 256 of an interval (RFC 9568). With the usual interval of one second a dead load balancer is replaced after up to 3.6 s. With `vrrp_version 3` and `advert_int 0.1` it is a third of a second."
    AdvertsRounded "adverts-rounded" Warning
        "VRRP version 2, which is Keepalived's default, counts whole seconds: a fraction in `advert_int` is rounded, to one second at least, and taking over is that much slower than the file seems to say. Set `vrrp_version 3` in `global_defs`."
    SlowHandOver "slow-hand-over" Note
        "Even when the owner resigns in order, its successor waits for its skew: (256 - priority) / 256 of an advert interval, or of a whole second in version 2. Low priorities make each planned move an outage. 254 and 244 cost milliseconds where 100 costs 0.6 s."
    Multicast "multicast" Note
        "Without `unicast_peer` adverts are multicast, which most clouds and many switches do not deliver. Then every load balancer believes that it is alone and takes the virtual IP. Where multicast is known to work this is fine; unicast works everywhere."
    PeerIsSelf "peer-is-self" Warning
        "A node is its own unicast peer. It gains nothing from its own adverts, and the list was probably copied: make sure that the others are on it."
    PeerMissing "peer-missing" Error
        "Two nodes share a virtual IP and one does not send its adverts to the other: an address is missing from `unicast_peer`, or one speaks unicast and the other multicast. The one that hears nothing takes the virtual IP as well, and stays."
    RouterIdClash "router-id-clash" Error
        "Two VRRP instances on one network have the same `virtual_router_id` and different addresses. Each takes the other's adverts for its own: the one of lower priority never becomes master, and its address is nowhere. Give each group its own number."
    RouterIdDiffers "router-id-differs" Error
        "Two nodes have the same virtual IP and different `virtual_router_id`s, so they are in different groups: each hears nobody of its own and takes the address. Give them the same number."
    AddressesDiffer "addresses-differ" Warning
        "Two nodes of one VRRP group list different addresses. After a move some of them are missing, or stay behind on both nodes. All nodes of a group need the same list."
    InstancesDisagree "instances-disagree" Error
        "Nodes of one VRRP group have different versions or, in version 2, different advert intervals. Each drops the other's adverts and becomes master, for good. All nodes of a group need the same values."
    ScriptMayBeIgnored "script-may-be-ignored" Warning
        "With `enable_script_security` Keepalived disables a script that runs as root when others than root can write it or a directory it is in; and without `script_user` it runs scripts as `keepalived_script`, a user that often does not exist. A disabled script is not tracked: nothing fails over. Put it where only root writes, and name its user."
    ScriptIntervalFraction "script-interval-fraction" Warning
        "Before version 2.3.2 Keepalived takes whole seconds only between runs of a script. A fraction is ignored, and one second is used. Detection is slower than the file says; a tracked file is quicker than any script."
    ScriptTimeoutOverInterval "script-timeout-over-interval" Warning
        "A run of the script may take longer than the interval between two runs. The next one waits for it, so that each failure costs the time-out and not the interval. Keep the time-out at one interval or less."
    SlowScript "slow-script" Warning
        "A dead haproxy is only noticed after `fall` runs of the script, `interval` seconds apart; a weight instead of FAULT adds the backup's whole patience, because adverts of lower priority are just not counted. Recipes that are copied a lot reach 30 s. Ask each second with `fall 2` and no weight, and let haproxy's supervisor write a tracked file."
    CheckSeesProcessOnly "check-sees-process-only" Warning
        "`killall -0`, `pidof` and the like see that a process exists, not that it answers. A haproxy that hangs, has no free connections, or is the old one of a failed reload passes. Ask haproxy itself through a `monitor-uri` on an address of its own."
    CheckAsksVirtualIp "check-asks-virtual-ip" Error
        "The script asks the virtual IP, and so on a backup it asks the master. When the master's haproxy ends every node fails its check at the same time, all are in FAULT, and nobody takes the address. Ask 127.0.0.1 or the node's own address."
    NoReloadCheck "no-reload-check" Warning
        "Without `reload_check_config` a reload with a mistake in the file ends Keepalived and leaves the virtual IP on the interface: as soon as a backup takes over, two nodes have it (measured with 2.2.7). With it the reload is refused and the daemon goes on."
    AuthenticationIgnored "authentication-ignored" Note
        "VRRP version 3 has no authentication; Keepalived ignores the block. In version 2 it was a password in clear text. Use unicast with `vrrp_check_unicast_src`, and let the firewall admit protocol 112 from the peers only."
    TrackProcessInNamespace "track-process-in-namespace" Note
        "`track_process` needs the kernel's process events, which exist only in the first network namespace. In a container or another namespace the instance stays in FAULT (acassen/keepalived#1469). On a bare machine or a virtual one it is fine; a tracked file works everywhere."
    AddressWithoutPrefix "address-without-prefix" Note
        "An address without a prefix length is added as /32. That is right for a virtual IP, and surprises where the address was meant to be on the subnet. Write /32 to say that it is meant."
    Priority255 "priority-255" Warning
        "255 is for a node that owns the address as its own. It takes it at once, `nopreempt` does not hold for it, and no weight can lower it. Use 254 at most."
    StrictMode "strict-mode" Error
        "With `vrrp_strict` a node whose priority is not 255 does not accept packets for the virtual IP: it has the address and does not answer. It also forbids unicast peers and `preempt_delay`. The sample file of some distributions has it; remove it."

    ServerUnchecked "server-unchecked" Error
        "A server without `check` is never taken out. When it is gone its share of the requests goes on being sent there until somebody changes the file. Add `check` to the server, or to `default-server`."
    CheckTcpOnly "check-tcp-only" Error
        "The check only opens a connection, which a web server in front of the app also accepts when the app behind it is dead. Such a server answers 502 faster than any healthy server answers: `leastconn` then prefers it, and one of three such servers was measured to take 88 % of all requests. Use `option httpchk` with a path that the app itself answers."
    CheckAcceptsRedirects "check-accepts-redirects" Warning
        "Without `http-check expect` any answer of 2xx and 3xx passes: a redirect to a login page or to a maintenance page counts as healthy. Say what healthy is: `http-check expect status 200`."
    CheckAsksRoot "check-asks-root" Note
        "The check asks `/`. Whether that passes through the app can't be seen from here: a static page passes while the app is dead, and a page that needs everything fails when a detail does. Give the app a path of its own that answers 200 when it can serve."
    CheckTimeoutMissing "check-timeout-missing" Note
        "Without `timeout check` a check may take a whole interval. A server that accepts and never answers is then noticed that much later. 500ms are enough for a path that answers from memory."
    CheckTimeoutOverInter "check-timeout-over-inter" Warning
        "A check may take longer than the time between two checks, so that a hung server costs `fall` time-outs on top. Keep `timeout check` below `inter`, or both so short that a server that hangs is out within 3 s."
    SlowDetection "slow-detection" Warning
        "A dead server is taken out after inter + (fall - 1) × fastinter; haproxy's defaults make that 6 s, and a server that hangs takes twice as long. Until then its share of the requests fails or waits. `inter 1s fastinter 100ms fall 2` notices within 1.1 s for one request a second."
    NoRedispatch "no-redispatch" Warning
        "Without `option redispatch` a request is tried again on the same dead server, a second apart, and then answered 503. With `option redispatch 1` the first retry goes to another server at once and nothing fails."
    UnsafeRetries "unsafe-retries" Warning
        "Requests are repeated after errors that may come after the app has done its work (an empty answer, a time-out, most 5xx). For GET that is right. A POST is then carried out twice. Add `http-request disable-l7-retry if METH_POST`, or send such methods to a backend that repeats only `conn-failure` and 503."
    TimeoutMissing "timeout-missing" Warning
        "Without `timeout connect`, `timeout server` or `timeout client` a connection to something that hangs is kept forever, and connections run out. haproxy itself warns about it at each start. Each layer gives up after the one below it: 1s, 15s, 30s."
    BindNeedsAddress "bind-needs-address" Warning
        "haproxy binds the virtual IP, which a backup does not have. Without `transparent` or the sysctl net.ipv4.ip_nonlocal_bind (which can't be seen from here) haproxy does not start there, and with it the check that Keepalived tracks fails: the backup is none. `transparent` also lets open connections live on after the address has moved."
    ShutdownSessions "shutdown-sessions" Warning
        "`on-marked-down shutdown-sessions` ends every session of a server that goes down, among them requests that were still connecting. Those are not tried elsewhere, even where a retry would be safe. Leave it out and let `timeout server` end what hangs, or end sessions a moment later over the runtime socket."
    MarkDownOnErrors "mark-down-on-errors" Warning
        "`on-error mark-down` takes a server out without asking its check. One page with a bug that answers 500 takes out one healthy server after the other, until none is left. `on-error sudden-death` leaves the last word to the check."
    MonitorFailsWithServers "monitor-fails-with-servers" Warning
        "The page that Keepalived asks fails when servers behind haproxy do. All load balancers see the same servers, so all give up at the same time and nobody has the virtual IP: visitors get no answer instead of an error page. The page should be about haproxy only."
    DrainBy404Missing "drain-by-404-missing" Note
        "Without `http-check disable-on-404` an app can't say that it wants no new requests before it stops: it is either up or down. With it 404 from the health path drains the server, without an alarm."
    OldTls "old-tls" Warning
        "The `bind` line, or `ssl-default-bind-options`, lets visitors speak SSL 3, TLS 1.0 or 1.1, which RFC 8996 has retired: an attacker in between can make both sides use them. haproxy's own default is TLS 1.2. Leave the option out, or write `ssl-min-ver TLSv1.2`."
    HstsMissing "hsts-missing" Note
        "The site is served over TLS, and no answer has the header `Strict-Transport-Security`. A visitor who types the name without https:// comes by plain HTTP first, every time, and whoever is in between can keep him there. Write `http-after-response set-header Strict-Transport-Security max-age=31536000 if { ssl_fc }`, unless the application sends the header itself."
    NoStatsSocket "no-stats-socket" Note
        "Without `stats socket` in `global` servers can't be drained, and nothing can be asked of haproxy, without a reload."
    HardStopMissing "hard-stop-missing" Note
        "After a reload the old process stays until its last connection ends, which with websockets may be never; old processes add up. `hard-stop-after 60s` ends them."
    SingleServer "single-server" Warning
        "The backend has one server, so that a request has nowhere else to go while it restarts or fails."

    NoReplication "no-replication" Error
        "mongod runs without a replica set: one machine's death ends reading and writing until it is back, and its disk is the only one. A set of one member costs nothing and grows without a migration; three members survive the loss of one."
    JournalDisabled "journal-disabled" Error
        "Without the journal mongod keeps only what the last checkpoint has, one a minute: after a crash up to 60 s of acknowledged writes are gone on that member. MongoDB 6.1 and later have no such switch."
    BindLocalhost "bind-localhost" Error
        "mongod listens on 127.0.0.1 only, which is also its default, so the other members of its replica set can't reach it, and neither can the app. Name addresses in `net.bindIp`, and let the firewall say who may connect."
    EvenReplicaSet "even-replica-set" Error
        "An even number of voting members survives no more failures than one fewer, and has one more that can fail. Two are worse than one: the loss of either stops writes. Add a member, or give one no vote and priority 0."
    TooFewVoters "too-few-voters" Warning
        "With fewer than three voting members the loss of one stops every write, and with one member it stops reads, too. Three survive the loss of one, five the loss of two."
    Arbiter "arbiter" Warning
        "An arbiter votes and stores nothing. With two data members and an arbiter the loss of one data member leaves a primary whose majority writes never complete. Use a third data member."
    SlowElection "slow-election" Warning
        "Members wait for a silent primary for `electionTimeoutMillis` (10 s unless set) and up to 15 % more before they elect another. Until then nothing is written. 2000 with heartbeats of 500 suit a local network."
    WeakWriteConcern "weak-write-concern" Error
        "With `w=1` or `w=0` a write is acknowledged before a majority has it. A new primary may not have it, and then it is rolled back: lost although it was acknowledged. Use `w=majority`."
    UriWithoutReplicaSet "uri-without-replica-set" Warning
        "The address names no `replicaSet`. Some drivers then talk to one server as if it stood alone and never follow a new primary, and none notices that it reached a wrong set. Add `replicaSet=NAME`. An address that leads to this machine alone is taken for that of a mongos."
    NoSocketTimeout "no-socket-timeout" Warning
        "Without `socketTimeoutMS` (or `timeoutMS`) an operation on a member that was cut off waits until the kernel gives up; in one published run a write hung for 26.6 s while a new primary had long been elected. It must be longer than the longest legal query."
    RetryWritesOff "retry-writes-off" Warning
        "With `retryWrites=false` every write that is in flight when the primary changes fails. With it the driver repeats the write once, on the new primary, and the server knows it by its number: it is not done twice."
    }
}
