// Keeps the page's view of the stack true: asks /api/status each second. Without it the page shows what was
// true when it was made.
"use strict";

(function () {
  const SECOND = 1000;
  const PATIENCE = 3000; // an answer that takes longer is as good as none
  const find = (id) => document.getElementById(id);
  const states = {
    primary: ["good", "Reads and writes"],
    "secondary-only": ["fair", "Reads; writes wait for a primary"],
    "unreachable-grace": ["fair", "Not answering for a moment"],
    unreachable: ["poor", "Not reachable"],
    starting: ["fair", "Connecting"],
  };
  const healthy = ["primary", "secondary", "router", "standalone", "load balancer", "arbiter"];
  const bytes = new TextEncoder();

  function element(name, className, text) {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  }

  function showState([level, words]) {
    for (const id of ["state", "state-above"]) {
      find(id).className = "state " + level;
      find(id).textContent = words;
    }
  }

  function showNode(name) {
    for (const id of ["answered", "answered-above"]) {
      find(id).className = "node tint-" + (bytes.encode(name).reduce((sum, byte) => sum + byte, 0) % 6);
      find(id).textContent = name;
    }
  }

  function showMembers(members) {
    find("members").replaceChildren(
      ...members.map(({ address, state }) => {
        const level = healthy.includes(state) ? "good" : state === "unreachable" ? "poor" : "fair";
        const item = document.createElement("li");
        const leads = state === "primary" ? " leads" : "";
        item.append(element("span", "address", address), element("span", "state " + level + leads, state));
        return item;
      }),
    );
  }

  async function look() {
    try {
      const answer = await fetch("/api/status", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(answer.statusText);
      const status = await answer.json();
      showNode(status.node);
      showState(states[status.database] || ["fair", status.database]);
      showMembers(status.members);
      find("pause").hidden = status.database === "primary";
    } catch {
      showState(["poor", "No answer from the site"]);
    }
    setTimeout(look, SECOND);
  }

  setTimeout(look, SECOND);
})();
