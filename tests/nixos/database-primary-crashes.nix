# The primary of the replica set is powered off: writes go on, and none that was
# acknowledged is lost. It comes back as a secondary.
_: {
  name = "database-primary-crashes";

  script = ''
    wait_for_the_stack()
    databases = {"10.20.0.32:27017": db_1, "10.20.0.33:27017": db_2, "10.20.0.34:27017": db_3}


    def members(state):
        filter = f".members[] | select(.state == \"{state}\") | .address"
        return client.succeed(f"{ANSWER}/api/status | jq --raw-output '{filter}'").split()


    def all_are_members(_last):
        return len(members("primary")) == 1 and len(members("secondary")) == 2


    retry(all_are_members, 120)
    first = members("primary")[0]
    acknowledged = [f"before-{number}" for number in range(20)]
    for name in acknowledged:
        write(name)

    with subtest("writes go on"):
        crash(databases[first])
        # MongoDB elects within 2.35 s; a machine that is busy with tests gets more.
        wait_until_written("after-0")
        acknowledged.append("after-0")
        for number in range(1, 20):
            write(f"after-{number}")
            acknowledged.append(f"after-{number}")
        assert members("primary") != [first]

    with subtest("none is lost"):
        for name in acknowledged:
            read(name)

    with subtest("the old primary is a member again"):
        databases[first].start()
        retry(all_are_members, 300)
        for name in acknowledged:
            read(name)
  '';
}
